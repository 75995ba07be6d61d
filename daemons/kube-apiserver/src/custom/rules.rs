//! What a definition's rules (`x-kubernetes-validations`) say of an object, after its schema had its say. Pure.

use cel::rules::{Rules, Verdict};
use machinery::field::{FieldError, Kind};
use serde_json::Value;

/// What upstream says instead of rules that would stumble over what is wrong already.
const SKIPPED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete \
                       validation";

/// Adds what the rules refuse to what the schema refused, and what they would if it were new.
pub(super) fn check(rules: Option<&Rules>, object: &Value, old: Option<&Value>, verdict: &mut Verdict) {
    let Some(rules) = rules else { return };
    let errors = &mut verdict.errors;
    if errors.iter().any(|error| blocks(error.kind)) {
        let (path, bad_value) = ("<nil>".to_owned(), Some(Value::Null));
        errors.push(FieldError { kind: Kind::Invalid, path, bad_value, detail: SKIPPED.to_owned() });
        return;
    }
    let found = rules.validate(object, old);
    errors.extend(found.errors);
    verdict.warnings.extend(found.warnings);
}

/// Errors after which a value is not what a rule expects.
fn blocks(kind: Kind) -> bool {
    matches!(kind, Kind::NotSupported | Kind::Required | Kind::TooLong | Kind::TooMany | Kind::TypeInvalid)
}

#[cfg(test)]
mod tests {
    use machinery::field::{FieldErrors, Path};
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_come_after_the_schema() {
        let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.a < 3", "message": "too large"}],
            "properties": {"a": {"type": "integer"}}});
        let rules = Rules::compile(&schema);
        let check = |errors: FieldErrors, object: Value, wanted: &[&str]| {
            let mut verdict = Verdict { errors, ..Verdict::default() };
            check(rules.as_ref(), &object, None, &mut verdict);
            assert_eq!(verdict.errors.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted, "{object}");
        };
        check(FieldErrors::new(), json!({"a": 2}), &[]);
        check(FieldErrors::new(), json!({"a": 3}), &["<nil>: Invalid value: too large"]);
        let mut wrong = FieldErrors::new();
        wrong.required(&Path::new("b"), "");
        check(wrong, json!({"a": 3}), &["b: Required value", &format!("<nil>: Invalid value: null: {SKIPPED}")]);
    }
}
