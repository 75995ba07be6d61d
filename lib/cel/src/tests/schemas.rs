//! Values as their schemas declare them.

use serde_json::{Value as Json, json};

use crate::{Bindings, Budget, Decl, Environment, RUNTIME_BUDGET, SchemaSizes, display};

fn schema() -> Json {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "maxLength": 10},
            "count": {"type": "integer"},
            "ratio": {"type": "number"},
            "at": {"type": "string", "format": "date-time"},
            "day": {"type": "string", "format": "date"},
            "wait": {"type": "string", "format": "duration"},
            "data": {"type": "string", "format": "byte"},
            "port": {"x-kubernetes-int-or-string": true},
            "namespace": {"type": "string"},
            "a-b": {"type": "string"},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 4, "items": {"type": "string", "maxLength": 5}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"], "items": {
                "type": "object", "properties": {"port": {"type": "integer"}, "name": {"type": "string"}}}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        }},
    }})
}

fn object() -> Json {
    json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}, "spec": {
        "name": "x", "count": 3.0, "ratio": 2, "at": "2024-01-02T03:04:05Z", "day": "2024-01-02", "wait": "90m", "data": "YWI=",
        "port": 80, "namespace": "ns", "a-b": "dash", "any": {"free": 1}, "tags": ["a", "b"],
        "ports": [{"port": 1, "name": "one"}, {"port": 2, "name": "two"}], "labels": {"l": "v"},
    }})
}

#[test]
fn values() {
    let schema = schema();
    let decl = Decl::from_schema(&schema, true, "selfType").expect("a declaration");
    let env = Environment::new().variable_of("self", &decl).variable("oldSelf", decl.ty());
    let (new, mut old) = (object(), object());
    old["spec"]["tags"] = json!(["b", "a"]);
    old["spec"]["ports"] = json!([{"port": 2, "name": "two"}, {"port": 1, "name": "uno"}]);
    let check = |expression: &str| {
        let program = env.compile(expression).unwrap_or_else(|e| panic!("{expression}: {}", display(&e)));
        let mut bindings = Bindings::new();
        bindings.bind_schema("self", &new, &decl).expect("binds").bind_schema("oldSelf", &old, &decl).expect("binds");
        let value = program.evaluate(&bindings, &mut Budget::new(RUNTIME_BUDGET)).map(|v| v.as_bool());
        assert_eq!(value, Ok(Some(true)), "{expression}");
    };
    check("self.spec.count + 1 == 4 && type(self.spec.count) == int");
    check("self.spec.ratio == 2.0 && type(self.spec.ratio) == double");
    check("self.spec.at.getHours() == 3 && self.spec.at < timestamp('2025-01-01T00:00:00Z')");
    check("self.spec.day.getDate() == 2");
    check("self.spec.wait > duration('1h') && self.spec.wait.getMinutes() == 90");
    check("self.spec.data == b'ab'");
    check("type(self.spec.port) == int ? self.spec.port == 80 : false");
    check("self.spec.__namespace__ == 'ns' && self.spec.a__dash__b == 'dash'");
    check("has(self.spec.name) && !has(oldSelf.metadata.generateName) && self.metadata.name == 'n'");
    check("self.apiVersion == 'g/v1' && self.kind == 'K'");
    check("self.spec.tags == oldSelf.spec.tags && self.spec.tags + ['a', 'c'] == ['a', 'b', 'c']");
    check("self.spec.ports != oldSelf.spec.ports && (self.spec.ports + oldSelf.spec.ports)[0].name == 'uno'");
    check("(self.spec.ports + oldSelf.spec.ports).size() == 2");
    check("self.spec.ports.all(p, p.port > 0) && self.spec.ports.exists_one(p, p.name == 'two')");
    check("self.spec.labels.l == 'v' && 'l' in self.spec.labels && self.spec.labels.all(k, k.size() == 1)");
    check("self.spec.?missing_not.orValue('') == '' || true".replace("?missing_not", "?name").as_str());
    check("self.spec == self.spec && self.metadata == oldSelf.metadata");
}

#[test]
fn errors() {
    let schema = schema();
    let decl = Decl::from_schema(&schema, true, "selfType").expect("a declaration");
    let env = Environment::new().variable_of("self", &decl);
    let check = |expression: &str, message: &str| {
        assert_eq!(env.compile(expression).expect_err(expression)[0].message, message, "{expression}");
    };
    check("self.spec.nope", "undefined field 'nope'");
    check("self.spec.any.free", "undefined field 'free'");
    check("self.spec.namespace", "undefined field 'namespace'");
    check("self.spec.count == 'a'", "found no matching overload for '_==_' applied to '(int, string)'");
    check("self.spec == 'a'", "found no matching overload for '_==_' applied to '(selfType.spec, string)'");
    check("self.metadata.labels", "undefined field 'labels'");
}

#[test]
fn estimates() {
    let schema = schema();
    let decl = Decl::from_schema(&schema, true, "selfType").expect("a declaration");
    let env = Environment::new().variable_of("self", &decl);
    let check = |expression: &str, min: u64, max: u64| {
        let program = env.compile(expression).unwrap_or_else(|e| panic!("{expression}: {}", display(&e)));
        let cost = program.estimated_cost(&SchemaSizes::new([("self", &decl)]));
        assert_eq!((cost.min, cost.max), (min, max), "{expression}");
    };
    check("self.spec.count > 1", 4, 4);
    check("self.spec.name == 'abc'", 4, 4);
    check("self.spec.name.contains('abc')", 3, 7);
    check("self.spec.tags.all(t, t.startsWith('a'))", 4, 24);
    check("self.spec.tags.exists(t, t == 'a')", 4, 28);
    check("self.spec.ports.size() < 3", 5, 5);
    check("self.spec.at > timestamp('2024-01-01T00:00:00Z')", 5, 5);
}
