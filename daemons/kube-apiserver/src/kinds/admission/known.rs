//! Expressions that were stored already: whoever changes something else does not answer for them. What one server's compiler
//! takes another's may not, be it older or newer.

use std::collections::BTreeSet;

use machinery::field::{FieldError, FieldErrors};
use serde_json::Value;

/// What `check` says of the new object, without what it says of expressions that the old one has.
pub(super) fn changed(check: impl FnOnce(&Value, &mut FieldErrors), new: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check(new, &mut errors);
    if errors.is_empty() {
        return errors;
    }
    let mut known = BTreeSet::new();
    collect(old, &mut known);
    let is_known = |error: &FieldError| {
        is_expression(error.path.rsplit('.').next().unwrap_or_default())
            && error.bad_value.as_ref().and_then(Value::as_str).is_some_and(|text| known.contains(text.trim()))
    };
    FieldErrors::from(errors.into_vec().into_iter().filter(|error| !is_known(error)).collect::<Vec<_>>())
}

fn is_expression(field: &str) -> bool {
    matches!(field, "expression" | "messageExpression" | "valueExpression")
}

/// Objects that were stored are nested as deeply as their types.
fn collect<'v>(value: &'v Value, known: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(map) => {
            let texts = map.iter().filter(|(field, _)| is_expression(field)).filter_map(|(_, value)| value.as_str());
            known.extend(texts.map(str::trim));
            map.values().for_each(|value| collect(value, known));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, known)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::policy;
    use super::*;

    #[test]
    fn only_what_changed_is_checked() {
        let constraints = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]});
        let with = |expression: &str, message: &str| {
            json!({"metadata": {"name": "p"}, "spec": {"failurePolicy": "Fail", "matchConstraints": constraints,
                "validations": [{"expression": expression, "message": message}]}})
        };
        let check = |new: Value, old: Value, expected: usize| {
            assert_eq!(changed(policy::validating, &new, &old).len(), expected, "{new} after {old}");
        };
        check(with("true", "m"), with("false", "m"), 0);
        check(with("nonsense(", "m"), with("true", "m"), 1);
        check(with("nonsense(", "changed"), with("nonsense(", "m"), 0);
        check(with("nonsense(", " "), with("nonsense(", "m"), 1);
    }
}
