//! What admission policies add: variables, the authorizer, objects to build.

use std::sync::Arc;

use serde_json::json;

use super::value;
use crate::{
    Authorizer, Bindings, Budget, Decision, Environment, EvalError, Library, RUNTIME_BUDGET, Request, ResourceRequest, Subject,
    Type,
};

struct Only;

impl Authorizer for Only {
    fn authorize(&self, request: &Request<'_>) -> Decision {
        let asked = match &request.on {
            Subject::Path(path) => (*path).to_owned(),
            Subject::Resource(r) => format!(
                "{}/{}/{}/{}/{}/{}/{}",
                r.group, r.resource, r.subresource, r.namespace, r.name, r.field_selector, r.label_selector
            ),
        };
        let account = request.service_account.map(|(ns, name)| format!("{ns}:{name} ")).unwrap_or_default();
        let reason = format!("{account}{} {asked}", request.verb);
        let error = (request.verb == "fail").then(|| "it failed".to_owned());
        Decision { allowed: request.verb == "get", reason, error }
    }
}

#[test]
fn authorizer() {
    let env = Environment::new().authorizer();
    let request = ResourceRequest { resource: "pods".into(), namespace: "ns".into(), name: "p".into(), ..Default::default() };
    let mut bindings = Bindings::new();
    bindings.bind_authorizer(&Only, Some(request));
    let check = |expression: &str, wanted: serde_json::Value| {
        let program = env.compile(expression).unwrap_or_else(|e| panic!("{}", crate::display(&e)));
        let (found, cost) = program.evaluate_with_cost(&bindings, &mut Budget::new(RUNTIME_BUDGET));
        assert_eq!(found.and_then(|v| v.to_json()), Ok(wanted), "{expression}");
        cost
    };
    let cost =
        check("authorizer.group('apps').resource('deployments').namespace('a').name('b').check('get').allowed()", json!(true));
    assert_eq!(cost, 350_000 + 6);
    check("authorizer.path('/healthz').check('post').allowed()", json!(false));
    check("authorizer.path('/healthz').check('get').reason()", json!("get /healthz"));
    check("authorizer.requestResource.subresource('status').check('get').reason()", json!("get /pods/status/ns/p//"));
    check("authorizer.serviceAccount('ns', 'sa').path('/a').check('get').reason()", json!("ns:sa get /a"));
    check(
        "authorizer.group('').resource('pods').fieldSelector('a=b').labelSelector('c').check('list').reason()",
        json!("list /pods////a=b/c"),
    );
    check("authorizer.path('/a').check('fail').errored()", json!(true));
    check("authorizer.path('/a').check('fail').error()", json!("it failed"));
    let empty = env.compile("authorizer.path(' ').check('get').allowed()").expect("compiles");
    let failed = empty.evaluate(&bindings, &mut Budget::new(RUNTIME_BUDGET)).map(drop);
    assert_eq!(failed, Err(EvalError::Failed("path must not be empty".into())));
    let thrice = ["authorizer.path('/a').check('post').allowed()"; 3].join(" || ");
    let outcome = env.compile(&thrice).expect("compiles").evaluate(&bindings, &mut Budget::new(RUNTIME_BUDGET)).map(drop);
    assert_eq!(outcome, Err(EvalError::CostLimit));
}

#[test]
fn mutations() {
    let env = Environment::new().mutation();
    let check = |expression: &str, wanted: serde_json::Value| assert_eq!(value(&env, expression), Ok(wanted), "{expression}");
    check("Object{spec: Object.spec{replicas: 3}}", json!({"spec": {"replicas": 3}}));
    check("Object{metadata: Object.metadata{labels: {'a': 'b'}}}", json!({"metadata": {"labels": {"a": "b"}}}));
    check("Object{?spec: optional.none()}", json!({}));
    check(
        "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c~d'), value: {'x': 1}}]",
        json!([{"op": "add", "path": "/a/b~1c~0d", "value": {"x": 1}}]),
    );
    check("JSONPatch{op: 'test', path: '/a', value: Object.spec{a: 1}}", json!({"op": "test", "path": "/a", "value": {"a": 1}}));
    check("has(Object{a: 1}.a) && !has(Object{a: 1}.b)", json!(true));
    check("Object{a: 1}.a", json!(1));
    let refused = |expression: &str, message: &str| {
        assert_eq!(env.compile(expression).expect_err(expression)[0].message, message);
    };
    refused("JSONPatch{op: 1}", "expected type of field 'op' is 'string' but provided type is 'int'");
    refused("JSONPatch{ops: 'a'}", "undefined field 'ops'");
    refused("Foo{a: 1}", "undeclared reference to 'Foo' (in container '')");
    refused("int{a: 1}", "'int' is not a message type");
    let plain = Environment::new().compile("Object{a: 1}").expect_err("only mutations build objects");
    assert_eq!(plain[0].message, "undeclared reference to 'Object' (in container '')");
    assert_eq!(Environment::new().compile("jsonpatch.escapeKey('a')").map(drop).map_err(|e| e.len()), Err(2));
}

#[test]
fn variables_are_lazy_and_evaluated_once() {
    const TYPE: &str = "kubernetes.variables";
    let base = Environment::new().variable("object", Type::Dyn).object_type(TYPE).variable("variables", Type::object(TYPE));
    let compile = |env: &Environment, expression: &str| Arc::new(env.compile(expression).expect(expression));
    let sum = compile(&base, "object.l.sum()");
    let bad = compile(&base, "object.missing");
    let env = base.field_type(TYPE, "sum", sum.output_type().clone()).field_type(TYPE, "bad", bad.output_type().clone());
    let twice = compile(&env, "variables.sum * 2");
    let env = env.field_type(TYPE, "twice", twice.output_type().clone());
    let object = json!({"l": (0..100).collect::<Vec<i32>>()});
    let mut bindings = Bindings::new();
    let programs = vec![("sum".to_owned(), sum), ("bad".to_owned(), bad), ("twice".to_owned(), twice)];
    bindings.bind_json("object", &object).bind_variables("variables", TYPE, programs);
    let mut budget = Budget::new(RUNTIME_BUDGET);
    let mut cost = |expression: &str, wanted: Result<serde_json::Value, &str>| {
        let before = budget.remaining();
        let found = compile(&env, expression).evaluate(&bindings, &mut budget).and_then(|v| v.to_json());
        assert_eq!(found.map_err(|e| e.to_string()), wanted.map_err(str::to_owned), "{expression}");
        before - budget.remaining()
    };
    let first = cost("variables.twice", Ok(json!(9900)));
    let second = cost("variables.twice", Ok(json!(9900)));
    assert!(first > 100 && second == 2, "{first} {second}");
    assert_eq!(cost("variables.sum == 4950", Ok(json!(true))), 3);
    cost("variables.bad == 1", Err("no such key: missing"));
    cost("true || variables.bad == 1", Ok(json!(true)));
    assert_eq!(env.compile("variables.other").expect_err("undeclared")[0].message, "undefined field 'other'");
}

#[test]
fn libraries_are_switched() {
    let off = Environment::new().library(Library::Quantity, false);
    assert!(off.compile("quantity('1')").is_err());
    let on = Environment::new().library(Library::Bindings, true).library(Library::Math, true);
    assert_eq!(value(&on, "cel.bind(x, 2, math.greatest(x, 1) + x)"), Ok(json!(4)));
}

#[test]
fn errors_that_are_absorbed_are_not_interruptions() {
    let env = Environment::new().authorizer();
    let program = env
        .compile(
            "authorizer.path('/').check('a').allowed() || authorizer.path('/').check('a').allowed() || \
         authorizer.path('/').check('a').allowed() || true",
        )
        .expect("compiles");
    let mut bindings = Bindings::new();
    bindings.bind_authorizer(&Only, None);
    assert_eq!(program.evaluate(&bindings, &mut Budget::new(RUNTIME_BUDGET)).map(drop), Err(EvalError::CostLimit));
}
