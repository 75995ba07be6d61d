//! Objects within objects (`x-kubernetes-embedded-resource`): each says what it is, and has metadata as all objects have.

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::{meta, names};
use serde_json::Value;

use crate::registry::metadata;
use crate::registry::traits::NameRule;

/// Everything wrong with the objects inside a value. The object that the value itself may be is the registry's to check.
pub(super) fn validate(schema: &Value, value: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    walk(schema, value, path, &mut errors);
    errors
}

/// Whether values of the schema may hold objects.
pub(super) fn is_in(schema: &Value) -> bool {
    let below = |name: &str| schema[name].is_object() && is_in(&schema[name]);
    schema["x-kubernetes-embedded-resource"] == true
        || below("items")
        || below("additionalProperties")
        || schema["properties"].as_object().into_iter().flatten().any(|(_, property)| is_in(property))
}

fn walk(schema: &Value, value: &Value, path: &Path, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            if schema["x-kubernetes-embedded-resource"] == true {
                check(value, path, errors);
            }
            for (name, value) in map {
                match schema["properties"].get(name) {
                    Some(property) => walk(property, value, &path.child(name), errors),
                    None => walk(&schema["additionalProperties"], value, &path.key(name), errors),
                }
            }
        }
        Value::Array(items) if schema["items"].is_object() => {
            for (index, item) in items.iter().enumerate() {
                walk(&schema["items"], item, &path.index(index), errors);
            }
        }
        _ => {}
    }
}

fn check(object: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["apiVersion", "kind"] {
        let path = path.child(field);
        match object.get(field) {
            None => errors.required(&path, ""),
            Some(Value::String(text)) if text.is_empty() => errors.invalid(&path, "", "must not be empty"),
            Some(Value::String(text)) if field == "apiVersion" && text.matches('/').count() > 1 => {
                errors.invalid(&path, text.as_str(), format!("unexpected GroupVersion string: {text}"));
            }
            Some(Value::String(text)) => {
                let wrong = names::dns1035_label(&text.to_lowercase());
                if field == "kind" && !wrong.is_empty() {
                    let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.invalid(&path, text.as_str(), detail);
                }
            }
            Some(other) => errors.invalid(&path, other.clone(), "must be a string"),
        }
    }
    if object.get("metadata").is_none() {
        return;
    }
    let mut named = object.clone();
    if meta::name(&named).is_empty() {
        // A name is not required here, but the rest is checked as if there were one.
        meta::metadata_mut(&mut named).insert("name".to_owned(), "fakename".into());
    }
    let namespaced = !meta::namespace(object).is_empty();
    for error in metadata::validate(&named, namespaced, NameRule::PathSegment) {
        let moved = path.child(&error.path);
        errors.push(FieldError { path: moved.as_str().to_owned(), ..error });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_within() {
        let schema = json!({"properties": {"spec": {"properties": {"template": {"x-kubernetes-embedded-resource": true}}}}});
        assert!(is_in(&schema) && !is_in(&schema["properties"]["spec"]["properties"]["other"]));
        let check = |template: Value, expected: &[&str]| {
            let object = json!({"spec": {"template": template}});
            let errors: Vec<String> = validate(&schema, &object, &Path::root()).iter().map(ToString::to_string).collect();
            assert_eq!(errors, expected);
        };
        check(json!({"apiVersion": "v1", "kind": "Pod"}), &[]);
        check(json!({}), &["spec.template.apiVersion: Required value", "spec.template.kind: Required value"]);
        check(
            json!({"apiVersion": "", "kind": 1}),
            &[
                "spec.template.apiVersion: Invalid value: \"\": must not be empty",
                "spec.template.kind: Invalid value: 1: must be a string",
            ],
        );
        let errors = validate(
            &schema,
            &json!({"spec": {"template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a b": "c"}}}}}),
            &Path::root(),
        );
        assert!(errors.to_string().starts_with("spec.template.metadata.labels: Invalid value: \"a b\""), "{errors}");
    }
}
