//! Schemas: the table's types as OpenAPI describes them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Dialect, Sink};
use crate::builtin::{META, Module, builtin};
use crate::types::{AnyKind, Field, ListKindOwned, Node, Scalar};
use crate::{TypeRef, docs};

const JSON_SCHEMAS: &str = "apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// Types whose schema is not that of an object with fields.
const SPECIAL: &[(&str, &str)] = &[
    ("apimachinery.pkg.api.resource.Quantity", "A fixed-point number with a unit suffix, such as 100m, 1.5Gi or 3."),
    (
        "apimachinery.pkg.apis.meta.v1.FieldsV1",
        "A set of fields, as a tree in JSON: f:NAME a field or key, k:KEYS and v:VALUE list items.",
    ),
    ("apimachinery.pkg.apis.meta.v1.MicroTime", "A time with microseconds, in RFC 3339."),
    ("apimachinery.pkg.apis.meta.v1.Patch", "A patch of the object: its form depends on the content type."),
    ("apimachinery.pkg.apis.meta.v1.Time", "A time, in RFC 3339."),
    ("apimachinery.pkg.apis.meta.v1.WatchEvent", "A single event of a watched resource."),
    ("apimachinery.pkg.runtime.RawExtension", "Any object."),
    ("apimachinery.pkg.util.intstr.IntOrString", "An integer or a string."),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "Any JSON value."),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray", "A JSON schema or a list of them."),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool", "A JSON schema or a boolean."),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray", "A JSON schema or a list of names."),
];

/// Hands the schemas of the named types and of all that they refer to to the sink.
pub(super) fn write(sink: &mut Sink<'_>, dialect: Dialect, roots: BTreeSet<String>, modules: &[Module<'_>]) {
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut open = roots;
    while let Some(name) = open.pop_first() {
        if !done.insert(name.clone()) {
            continue;
        }
        let mut writer = Writer { dialect, modules, referred: BTreeSet::new() };
        let Some(schema) = writer.schema(&name) else { continue };
        sink(&format!("io.k8s.{name}"), &schema);
        open.extend(writer.referred.difference(&done).cloned());
    }
}

/// A reference to the schema of a type. A name with a leading dot is complete; the table's names lack their domain.
pub(super) fn reference(dialect: Dialect, name: &str) -> Value {
    let prefix = match dialect {
        Dialect::V2 => "#/definitions/",
        Dialect::V3 => "#/components/schemas/",
    };
    match name.strip_prefix('.') {
        Some(complete) => json!({"$ref": format!("{prefix}{complete}")}),
        None => json!({"$ref": format!("{prefix}io.k8s.{name}")}),
    }
}

struct Writer<'a> {
    dialect: Dialect,
    modules: &'a [Module<'a>],
    referred: BTreeSet<String>,
}

impl Writer<'_> {
    fn schema(&mut self, name: &str) -> Option<Value> {
        if let Some((_, description)) = SPECIAL.iter().find(|(special, _)| *special == name) {
            return Some(self.special(name, description));
        }
        let ty = builtin().types.named(name)?;
        let object = ty.object()?;
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in &object.fields {
            properties.insert(field.name.clone().into_owned(), self.property(name, ty, field));
            if field.required {
                required.push(field.name.as_ref());
            }
        }
        let mut schema = Map::new();
        let description = docs::of_type(name).map(|text| text.into_owned()).or_else(|| {
            let item = name.rsplit('.').next()?.strip_suffix("List")?;
            Some(format!("{item}List is a list of {item} objects."))
        });
        schema.extend(description.map(|text| ("description".to_owned(), Value::String(text))));
        schema.insert("type".to_owned(), json!("object"));
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), Value::Object(properties));
        }
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        if object.atomic {
            schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
        }
        let kinds = self.kinds(name, object.position("kind").is_some() && object.position("apiVersion").is_some());
        if !kinds.is_empty() {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
        }
        Some(Value::Object(schema))
    }

    /// The kinds that a type is: shared ones are a kind of every group and version.
    fn kinds(&self, name: &str, has_type_meta: bool) -> Vec<Value> {
        let Some((prefix, kind)) = name.rsplit_once('.').filter(|_| has_type_meta) else { return Vec::new() };
        let gvk = |group: &str, version: &str| json!({"group": group, "version": version, "kind": kind});
        if prefix == META {
            return match kind {
                "DeleteOptions" | "WatchEvent" => self.modules.iter().map(|module| gvk(module.group, module.version)).collect(),
                _ => vec![gvk("", "v1")],
            };
        }
        let module = builtin().modules.iter().find(|module| module.prefix == prefix);
        // ObjectReference and its like name a kind but are none.
        let is_kind = |module: &Module<'_>| {
            let (group, version) = (module.group, module.version);
            builtin().by_kind(group, version, kind).is_some()
                || kind.ends_with("List") && builtin().resources.iter().any(|r| r.list_kind == kind)
                || matches!(kind, "Scale" | "Eviction" | "TokenRequest")
        };
        module.filter(|module| is_kind(module)).map(|module| gvk(module.group, module.version)).into_iter().collect()
    }

    fn property(&mut self, owner: &str, ty: TypeRef<'_>, field: &Field) -> Value {
        let node = ty.types.at(field.node);
        let mut schema = self.inline(node);
        // A reference takes no siblings in v3.
        if self.dialect == Dialect::V3 && schema.contains_key("$ref") {
            schema = Map::from_iter([("allOf".to_owned(), json!([schema]))]);
        }
        let description = docs::of_field(owner, &field.name).map(|text| text.into_owned()).or_else(|| {
            // Lists are not described one by one.
            match (field.name.as_ref(), builtin().types.named(owner)?.name().strip_suffix("List")) {
                ("items", Some(item)) => Some(format!("The {} objects.", item.rsplit('.').next()?)),
                ("metadata", Some(_)) => Some("Standard list metadata.".to_owned()),
                ("apiVersion" | "kind", Some(item)) => docs::of_field(item, &field.name).map(|text| text.into_owned()),
                _ => None,
            }
        });
        schema.extend(description.map(|text| ("description".to_owned(), Value::String(text))));
        let key = (builtin().types.by_name.get(owner).copied(), field.name.as_ref());
        if let (Some(owner), name) = key {
            let key = builtin().enums.get_key_value(&(owner, name));
            if let Some((_, values)) = key {
                // Of the items of a list and the values of a map, not of those themselves.
                let inner = ["items", "additionalProperties"].into_iter().find(|inner| schema.contains_key(*inner));
                let target = match inner.and_then(|inner| schema.get_mut(inner)) {
                    Some(Value::Object(inner)) => inner,
                    _ => &mut schema,
                };
                target.insert("enum".to_owned(), json!(values));
            }
            if let Some(default) = builtin().defaults.get(&(owner, name)) {
                let default = serde_json::from_str(default).unwrap_or_default();
                schema.insert("default".to_owned(), default);
            }
        }
        match node.node() {
            Node::List { kind, .. } => match kind {
                ListKindOwned::Atomic if field.name == "items" && owner.ends_with("List") => {}
                ListKindOwned::Atomic => {
                    schema.insert("x-kubernetes-list-type".to_owned(), json!("atomic"));
                }
                ListKindOwned::Set => {
                    schema.insert("x-kubernetes-list-type".to_owned(), json!("set"));
                }
                ListKindOwned::Map(keys) => {
                    schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
                    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(keys));
                }
            },
            Node::Map { atomic: true, .. } => {
                schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
            }
            _ => {}
        }
        let strategies: Vec<&str> = [(field.patch_merge, "merge"), (field.patch_retain_keys, "retainKeys")]
            .into_iter()
            .filter_map(|(has, name)| has.then_some(name))
            .collect();
        if !strategies.is_empty() {
            schema.insert("x-kubernetes-patch-strategy".to_owned(), json!(strategies.join(",")));
        }
        if let Some(key) = &field.patch_merge_key {
            schema.insert("x-kubernetes-patch-merge-key".to_owned(), json!(key));
        }
        Value::Object(schema)
    }

    /// The schema of a type where it is used: objects and special types by reference.
    fn inline(&mut self, ty: TypeRef<'_>) -> Map<String, Value> {
        let plain = |kind: &str, format: &str| {
            let mut schema = Map::from_iter([("type".to_owned(), json!(kind))]);
            if !format.is_empty() {
                schema.insert("format".to_owned(), json!(format));
            }
            schema
        };
        match ty.node() {
            Node::Object(object) => self.refer(&object.name),
            Node::List { item, .. } => {
                let mut schema = plain("array", "");
                schema.insert("items".to_owned(), Value::Object(self.inline(ty.types.at(*item))));
                schema
            }
            Node::Map { value, .. } => {
                let mut schema = plain("object", "");
                schema.insert("additionalProperties".to_owned(), Value::Object(self.inline(ty.types.at(*value))));
                schema
            }
            Node::Scalar(scalar) => match scalar {
                Scalar::String => plain("string", ""),
                Scalar::Int32 => plain("integer", "int32"),
                Scalar::Int64 => plain("integer", "int64"),
                Scalar::Float => plain("number", "double"),
                Scalar::Bool => plain("boolean", ""),
                Scalar::Bytes => plain("string", "byte"),
                Scalar::Quantity => self.refer("apimachinery.pkg.api.resource.Quantity"),
                Scalar::Time => self.refer("apimachinery.pkg.apis.meta.v1.Time"),
                Scalar::MicroTime => self.refer("apimachinery.pkg.apis.meta.v1.MicroTime"),
                Scalar::IntOrString => self.refer("apimachinery.pkg.util.intstr.IntOrString"),
            },
            Node::Any(kind) => match kind {
                AnyKind::Raw => self.refer("apimachinery.pkg.runtime.RawExtension"),
                AnyKind::Fields => self.refer("apimachinery.pkg.apis.meta.v1.FieldsV1"),
                AnyKind::Json => self.refer(&format!("{JSON_SCHEMAS}.JSON")),
                AnyKind::SchemaOrArray => self.refer(&format!("{JSON_SCHEMAS}.JSONSchemaPropsOrArray")),
                AnyKind::SchemaOrBool => self.refer(&format!("{JSON_SCHEMAS}.JSONSchemaPropsOrBool")),
                AnyKind::SchemaOrStrings => self.refer(&format!("{JSON_SCHEMAS}.JSONSchemaPropsOrStringArray")),
            },
        }
    }

    fn refer(&mut self, name: &str) -> Map<String, Value> {
        self.referred.insert(name.to_owned());
        match reference(self.dialect, name) {
            Value::Object(schema) => schema,
            _ => Map::new(),
        }
    }

    fn special(&mut self, name: &str, description: &str) -> Value {
        let leaf = name.rsplit('.').next().unwrap_or_default();
        let mut schema = match (leaf, self.dialect) {
            ("Quantity", Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            ("Quantity", Dialect::V2) => json!({"type": "string"}),
            ("IntOrString", Dialect::V3) => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            ("IntOrString", Dialect::V2) => json!({"format": "int-or-string", "type": "string"}),
            ("Time" | "MicroTime", _) => json!({"format": "date-time", "type": "string"}),
            ("WatchEvent", _) => {
                let object = self.refer("apimachinery.pkg.runtime.RawExtension");
                json!({
                    "type": "object",
                    "properties": {"object": object, "type": {"type": "string"}},
                    "required": ["type", "object"],
                    "x-kubernetes-group-version-kind": self.kinds(name, true),
                })
            }
            ("FieldsV1" | "Patch" | "RawExtension", _) => json!({"type": "object"}),
            _ => json!({}),
        };
        schema["description"] = json!(description);
        schema
    }
}
