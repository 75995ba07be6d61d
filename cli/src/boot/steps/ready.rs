//! Waiting until the cluster really works: the API server answers; the node and the system pods are Ready.

use std::time::Duration;

use anyhow::Result;
use api::Kind as _;
use api::core::{Node, Pod};
use client::{Client, ListParams};

const API_SECONDS_MAX: u64 = 240;
const READY_SECONDS_MAX: u64 = 300;

/// Static pods, by the name of their container; their mirror pods end with the node's name.
const STATIC_PODS: &[&str] = &["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const DNS_LABEL: &str = "kube-dns";

pub(super) mod server {
    use super::*;
    use crate::boot::context::Context;
    use crate::boot::plan::Check;
    use crate::boot::steps::wait;

    async fn missing(context: &Context) -> Result<Option<String>> {
        // The API server makes this namespace itself, when it is up.
        let namespace: Result<api::core::Namespace, _> = context.api().await?.get("", "kube-system").await;
        Ok(namespace.err().map(|error| format!("{error}")))
    }

    pub(in crate::boot::steps) async fn check(context: &Context) -> Result<Check> {
        Ok(missing(context).await?.map_or(Check::Done, Check::Todo))
    }

    pub(in crate::boot::steps) async fn apply(context: &Context) -> Result<()> {
        wait::until("waiting for the API server", Duration::from_secs(API_SECONDS_MAX), async || missing(context).await).await
    }
}

pub(super) mod node {
    use super::*;
    use crate::boot::context::Context;
    use crate::boot::plan::Check;
    use crate::boot::steps::wait;

    async fn missing(context: &Context) -> Result<Vec<String>> {
        let client = context.api().await?;
        let node: Node = client.get("", &context.node_name).await?;
        let kubelet = context.systemd.state(crate::boot::steps::kubelet::UNIT).await?;
        let mut missing: Vec<String> = node_problem(&node, kubelet.active_since_us).into_iter().collect();
        missing.extend(system_pods(client, &context.node_name).await?.into_iter().filter_map(|pod| pod.problem));
        Ok(missing)
    }

    pub(in crate::boot::steps) async fn check(context: &Context) -> Result<Check> {
        Ok(match missing(context).await {
            Ok(missing) => Check::of(missing),
            Err(error) => Check::Todo(format!("{error:#}")),
        })
    }

    pub(in crate::boot::steps) async fn apply(context: &Context) -> Result<()> {
        wait::until("waiting until all is ready", Duration::from_secs(READY_SECONDS_MAX), async || {
            let missing = missing(context).await?;
            Ok((!missing.is_empty()).then(|| missing.join("; ")))
        })
        .await
    }
}

/// What was said before the kubelet started (in microseconds since 1970) is about an earlier life of the host.
pub(crate) fn node_problem(node: &Node, kubelet_since_us: u64) -> Option<String> {
    let since = i64::try_from(kubelet_since_us / 1_000_000).unwrap_or(i64::MAX);
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    match conditions.iter().find(|c| c.type_ == "Ready") {
        // Heartbeats are in whole seconds.
        Some(ready) if ready.last_heartbeat_time.as_ref().is_some_and(|at| at.0.as_second() < since) => {
            Some(format!("the kubelet of node {} has not reported since it started", node.name()))
        }
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!("node {} is not ready: {}", node.name(), ready.message.as_deref().unwrap_or_default())),
        None => Some(format!("node {} has said nothing yet", node.name())),
    }
}

/// A pod that the cluster can't do without.
#[derive(Debug)]
pub(crate) struct SystemPod {
    pub(crate) name: String,
    pub(crate) pod: Option<Pod>,
    pub(crate) problem: Option<String>,
}

pub(crate) async fn system_pods(client: &Client, node: &str) -> Result<Vec<SystemPod>> {
    let pods = client.list::<Pod>("kube-system", &ListParams::default()).await?.items;
    let find = |name: &str, wanted: &dyn Fn(&Pod) -> bool| {
        // While one replaces another, the ready one counts.
        let mut found: Vec<&Pod> = pods.iter().filter(|pod| wanted(pod)).collect();
        found.sort_by_key(|pod| pod_problem(pod).is_some());
        let pod = found.first().copied().cloned();
        let problem = match &pod {
            Some(pod) => pod_problem(pod),
            None => Some(format!("pod {name} is not there")),
        };
        SystemPod { name: name.to_owned(), pod, problem }
    };
    let mut all: Vec<SystemPod> =
        STATIC_PODS.iter().map(|name| find(name, &|pod| pod.name() == format!("{name}-{node}"))).collect();
    let dns = |pod: &Pod| pod.meta().labels.as_ref().and_then(|l| l.get("k8s-app")).is_some_and(|app| app == DNS_LABEL);
    all.push(find("cluster-dns", &dns));
    Ok(all)
}

fn pod_problem(pod: &Pod) -> Option<String> {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    if conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True") {
        return None;
    }
    let waiting = status.container_statuses.unwrap_or_default().into_iter().find_map(|c| c.state?.waiting);
    let unschedulable = conditions.into_iter().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    let reason = waiting
        .map(|w| [w.reason, w.message])
        .or_else(|| unschedulable.map(|c| [c.reason, c.message]))
        .unwrap_or_else(|| [status.phase.or_else(|| Some("no phase".to_owned())), None]);
    let reason: Vec<String> = reason.into_iter().flatten().collect();
    Some(format!("pod {} is not ready: {}", pod.name(), reason.join(": ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_by_what_its_kubelet_says_now() {
        let node = |status: &str, heartbeat: &str| {
            let value = serde_json::json!({
                "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" },
                "status": { "conditions": [{ "type": "Ready", "status": status, "lastHeartbeatTime": heartbeat, "message": "m" }] },
            });
            Node::decode_value(value).unwrap()
        };
        let started_us = 1_767_225_600_500_000; // 2026-01-01T00:00:00.5Z
        let check = |status, heartbeat| node_problem(&node(status, heartbeat), started_us);
        assert_eq!(check("True", "2026-01-01T00:00:00Z"), None);
        assert_eq!(check("False", "2026-01-01T00:00:05Z").as_deref(), Some("node n1 is not ready: m"));
        assert!(check("True", "2025-12-31T23:59:59Z").is_some_and(|p| p.contains("has not reported")));
    }

    #[test]
    fn a_pod_says_why_it_is_not_ready() {
        let problem = |status: serde_json::Value| {
            let value = serde_json::json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "status": status });
            pod_problem(&Pod::decode_value(value).unwrap())
        };
        assert_eq!(problem(serde_json::json!({ "conditions": [{ "type": "Ready", "status": "True" }] })), None);
        for (status, want) in [
            (serde_json::json!({ "phase": "Pending" }), "Pending"),
            (
                serde_json::json!({ "phase": "Pending", "conditions": [
                    { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available" }
                ] }),
                "Unschedulable: 0/1 nodes are available",
            ),
            (
                serde_json::json!({ "phase": "Pending", "containerStatuses": [
                    { "name": "c", "state": { "waiting": { "reason": "ErrImageNeverPull" } } }
                ] }),
                "ErrImageNeverPull",
            ),
        ] {
            assert_eq!(problem(status), Some(format!("pod p is not ready: {want}")));
        }
    }
}
