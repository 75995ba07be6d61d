//! Nodes without a kubelet: the objects, and the Leases that say that they live.

use std::time::Duration;

use anyhow::Result;
use client::Client;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

/// As often as a kubelet's.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);
const MERGE: &str = "application/merge-patch+json";

/// Creates Nodes that are Ready.
pub async fn create(client: &Client, names: &[&str]) -> Result<()> {
    for (i, name) in names.iter().enumerate() {
        client.post_value("/api/v1/nodes", &node(name)).await?;
        let status = json!({"status": status(i, Timestamp::now())});
        patch(client, &format!("/api/v1/nodes/{name}/status"), &status).await?;
        let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micro_time(Timestamp::now())});
        let lease = json!({"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec});
        client.post_value("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", &lease).await?;
    }
    Ok(())
}

/// Renews their Leases for ever. A renewal that fails is the next one's business: the lease outlives four of them.
pub async fn keep_ready(client: &Client, names: &[&str]) {
    let mut interval = tokio::time::interval(RENEW_INTERVAL);
    loop {
        interval.tick().await;
        for name in names {
            let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
            let _ = patch(client, &path, &json!({"spec": {"renewTime": micro_time(Timestamp::now())}})).await;
        }
    }
}

async fn patch(client: &Client, path: &str, body: &Value) -> Result<()> {
    client.call(Method::PATCH, path, Some((MERGE, body.to_string().into()))).await?;
    Ok(())
}

fn node(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        }},
    })
}

fn status(i: usize, now: Timestamp) -> Value {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "message": reason, "lastHeartbeatTime": now, "lastTransitionTime": now});
    let resources = json!({"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "20Gi"});
    json!({
        "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{}", i + 10)}],
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "nodeInfo": {"kubeletVersion": "v1.36.2", "operatingSystem": "linux", "architecture": "amd64"},
    })
}

fn micro_time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
