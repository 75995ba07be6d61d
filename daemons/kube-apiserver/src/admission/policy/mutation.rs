//! What one mutation of a MutatingAdmissionPolicy makes of an object. Pure.

use cel::{Budget, RUNTIME_BUDGET};
use machinery::meta;
use machinery::patch::{self, PatchError};
use schema::TypeRef;
use serde_json::{Value, json};

use super::definition::Step;
use crate::admission::expression::Facts;

/// The object with the mutation, or a refusal in upstream's words.
///
/// # Errors
/// An expression that fails, or a configuration or patch that does not fit the object.
pub fn mutated(
    step: &Step,
    facts: &Facts<'_>,
    variables: &[(String, std::sync::Arc<cel::Program>)],
    ty: Option<TypeRef<'_>>,
) -> Result<Value, String> {
    let bindings = facts.bindings_with(variables);
    let mut budget = Budget::new(RUNTIME_BUDGET);
    match step {
        Step::Apply(expression) => {
            let value = expression.evaluate(&bindings, &mut budget).map_err(|failure| failure.message)?;
            let mut configuration = value.to_json().map_err(|error| format!("type mismatch: {error}"))?;
            for field in ["apiVersion", "kind"] {
                configuration[field] = facts.object[field].clone();
            }
            applied(facts.object, &configuration, ty).map_err(|why| format!("error applying patch: {why}"))
        }
        Step::JsonPatch(expression) => {
            let value = expression.evaluate(&bindings, &mut budget).map_err(|failure| failure.message)?;
            let operations = value.to_json().map_err(|error| {
                format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}")
            })?;
            let mut new = facts.object.clone();
            match patch::json::apply(&mut new, &operations) {
                Ok(()) => Ok(new),
                // A test that fails leaves the object as it is.
                Err(error) if is_failed_test(&error) => Ok(facts.object.clone()),
                Err(error) => Err(format!("JSON Patch: {error}")),
            }
        }
    }
}

fn is_failed_test(error: &PatchError) -> bool {
    error.to_string().ends_with("test failed")
}

fn applied(object: &Value, configuration: &Value, ty: Option<TypeRef<'_>>) -> Result<Value, String> {
    match ty {
        Some(ty) => machinery::apply::merge_configuration(object, configuration, ty),
        None => {
            let mut new = object.clone();
            patch::merge::apply(&mut new, configuration);
            Ok(new)
        }
    }
}

/// What tells two invocations apart.
pub fn key(policy: &str, binding: &str, params: &Value) -> String {
    json!([policy, binding, meta::namespace(params), meta::name(params)]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::policy::definition::Policy;

    #[test]
    fn mutations() {
        let check = |mutation: Value, expected: Result<Value, &str>| {
            let policy = Policy::mutating(&json!({"metadata": {"name": "p"}, "spec": {"mutations": [mutation],
                "variables": [{"name": "two", "expression": "object.spec.replicas + 1"}]}}));
            let object =
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1}});
            let ty = schema::builtin().type_of("apps", "v1", "Deployment");
            let facts = Facts { object: &object, ..Facts::default() };
            let got = mutated(&policy.body.steps[0], &facts, &policy.variables, ty);
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got["spec"], expected, "{mutation}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{mutation}: {got}"),
                (got, expected) => panic!("{mutation}: {got:?}, not {expected:?}"),
            }
        };
        let apply = |text: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}});
        let patch = |text: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": text}});
        check(
            apply("Object{spec: Object.spec{replicas: variables.two, paused: true}}"),
            Ok(json!({"replicas": 2, "paused": true})),
        );
        check(apply("Object{spec: Object.spec{nothing: 1}}"), Err("error applying patch: failed to convert patch object"));
        check(patch("[JSONPatch{op: 'replace', path: '/spec/replicas', value: variables.two}]"), Ok(json!({"replicas": 2})));
        let tested = "[JSONPatch{op: 'test', path: '/spec/replicas', value: 7}, JSONPatch{op: 'remove', path: '/spec/replicas'}]";
        check(patch(tested), Ok(json!({"replicas": 1})));
        check(patch("[JSONPatch{op: 'remove', path: '/spec/nothing'}]"), Err("JSON Patch: "));
        check(patch("[JSONPatch{op: 'remove', path: object.spec.nothing}]"), Err("resulted in error: no such key: nothing"));
    }
}
