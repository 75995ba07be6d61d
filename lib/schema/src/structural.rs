//! Structural schemas of CustomResourceDefinitions, compiled into the same arena as the built-in types.
//!
//! What the arena cannot say (formats, bounds, patterns, CEL rules) is not checked here.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::builtin::builtin;
use crate::types::{AnyKind, Field, ListKindOwned, Node, NodeId, Object, Scalar, Tags, TypeRef, Types};

/// Schemas nest no deeper than this: what lies below is kept as it is.
const DEPTH_MAX: usize = 64;

/// One version's schema as a type, with the defaults it declares.
#[derive(Debug)]
pub struct Structural {
    types: Types,
    root: NodeId,
    /// By the node of the property: each has one of its own.
    defaults: HashMap<NodeId, Value>,
    nullable: HashSet<NodeId>,
}

impl Structural {
    /// Compiles the `openAPIV3Schema` of a version. Objects get `apiVersion`, `kind` and `metadata` as all kinds have them.
    pub fn compile(schema: &Value, kind: &str) -> Self {
        let mut compiler = Compiler::default();
        let root = compiler.resource(schema, kind, 0);
        Self { types: compiler.types, root, defaults: compiler.defaults, nullable: compiler.nullable }
    }

    /// Whether an object may lack something that [`Self::default`] adds.
    pub fn has_defaults(&self) -> bool {
        !self.defaults.is_empty()
    }

    /// The type of an object.
    pub fn type_ref(&self) -> TypeRef<'_> {
        self.types.at(self.root)
    }

    /// Fills in the declared defaults, also inside what defaults have added. A null that may not be one is as good as nothing:
    /// it gets the default, or goes.
    pub fn default(&self, object: &mut Value) {
        self.default_at(object, self.root, 0);
    }

    fn default_at(&self, value: &mut Value, node: NodeId, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        match (&self.types.nodes[node.0 as usize], value) {
            (Node::Object(object), Value::Object(map)) => {
                for field in &object.fields {
                    self.default_field(map, &field.name, field.node);
                    if let Some(value) = map.get_mut(field.name.as_ref()) {
                        self.default_at(value, field.node, depth + 1);
                    }
                }
            }
            (Node::Map { value: inner, .. }, Value::Object(map)) => {
                if !self.nullable.contains(inner) {
                    map.retain(|_, value| !value.is_null());
                }
                map.values_mut().for_each(|value| self.default_at(value, *inner, depth + 1));
            }
            (Node::List { item, .. }, Value::Array(items)) => {
                items.iter_mut().for_each(|value| self.default_at(value, *item, depth + 1));
            }
            _ => {}
        }
    }

    fn default_field(&self, map: &mut Map<String, Value>, name: &str, node: NodeId) {
        let is_null = map.get(name).map(Value::is_null);
        if is_null == Some(false) || (is_null == Some(true) && self.nullable.contains(&node)) {
            return;
        }
        match self.defaults.get(&node) {
            Some(default) => {
                map.insert(name.to_owned(), default.clone());
            }
            None => {
                map.remove(name);
            }
        }
    }
}

#[derive(Default)]
struct Compiler {
    types: Types,
    defaults: HashMap<NodeId, Value>,
    nullable: HashSet<NodeId>,
    /// Nodes of the built-in table to their copies here.
    imported: HashMap<NodeId, NodeId>,
}

impl Compiler {
    /// An object that is a resource: the root, or one embedded in another.
    fn resource(&mut self, schema: &Value, kind: &str, depth: usize) -> NodeId {
        let id = self.object(schema, kind, depth);
        let string = self.types.add(Node::Scalar(Scalar::String));
        let metadata = self.import(builtin().object_meta());
        let Node::Object(object) = &mut self.types.nodes[id.0 as usize] else { return id };
        for (name, node) in [("apiVersion", string), ("kind", string), ("metadata", metadata)] {
            object.fields.retain(|field| field.name != name);
            object.fields.push(field(Cow::Borrowed(name), node, false));
        }
        object.sort();
        id
    }

    fn object(&mut self, schema: &Value, name: &str, depth: usize) -> NodeId {
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let id = self.types.add(Node::Object(Object::default()));
        let mut object = Object {
            name: Cow::Owned(name.to_owned()),
            atomic: schema["x-kubernetes-map-type"] == "atomic",
            preserve_unknown: preserves(schema),
            ..Object::default()
        };
        for (field_name, property) in schema["properties"].as_object().into_iter().flatten() {
            let node = self.node(property, depth + 1);
            if let Some(default) = property.get("default").filter(|default| !default.is_null()) {
                self.defaults.insert(node, default.clone());
            }
            let required = required.contains(&field_name.as_str());
            object.fields.push(field(Cow::Owned(field_name.clone()), node, required));
        }
        object.sort();
        self.types.nodes[id.0 as usize] = Node::Object(object);
        id
    }

    fn node(&mut self, schema: &Value, depth: usize) -> NodeId {
        let id = self.any_node(schema, depth);
        if schema["nullable"] == true {
            self.nullable.insert(id);
        }
        id
    }

    fn any_node(&mut self, schema: &Value, depth: usize) -> NodeId {
        let node = match schema["type"].as_str() {
            _ if depth > DEPTH_MAX => Node::Any(AnyKind::Json),
            _ if schema["x-kubernetes-int-or-string"] == true => Node::Scalar(Scalar::IntOrString),
            Some("object") if schema["x-kubernetes-embedded-resource"] == true => return self.resource(schema, "", depth),
            Some("object") => match schema.get("additionalProperties") {
                Some(value @ Value::Object(_)) if schema["properties"].as_object().is_none_or(Map::is_empty) => {
                    let value = self.node(value, depth + 1);
                    Node::Map { value, atomic: schema["x-kubernetes-map-type"] == "atomic" }
                }
                Some(Value::Bool(true)) => Node::Any(AnyKind::Json),
                _ => return self.object(schema, "", depth),
            },
            Some("array") => {
                let item = self.node(&schema["items"], depth + 1);
                Node::List { item, kind: list_kind(schema) }
            }
            Some("string") => Node::Scalar(Scalar::String),
            Some("integer") if schema["format"] == "int32" => Node::Scalar(Scalar::Int32),
            Some("integer") => Node::Scalar(Scalar::Int64),
            Some("number") => Node::Scalar(Scalar::Float),
            Some("boolean") => Node::Scalar(Scalar::Bool),
            // Anything is allowed here, but what is declared of an object counts.
            None if preserves(schema) && schema["properties"].is_object() => return self.object(schema, "", depth),
            _ => Node::Any(AnyKind::Json),
        };
        self.types.add(node)
    }

    /// Copies a built-in type and all it is made of.
    fn import(&mut self, ty: TypeRef<'static>) -> NodeId {
        if let Some(id) = self.imported.get(&ty.node) {
            return *id;
        }
        // Types may be recursive: the place is taken before its content is known.
        let id = self.types.add(Node::Any(AnyKind::Json));
        self.imported.insert(ty.node, id);
        let node = match ty.node() {
            Node::Object(object) => {
                let mut copy = Object {
                    name: object.name.clone(),
                    atomic: object.atomic,
                    preserve_unknown: object.preserve_unknown,
                    ..Object::default()
                };
                for source in &object.fields {
                    let node = self.import(TypeRef { types: ty.types, node: source.node });
                    let mut copied = field(source.name.clone(), node, source.required);
                    copied.pointer = source.pointer;
                    copied.patch_merge = source.patch_merge;
                    copied.patch_retain_keys = source.patch_retain_keys;
                    copied.patch_merge_key = source.patch_merge_key.clone();
                    copy.fields.push(copied);
                }
                copy.sort();
                Node::Object(copy)
            }
            Node::Map { value, atomic } => {
                let value = self.import(TypeRef { types: ty.types, node: *value });
                Node::Map { value, atomic: *atomic }
            }
            Node::List { item, kind } => {
                let item = self.import(TypeRef { types: ty.types, node: *item });
                Node::List { item, kind: kind.clone() }
            }
            Node::Scalar(scalar) => Node::Scalar(*scalar),
            Node::Any(kind) => Node::Any(*kind),
        };
        self.types.nodes[id.0 as usize] = node;
        id
    }
}

fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

fn list_kind(schema: &Value) -> ListKindOwned {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKindOwned::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            ListKindOwned::Map(keys.filter_map(Value::as_str).map(str::to_owned).collect())
        }
        _ => ListKindOwned::Atomic,
    }
}

fn field(name: Cow<'static, str>, node: NodeId, required: bool) -> Field {
    Field {
        name,
        node,
        required,
        pointer: false,
        patch_merge: false,
        patch_retain_keys: false,
        patch_merge_key: None,
        tags: Tags::default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ListKind, Shape, strict};

    fn compiled() -> Structural {
        let schema = json!({
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["size"],
                    "properties": {
                        "size": {"type": "integer", "default": 1},
                        "mode": {"type": "string"},
                        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                        "ports": {
                            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "properties": {
                                "name": {"type": "string"}, "port": {"x-kubernetes-int-or-string": true, "default": 80},
                            }},
                        },
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                },
            },
        });
        Structural::compile(&schema, "Foo")
    }

    #[test]
    fn unknown_fields_are_found_and_pruned() {
        let structural = compiled();
        let mut object = json!({
            "apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a", "labels": {"x": "y"}, "bogus": 1},
            "spec": {"size": 2, "other": 1, "free": {"any": ["thing"]}, "ports": [{"name": "a", "x": 1}]},
        });
        let errors: Vec<String> = strict::check(&object, structural.type_ref()).iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            ["unknown field \"metadata.bogus\"", "unknown field \"spec.other\"", "unknown field \"spec.ports[0].x\"",]
        );
        strict::prune(&mut object, structural.type_ref());
        assert_eq!(object["spec"], json!({"size": 2, "free": {"any": ["thing"]}, "ports": [{"name": "a"}]}));
        assert_eq!(object["metadata"], json!({"name": "a", "labels": {"x": "y"}}));
    }

    #[test]
    fn types_and_list_kinds_are_those_declared() {
        let structural = compiled();
        let spec = structural.type_ref().field("spec").unwrap().ty;
        let Shape::List { item, kind } = spec.field("ports").unwrap().ty.shape() else { panic!("a list") };
        assert_eq!(kind, ListKind::Map(&["name".to_owned()]));
        assert!(matches!(item.field("port").unwrap().ty.shape(), Shape::Scalar(Scalar::IntOrString)));
        assert!(spec.field("size").unwrap().required);
        assert!(strict::check(&json!({"spec": {"size": "x"}}), structural.type_ref())[0].is_fatal());
        let owners = structural.type_ref().field("metadata").unwrap().ty.field("ownerReferences").unwrap();
        assert_eq!(owners.patch.merge_key, Some("uid"));
    }

    #[test]
    fn defaults_are_filled_in() {
        let structural = compiled();
        let mut object = json!({"spec": {"mode": "x", "labels": null, "size": null, "ports": [{"name": "a"}]}});
        structural.default(&mut object);
        assert_eq!(object, json!({"spec": {"mode": "x", "size": 1, "ports": [{"name": "a", "port": 80}]}}));
    }
}
