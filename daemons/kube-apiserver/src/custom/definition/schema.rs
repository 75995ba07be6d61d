//! A version's schema: which parts of JSON schema it may use, and how lists and maps are declared.

use machinery::field::{FieldErrors, Path};
use serde_json::{Map, Value, json};

use super::super::validator;
use super::{DEPTH_MAX, defaults, list, structural, text};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Whether the predicate holds for the schema or any below it.
pub(super) fn any(schema: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
    schema.is_object() && (holds(schema) || children(schema).any(|child| any(child, holds)))
}

fn children(schema: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|name| list(&schema[name]));
    let single = ["items", "not", "additionalProperties"].into_iter().map(|name| &schema[name]);
    let properties = schema["properties"].as_object().into_iter().flat_map(Map::values);
    lists.chain(single).chain(properties).filter(|child| child.is_object())
}

/// The formats in all schemas of a definition that are not enforced.
pub fn unrecognized_formats(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in list(&definition["spec"]["versions"]) {
        collect_formats(&version["schema"]["openAPIV3Schema"], 0, &mut found);
    }
    found
}

fn collect_formats(schema: &Value, depth: usize, found: &mut Vec<String>) {
    if depth > DEPTH_MAX {
        return;
    }
    let format = validator::unrecognized(text(&schema["format"]), text(&schema["type"]));
    if let Some(format) = format.filter(|format| !found.iter().any(|known| known == format)) {
        found.push(format.to_owned());
    }
    children(schema).for_each(|child| collect_formats(child, depth + 1, found));
}

/// The root of a schema with its rules, then all of it. `version` is the object that holds `openAPIV3Schema`.
pub(super) fn check(version: &Value, has_status: bool, path: &Path, errors: &mut FieldErrors) {
    let schema = &version["openAPIV3Schema"];
    if !schema.is_object() {
        return;
    }
    let before = errors.len();
    let path = path.child("openAPIV3Schema");
    if has_status {
        check_root(schema, &path, errors);
    }
    if schema["nullable"] == true {
        errors.forbidden(&Path::new(format!("{path}.nullable")), "nullable cannot be true at the root");
    }
    let not_structural = structural::non_structural(schema, &path);
    if not_structural.is_empty() {
        errors.extend(defaults::check(schema, &path));
    }
    errors.extend(not_structural);
    walk(schema, &path, &Context { is_root: true, ..Context::default() }, 0, errors);
    // What is wrong with a schema makes errors of rules that nobody understands.
    if errors.len() == before {
        errors.extend(cel::rules::check(schema, &path));
    }
}

/// A status is validated by itself: what the root says of the whole object would be lost.
fn check_root(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    const ALLOWED: [(&str, &str); 22] = [
        ("description", "Description"),
        ("type", "Type"),
        ("format", "Format"),
        ("title", "Title"),
        ("maximum", "Maximum"),
        ("exclusiveMaximum", "ExclusiveMaximum"),
        ("minimum", "Minimum"),
        ("exclusiveMinimum", "ExclusiveMinimum"),
        ("maxLength", "MaxLength"),
        ("minLength", "MinLength"),
        ("pattern", "Pattern"),
        ("maxItems", "MaxItems"),
        ("minItems", "MinItems"),
        ("uniqueItems", "UniqueItems"),
        ("multipleOf", "MultipleOf"),
        ("required", "Required"),
        ("items", "Items"),
        ("properties", "Properties"),
        ("externalDocs", "ExternalDocs"),
        ("example", "Example"),
        ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
        ("x-kubernetes-validations", "XValidations"),
    ];
    let kind = text(&schema["type"]);
    if !kind.is_empty() && kind != "object" {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return errors.invalid(&Path::new(format!("{path}.type")), kind, detail);
    }
    let is_allowed = |name: &String| ALLOWED.iter().any(|(allowed, _)| allowed == name);
    if schema.as_object().is_some_and(|map| !map.keys().all(is_allowed)) {
        let names = ALLOWED.map(|(_, name)| name).join(" ");
        let detail = format!("only [{names}] fields are allowed at the root of the schema if the status subresource is enabled");
        errors.invalid(path, schema.clone(), detail);
    }
}

/// Where in an object a schema is.
#[derive(Clone, Copy, Default)]
struct Context {
    is_root: bool,
    in_metadata: bool,
    no_defaults: Option<&'static str>,
}

fn walk(schema: &Value, path: &Path, cx: &Context, depth: usize, errors: &mut FieldErrors) {
    if !schema.is_object() || depth > DEPTH_MAX {
        return;
    }
    check_supported(schema, path, cx, errors);
    let inner = Context { is_root: false, ..*cx };
    let additional = &schema["additionalProperties"];
    if !additional.is_null() {
        if schema["properties"].as_object().is_some_and(|map| !map.is_empty()) && *additional != true {
            let detail = "additionalProperties and properties are mutual exclusive";
            errors.forbidden(&path.child("additionalProperties"), detail);
        }
        let reason = "inside additionalProperties applying to object metadata";
        let no_defaults = if cx.in_metadata { Some(reason) } else { cx.no_defaults };
        walk(additional, &path.child("additionalProperties"), &Context { no_defaults, ..inner }, depth + 1, errors);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = path.child("properties").key(name);
        walk(property, &path, &property_context(schema, name, cx), depth + 1, errors);
    }
    walk(&schema["not"], &path.child("not"), &inner, depth + 1, errors);
    for name in ["allOf", "oneOf", "anyOf"] {
        for (index, item) in list(&schema[name]).iter().enumerate() {
            walk(item, &path.child(name).index(index), &inner, depth + 1, errors);
        }
    }
    walk(&schema["items"], &path.child("items"), &inner, depth + 1, errors);
    check_extensions(schema, path, errors);
    check_list(schema, path, errors);
    check_list_items(schema, path, errors);
    check_rules(schema, path, errors);
}

fn property_context(schema: &Value, name: &str, cx: &Context) -> Context {
    let is_resource = cx.is_root || schema["x-kubernetes-embedded-resource"] == true;
    let at_top = match name {
        "metadata" => "in top-level metadata",
        "kind" => "in top-level kind",
        "apiVersion" => "in top-level apiVersion",
        _ => return Context { is_root: false, ..*cx },
    };
    Context {
        is_root: false,
        in_metadata: cx.in_metadata || is_resource,
        no_defaults: if cx.is_root { Some(at_top) } else { cx.no_defaults },
    }
}

fn check_supported(schema: &Value, path: &Path, cx: &Context, errors: &mut FieldErrors) {
    let kind = text(&schema["type"]);
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &TYPES);
    }
    if let (Some(_), Some(reason)) = (schema.get("default"), cx.no_defaults) {
        errors.forbidden(&path.child("default"), format!("must not be set {reason}"));
    }
    let set = |value: &Value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()) && *value != "";
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if set(&schema[name]) {
            errors.forbidden(&path.child(name), format!("{name} is not supported"));
        }
    }
    if kind == "null" {
        errors.forbidden(&path.child("type"), "type cannot be set to null, use nullable as an alternative");
    }
    if schema["items"].is_array() {
        errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
    }
    if cx.in_metadata && schema["x-kubernetes-embedded-resource"] == true {
        errors.forbidden(&path.child("x-kubernetes-embedded-resource"), "must not be used inside of resource meta");
    }
    if schema["uniqueItems"] == true {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), detail);
    }
}

fn check_extensions(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    let kind = text(&schema["type"]);
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        errors.invalid(&path.child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined");
    }
    for (extension, wanted, allowed) in [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"][..]),
    ] {
        let Some(value) = schema[extension].as_str() else { continue };
        let detail = format!("must be {wanted} if {extension} is specified");
        if kind.is_empty() {
            errors.required(&path.child("type"), detail);
        } else if kind != wanted {
            errors.invalid(&path.child("type"), kind, detail);
        } else if value == "set" {
            check_set(&schema["items"], path, errors);
        }
        if !allowed.contains(&value) {
            errors.not_supported(&path.child(extension), value, allowed);
        }
    }
}

/// The items of a set are compared as wholes.
fn check_set(items: &Value, path: &Path, errors: &mut FieldErrors) {
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let list_type = &items["x-kubernetes-list-type"];
    match text(&items["type"]) {
        "array" if !list_type.is_null() && *list_type != "atomic" => {
            errors.invalid(&path.child("items").child("x-kubernetes-list-type"), list_type.clone(), detail);
        }
        "object" if items["x-kubernetes-map-type"] != "atomic" => {
            errors.invalid(&path.child("items").child("x-kubernetes-map-type"), list_type.clone(), detail);
        }
        _ => {}
    }
}

fn check_list(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    let keys = list(&schema["x-kubernetes-list-map-keys"]);
    let (list_type, at) = (&schema["x-kubernetes-list-type"], path.child("x-kubernetes-list-type"));
    if !keys.is_empty() && *list_type != "map" {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type.as_str() {
            None => errors.required(&at, detail),
            Some(other) => errors.invalid(&at, other, detail),
        }
    }
    if *list_type != "map" {
        return;
    }
    let (items, keys_at) = (&schema["items"], path.child("x-kubernetes-list-map-keys"));
    if keys.is_empty() {
        errors.required(&keys_at, "must not be empty if x-kubernetes-list-type is map");
    }
    if items.is_null() {
        return errors.required(&path.child("items"), "must have a schema if x-kubernetes-list-type is map");
    }
    if items["type"] != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.invalid(&path.child("items").child("type"), text(&items["type"]), detail);
    }
    for (index, key) in keys.iter().enumerate() {
        match items["properties"].get(text(key)) {
            Some(property) if matches!(text(&property["type"]), "array" | "object") => {
                let path = path.child("items").child("properties").key(text(key)).child("type");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.invalid(&path, text(&items["type"]), detail);
            }
            Some(_) => {}
            None => errors.invalid(&keys_at, json!(keys), "entries must all be names of item properties"),
        }
        if keys[..index].contains(key) {
            errors.invalid(&keys_at, json!(keys), "must not contain duplicate entries");
        }
    }
}

/// Items are found again by what identifies them: it must always be there.
fn check_list_items(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    let list_type = text(&schema["x-kubernetes-list-type"]);
    let (items, path) = (&schema["items"], path.child("items"));
    if !items.is_object() || !matches!(list_type, "set" | "map") {
        return;
    }
    if items["nullable"] == true {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.forbidden(&path.child("nullable"), detail);
    }
    for key in list(&schema["x-kubernetes-list-map-keys"]).iter().filter(|_| list_type == "map") {
        let Some(property) = items["properties"].get(text(key)) else { continue };
        let path = path.child("properties").key(text(key));
        if !list(&items["required"]).contains(key) && property.get("default").is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&path.child("default"), detail);
        }
        if property["nullable"] == true {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&path.child("nullable"), detail);
        }
    }
}

/// The form of rules; what they say is checked where they are compiled.
fn check_rules(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let has_newline = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in list(&schema["x-kubernetes-validations"]).iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(index);
        let (expression, message) = (text(&rule["rule"]).trim(), text(&rule["message"]));
        if expression.is_empty() {
            errors.required(&path.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&path.child("message"), message, "must be non-empty if specified");
        } else if has_newline(message.trim()) {
            errors.invalid(&path.child("message"), message, "must not contain line breaks");
        } else if has_newline(expression) && message.is_empty() {
            errors.required(&path.child("message"), "message must be specified if rule contains line breaks");
        }
        let computed = text(&rule["messageExpression"]);
        if !computed.is_empty() && computed.trim().is_empty() {
            errors.required(&path.child("messageExpression"), "messageExpression must be non-empty if specified");
        }
        if let Some(reason) = rule["reason"].as_str().filter(|reason| !REASONS.contains(reason)) {
            errors.not_supported(&path.child("reason"), reason, &REASONS);
        }
        let field = text(&rule["fieldPath"]);
        if !field.is_empty() && field.trim().is_empty() {
            errors.invalid(&path.child("fieldPath"), field, "must be non-empty if specified");
        }
        if has_newline(field) {
            errors.invalid(&path.child("fieldPath"), field, "must not contain line breaks");
        }
    }
}
