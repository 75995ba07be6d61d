//! Quotas and disruption budgets.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, deployment, observed};

pub(super) async fn quota(bed: Bed) -> Result<()> {
    let spec = json!({"hard": {"pods": "3", "count/configmaps": "10"}});
    bed.post(&bed.path("v1", "resourcequotas", ""), json!({"metadata": {"name": "q"}, "spec": spec})).await?;
    let path = bed.path("v1", "resourcequotas", "q");
    bed.until(&path, "is counted", |q| q["status"]["used"]["pods"] == "0").await?;
    bed.post(&bed.path("apps/v1", "deployments", ""), deployment("web", 4)).await?;
    bed.until(&path, "is full", |q| q["status"]["used"]["pods"] == "3").await?;
    let refused = |d: &Value| super::bed::condition(d, "ReplicaFailure", "True");
    bed.until(&bed.path("apps/v1", "deployments", "web"), "tells that a pod was refused", refused).await?;
    bed.merge(&bed.path("apps/v1", "deployments", "web"), json!({"spec": {"replicas": 1}})).await?;
    bed.until(&path, "is freed", |q| q["status"]["used"]["pods"] == "1").await?;
    Ok(())
}

pub(super) async fn disruption(bed: Bed) -> Result<()> {
    bed.post(&bed.path("apps/v1", "deployments", ""), deployment("web", 2)).await?;
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    bed.post(&bed.path("policy/v1", "poddisruptionbudgets", ""), json!({"metadata": {"name": "b"}, "spec": spec})).await?;
    let path = bed.path("policy/v1", "poddisruptionbudgets", "b");
    let allows = |b: &Value| {
        let status = &b["status"];
        observed(b) && status["disruptionsAllowed"] == 1 && status["currentHealthy"] == 2 && status["expectedPods"] == 2
    };
    bed.until(&path, "allows one disruption", allows).await?;
    let pods = bed.items(&bed.path("v1", "pods", "")).await?;
    let name = pods[0]["metadata"]["name"].as_str().unwrap_or_default();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    bed.post(&bed.path("v1", "pods", &format!("{name}/eviction")), eviction).await?;
    bed.gone(&bed.path("v1", "pods", name)).await?;
    bed.until(&path, "allows one again", allows).await?;
    bed.merge(&bed.path("apps/v1", "deployments", "web"), json!({"spec": {"replicas": 1}})).await?;
    let none = |b: &Value| b["status"]["disruptionsAllowed"] == 0 && b["status"]["expectedPods"] == 1;
    bed.until(&path, "allows none", none).await?;
    let pods = bed.items(&bed.path("v1", "pods", "")).await?;
    let last = pods.iter().find(|pod| pod["metadata"]["deletionTimestamp"].is_null()).cloned().unwrap_or_default();
    let name = last["metadata"]["name"].as_str().unwrap_or_default();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let refused = bed.client.post_value(&bed.path("v1", "pods", &format!("{name}/eviction")), &eviction).await;
    ensure!(refused.as_ref().is_err_and(|error| error.status().is_some_and(|s| s.code == 429)), "{refused:?}");
    Ok(())
}
