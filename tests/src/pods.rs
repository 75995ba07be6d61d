//! Pods without a kubelet: what one says of a pod that it runs, without running it.

use std::time::Duration;

use anyhow::Result;
use api::ResourceId;
use client::{Client, ListParams, Scope, WatchEvent, WatchParams};
use http::Method;
use serde_json::{Value, json};

/// Pods with this label come to an end at once, with success.
pub const FINISH: &str = "finish";
const WATCH_AGAIN_AFTER: Duration = Duration::from_secs(1);
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// What a kubelet would do next.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// The pod's status, as a patch.
    Report(Value),
    Remove,
}

/// What is to do about a pod. `number` makes its address.
pub fn decide(pod: &Value, number: u8, now: &str) -> Option<Action> {
    if pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
        return None;
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return Some(Action::Remove);
    }
    if pod["status"]["phase"] != "Pending" {
        return None;
    }
    let finishes = pod["metadata"]["labels"][FINISH].is_string();
    let (phase, ready) = if finishes { ("Succeeded", "False") } else { ("Running", "True") };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": now});
    let address = format!("10.244.0.{number}");
    Some(Action::Report(json!({
        "phase": phase,
        "startTime": now,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            condition("Initialized", "True"),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
    })))
}

/// Plays the kubelets of all nodes, for ever.
pub async fn run(client: &Client) {
    loop {
        if let Err(error) = follow(client).await {
            println!("  the kubelets' watch of pods ended: {error:#}");
        }
        tokio::time::sleep(WATCH_AGAIN_AFTER).await;
    }
}

/// Obeys the pods that are there, then one watch until it ends. A request that fails is repeated with the pod's next event, as the
/// pod is still there.
async fn follow(client: &Client) -> Result<()> {
    let resource = ResourceId::of::<api::core::Pod>();
    let scope = || Scope { resource: &resource, namespace: "" };
    // Not a streaming list: upstream's server has that with a newer etcd only.
    let list = client.list_bytes(scope(), &ListParams::default()).await?;
    let params = WatchParams { resource_version: Some(list.resource_version), ..WatchParams::default() };
    let mut events = client.watch(scope(), &params).await?;
    let mut number = 0u8;
    for pod in &list.items {
        visit(client, pod, &mut number).await?;
    }
    while let Some(event) = events.next().await {
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event? {
            visit(client, &pod, &mut number).await?;
        }
    }
    Ok(())
}

async fn visit(client: &Client, pod: &[u8], number: &mut u8) -> Result<()> {
    let pod: Value = serde_json::from_slice(pod)?;
    *number = *number % 250 + 1;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    if let Some(action) = decide(&pod, *number, &now)
        && let Err(error) = obey(client, &pod["metadata"], action).await
        && !error.is_not_found()
    {
        println!("  a kubelet could not report: {error:#}");
    }
    Ok(())
}

async fn obey(client: &Client, metadata: &Value, action: Action) -> Result<(), client::Error> {
    let text = |name: &str| metadata[name].as_str().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{}/pods/{}", text("namespace"), text("name"));
    let (method, path, kind, body) = match action {
        Action::Report(status) => (Method::PATCH, format!("{path}/status"), STRATEGIC, json!({"status": status})),
        Action::Remove => {
            let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}});
            (Method::DELETE, path, "application/json", options)
        }
    };
    client.call(method, &path, Some((kind, body.to_string().into()))).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kubelet_would_do() {
        let pod =
            |spec: Value, metadata: Value, phase: &str| json!({"metadata": metadata, "spec": spec, "status": {"phase": phase}});
        let bound = json!({"nodeName": "a"});
        let phase = |action: Option<Action>| match action {
            Some(Action::Report(status)) => status["phase"].as_str().map(str::to_owned),
            Some(Action::Remove) => Some("removed".to_owned()),
            None => None,
        };
        for (pod, want) in [
            (pod(json!({}), json!({}), "Pending"), None),
            (pod(bound.clone(), json!({}), "Pending"), Some("Running")),
            (pod(bound.clone(), json!({}), "Running"), None),
            (pod(bound.clone(), json!({"labels": {FINISH: "yes"}}), "Pending"), Some("Succeeded")),
            (pod(bound, json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), "Running"), Some("removed")),
            (pod(json!({}), json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), "Pending"), None),
        ] {
            assert_eq!(phase(decide(&pod, 1, "now")).as_deref(), want, "{pod}");
        }
    }
}
