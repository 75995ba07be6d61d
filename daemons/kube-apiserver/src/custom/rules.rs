//! What a definition's rules (`x-kubernetes-validations`) say of an object, after its schema had its say. Pure.

use cel::rules::Rules;
use machinery::field::{FieldError, FieldErrors, Kind};
use serde_json::Value;

/// What upstream says instead of rules that would stumble over what is wrong already.
const SKIPPED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete \
                       validation";

/// Adds what the rules refuse to what the schema refused.
pub(super) fn check(rules: Option<&Rules>, object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let Some(rules) = rules else { return };
    if errors.iter().any(|error| blocks(error.kind)) {
        let (path, bad_value) = ("<nil>".to_owned(), Some(Value::Null));
        errors.push(FieldError { kind: Kind::Invalid, path, bad_value, detail: SKIPPED.to_owned() });
        return;
    }
    errors.extend(rules.validate(object, old).errors);
}

/// Errors after which a value is not what a rule expects.
fn blocks(kind: Kind) -> bool {
    matches!(kind, Kind::NotSupported | Kind::Required | Kind::TooLong | Kind::TooMany | Kind::TypeInvalid)
}

#[cfg(test)]
mod tests {
    use machinery::field::Path;
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_come_after_the_schema() {
        let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.a < 3", "message": "too large"}],
            "properties": {"a": {"type": "integer"}}});
        let rules = Rules::compile(&schema);
        let check = |mut errors: FieldErrors, object: Value, wanted: &[&str]| {
            check(rules.as_ref(), &object, None, &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted, "{object}");
        };
        check(FieldErrors::new(), json!({"a": 2}), &[]);
        check(FieldErrors::new(), json!({"a": 3}), &["<nil>: Invalid value: too large"]);
        let mut wrong = FieldErrors::new();
        wrong.required(&Path::new("b"), "");
        check(wrong, json!({"a": 3}), &["b: Required value", &format!("<nil>: Invalid value: null: {SKIPPED}")]);
    }
}
