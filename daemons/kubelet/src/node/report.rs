//! Telling the API of the node: registering it, its status when that changes, and its lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Kind as _;
use api::coordination::{Lease, LeaseSpec};
use api::core::{ContainerImage, Node, NodeSpec, NodeStatus, Taint};
use api::metav1::{MicroTime, ObjectMeta, OwnerReference};
use client::events::EventType;
use client::{Client, Patch, PatchParams};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::machine;
use super::pressure::Pressure;
use super::status::{self, Health, RuntimeFacts};
use crate::agent::{Agent, Api};
use crate::pleg;

const LEASES: &str = "kube-node-lease";

/// The labels that every node has, and those that were asked for.
fn labels(agent: &Agent) -> BTreeMap<String, String> {
    let arch = agent.machine.architecture;
    let mut labels: BTreeMap<String, String> = [
        ("beta.kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/hostname", &agent.config.node_name),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    labels.extend(agent.config.node_labels.clone());
    labels
}

/// What others are told about the node beside its status.
fn annotations(agent: &Agent) -> BTreeMap<String, String> {
    let mut annotations =
        BTreeMap::from([("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())]);
    if agent.config.external_cloud_provider && agent.config.has_node_ip() {
        let addresses: Vec<String> = agent.config.node_ips.iter().map(ToString::to_string).collect();
        annotations.insert("alpha.kubernetes.io/provided-node-ip".to_owned(), addresses.join(","));
    }
    annotations
}

/// The taints that were asked for, and the one that a cloud's controller takes away when it knows the node.
fn taints(agent: &Agent) -> Vec<Taint> {
    let mut taints = agent.config.taints.clone();
    taints.extend(agent.config.external_cloud_provider.then(|| Taint {
        key: "node.cloudprovider.kubernetes.io/uninitialized".to_owned(),
        value: Some("true".to_owned()),
        effect: "NoSchedule".to_owned(),
        time_added: None,
    }));
    taints
}

/// Makes the node object, or brings the labels of one that is there up to date. Tries until it succeeds.
pub async fn register(agent: &Arc<Agent>, client: &Client) {
    let mut pause = Duration::from_millis(200);
    loop {
        match try_register(agent, client).await {
            Ok(()) => {
                tracing::info!(node = agent.config.node_name, "node is registered");
                return;
            }
            Err(error) => tracing::warn!("registering the node: {}", daemon::chain(&error)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(7));
    }
}

async fn try_register(agent: &Arc<Agent>, client: &Client) -> Result<(), client::Error> {
    let name = agent.config.node_name.as_str();
    let facts = facts(agent).await;
    // A node is not ready before its kubelet has looked once.
    let health = Health { problems: vec!["the kubelet has just started".to_owned()], ..Health::default() };
    let status = make(agent, &facts, &health, None);
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels(agent)),
            annotations: Some(annotations(agent)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: Some(taints(agent)).filter(|taints| !taints.is_empty()),
            provider_id: agent.config.provider_id.clone(),
            ..NodeSpec::default()
        }),
        status: Some(status),
    };
    match client.create(&node).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => {
            let found: Node = client.get("", name).await?;
            let missing = |wanted: BTreeMap<String, String>, present: Option<BTreeMap<String, String>>| {
                let present = present.unwrap_or_default();
                wanted.into_iter().filter(|(k, v)| present.get(k) != Some(v)).collect::<BTreeMap<String, String>>()
            };
            let labels = missing(labels(agent), found.metadata.labels);
            let annotations = missing(annotations(agent), found.metadata.annotations);
            if !labels.is_empty() || !annotations.is_empty() {
                let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
                client.patch::<Node>("", name, &Patch::Strategic(patch), &PatchParams::default()).await?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn facts(agent: &Agent) -> RuntimeFacts {
    let version = match agent.runtime.version().await {
        Ok(v) => {
            agent.runtime_name.store(Arc::new(v.runtime_name.clone()));
            format!("{}://{}", v.runtime_name, v.runtime_version)
        }
        Err(_) => format!("{}://", agent.runtime_name.load()),
    };
    let images = agent.runtime.images().await.unwrap_or_default();
    let images = images
        .into_iter()
        .map(|i| {
            let size = i64::try_from(i.size).ok();
            let names: Vec<String> = i.repo_digests.into_iter().chain(i.repo_tags).take(5).collect();
            ContainerImage { names: Some(names), size_bytes: size }
        })
        .filter(|i| i.names.as_ref().is_some_and(|n| !n.is_empty()))
        .collect();
    RuntimeFacts { version, images, storage_bytes: storage(agent).0 }
}

/// Bytes of the file system that pods use: all, and those that are left.
fn storage(agent: &Agent) -> (i64, i64) {
    let stat = rustix::fs::statvfs(&agent.config.root_dir);
    stat.map_or((0, 0), |s| {
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(s.f_frsize)).unwrap_or(i64::MAX);
        (bytes(s.f_blocks), bytes(s.f_bavail))
    })
}

fn health(agent: &Agent, last_list: &pleg::LastList) -> Health {
    let mut problems = Vec::new();
    match *last_list.borrow() {
        None => problems.push("PLEG is not healthy: pleg has yet to be successful".to_owned()),
        Some(at) if at.elapsed() > pleg::HEALTHY => problems.push(format!(
            "PLEG is not healthy: pleg was last seen active {}s ago; threshold is {}s",
            at.elapsed().as_secs(),
            pleg::HEALTHY.as_secs()
        )),
        Some(_) => {}
    }
    if let Some(reason) = agent.network_error.load_full() {
        problems.push(format!("container runtime network not ready: {reason}"));
    }
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_left = machine::meminfo(&info, "MemAvailable");
    let memory_floor = status::threshold(&agent.config, "memory.available", agent.machine.memory_bytes);
    let (all, left) = storage(agent);
    let disk_floor = status::threshold(&agent.config, "nodefs.available", all);
    Health {
        problems,
        memory_pressure: memory_left > 0 && memory_left < memory_floor,
        disk_pressure: all > 0 && left < disk_floor,
    }
}

fn make(agent: &Agent, facts: &RuntimeFacts, health: &Health, before: Option<&NodeStatus>) -> NodeStatus {
    let mut status =
        status::status(&agent.config, &agent.machine, facts, &agent.host_ips.load(), health, before, Timestamp::now());
    if agent.config.external_cloud_provider {
        let node = agent.api().and_then(|api| api.node.get("", &agent.config.node_name)?.parse().ok()?.status);
        status.addresses = status::addresses_in_a_cloud(node.as_ref(), status.addresses, agent.config.has_node_ip());
    }
    status
}

/// Keeps the status true: written when it changed, and from time to time.
pub async fn statuses(agent: Arc<Agent>, api: Arc<Api>, last_list: Arc<pleg::LastList>) {
    let mut told: Option<(NodeStatus, Instant)> = None;
    let mut seen_ready = None;
    let (mut memory, mut disk) = (Pressure::default(), Pressure::default());
    let mut facts = self::facts(&agent).await;
    let mut facts_at = Instant::now();
    loop {
        if facts_at.elapsed() >= agent.config.status_update_frequency {
            facts = self::facts(&agent).await;
            facts_at = Instant::now();
        }
        let mut health = health(&agent, &last_list);
        let period = agent.config.pressure_transition;
        health.memory_pressure = memory.tell(health.memory_pressure, Instant::now(), period);
        health.disk_pressure = disk.tell(health.disk_pressure, Instant::now(), period);
        let before = told.as_ref().map(|(s, _)| s.clone()).or_else(|| {
            let node = api.node.get("", &agent.config.node_name)?;
            node.parse().ok()?.status
        });
        let now = make(&agent, &facts, &health, before.as_ref());
        let due = match &told {
            None => true,
            Some((status, at)) => at.elapsed() >= agent.config.status_report_frequency || status::differs(status, &now),
        };
        if due {
            match write(&agent, &api, &now).await {
                Ok(()) => {
                    let ready = health.problems.is_empty();
                    if seen_ready != Some(ready) {
                        let reason = if ready { "NodeReady" } else { "NodeNotReady" };
                        let name = &agent.config.node_name;
                        agent.node_event(EventType::Normal, reason, format!("Node {name} status is now: {reason}"));
                        seen_ready = Some(ready);
                    }
                    told = Some((now, Instant::now()));
                }
                Err(error) if error.is_not_found() && agent.config.register_node => {
                    register(&agent, &api.client).await;
                    told = None;
                }
                Err(error) => tracing::warn!("writing the node's status: {}", daemon::chain(&error)),
            }
        }
        // A node that is not ready wants to be it soon.
        let pause = if seen_ready == Some(true) { agent.config.status_update_frequency } else { Duration::from_millis(500) };
        tokio::time::sleep(pause.min(agent.config.status_update_frequency)).await;
    }
}

async fn write(agent: &Agent, api: &Api, status: &NodeStatus) -> Result<(), client::Error> {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    // The lists are merged by their keys: addresses that are gone have to be replaced with all of them.
    if let Some(addresses) = value["addresses"].as_array_mut() {
        addresses.insert(0, json!({"$patch": "replace"}));
    }
    let patch = json!({"status": value});
    let params = PatchParams::status();
    api.client.patch::<Node>("", &agent.config.node_name, &Patch::Strategic(patch), &params).await.map(drop)
}

/// Renews the node's lease every quarter of its life.
pub async fn leases(agent: Arc<Agent>, client: Client) {
    let name = agent.config.node_name.clone();
    let period = agent.config.lease_duration / 4;
    let mut held: Option<Lease> = None;
    let mut failures = 0_u32;
    loop {
        match renew(&agent, &client, &name, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                failures = 0;
                tokio::time::sleep(period).await;
            }
            Err(error) => {
                if !error.is_conflict() {
                    tracing::debug!("renewing the node's lease: {}", daemon::chain(&error));
                }
                failures = failures.saturating_add(1);
                // Soon again: the others take the node for lost after one lease's life.
                tokio::time::sleep(Duration::from_millis(200 * u64::from(failures.min(35)))).await;
            }
        }
    }
}

async fn renew(agent: &Agent, client: &Client, name: &str, held: Option<Lease>) -> Result<Lease, client::Error> {
    let found = match held {
        Some(lease) => Some(lease),
        None => match client.get::<Lease>(LEASES, name).await {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        },
    };
    let spec = LeaseSpec {
        holder_identity: Some(name.to_owned()),
        lease_duration_seconds: i32::try_from(agent.config.lease_duration.as_secs()).ok(),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    match found {
        Some(mut lease) => {
            lease.spec = Some(spec);
            client.update(&lease).await
        }
        None => {
            let node = client.get::<Node>("", name).await?;
            let owner = OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.to_owned(),
                uid: node.uid().to_owned(),
                ..OwnerReference::default()
            };
            let metadata = ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(LEASES.to_owned()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            };
            client.create(&Lease { metadata, spec: Some(spec) }).await
        }
    }
}
