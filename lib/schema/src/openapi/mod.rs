//! OpenAPI documents, made from the table on demand.
//!
//! One v3 document per group and version, and one v2 document of everything, from the same rules: the dialects differ in where
//! schemas lie, how a field refers to one, and how bodies are described. Nothing is cached here; documents are written
//! piece by piece, so that making one costs little more memory than its text.

mod custom;
mod merge;
mod paths;
mod schemas;
mod v2_proto;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};

use serde_json::{Value, json};

use crate::builtin::Module;
use crate::docs;
use crate::{Resource, Serving};
pub use custom::CustomVersion;
use merge::Merger;
pub use merge::Part;

/// The version that documents carry.
const VERSION: &str = "v1.36";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// One entry of the `/openapi/v3` index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// `api/v1`, `apis/apps/v1`
    pub path: String,
    pub group: String,
    pub version: String,
    /// Changes when the document does: it goes into `serverRelativeURL` and the `ETag`.
    pub hash: String,
}

/// The OpenAPI v3 document of a served group and version, as JSON.
pub fn v3(serving: &Serving, group: &str, version: &str) -> Option<Vec<u8>> {
    let module = serving.modules().find(|module| module.group == group && module.version == version)?;
    let mut out = br#"{"openapi":"3.0.0","#.to_vec();
    member(&mut out, "info", &json!({"title": "Kubernetes", "version": VERSION}));
    out.extend_from_slice(br#","paths":{"#);
    let mut roots = BTreeSet::new();
    paths::write(&mut members(&mut out), Dialect::V3, module, &mut roots);
    out.extend_from_slice(br#"},"components":{"schemas":{"#);
    schemas::write(&mut members(&mut out), Dialect::V3, roots, &[*module]);
    end_v3(&mut out);
    Some(out)
}

fn end_v3(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"},"securitySchemes":{"#);
    member(out, "BearerToken", &bearer_token());
    out.extend_from_slice(b"}}}");
}

/// The OpenAPI v3 document of custom resources, which are all those of one group and version.
pub fn v3_custom(customs: &[CustomVersion<'_>]) -> Vec<u8> {
    let mut out = br#"{"openapi":"3.0.0","#.to_vec();
    member(&mut out, "info", &json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}));
    out.extend_from_slice(br#","paths":{"#);
    let mut roots = BTreeSet::new();
    write_custom_paths(&mut members(&mut out), Dialect::V3, customs, &mut roots);
    out.extend_from_slice(br#"},"components":{"schemas":{"#);
    let modules: Vec<Module<'_>> = customs.iter().take(1).map(|custom| custom_module(custom.resource, "")).collect();
    let mut sink = members(&mut out);
    write_custom_definitions(&mut sink, Dialect::V3, customs, &mut roots);
    schemas::write(&mut sink, Dialect::V3, roots, &modules);
    drop(sink);
    end_v3(&mut out);
    out
}

fn custom_module<'m>(resource: &'m Resource, prefix: &'m str) -> Module<'m> {
    Module { group: &resource.group, version: &resource.version, prefix, served: true }
}

fn write_custom_paths(sink: &mut Sink<'_>, dialect: Dialect, customs: &[CustomVersion<'_>], roots: &mut BTreeSet<String>) {
    for CustomVersion { resource, .. } in customs {
        let prefix = custom::prefix(&resource.group, &resource.version);
        paths::write_resource(sink, dialect, &custom_module(resource, &prefix), resource, roots);
    }
}

fn write_custom_definitions(sink: &mut Sink<'_>, dialect: Dialect, customs: &[CustomVersion<'_>], roots: &mut BTreeSet<String>) {
    for custom in customs {
        for (name, schema) in custom::definitions(custom, dialect, roots) {
            sink(&name, &schema);
        }
    }
    // They are complete: nothing of them is in the table.
    roots.retain(|name| !name.starts_with('.'));
}

/// The documents there are.
pub fn v3_index(serving: &Serving) -> Vec<IndexEntry> {
    let tables = table_hash();
    serving
        .modules()
        .map(|module| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(tables);
            hasher.write(module.group.as_bytes());
            hasher.write_u8(0);
            hasher.write(module.version.as_bytes());
            IndexEntry {
                path: module_path(module),
                group: module.group.to_owned(),
                version: module.version.to_owned(),
                hash: format!("{tables:016X}{:016X}", hasher.finish()),
            }
        })
        .collect()
}

/// The OpenAPI v2 document of the built-in kinds that are served, of these custom ones and of what other servers describe, as JSON.
pub fn v2(serving: &Serving, customs: &[CustomVersion<'_>], others: &[Part]) -> Vec<u8> {
    let mut out = br#"{"swagger":"2.0","#.to_vec();
    member(&mut out, "info", &json!({"title": "Kubernetes", "version": VERSION}));
    out.extend_from_slice(br#","paths":{"#);
    let mut definitions = br#"},"definitions":{"#.to_vec();
    write_v2(&mut members(&mut out), &mut members(&mut definitions), serving, customs, others);
    out.append(&mut definitions);
    out.extend_from_slice(br#"},"securityDefinitions":{"#);
    member(&mut out, "BearerToken", &bearer_token());
    out.extend_from_slice(br#"},"security":[{"BearerToken":[]}]}"#);
    out
}

/// The media type of [`v2_proto`].
pub const V2_PROTO_MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The same document in protobuf, the form that kubectl asks for.
pub fn v2_proto(serving: &Serving, customs: &[CustomVersion<'_>], others: &[Part]) -> Vec<u8> {
    let mut document = v2_proto::Document::new(VERSION);
    let (paths, definitions) = document.parts();
    let mut path = |path: &str, item: &Value| paths.add(path, item);
    write_v2(&mut path, &mut |name, schema| definitions.add(name, schema), serving, customs, others);
    document.finish()
}

fn write_v2(path: &mut Sink<'_>, definition: &mut Sink<'_>, serving: &Serving, customs: &[CustomVersion<'_>], others: &[Part]) {
    let modules: Vec<Module<'static>> = serving.modules().copied().collect();
    let mut roots = BTreeSet::new();
    for module in &modules {
        paths::write(path, Dialect::V2, module, &mut roots);
    }
    write_custom_paths(path, Dialect::V2, customs, &mut roots);
    let mut merger = Merger::new(others);
    let mut noted = |name: &str, schema: &Value| {
        merger.note(name, schema);
        definition(name, schema);
    };
    write_custom_definitions(&mut noted, Dialect::V2, customs, &mut roots);
    schemas::write(&mut noted, Dialect::V2, roots, &modules);
    merger.write(path, definition);
}

/// Takes the paths or schemas of a document one by one.
type Sink<'a> = dyn FnMut(&str, &Value) + 'a;

/// A sink that writes the members of the JSON object which the text has begun.
fn members(out: &mut Vec<u8>) -> impl FnMut(&str, &Value) {
    |name, value| {
        if !out.ends_with(b"{") {
            out.push(b',');
        }
        member(out, name, value);
    }
}

/// Where the resources of a group and version lie, without the leading slash.
fn module_path(module: &Module<'_>) -> String {
    match module.group {
        "" => format!("api/{}", module.version),
        group => format!("apis/{group}/{}", module.version),
    }
}

/// A digest of everything documents of built-in kinds are made from.
pub fn table_hash() -> u64 {
    let mut hasher = DefaultHasher::new();
    for text in [crate::builtin::TYPES, crate::builtin::OVERLAY, docs::TEXT, env!("CARGO_PKG_VERSION")] {
        hasher.write(text.as_bytes());
    }
    hasher.finish()
}

fn bearer_token() -> Value {
    json!({"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"})
}

/// Appends `"name":value`.
fn member(out: &mut Vec<u8>, name: &str, value: &Value) {
    serde_json::to_writer(&mut *out, name).expect("writing to memory does not fail");
    out.push(b':');
    serde_json::to_writer(out, value).expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference in the document leads to something.
    fn check_references(value: &Value, document: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                map.values().for_each(|value| check_references(value, document));
            }
            Value::Array(items) => items.iter().for_each(|value| check_references(value, document)),
            _ => {}
        }
    }

    #[test]
    fn all_v3_documents_are_complete() {
        let index = v3_index(&Serving::default());
        assert_eq!(index.len(), 22);
        for entry in index {
            let document: Value =
                serde_json::from_slice(&v3(&Serving::default(), &entry.group, &entry.version).unwrap()).unwrap();
            check_references(&document, &document);
        }
        assert!(v3(&Serving::default(), "storage.k8s.io", "v1alpha1").is_none());
    }

    #[test]
    fn clients_find_what_they_look_for() {
        let document: Value = serde_json::from_slice(&v3(&Serving::default(), "apps", "v1").unwrap()).unwrap();
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
        assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "apps", "version": "v1", "kind": "Deployment"}));
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["io.k8s.api.apps.v1.DeploymentSpec"]["required"], json!(["selector", "template"]));
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        let pull = &schemas["io.k8s.api.core.v1.Container"]["properties"]["imagePullPolicy"];
        assert_eq!(pull["enum"], json!(["Always", "IfNotPresent", "Never"]));
        assert!(pull["description"].as_str().unwrap().contains("Image pull policy"));
    }

    /// Both forms of the v2 document define the same.
    #[test]
    fn the_protobuf_form_has_all_definitions() {
        use crate::proto::wire::{Wire, fields, text};
        let document: Value = serde_json::from_slice(&v2(&Serving::default(), &[], &[])).unwrap();
        let bytes = v2_proto(&Serving::default(), &[], &[]);
        let part = |message: &[u8], number: u32| -> Vec<Vec<u8>> {
            let all = fields(message).map(Result::unwrap);
            all.filter_map(|(n, wire)| match wire {
                Wire::Bytes(bytes) if n == number => Some(bytes.to_vec()),
                _ => None,
            })
            .collect()
        };
        let definitions = part(&part(&bytes, 9)[0], 1);
        let names: BTreeSet<String> = definitions.iter().map(|named| text(&part(named, 1)[0]).unwrap()).collect();
        assert_eq!(names, document["definitions"].as_object().unwrap().keys().cloned().collect());
        assert_eq!(part(&part(&bytes, 8)[0], 2).len(), document["paths"].as_object().unwrap().len());
    }

    #[test]
    fn what_others_describe_is_part_of_it() {
        let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        let reference = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
        let other = json!({"paths": {"/apis/g.io/v1/things": {"get": {"responses": {"200": {"schema": reference("io.g.Thing")}}}}},
            "definitions": {"io.g.Thing": {"type": "object", "properties": {"metadata": reference(meta)}}, meta: {"type": "object"}}});
        let part = Part::of(&other, "/apis/g.io/v1/");
        let document: Value = serde_json::from_slice(&v2(&Serving::default(), &[], std::slice::from_ref(&part))).unwrap();
        check_references(&document, &document);
        assert!(document["paths"]["/apis/g.io/v1/things"].is_object());
        // Ours says more.
        let shown = &document["definitions"]["io.g.Thing"]["properties"]["metadata"];
        assert_eq!(*shown, reference(&format!("{meta}_v2")));
        assert!(v2_proto(&Serving::default(), &[], &[part]).len() > v2_proto(&Serving::default(), &[], &[]).len());
    }

    #[test]
    fn the_v2_document_is_complete() {
        let document: Value = serde_json::from_slice(&v2(&Serving::default(), &[], &[])).unwrap();
        check_references(&document, &document);
        assert!(document["definitions"]["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"].is_array());
        assert!(document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"].is_object());
    }
}
