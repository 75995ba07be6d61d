//! Schemas of custom resources, as documents show them. Pure.
//!
//! v3 shows the declared schema; v2 leaves out what its clients cannot read (combinations, nullable and untyped values,
//! defaults), by the rules of upstream's `ToStructuralOpenAPIV2`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Dialect, schemas};
use crate::builtin::META;
use crate::{Resource, docs};

/// One version of a custom resource.
pub struct CustomVersion<'c> {
    pub resource: &'c Resource,
    /// The `openAPIV3Schema`; null where there is none.
    pub schema: &'c Value,
    /// The fields that selectors may name.
    pub selectable: Vec<&'c str>,
}

/// Schemas nest no deeper than this: what lies below is not shown.
const DEPTH_MAX: usize = 64;
const COMBINATIONS: [&str; 4] = ["allOf", "anyOf", "oneOf", "not"];
const METADATA: &str = "Standard object's metadata. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The prefix of the names of a group and version: `.com.example.v1`. The leading dot says that the name is complete.
pub(super) fn prefix(group: &str, version: &str) -> String {
    let reversed: Vec<&str> = group.rsplit('.').collect();
    format!(".{}.{version}", reversed.join("."))
}

/// The definitions of a version: of its objects and of lists of them. Notes the types that they refer to.
pub(super) fn definitions(custom: &CustomVersion<'_>, dialect: Dialect, roots: &mut BTreeSet<String>) -> [(String, Value); 2] {
    let resource = custom.resource;
    let name = |kind: &str| format!("{}.{kind}", prefix(&resource.group, &resource.version));
    let own = name(&resource.kind);
    roots.extend([format!("{META}.ObjectMeta"), format!("{META}.ListMeta")]);
    let mut object = object(custom.schema, dialect);
    let mut list = json!({
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": docs::of_any("apiVersion"), "type": "string"},
            "items": {"description": format!("List of {}.", resource.plural), "type": "array",
                "items": schemas::reference(dialect, &own)},
            "kind": {"description": docs::of_any("kind"), "type": "string"},
            "metadata": described_reference(dialect, &format!("{META}.ListMeta"), "Standard list metadata."),
        },
    });
    let fields: Vec<Value> = custom.selectable.iter().map(|field| json!({"fieldPath": field})).collect();
    for (schema, kind) in [(&mut object, &resource.kind), (&mut list, &resource.list_kind)] {
        let gvk = json!([{"group": resource.group, "version": resource.version, "kind": kind}]);
        schema["x-kubernetes-group-version-kind"] = gvk;
        if !fields.is_empty() {
            schema["x-kubernetes-selectable-fields"] = json!(fields);
        }
    }
    let full = |name: &str| name.trim_start_matches('.').to_owned();
    [(full(&own), object), (full(&name(&resource.list_kind)), list)]
}

fn object(schema: &Value, dialect: Dialect) -> Value {
    let untyped = schema["x-kubernetes-preserve-unknown-fields"] == true && dialect == Dialect::V2;
    if !schema.is_object() || untyped {
        // Clients refuse unknown fields of an object that has any known ones.
        return json!({"type": "object"});
    }
    let mut shown = schema.clone();
    convert(&mut shown, dialect, 0);
    if let Value::Object(map) = &mut shown {
        add_type_meta(map, dialect);
    }
    shown
}

fn add_type_meta(schema: &mut Map<String, Value>, dialect: Dialect) {
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    properties["apiVersion"] = json!({"description": docs::of_any("apiVersion"), "type": "string"});
    properties["kind"] = json!({"description": docs::of_any("kind"), "type": "string"});
    properties["metadata"] = described_reference(dialect, &format!("{META}.ObjectMeta"), METADATA);
}

fn described_reference(dialect: Dialect, name: &str, description: &str) -> Value {
    let mut reference = schemas::reference(dialect, name);
    if dialect == Dialect::V3 {
        // A reference takes no siblings in v3.
        reference = json!({"allOf": [reference], "default": {}});
    }
    reference["description"] = json!(description);
    reference
}

fn convert(schema: &mut Value, dialect: Dialect, depth: usize) {
    let Value::Object(map) = schema else { return };
    if depth > DEPTH_MAX {
        map.clear();
        return;
    }
    match dialect {
        Dialect::V2 => simplify(map),
        Dialect::V3 => unfold(map),
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(name) {
            convert(inner, dialect, depth + 1);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|property| convert(property, dialect, depth + 1));
    }
    let has = |name: &str| map.get(&format!("x-kubernetes-{name}")) == Some(&Value::Bool(true));
    if has("embedded-resource") && !(dialect == Dialect::V2 && has("preserve-unknown-fields")) {
        add_type_meta(map, dialect);
        let required = map.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(required) = required {
            let missing: Vec<Value> =
                ["kind", "apiVersion"].map(Value::from).into_iter().filter(|n| !required.contains(n)).collect();
            required.extend(missing);
        }
    }
}

/// What v3 clients should know of an integer or string.
fn unfold(map: &mut Map<String, Value>) {
    if map.get("x-kubernetes-int-or-string") != Some(&Value::Bool(true)) {
        return;
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let is_said = map.get("anyOf") == Some(&either) || map.get("allOf").and_then(|all| all.get(0)?.get("anyOf")) == Some(&either);
    if is_said {
        return;
    }
    if map.contains_key("anyOf") {
        let all = map.entry("allOf").or_insert_with(|| json!([]));
        if let Value::Array(all) = all {
            all.insert(0, json!({"anyOf": either}));
        }
    } else {
        map.insert("anyOf".to_owned(), either);
    }
}

fn simplify(map: &mut Map<String, Value>) {
    for name in COMBINATIONS.into_iter().chain(["default"]) {
        map.remove(name);
    }
    if map.remove("nullable") == Some(Value::Bool(true)) {
        for name in ["type", "items", "properties"] {
            map.remove(name);
        }
    }
    let preserves = map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if preserves {
        map.remove("items");
        map.remove("properties");
    }
    let is = |map: &Map<String, Value>, kind: &str| map.get("type").is_some_and(|ty| ty == kind);
    if (is(map, "array") && !map.contains_key("items")) || (preserves && is(map, "object")) {
        map.remove("type");
    }
    let is_nullable = |schema: Option<&Value>| schema.is_some_and(|schema| schema["nullable"] == true);
    if is_nullable(map.get("additionalProperties")) {
        map.remove("required");
    }
    let nullable: Vec<String> = map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, property)| is_nullable(Some(property)))
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|name| !nullable.iter().any(|nullable| name == nullable));
        if required.is_empty() {
            map.remove("required");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v2_shows() {
        let check = |schema: Value, expected: Value| {
            let mut shown = schema.clone();
            convert(&mut shown, Dialect::V2, 0);
            assert_eq!(shown, expected, "{schema}");
        };
        check(json!({"type": "string", "default": "x", "pattern": "a"}), json!({"type": "string", "pattern": "a"}));
        check(json!({"type": "object", "nullable": true, "properties": {"a": {"type": "string"}}}), json!({}));
        check(
            json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string", "nullable": true}, "b": {"type": "string"}}}),
            json!({"type": "object", "required": ["b"], "properties": {"a": {}, "b": {"type": "string"}}}),
        );
        check(
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}}),
            json!({"x-kubernetes-preserve-unknown-fields": true}),
        );
        check(
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}]}),
            json!({"x-kubernetes-int-or-string": true}),
        );
        check(
            json!({"type": "array", "items": {"type": "string", "not": {}}}),
            json!({"type": "array", "items": {"type": "string"}}),
        );
    }

    #[test]
    fn what_v3_shows() {
        let mut shown =
            json!({"type": "object", "properties": {"p": {"x-kubernetes-int-or-string": true, "default": 1, "nullable": true}}});
        convert(&mut shown, Dialect::V3, 0);
        let expected = json!({"x-kubernetes-int-or-string": true, "default": 1, "nullable": true, "anyOf": [{"type": "integer"}, {"type": "string"}]});
        assert_eq!(shown["properties"]["p"], expected);
    }

    #[test]
    fn every_object_says_what_it_is() {
        let shown = object(&json!({"type": "object"}), Dialect::V2);
        let description = |field: &str| shown["properties"][field]["description"].as_str().unwrap().to_owned();
        assert!(description("apiVersion").starts_with("APIVersion defines "));
        assert!(description("kind").starts_with("Kind is "));
    }

    #[test]
    fn embedded_objects_have_metadata() {
        let mut shown =
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}});
        convert(&mut shown, Dialect::V2, 0);
        assert_eq!(shown["required"], json!(["kind", "apiVersion"]));
        assert!(shown["properties"]["metadata"]["$ref"].is_string());
        assert_eq!(prefix("stable.example.com", "v1"), ".com.example.stable.v1");
    }
}
