//! What a ValidatingAdmissionPolicy says of one object with one parameter. Pure.

use cel::{Budget, RUNTIME_BUDGET};

use super::definition::{Annotation, Check, Policy, Validations};
use crate::admission::expression::{EvaluationFailure, Facts};

/// Longer messages of a `messageExpression` are not used.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// Longer values of an audit annotation are cut.
const ANNOTATION_BYTES_MAX: usize = 10 * 1024;

/// A validation that does not hold, or could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Which of the policy's validations.
    pub index: usize,
    pub message: String,
    /// Empty when an error denies.
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub denials: Vec<Denial>,
    pub annotations: Vec<(String, String)>,
    /// Annotations that could not be evaluated: they deny whatever the binding's actions are.
    pub annotation_errors: Vec<String>,
}

pub fn verdict(policy: &Policy<Validations>, facts: &Facts<'_>) -> Verdict {
    match policy.conditions.hold(&facts.bindings()) {
        Ok(true) => {}
        Ok(false) => return Verdict::default(),
        Err(why) => return failed(policy, 0, why),
    }
    let bindings = facts.bindings_with(&policy.variables);
    let mut budget = Budget::new(RUNTIME_BUDGET);
    let mut verdict = Verdict::default();
    let mut refused = Vec::new();
    for (index, check) in policy.body.checks.iter().enumerate() {
        match check.expression.evaluate(&bindings, &mut budget) {
            Ok(value) if value.as_bool() == Some(true) => {}
            Ok(_) => refused.push((index, check)),
            Err(EvaluationFailure { message, exhausted: true }) => return failed(policy, 0, message),
            Err(failure) => verdict.denials.extend(failed(policy, index, failure.message).denials),
        }
    }
    let unauthorized = Facts { access: None, ..*facts };
    for (index, check) in refused {
        let message = message(policy, check, &unauthorized, &mut budget);
        let reason = if check.reason.is_empty() { "Invalid" } else { &check.reason };
        verdict.denials.push(Denial { index, message, reason: reason.to_owned() });
    }
    verdict.denials.sort_by_key(|denial| denial.index);
    let mut budget = Budget::new(RUNTIME_BUDGET);
    for annotation in &policy.body.annotations {
        annotate(policy, annotation, &bindings, &mut budget, &mut verdict);
    }
    verdict
}

/// An error denies, unless failures are ignored.
fn failed(policy: &Policy<Validations>, index: usize, message: String) -> Verdict {
    let denial = Denial { index, message, reason: String::new() };
    let denials = if policy.failures_ignored { Vec::new() } else { vec![denial] };
    Verdict { denials, ..Verdict::default() }
}

/// From the message expression if that gives one, else as written, else the expression that does not hold.
fn message(policy: &Policy<Validations>, check: &Check, facts: &Facts<'_>, budget: &mut Budget) -> String {
    let computed = check.message_expression.as_ref().and_then(|expression| {
        let value = expression.evaluate(&facts.bindings_with(&policy.variables), budget).ok()?;
        let text = value.as_str()?.trim().to_owned();
        (!text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n')).then_some(text)
    });
    match (computed, check.message.trim()) {
        (Some(text), _) => text,
        (None, "") => format!("failed expression: {}", check.expression.text.trim()),
        (None, text) => text.to_owned(),
    }
}

fn annotate(
    policy: &Policy<Validations>,
    annotation: &Annotation,
    bindings: &cel::Bindings<'_>,
    budget: &mut Budget,
    verdict: &mut Verdict,
) {
    match annotation.value.evaluate(bindings, budget) {
        Ok(value) => {
            // Null means no annotation.
            let Some(text) = value.as_str().map(str::trim).filter(|text| !text.is_empty()) else { return };
            let mut end = text.len().min(ANNOTATION_BYTES_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            verdict.annotations.push((annotation.key.clone(), text[..end].to_owned()));
        }
        Err(failure) if !policy.failures_ignored => verdict.annotation_errors.push(failure.message),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, expected: &[(&str, &str)]) -> Verdict {
        let policy = Policy::validating(&json!({"metadata": {"name": "p"}, "spec": spec}));
        let object = json!({"metadata": {"name": "a"}, "spec": {"replicas": 3}});
        let params = json!({"max": 2});
        let got = verdict(&policy, &Facts { object: &object, params: &params, ..Facts::default() });
        let shown: Vec<(&str, &str)> = got.denials.iter().map(|d| (d.message.as_str(), d.reason.as_str())).collect();
        assert_eq!(shown, expected, "{spec}");
        got
    }

    #[test]
    fn verdicts() {
        let spec =
            |validations: Value| json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": validations});
        check(spec(json!([{"expression": "object.spec.replicas < 5"}])), &[]);
        let failed = "failed expression: object.spec.replicas <= params.max";
        check(spec(json!([{"expression": "object.spec.replicas <= params.max"}])), &[(failed, "Invalid")]);
        check(spec(json!([{"expression": "false", "message": " no ", "reason": "Forbidden"}])), &[("no", "Forbidden")]);
        let computed = json!([{"expression": "false", "message": "no", "messageExpression": "'at most ' + string(params.max)"}]);
        check(spec(computed), &[("at most 2", "Invalid")]);
        let broken = json!([{"expression": "false", "message": "no", "messageExpression": "params.nothing"}]);
        check(spec(broken), &[("no", "Invalid")]);
        let missing = "expression 'object.spec.x == 1' resulted in error: no such key: x";
        check(spec(json!([{"expression": "object.spec.x == 1"}])), &[(missing, "")]);
    }

    #[test]
    fn failures_and_conditions() {
        let broken = json!([{"expression": "object.spec.x == 1"}, {"expression": "false"}]);
        check(json!({"failurePolicy": "Ignore", "validations": broken}), &[("failed expression: false", "Invalid")]);
        let skipped = json!([{"name": "c", "expression": "object.metadata.name == 'b'"}]);
        check(json!({"matchConditions": skipped, "validations": [{"expression": "false"}]}), &[]);
    }

    #[test]
    fn variables_and_annotations() {
        let variables =
            json!([{"name": "n", "expression": "object.spec.replicas"}, {"name": "m", "expression": "variables.n + 1"}]);
        let spec = json!({"variables": variables, "validations": [{"expression": "variables.m == 4"}],
            "auditAnnotations": [{"key": "k", "valueExpression": "'n is ' + string(variables.n)"}, {"key": "l", "valueExpression": "null"}]});
        assert_eq!(check(spec, &[]).annotations, [("k".to_owned(), "n is 3".to_owned())]);
    }
}
