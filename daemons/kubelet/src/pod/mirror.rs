//! Mirror pods: the API's picture of static pods, so that they can be seen, logged, and counted.

use std::sync::Arc;

use api::Kind as _;
use api::core::Pod;
use api::metav1::OwnerReference;
use client::DeleteParams;

use super::spec;
use crate::agent::Agent;

/// Makes the mirror of a static pod when it is not there or shows another version.
pub async fn ensure(agent: &Arc<Agent>, pod: &Pod) {
    let Some(api) = agent.api().filter(|api| api.pods.is_synced()) else { return };
    let hash = spec::annotation(pod, spec::CONFIG_HASH).unwrap_or_default();
    if let Some(found) = api.pods.get(pod.namespace(), pod.name()) {
        let Ok(found) = found.parse() else { return };
        if spec::annotation(&found, spec::CONFIG_MIRROR) == Some(hash) && spec::deletion_timestamp(&found).is_none() {
            return;
        }
        if !spec::is_mirror(&found) {
            tracing::warn!(pod = %spec::full_name(pod), "a pod of the API has the name of a static pod: no mirror is made");
            return;
        }
        remove_found(agent, &found).await;
        return;
    }
    // The API server lets a node make mirrors only of its own: the owner says so.
    let Some(node) = api.node.get("", &agent.config.node_name) else { return };
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: agent.config.node_name.clone(),
        uid: node.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let mirror = mirror_of(pod, hash, owner);
    match api.client.create(&mirror).await {
        Ok(_) => tracing::info!(pod = %spec::full_name(pod), "mirror pod created"),
        Err(error) if error.is_already_exists() => {}
        Err(error) => tracing::warn!(pod = %spec::full_name(pod), "creating the mirror pod: {}", daemon::chain(&error)),
    }
}

/// What is sent to the API: the pod without what only the API gives.
fn mirror_of(pod: &Pod, hash: &str, owner: OwnerReference) -> Pod {
    let mut mirror = pod.clone();
    mirror.status = None;
    let meta = mirror.meta_mut();
    meta.uid = None;
    meta.resource_version = None;
    meta.owner_references = Some(vec![owner]);
    meta.annotations.get_or_insert_default().insert(spec::CONFIG_MIRROR.to_owned(), hash.to_owned());
    mirror
}

/// Deletes the mirror of a static pod that is gone.
pub async fn remove(agent: &Arc<Agent>, pod: &Pod) {
    let Some(api) = agent.api() else { return };
    if let Some(Ok(found)) = api.pods.get(pod.namespace(), pod.name()).map(|c| c.parse())
        && spec::annotation(&found, spec::CONFIG_MIRROR) == spec::annotation(pod, spec::CONFIG_HASH)
    {
        remove_found(agent, &found).await;
    }
}

/// Deletes a mirror at once: nothing runs because of it.
pub async fn remove_found(agent: &Arc<Agent>, mirror: &Pod) {
    let Some(api) = agent.api() else { return };
    let params = DeleteParams::uid(mirror.uid()).grace(0);
    match api.client.delete::<Pod>(mirror.namespace(), mirror.name(), &params).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => {
            tracing::warn!(pod = %spec::full_name(mirror), "deleting the mirror pod: {}", daemon::chain(&error));
        }
        _ => {}
    }
}
