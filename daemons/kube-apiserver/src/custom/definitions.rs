//! Serves what CustomResourceDefinitions declare, as they come and go.

use std::sync::Arc;

use ::store::{ListOptions, StoreError};
use schema::{Resource, Subresource, Verb};
use serde_json::Value;

use super::CustomType;
use crate::kinds::Strategy;
use crate::registry::store::ResourceStore;
use crate::registry::{Registry, Served, TypeSource};
use crate::server::Server;
use crate::{discovery, follow};

const GROUP: &str = "apiextensions.k8s.io";
/// Objects removed from the store at once when their definition is gone.
const REMOVE_PAGE: usize = 500;

/// Starts to follow the definitions.
pub fn start(server: &Arc<Server>) {
    let registry = server.registry.clone();
    follow::spawn(server, GROUP, "customresourcedefinitions", move |_namespace, name, definition| {
        // A definition is named PLURAL.GROUP, which is all that is left of a deleted one.
        let Some((plural, group)) = name.split_once('.') else { return };
        let is_builtin = schema::builtin().resources.iter().any(|r| r.group == group && r.plural == plural);
        if is_builtin {
            tracing::warn!(name, "the definition of a built-in resource is not served");
            return;
        }
        match definition {
            Some(definition) => {
                let served = declared(definition).into_iter().map(|(resource, ty)| serve(&registry, resource, ty));
                registry.replace_custom(group, plural, served.collect());
            }
            None => {
                registry.replace_custom(group, plural, Vec::new());
                tokio::spawn(remove_all(registry.clone(), group.to_owned(), plural.to_owned()));
            }
        }
    });
}

fn serve(registry: &Registry, resource: Resource, ty: CustomType) -> Served {
    let strategy = Strategy::custom(resource.subresource("status").is_some());
    let store =
        registry.store_of(&resource.group, &resource.plural, || ResourceStore::custom(&registry.feed, &resource, strategy));
    Served { resource, strategy, store, types: TypeSource::Custom(Arc::new(ty)) }
}

/// The resources of a definition, the stored version first: the store is made of it.
fn declared(definition: &Value) -> Vec<(Resource, CustomType)> {
    let spec = &definition["spec"];
    let mut versions: Vec<&Value> = spec["versions"].as_array().into_iter().flatten().filter(|v| v["served"] == true).collect();
    versions.sort_by_key(|version| {
        let name = version["name"].as_str().unwrap_or_default();
        (version["storage"] != true, std::cmp::Reverse(discovery::version_priority(name)))
    });
    let kind = spec["names"]["kind"].as_str().unwrap_or_default();
    versions.into_iter().map(|version| (resource(definition, version), CustomType::new(version.clone(), kind))).collect()
}

fn resource(definition: &Value, version: &Value) -> Resource {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let names = &spec["names"];
    let (group, version_name, kind) = (text(&spec["group"]), text(&version["name"]), text(&names["kind"]));
    let mut subresources = Vec::new();
    if version["subresources"]["status"].is_object() {
        subresources.push(Subresource {
            name: "status".to_owned(),
            group: group.clone(),
            version: version_name.clone(),
            kind: kind.clone(),
            verbs: vec![Verb::Get, Verb::Patch, Verb::Update],
        });
    }
    if version["subresources"]["scale"].is_object() {
        subresources.push(Subresource {
            name: "scale".to_owned(),
            group: "autoscaling".to_owned(),
            version: "v1".to_owned(),
            kind: "Scale".to_owned(),
            verbs: vec![Verb::Get, Verb::Patch, Verb::Update],
        });
    }
    let or = |value: String, default: String| if value.is_empty() { default } else { value };
    Resource {
        plural: text(&names["plural"]),
        singular: or(text(&names["singular"]), kind.to_lowercase()),
        short_names: list(&names["shortNames"]),
        categories: list(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        list_kind: or(text(&names["listKind"]), format!("{kind}List")),
        verbs: Verb::ALL.to_vec(),
        subresources,
        storage_version: version["storage"] == true,
        served: true,
        group,
        version: version_name,
        kind,
    }
}

/// Objects do not outlive their definition.
async fn remove_all(registry: Arc<Registry>, group: String, plural: String) {
    let prefix = format!("/registry/{group}/{plural}/");
    let storage = registry.feed.storage().clone();
    loop {
        let page = match storage.list(&prefix, ListOptions { limit: REMOVE_PAGE, ..ListOptions::default() }).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, group, plural, "removing the objects of a deleted definition");
                return;
            }
        };
        if page.items.is_empty() {
            return;
        }
        for item in &page.items {
            match storage.delete(&item.key, item.revision).await {
                Ok(_) | Err(StoreError::NotFound | StoreError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, group, plural, "removing the objects of a deleted definition");
                    return;
                }
            }
        }
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
        let names: Vec<&str> = declared.iter().map(|(resource, _)| resource.version.as_str()).collect();
        assert_eq!(names, ["v1", "v1beta1"]);
        let (v1, ty) = &declared[0];
        assert_eq!((v1.singular.as_str(), v1.list_kind.as_str(), v1.subresources.len()), ("backup", "BackupList", 2));
        assert_eq!(ty.scale_paths().0, "spec.n");
    }
}
