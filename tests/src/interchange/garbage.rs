//! What goes with what is deleted.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, deployment};

const HOLD: &str = "example.com/hold";

/// A ConfigMap, and one that it owns.
async fn family(bed: &Bed, finalizers: &[&str]) -> Result<()> {
    let maps = bed.path("v1", "configmaps", "");
    let owner = bed.post(&maps, json!({"metadata": {"name": "owner"}})).await?;
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": true});
    let metadata = json!({"name": "owned", "ownerReferences": [reference], "finalizers": finalizers});
    bed.post(&maps, json!({"metadata": metadata})).await?;
    Ok(())
}

pub(super) async fn background(bed: Bed) -> Result<()> {
    family(&bed, &[]).await?;
    bed.delete(&bed.path("v1", "configmaps", "owner"), "Background").await?;
    bed.gone(&bed.path("v1", "configmaps", "owned")).await
}

pub(super) async fn foreground(bed: Bed) -> Result<()> {
    family(&bed, &[HOLD]).await?;
    let (owner, owned) = (bed.path("v1", "configmaps", "owner"), bed.path("v1", "configmaps", "owned"));
    bed.delete(&owner, "Foreground").await?;
    bed.until(&owned, "is being deleted", |map| map["metadata"]["deletionTimestamp"].is_string()).await?;
    let waiting = bed.get(&owner).await?;
    ensure!(waiting["metadata"]["finalizers"] == json!(["foregroundDeletion"]), "the owner waits: {waiting}");
    bed.merge(&owned, json!({"metadata": {"finalizers": null}})).await?;
    bed.gone(&owned).await?;
    bed.gone(&owner).await
}

pub(super) async fn orphan(bed: Bed) -> Result<()> {
    bed.post(&bed.path("apps/v1", "deployments", ""), deployment("web", 1)).await?;
    let web = bed.path("apps/v1", "deployments", "web");
    bed.until(&web, "has a pod", |d| d["status"]["availableReplicas"] == 1).await?;
    bed.delete(&web, "Orphan").await?;
    bed.gone(&web).await?;
    let alone = |sets: &Value| sets["items"][0]["metadata"].get("ownerReferences").is_none();
    let sets = bed.until(&bed.path("apps/v1", "replicasets", ""), "has no owner", alone).await?;
    ensure!(sets["items"].as_array().is_some_and(|items| items.len() == 1), "the set stays");
    ensure!(bed.items(&bed.path("v1", "pods", "")).await?.len() == 1, "and its pod");
    Ok(())
}

pub(super) async fn namespace(bed: Bed) -> Result<()> {
    bed.post(&bed.path("apps/v1", "deployments", ""), deployment("web", 2)).await?;
    bed.until(&bed.path("apps/v1", "deployments", "web"), "has pods", |d| d["status"]["availableReplicas"] == 2).await?;
    bed.post(&bed.path("v1", "configmaps", ""), json!({"metadata": {"name": "held", "finalizers": [HOLD]}})).await?;
    let path = format!("/api/v1/namespaces/{}", bed.namespace);
    bed.delete(&path, "Background").await?;
    let waits = |namespace: &Value| super::bed::condition(namespace, "NamespaceFinalizersRemaining", "True");
    bed.until(&path, "says what it waits for", waits).await?;
    ensure!(bed.get(&path).await?["status"]["phase"] == "Terminating");
    bed.merge(&bed.path("v1", "configmaps", "held"), json!({"metadata": {"finalizers": null}})).await?;
    bed.gone(&path).await
}
