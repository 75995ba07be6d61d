use serde_json::json;

use super::*;

fn errors(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<String> {
    Validator::compile(schema).validate(value, old, &Path::root()).iter().map(ToString::to_string).collect()
}

/// The schema of one field, `spec.f`, and what becomes of a value there.
fn check(schema: Value, value: Value, expected: &[&str]) {
    let whole = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"f": schema}}}});
    assert_eq!(errors(&whole, &json!({"spec": {"f": value}}), None), expected, "{schema}");
}

#[test]
fn types() {
    check(json!({"type": "string"}), json!("a"), &[]);
    check(
        json!({"type": "string"}),
        json!(5),
        &["spec.f: Invalid value: \"integer\": spec.f in body must be of type string: \"integer\""],
    );
    check(json!({"type": "integer"}), json!(1.0), &[]);
    check(
        json!({"type": "integer"}),
        json!(1.5),
        &[
            "spec.f: Invalid value: \"number\": spec.f in body must be of type integer: \"number\"",
            "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in spec.f",
        ],
    );
    check(json!({"type": "number"}), json!(1), &[]);
    check(
        json!({"type": "string"}),
        json!(null),
        &["spec.f: Invalid value: \"null\": spec.f in body must be of type string: \"null\""],
    );
    check(json!({"type": "string", "nullable": true}), json!(null), &[]);
    check(json!({"x-kubernetes-int-or-string": true}), json!("1"), &[]);
    check(
        json!({"x-kubernetes-int-or-string": true}),
        json!(true),
        &["spec.f: Invalid value: \"boolean\": spec.f in body must be of type integer,string: \"boolean\""],
    );
}

#[test]
fn texts() {
    check(
        json!({"type": "string", "pattern": "^a+$"}),
        json!("b"),
        &["spec.f: Invalid value: \"b\": spec.f in body should match '^a+$'"],
    );
    check(json!({"type": "string", "maxLength": 2}), json!("abc"), &["spec.f: Too long: may not be more than 2 bytes"]);
    check(
        json!({"type": "string", "minLength": 2}),
        json!("é"),
        &["spec.f: Invalid value: \"é\": spec.f in body should be at least 2 chars long"],
    );
    check(
        json!({"type": "string", "enum": ["a", "b"]}),
        json!("c"),
        &["spec.f: Unsupported value: \"c\": supported values: \"a\", \"b\""],
    );
    check(
        json!({"type": "string", "format": "date-time"}),
        json!("now"),
        &["spec.f: Invalid value: \"now\": spec.f in body must be of type date-time: \"now\""],
    );
    check(json!({"type": "string", "format": "no-such"}), json!("now"), &[]);
}

#[test]
fn numbers() {
    let is = |what: &str, value: &str| format!("spec.f: Invalid value: {value}: spec.f in body should be {what}");
    check(json!({"type": "integer", "minimum": 1}), json!(0), &[&is("greater than or equal to 1", "0")]);
    check(json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}), json!(1), &[&is("greater than 1", "1")]);
    check(json!({"type": "number", "maximum": 1.5}), json!(2.5), &[&is("less than or equal to 1.5", "2.5")]);
    check(json!({"type": "integer", "multipleOf": 5}), json!(7), &[&is("a multiple of 5", "7")]);
    check(json!({"type": "number", "multipleOf": 0.1}), json!(0.3), &[]);
    check(
        json!({"type": "integer", "format": "int32"}),
        json!(3_000_000_000_u64),
        &["<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.f"],
    );
}

#[test]
fn lists_and_objects() {
    let list = json!({"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}});
    check(list.clone(), json!([]), &["spec.f: Invalid value: 0: spec.f in body should have at least 1 items"]);
    check(list.clone(), json!(["a", "b", "c"]), &["spec.f: Too many: 3: must have at most 2 items"]);
    check(list, json!([1]), &["spec.f[0]: Invalid value: \"integer\": spec.f[0] in body must be of type string: \"integer\""]);
    let object = json!({"type": "object", "required": ["a", "b"], "minProperties": 1, "maxProperties": 1,
        "additionalProperties": {"type": "integer"}});
    check(
        object.clone(),
        json!({"a": "x"}),
        &[
            "spec.f.a: Invalid value: \"string\": spec.f.a in body must be of type integer: \"string\"",
            "spec.f.b: Required value",
        ],
    );
    check(object, json!({"a": 1, "b": 1}), &["spec.f: Too many: 2: must have at most 1 item"]);
}

#[test]
fn combinations() {
    let ab = json!([{"required": ["a"]}, {"required": ["b"]}]);
    let object = |name: &str| json!({"type": "object", name: ab});
    let whole = |text: &str| format!("<nil>: Invalid value: \"\": \"spec.f\" must {text}");
    check(object("anyOf"), json!({"b": 1}), &[]);
    check(object("anyOf"), json!({}), &[&whole("validate at least one schema (anyOf)"), "spec.f.a: Required value"]);
    check(object("oneOf"), json!({"a": 1}), &[]);
    check(
        object("oneOf"),
        json!({"a": 1, "b": 1}),
        &[&whole("validate one and only one schema (oneOf). Found 2 valid alternatives")],
    );
    check(object("allOf"), json!({"a": 1}), &["spec.f.b: Required value", &whole("validate all the schemas (allOf)")]);
    check(json!({"type": "string", "not": {"enum": ["x"]}}), json!("x"), &[&whole("not validate the schema (not)")]);
}

#[test]
fn what_was_wrong_before_is_forgiven() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "n": {"type": "integer", "maximum": 3}, "s": {"type": "string"},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
            {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}}}}}});
    let old = json!({"spec": {"n": 9, "s": "a", "list": [{"k": "x", "v": "long"}, {"k": "y"}]}});
    let mut new = json!({"spec": {"n": 9, "s": "b", "list": [{"k": "y"}, {"k": "x", "v": "long"}]}});
    assert_eq!(errors(&schema, &new, Some(&old)), Vec::<String>::new());
    assert_eq!(errors(&schema, &new, None).len(), 2);
    new["spec"]["n"] = json!(8);
    new["spec"]["list"][0]["v"] = json!("also");
    assert_eq!(
        errors(&schema, &new, Some(&old)),
        [
            "spec.list[0].v: Too long: may not be more than 1 byte",
            "spec.n: Invalid value: 8: spec.n in body should be less than or equal to 3",
        ]
    );
}

#[test]
fn a_status_stands_alone() {
    let schema = json!({"properties": {"status": {"type": "object", "required": ["x"]}}});
    let validator = Validator::compile(&schema);
    let errors = validator.property("status").unwrap().validate(&json!({}), None, &Path::new("status"));
    assert_eq!(errors.to_string(), "status.x: Required value");
}
