//! `cases.jsonl`: expressions with what upstream's v1.36 answers: compile errors as they are printed, or the type, the
//! range of the estimate, and the value with its cost or the error.

use serde_json::{Value as Json, json};

use super::environment;
use crate::{Bindings, Budget, PER_CALL_LIMIT, Range, UnknownSizes, Value, display};

const CASES: &str = include_str!("cases.jsonl");

fn variables() -> Json {
    json!({
        "self": {"a": 1, "b": {"c": "x"}, "l": [1, 2, 3], "s": "h\u{e9}llo", "f": 1.5, "t": "2024-01-01T00:00:00Z", "n": null},
        "s": "hello", "i": 3, "l": [1, 2, 3], "ls": ["b", "a"], "m": {"a": "b"}, "mm": {"a": 1},
    })
}

/// What a case says that is otherwise here.
fn differences(case: &Json, variables: &Json) -> Vec<String> {
    let expression = case["expr"].as_str().expect("a case has an expression");
    let mut found = Vec::new();
    let mut compare = |what: &str, ours: Json, theirs: &Json| {
        if ours != *theirs {
            found.push(format!("{what}: {ours} instead of {theirs}"));
        }
    };
    let program = match environment().compile(expression) {
        Ok(program) => program,
        Err(errors) => {
            match case.get("constant") {
                // Upstream finds a constant conversion that fails when it plans, without a place.
                Some(message) => compare("constant", json!(errors[0].message), message),
                None => compare("compile", json!(display(&errors)), &case["compile"]),
            }
            return found;
        }
    };
    if case.get("compile").is_some() || case.get("constant").is_some() {
        return vec![format!("compiles, instead of {case}")];
    }
    compare("type", json!(program.output_type().to_string()), &case["type"]);
    let Range { min, max } = program.estimated_cost(&UnknownSizes);
    compare("estimate", json!([min, max]), &case["estimate"]);
    let mut bindings = Bindings::new();
    for (name, value) in variables.as_object().expect("an object") {
        bindings.bind_json(name, value);
    }
    let (outcome, cost) = program.evaluate_with_cost(&bindings, &mut Budget::new(PER_CALL_LIMIT));
    match (outcome, case.get("error")) {
        (Err(error), Some(wanted)) => compare("error", json!(error.to_string()), wanted),
        (Err(error), None) => found.push(format!("error {error} instead of a value")),
        (Ok(value), Some(wanted)) => found.push(format!("{value:?} instead of error {wanted}")),
        (Ok(value), None) => {
            compare("type of the value", json!(value.type_name()), &case["of"]);
            compare("value", shown(&value), &normal(&case["value"]));
            compare("cost", json!(cost), &case["cost"]);
        }
    }
    found
}

/// The value as the table has it: numbers are doubles, types are their names.
fn shown(value: &Value<'_>) -> Json {
    match value {
        Value::Type(ty) => json!(ty.runtime_name()),
        Value::Optional(Some(inner)) => shown(inner),
        other => normal(&other.to_json().unwrap_or_else(|e| json!(e.to_string()))),
    }
}

fn normal(json: &Json) -> Json {
    match json {
        Json::Number(n) => json!(n.as_f64()),
        Json::Array(items) => items.iter().map(normal).collect(),
        Json::Object(map) => map.iter().map(|(k, v)| (k.clone(), normal(v))).collect(),
        other => other.clone(),
    }
}

#[test]
fn upstream_answers() {
    let variables = variables();
    let mut wrong = Vec::new();
    for line in CASES.lines() {
        let case: Json = serde_json::from_str(line).expect("a line is JSON");
        let differences = differences(&case, &variables);
        if !differences.is_empty() {
            wrong.push(format!("{}\n    {}", case["expr"], differences.join("\n    ")));
        }
    }
    assert!(CASES.lines().count() > 400);
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
