//! Defaults in a schema must be values that the schema accepts.

use machinery::field::{FieldErrors, Path};
use schema::strict;
use schema::structural::Structural;
use serde_json::{Value, json};

use super::super::{embedded, validator::Validator};
use super::DEPTH_MAX;

/// Everything wrong with the defaults of a structural schema.
pub(super) fn check(schema: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    walk(schema, path, false, true, 0, &mut errors);
    errors
}

fn walk(schema: &Value, path: &Path, in_metadata: bool, is_resource: bool, depth: usize, errors: &mut FieldErrors) {
    if depth > DEPTH_MAX {
        return;
    }
    let is_resource = is_resource || schema["x-kubernetes-embedded-resource"] == true;
    let in_metadata = in_metadata && !is_resource;
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        let path = path.child("default");
        if !in_metadata && !is_pruned(schema, default) {
            errors.invalid(&path, default.clone(), "must not have unknown fields");
        }
        let mut wrong = embedded::validate(schema, default, &path);
        if wrong.is_empty() {
            wrong = Validator::compile(schema).validate(default, None, &path);
        }
        errors.extend(wrong);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &path.child("items"), in_metadata, false, depth + 1, errors);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let below = in_metadata || (is_resource && matches!(name.as_str(), "metadata" | "apiVersion" | "kind"));
        walk(property, &path.child("properties").key(name), below, false, depth + 1, errors);
    }
}

/// Whether pruning would leave the value as it is.
fn is_pruned(schema: &Value, default: &Value) -> bool {
    let wrapper = json!({"type": "object", "properties": {"value": schema}});
    let structural = Structural::compile(&wrapper, "");
    let object = json!({"value": default});
    let mut pruned = object.clone();
    strict::prune(&mut pruned, structural.type_ref());
    pruned == object
}
