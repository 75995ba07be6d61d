//! The numbers that a version's scale shows: where they are, and what they may be. Pure.

use machinery::field::{FieldErrors, Path};
use machinery::gotext;
use machinery::jsonpath::text;
use machinery::meta;
use serde_json::Value;

/// The paths of a version's `subresources.scale`, without their leading dots.
pub(super) struct Scale {
    spec: String,
    status: String,
    selector: Option<String>,
}

impl Scale {
    pub(super) fn new(version: &Value) -> Option<Self> {
        let scale = &version["subresources"]["scale"];
        let path = |field: &str| scale[field].as_str().map(|path| path.trim_start_matches('.').to_owned());
        scale.is_object().then(|| Self {
            spec: path("specReplicasPath").unwrap_or_default(),
            status: path("statusReplicasPath").unwrap_or_default(),
            selector: path("labelSelectorPath").filter(|path| !path.is_empty()),
        })
    }

    pub(super) fn paths(&self) -> (String, String, Option<String>) {
        (self.spec.clone(), self.status.clone(), self.selector.clone())
    }

    pub(super) fn validate_spec(&self, object: &Value, errors: &mut FieldErrors) {
        check_replicas(object, &self.spec, errors);
    }

    pub(super) fn validate_status(&self, object: &Value, errors: &mut FieldErrors) {
        check_replicas(object, &self.status, errors);
        if let Some(path) = &self.selector
            && let Some(value) = meta::get_dotted(object, path).filter(|value| !value.is_string())
        {
            let detail =
                format!(".{path} accessor error: {} is of the type {}, expected string", text(value), gotext::type_name(value));
            errors.invalid(&Path::new(format!(".{path}")), "", detail);
        }
    }
}

fn check_replicas(object: &Value, path: &str, errors: &mut FieldErrors) {
    let Some(value) = meta::get_dotted(object, path) else { return };
    let at = Path::new(format!(".{path}"));
    match value.as_i64() {
        None => {
            let detail =
                format!(".{path} accessor error: {} is of the type {}, expected int64", text(value), gotext::type_name(value));
            errors.invalid(&at, 0, detail);
        }
        Some(replicas) if replicas < 0 => errors.invalid(&at, replicas, "should be a non-negative integer"),
        Some(replicas) if replicas > i64::from(i32::MAX) => {
            errors.invalid(&at, replicas, format!("should be less than or equal to {}", i32::MAX));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replicas() {
        let version = json!({"subresources": {"scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}}});
        let scale = Scale::new(&version).unwrap();
        let check = |n: Value, expected: &[&str]| {
            let mut errors = FieldErrors::new();
            scale.validate_spec(&json!({"spec": {"n": n}}), &mut errors);
            scale.validate_status(&json!({"spec": {"n": n}}), &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        };
        check(json!(3), &[]);
        check(json!(-1), &[".spec.n: Invalid value: -1: should be a non-negative integer"]);
        check(json!("x"), &[".spec.n: Invalid value: 0: .spec.n accessor error: x is of the type string, expected int64"]);
        assert!(Scale::new(&json!({})).is_none());
    }
}
