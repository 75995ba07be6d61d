//! Which resources the server has now, for the controllers that deal with all of them.

use std::sync::Arc;
use std::time::Duration;

use api::ResourceId;
use client::queue::Backoff;
use client::{Client, Error, Informer, InformerConfig};
use serde::Deserialize;
use tokio::sync::watch;

/// Aggregated discovery: all groups in one document.
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// Changes of CRDs come in groups, and it takes the server a moment to serve them.
const SETTLE: Duration = Duration::from_secs(1);

/// A resource at the version its group prefers, and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discovered {
    pub resource: ResourceId,
    pub verbs: Vec<String>,
    /// It has the `scale` subresource.
    pub scalable: bool,
}

impl Discovered {
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// All resources, and the groups whose servers did not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub all: Vec<Discovered>,
    /// `group/version` of aggregated APIs that are down: what they hold is not known.
    pub stale: Vec<String>,
}

impl Resources {
    /// The resource of a kind that an owner reference names; any version of the group will do.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&ResourceId> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.all.iter().map(|d| &d.resource).find(|r| r.group == group && r.kind == kind)
    }
}

/// Asks the server.
pub(crate) async fn discover(client: &Client) -> Result<Resources, DiscoveryError> {
    let mut resources = Resources::default();
    for path in ["/api", "/apis"] {
        let document = client.get_as(path, ACCEPT).await.map_err(|source| DiscoveryError::Request { path, source })?;
        let list: GroupList = serde_json::from_slice(&document).map_err(|source| DiscoveryError::Document { path, source })?;
        list.items.into_iter().for_each(|group| add_group(&mut resources, group));
    }
    Ok(resources)
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error("discovering resources at {path}: {source}")]
    Request { path: &'static str, source: Error },
    #[error("discovering resources at {path}: the answer is no aggregated discovery document: {source}")]
    Document { path: &'static str, source: serde_json::Error },
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    metadata: GroupMeta,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct GroupMeta {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource: String,
    response_kind: Option<ResponseKind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    subresources: Vec<Subresource>,
}

#[derive(Deserialize)]
struct Subresource {
    subresource: String,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

/// Versions come in the group's order of preference; a resource counts at the first that has it.
fn add_group(resources: &mut Resources, group: Group) {
    let name = group.metadata.name;
    let start = resources.all.len();
    for version in group.versions {
        if version.freshness == "Stale" {
            resources.stale.push(format!("{name}/{}", version.version));
        }
        for resource in version.resources {
            let known = resources.all[start..].iter().any(|d| d.resource.plural == resource.resource);
            let Some(kind) = resource.response_kind.filter(|_| !known) else { continue };
            resources.all.push(Discovered {
                resource: ResourceId {
                    group: name.clone(),
                    version: version.version.clone(),
                    kind: kind.kind,
                    plural: resource.resource,
                    namespaced: resource.scope == "Namespaced",
                },
                verbs: resource.verbs,
                scalable: resource.subresources.iter().any(|s| s.subresource == "scale"),
            });
        }
    }
}

/// The resources now, asked for again whenever CRDs or aggregated APIs change.
pub(crate) fn follow(client: Client) -> watch::Receiver<Arc<Resources>> {
    let (sender, receiver) = watch::channel(Arc::default());
    tokio::spawn(async move {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        // Declared by hand: they are served like any other resource.
        let definitions = metadata(&client, "apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions");
        let services = metadata(&client, "apiregistration.k8s.io", "APIService", "apiservices");
        let (mut a, mut b) = (definitions.revisions(), services.revisions());
        while !sender.is_closed() {
            a.mark_unchanged();
            b.mark_unchanged();
            match discover(&client).await {
                Ok(resources) => {
                    let stale = !resources.stale.is_empty();
                    sender.send_if_modified(|old| {
                        let changed = **old != resources;
                        *old = Arc::new(resources);
                        changed
                    });
                    if !stale {
                        backoff.reset();
                        tokio::select! {
                            _ = a.changed() => {}
                            _ = b.changed() => {}
                            () = sender.closed() => return,
                        }
                        tokio::time::sleep(SETTLE).await;
                        continue;
                    }
                }
                Err(error) => tracing::info!("{error}"),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    });
    receiver
}

fn metadata(client: &Client, group: &str, kind: &str, plural: &str) -> Informer<()> {
    let resource =
        ResourceId { group: group.into(), version: "v1".into(), kind: kind.into(), plural: plural.into(), namespaced: false };
    Informer::of_resource(client, resource, InformerConfig { metadata_only: true, ..InformerConfig::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_counts_at_its_preferred_version() {
        let list: GroupList = serde_json::from_str(
            r#"{"items":[{"metadata":{"name":"autoscaling"},"versions":[
                {"version":"v2","resources":[{"resource":"horizontalpodautoscalers","responseKind":{"kind":"HorizontalPodAutoscaler"},
                  "scope":"Namespaced","verbs":["list","watch","delete"],"subresources":[{"subresource":"status"}]}]},
                {"version":"v1","freshness":"Stale","resources":[
                  {"resource":"horizontalpodautoscalers","responseKind":{"kind":"HorizontalPodAutoscaler"},"scope":"Namespaced","verbs":[]},
                  {"resource":"others","responseKind":{"kind":"Other"},"scope":"Cluster","verbs":["get"],
                   "subresources":[{"subresource":"scale"}]}]}]}]}"#,
        )
        .unwrap();
        let mut resources = Resources::default();
        list.items.into_iter().for_each(|g| add_group(&mut resources, g));
        let got: Vec<String> =
            resources.all.iter().map(|d| format!("{} {}", d.resource.api_version(), d.resource.plural)).collect();
        assert_eq!(got, ["autoscaling/v2 horizontalpodautoscalers", "autoscaling/v1 others"]);
        assert_eq!(resources.all.iter().map(|d| d.scalable).collect::<Vec<_>>(), [false, true]);
        assert_eq!(resources.stale, ["autoscaling/v1"]);
        assert_eq!(resources.by_kind("autoscaling/v1", "HorizontalPodAutoscaler").unwrap().version, "v2");
        assert!(resources.by_kind("v1", "Pod").is_none() && resources.all[0].can("watch"));
    }
}
