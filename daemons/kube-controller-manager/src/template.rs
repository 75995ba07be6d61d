//! Whether two pod templates mean the same, whoever wrote them: a field that is null, an empty list or an empty map says
//! no more than one that is left out, and servers and clients differ in which of them they write.
//!
//! Without this a template that comes back without its empty lists would look new on each pass, and a ReplicaSet or a
//! ControllerRevision would be made for it without end. Upstream compares with `apiequality.Semantic.DeepEqual`.

use api::core::PodTemplateSpec;
use serde_json::{Map, Value};

/// Fields of a template that hold a map or a plain structure, for which empty means absent. Elsewhere `{}` is a choice:
/// `emptyDir: {}` is a volume.
const EMPTY_IS_ABSENT: [&str; 11] = [
    "annotations",
    "labels",
    "limits",
    "matchLabels",
    "metadata",
    "nodeSelector",
    "options",
    "overhead",
    "requests",
    "resources",
    "volumeAttributes",
];

/// The template as JSON in the one form that all spellings of it share.
pub(crate) fn canonical(template: &PodTemplateSpec) -> Value {
    // Pod templates have string keys alone, the only way this could fail.
    canonical_value(serde_json::to_value(template).expect("templates encode"))
}

/// The same for a value that holds a template.
pub(crate) fn canonical_value(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().filter_map(canonical_field).collect::<Map<_, _>>()),
        Value::Array(items) => Value::Array(items.into_iter().map(canonical_value).collect()),
        scalar => scalar,
    }
}

fn canonical_field((name, value): (String, Value)) -> Option<(String, Value)> {
    let value = canonical_value(value);
    let absent = match &value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() && EMPTY_IS_ABSENT.contains(&name.as_str()),
        _ => false,
    };
    (!absent).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_says_nothing_is_left_out() {
        for (spelled, plain) in [
            (
                json!({"spec": {"containers": [{"name": "c", "env": [], "command": null}]}}),
                json!({"spec": {"containers": [{"name": "c"}]}}),
            ),
            (json!({"metadata": {"labels": {}, "creationTimestamp": null}, "spec": {}}), json!({"spec": {}})),
            (json!({"spec": {"nodeSelector": {}, "volumes": [], "tolerations": []}}), json!({"spec": {}})),
            (
                json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {}}}]}}),
                json!({"spec": {"containers": [{"name": "c"}]}}),
            ),
        ] {
            assert_eq!(canonical_value(spelled.clone()), plain, "{spelled}");
        }
    }

    #[test]
    fn what_is_chosen_stays() {
        for value in [
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}], "securityContext": {}}}),
            json!({"spec": {"containers": [{"name": "", "args": [""], "tty": false}]}}),
        ] {
            assert_eq!(canonical_value(value.clone()), value);
        }
    }
}
