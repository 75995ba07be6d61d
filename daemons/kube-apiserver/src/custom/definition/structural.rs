//! Structural schemas: every field has a type at the place where it is, and combinations (`anyOf`…) only narrow values.

use machinery::field::{FieldErrors, Path};
use machinery::regexp;
use serde_json::{Map, Value, json};

use super::{DEPTH_MAX, list, text};

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that keeps a schema from being structural, sorted.
pub fn non_structural(schema: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    invariants(schema, Level::Root, path, 0, &mut errors);
    complete(schema, Some(schema), path, path, 0, &mut errors);
    let mut sorted = errors.into_vec();
    sorted.sort_by_key(ToString::to_string);
    FieldErrors::from(sorted)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn is(schema: &Value, extension: &str) -> bool {
    schema[format!("x-kubernetes-{extension}")] == true
}

fn invariants(schema: &Value, level: Level, path: &Path, depth: usize, errors: &mut FieldErrors) {
    if depth > DEPTH_MAX {
        return errors.forbidden(path, "nested too deeply");
    }
    let kind = text(&schema["type"]);
    let embedded = is(schema, "embedded-resource");
    if kind == "array" && !schema["items"].is_object() {
        errors.required(&path.child("items"), "must be specified");
    }
    if schema["items"].is_object() {
        invariants(&schema["items"], Level::Item, &path.child("items"), depth + 1, errors);
    }
    for (name, property) in properties(schema) {
        invariants(property, Level::Field, &path.child("properties").key(name), depth + 1, errors);
    }
    let additional = &schema["additionalProperties"];
    if !additional.is_null() && level == Level::Root {
        errors.forbidden(&path.child("additionalProperties"), "must not be used at the root");
    }
    if additional.is_object() {
        invariants(additional, Level::Field, &path.child("additionalProperties"), depth + 1, errors);
    }
    for extension in ["preserve-unknown-fields", "embedded-resource"] {
        if is(schema, "int-or-string") && is(schema, extension) {
            let name = format!("x-kubernetes-{extension}");
            errors.invalid(&path.child(&name), true, "must be false if x-kubernetes-int-or-string is true");
        }
    }
    let int_or_string = json!([{"type": "integer"}, {"type": "string"}]);
    let skip_any = schema["anyOf"] == int_or_string;
    let skip_first = schema["allOf"].get(0).is_some_and(|first| first["anyOf"] == int_or_string);
    combinations(schema, skip_any, skip_first, path, depth, errors);
    check_type(schema, kind, level, embedded, path, errors);
    if embedded && !additional.is_null() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.forbidden(&path.child("additionalProperties"), detail);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(&path.child("type"), kind, "must be object at the root");
    }
    check_metadata(schema, level, embedded, path, errors);
    if embedded && !is(schema, "preserve-unknown-fields") && schema["properties"].as_object().is_none_or(Map::is_empty) {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), detail);
    }
}

fn check_type(schema: &Value, kind: &str, level: Level, embedded: bool, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("type");
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        return if kind.is_empty() { errors.required(&path, detail) } else { errors.invalid(&path, kind, detail) };
    }
    if kind.is_empty() && !is(schema, "int-or-string") && !is(schema, "preserve-unknown-fields") {
        errors.required(
            &path,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
}

/// An object's own name and kind are the server's to describe.
fn check_metadata(schema: &Value, level: Level, embedded: bool, path: &Path, errors: &mut FieldErrors) {
    let is_resource = level == Level::Root || embedded;
    let at = |name: &str| path.child("properties").key(name);
    for name in ["kind", "apiVersion"] {
        if let Some(property) = schema["properties"].get(name).filter(|property| is_resource && property["type"] != "string") {
            errors.invalid(&at(name).child("type"), text(&property["type"]), "must be string");
        }
    }
    let Some(metadata) = schema["properties"].get("metadata") else { return };
    if is_resource && metadata["type"] != "object" {
        errors.invalid(&at("metadata").child("type"), text(&metadata["type"]), "must be object");
    }
    if level != Level::Root {
        return;
    }
    let empty = Map::new();
    let known = |field: &String| matches!(field.as_str(), "type" | "default" | "properties");
    let names = metadata["properties"].as_object().unwrap_or(&empty);
    let only_names = names.keys().all(|name| name == "name" || name == "generateName");
    if !only_names || !metadata.as_object().is_some_and(|map| map.keys().all(known)) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(&at("metadata"), detail);
    }
}

fn combinations(schema: &Value, skip_any: bool, skip_first: bool, path: &Path, depth: usize, errors: &mut FieldErrors) {
    for (name, skipped) in [("anyOf", skip_any), ("allOf", false), ("oneOf", false)] {
        for (index, inner) in list(&schema[name]).iter().enumerate().filter(|_| !skipped) {
            let skip_any = name == "allOf" && skip_first && index == 0;
            nested(inner, skip_any, &path.child(name).index(index), depth + 1, errors);
        }
    }
    if schema["not"].is_object() {
        nested(&schema["not"], false, &path.child("not"), depth + 1, errors);
    }
    let pattern = text(&schema["pattern"]);
    if let Err(why) = regexp::compile(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}");
        errors.invalid(&path.child("pattern"), pattern, detail);
    }
}

/// What a combination may not say.
const FORBIDDEN: [(&str, &str); 12] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
];

fn nested(schema: &Value, skip_any: bool, path: &Path, depth: usize, errors: &mut FieldErrors) {
    if depth > DEPTH_MAX {
        return errors.forbidden(path, "nested too deeply");
    }
    combinations(schema, skip_any, false, path, depth, errors);
    if schema["items"].is_object() {
        nested(&schema["items"], false, &path.child("items"), depth + 1, errors);
    }
    for (name, property) in properties(schema) {
        nested(property, false, &path.child("properties").key(name), depth + 1, errors);
    }
    let says = |field: &str| match schema.get(field) {
        None | Some(Value::Null | Value::Bool(false)) => field == "default" && schema["default"] == false,
        Some(Value::String(text)) => !text.is_empty() || field == "default",
        Some(Value::Array(items)) => !items.is_empty() || field == "default",
        Some(_) => true,
    };
    for (field, detail) in FORBIDDEN.iter().filter(|(field, _)| says(field)) {
        errors.forbidden(&path.child(field), *detail);
    }
    if says("x-kubernetes-validations") {
        errors.forbidden(&path.child("x-kubernetes-validations"), "must be empty to be structural");
    }
    if schema["properties"].get("metadata").is_some() {
        errors.forbidden(&path.child("properties").key("metadata"), "must not be specified in a nested context");
    }
}

/// Whatever a combination speaks of must be declared outside of it.
fn complete(values: &Value, schema: Option<&Value>, at: &Path, path: &Path, depth: usize, errors: &mut FieldErrors) {
    let mut below = |inner: &Value, path: Path| complete_nested(inner, schema, at, &path, depth + 1, errors);
    if values["not"].is_object() {
        below(&values["not"], path.child("not"));
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in list(&values[name]).iter().enumerate() {
            below(inner, path.child(name).index(index));
        }
    }
}

fn complete_nested(values: &Value, schema: Option<&Value>, at: &Path, path: &Path, depth: usize, errors: &mut FieldErrors) {
    let Some(declared) = schema else { return errors.required(at, format!("because it is defined in {path}")) };
    if depth > DEPTH_MAX {
        return;
    }
    complete(values, schema, at, path, depth, errors);
    if values["items"].is_object() {
        let items = declared.get("items").filter(|items| items.is_object());
        complete_nested(&values["items"], items, &at.child("items"), &path.child("items"), depth + 1, errors);
    }
    for (name, property) in properties(values) {
        let (at, path) = (at.child("properties").key(name), path.child("properties").key(name));
        complete_nested(property, declared["properties"].get(name), &at, &path, depth + 1, errors);
    }
}
