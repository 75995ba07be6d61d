//! Serves what CustomResourceDefinitions declare, as they come and go.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use schema::{Resource, Subresource, Verb};
use serde_json::Value;

use super::conversion::{Conversion, Webhook};
use super::{CustomType, Selectable, controller, naming};
use crate::kinds::Strategy;
use crate::registry::store::ResourceStore;
use crate::registry::{Registry, Served, TypeSource};
use crate::server::Server;
use crate::webhook::Client;
use crate::{discovery, follow};

pub(super) const GROUP: &str = "apiextensions.k8s.io";
pub(super) const PLURAL: &str = "customresourcedefinitions";

/// Starts to follow the definitions.
pub fn start(server: &Arc<Server>) {
    let registry = server.registry.clone();
    let queue = controller::start(server);
    let client = Arc::new(Client::new(registry.clone()));
    follow::spawn(server, GROUP, PLURAL, move |_namespace, name, definition| {
        // A definition is named PLURAL.GROUP, which is all that is left of a deleted one.
        let Some((plural, group)) = name.split_once('.') else { return };
        if is_builtin(group, plural) {
            tracing::warn!(name, "the definition of a built-in resource is not served");
        } else {
            let established = definition.filter(|definition| naming::is_true(definition, "Established"));
            registry.replace_custom(group, plural, established.map(|d| served(&registry, &client, d)).unwrap_or_default());
        }
        // Its objects are ended after none can come any more.
        queue.add(name);
    });
}

pub(super) fn is_builtin(group: &str, plural: &str) -> bool {
    schema::builtin().resources.iter().any(|r| r.group == group && r.plural == plural)
}

/// In the order in which upstream's discovery lists those of custom resources.
const VERBS: [Verb; 8] =
    [Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Patch, Verb::Create, Verb::Update, Verb::Watch];

/// What a definition serves: one entry for each version, over one store.
fn served(registry: &Registry, client: &Arc<Client>, definition: &Value) -> Vec<Served> {
    let versions = definition["spec"]["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let stored = versions.iter().find(|version| version["storage"] == true).map(|version| resource(definition, version));
    let Some(stored) = stored else { return Vec::new() };
    let mut fields: Vec<Selectable> = Vec::new();
    for field in versions.iter().flat_map(Selectable::of) {
        if !fields.iter().any(|known| known.name == field.name) {
            fields.push(field);
        }
    }
    let declared = declared(definition);
    let conversion = Arc::new(conversion(definition, &declared, client));
    let mut way = DefaultHasher::new();
    way.write(definition["spec"]["conversion"].to_string().as_bytes());
    let store = registry.custom_store(ResourceStore::custom(&registry.feed, &stored, fields, way.finish()));
    let serve = |(resource, ty): (Resource, Arc<CustomType>)| Served {
        strategy: Strategy::custom(resource.subresource("status").is_some()),
        resource,
        store: store.clone(),
        types: TypeSource::Custom(ty),
        conversion: Some(conversion.clone()),
    };
    declared.into_iter().filter(|(resource, _)| resource.served).map(serve).collect()
}

fn conversion(definition: &Value, declared: &[(Resource, Arc<CustomType>)], client: &Arc<Client>) -> Conversion {
    let versions = declared.iter().map(|(resource, ty)| (resource.api_version(), ty.clone()));
    let stored = definition["status"]["storedVersions"].as_array().map_or(0, Vec::len);
    Conversion::new(versions, Webhook::of(definition, client), stored != 1)
}

/// The versions of a definition, the stored one first.
fn declared(definition: &Value) -> Vec<(Resource, Arc<CustomType>)> {
    let all = definition["spec"]["versions"].as_array();
    let mut versions: Vec<&Value> = all.into_iter().flatten().collect();
    versions.sort_by_key(|version| {
        let name = version["name"].as_str().unwrap_or_default();
        (version["storage"] != true, std::cmp::Reverse(discovery::version_priority(name)))
    });
    let declare = |version: &Value| (resource(definition, version), Arc::new(CustomType::new(definition, version)));
    versions.into_iter().map(declare).collect()
}

fn resource(definition: &Value, version: &Value) -> Resource {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let accepted = &definition["status"]["acceptedNames"];
    let names = if accepted["plural"].is_string() { accepted } else { &spec["names"] };
    let (group, version_name, kind) = (text(&spec["group"]), text(&version["name"]), text(&spec["names"]["kind"]));
    let mut subresources = Vec::new();
    let mut add = |name: &str, group: &str, version: &str, kind: &str| {
        subresources.push(Subresource {
            name: name.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            verbs: vec![Verb::Get, Verb::Patch, Verb::Update],
        });
    };
    if version["subresources"]["status"].is_object() {
        add("status", &group, &version_name, &kind);
    }
    if version["subresources"]["scale"].is_object() {
        add("scale", "autoscaling", "v1", "Scale");
    }
    let or = |value: String, default: String| if value.is_empty() { default } else { value };
    Resource {
        plural: text(&spec["names"]["plural"]),
        singular: or(text(&names["singular"]), kind.to_lowercase()),
        short_names: list(&names["shortNames"]),
        categories: list(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        list_kind: or(text(&spec["names"]["listKind"]), format!("{kind}List")),
        verbs: VERBS.to_vec(),
        subresources,
        storage_version: version["storage"] == true,
        served: version["served"] == true,
        group,
        version: version_name,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_definition_declares() {
        let definition = json!({"metadata": {"name": "backups.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "backups", "kind": "Backup", "shortNames": ["bk"]},
            "versions": [{"name": "v1beta1", "served": true, "storage": false}, {"name": "v0", "served": false, "storage": false},
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n"}}}]}});
        let declared = declared(&definition);
        let names: Vec<(&str, bool)> = declared.iter().map(|(r, _)| (r.version.as_str(), r.served)).collect();
        assert_eq!(names, [("v1", true), ("v0", false), ("v1beta1", true)]);
        let (v1, ty) = &declared[0];
        assert_eq!((v1.singular.as_str(), v1.list_kind.as_str(), v1.subresources.len()), ("backup", "BackupList", 2));
        assert_eq!(ty.scale_paths().0, "spec.n");
    }
}
