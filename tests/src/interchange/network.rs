//! What Services lead to.

use anyhow::Result;
use serde_json::{Value, json};

use super::bed::{Bed, deployment};

fn ready(slices: &Value, count: usize) -> bool {
    let slices = slices["items"].as_array().into_iter().flatten();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true && endpoint["nodeName"].is_string()).count() == count
}

pub(super) async fn endpoint_slices(bed: Bed) -> Result<()> {
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    bed.post(&bed.path("v1", "services", ""), json!({"metadata": {"name": "web"}, "spec": spec})).await?;
    bed.post(&bed.path("apps/v1", "deployments", ""), deployment("web", 2)).await?;
    let slices = bed.path("discovery.k8s.io/v1", "endpointslices", "");
    bed.until(&slices, "have two endpoints", |slices| ready(slices, 2)).await?;
    let addresses = |object: &Value| object["subsets"][0]["addresses"].as_array().is_some_and(|a| a.len() == 2);
    bed.until(&bed.path("v1", "endpoints", "web"), "has two addresses", addresses).await?;
    bed.merge(&bed.path("apps/v1", "deployments", "web"), json!({"spec": {"replicas": 1}})).await?;
    bed.until(&slices, "have one endpoint", |slices| ready(slices, 1)).await?;
    Ok(())
}

pub(super) async fn mirrored_endpoints(bed: Bed) -> Result<()> {
    let spec = json!({"ports": [{"port": 80}]});
    bed.post(&bed.path("v1", "services", ""), json!({"metadata": {"name": "outside"}, "spec": spec})).await?;
    let subsets = json!([{"addresses": [{"ip": "198.51.100.7"}], "ports": [{"port": 80}]}]);
    bed.post(&bed.path("v1", "endpoints", ""), json!({"metadata": {"name": "outside"}, "subsets": subsets})).await?;
    let mirrored = |slices: &Value| {
        let slice = &slices["items"][0];
        let by = &slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
        by == "endpointslicemirroring-controller.k8s.io" && slice["endpoints"][0]["addresses"] == json!(["198.51.100.7"])
    };
    bed.until(&bed.path("discovery.k8s.io/v1", "endpointslices", ""), "mirror them", mirrored).await?;
    Ok(())
}
