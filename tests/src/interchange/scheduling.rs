//! The scheduler.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, condition, pod_spec};

fn pod(name: &str, spec: Value) -> Value {
    let mut all = pod_spec();
    for (key, value) in spec.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": all})
}

fn bound(pod: &Value) -> bool {
    pod["spec"]["nodeName"].is_string() && condition(pod, "PodScheduled", "True")
}

pub(super) async fn gate(bed: Bed) -> Result<()> {
    let pods = bed.path("v1", "pods", "");
    bed.post(&pods, pod("p", json!({"schedulingGates": [{"name": "example.com/wait"}]}))).await?;
    let path = bed.path("v1", "pods", "p");
    let gated = |pod: &Value| pod["status"]["conditions"].to_string().contains("SchedulingGated");
    bed.until(&path, "is gated", gated).await?;
    bed.merge(&path, json!({"spec": {"schedulingGates": null}})).await?;
    bed.until(&path, "is bound", bound).await?;
    Ok(())
}

pub(super) async fn anti_affinity(bed: Bed) -> Result<()> {
    let term = json!({"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"});
    let spec = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let mut nodes = Vec::new();
    for name in ["one", "two"] {
        bed.post(&bed.path("v1", "pods", ""), pod(name, spec.clone())).await?;
        nodes.push(bed.until(&bed.path("v1", "pods", name), "is bound", bound).await?["spec"]["nodeName"].clone());
    }
    ensure!(nodes[0] != nodes[1], "{nodes:?}");
    Ok(())
}

pub(super) async fn unschedulable(bed: Bed) -> Result<()> {
    bed.post(&bed.path("v1", "pods", ""), pod("p", json!({"nodeSelector": {"nowhere": "yes"}}))).await?;
    let path = bed.path("v1", "pods", "p");
    let told = bed.until(&path, "cannot be scheduled", |pod| condition(pod, "PodScheduled", "False")).await?;
    let conditions = told["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let message = conditions.iter().find(|c| c["type"] == "PodScheduled").map(|c| c["message"].to_string()).unwrap_or_default();
    let want = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.";
    ensure!(message.contains(want), "{message}");
    let failed = |events: &Value| events.to_string().contains("FailedScheduling");
    bed.until(&bed.path("v1", "events", ""), "tell of it", failed).await?;
    Ok(())
}

/// A pod that needs all of a node, and a more important one.
pub(super) async fn preemption(bed: Bed) -> Result<()> {
    let class = json!({"metadata": {"name": "interchange-high"}, "value": 1000, "globalDefault": false});
    bed.post("/apis/scheduling.k8s.io/v1/priorityclasses", class).await?;
    // The resource is offered by one node, once, and no other check asks for it.
    bed.merge(
        "/api/v1/nodes/node-a/status",
        json!({"status": {
        "capacity": {"example.com/thing": "1"}, "allocatable": {"example.com/thing": "1"}}}),
    )
    .await?;
    let mut container = pod_spec()["containers"][0].clone();
    container["resources"] = json!({"limits": {"example.com/thing": "1"}, "requests": {"example.com/thing": "1"}});
    bed.post(&bed.path("v1", "pods", ""), pod("low", json!({"containers": [container]}))).await?;
    bed.until(&bed.path("v1", "pods", "low"), "is bound", bound).await?;
    let high = json!({"containers": [container], "priorityClassName": "interchange-high"});
    bed.post(&bed.path("v1", "pods", ""), pod("high", high)).await?;
    let high = bed.until(&bed.path("v1", "pods", "high"), "is bound", bound).await?;
    ensure!(high["spec"]["nodeName"] == "node-a", "on the only node that has it");
    bed.gone(&bed.path("v1", "pods", "low")).await
}
