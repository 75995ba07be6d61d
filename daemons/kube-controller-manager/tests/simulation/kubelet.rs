//! A hollow kubelet: it says that it runs what is bound to its node, and nothing runs.

use std::time::Duration;

use api::Kind;
use api::coordination::{Lease, LeaseSpec};
use api::core::{Node, NodeCondition, NodeStatus, Pod};
use api::metav1::{MicroTime, ObjectMeta, Time};
use client::queue::Queue;
use client::{Client, DeleteParams, Informer, InformerConfig, ObjectKey, Patch, PatchParams};
use serde_json::json;

use crate::faults::Dice;
use crate::world::now;

const LEASES: &str = "kube-node-lease";
/// Pods whose image contains this never become ready.
pub const BROKEN: &str = "broken";
/// Pods with this image end well as soon as they have begun.
pub const DONE: &str = "done";
/// Pods with this image fail as soon as they have begun.
pub const FAILS: &str = "fails";

pub struct Kubelet {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Kubelet {
    /// As if its power was cut.
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Kubelet {
    pub async fn start(client: &Client, name: &str, subnet: u8, dice: Dice) -> Self {
        register(client, name).await;
        let lease = {
            let (client, name) = (client.clone(), name.to_owned());
            tokio::spawn(async move {
                loop {
                    renew(&client, &name).await;
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
            })
        };
        let config = InformerConfig { field_selector: Some(format!("spec.nodeName={name}")), ..InformerConfig::default() };
        let pods = Informer::<Pod>::start(client, config);
        let queue: Queue<ObjectKey> = Queue::new();
        let (q, d) = (queue.clone(), dice.clone());
        pods.subscribe(move |change| q.add_after(change.object().key(), d.milliseconds(2000)));
        let client = client.clone();
        let work = tokio::spawn(async move {
            let mut next_address = 1u8;
            while let Some(key) = queue.next().await {
                if let Some(pod) = pods.get_key(&key).and_then(|p| p.parse().ok()) {
                    sync(&client, &pod, subnet, &mut next_address).await;
                }
                queue.done(&key);
            }
        });
        Self { tasks: vec![lease, work] }
    }
}

async fn register(client: &Client, name: &str) {
    let quantity = |text: &str| api::Quantity(text.to_owned());
    let capacity: std::collections::BTreeMap<String, api::Quantity> =
        [("cpu", "8"), ("memory", "16Gi"), ("pods", "110")].map(|(k, v)| (k.to_owned(), quantity(v))).into();
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([("kubernetes.io/hostname".to_owned(), name.to_owned())].into()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    let mut node = match client.create(&node).await {
        Err(error) if error.is_already_exists() => client.get("", name).await.expect("the node is there"),
        other => other.expect("a node registers"),
    };
    node.status = Some(NodeStatus {
        capacity: Some(capacity.clone()),
        allocatable: Some(capacity),
        conditions: Some(vec![NodeCondition {
            type_: "Ready".into(),
            status: "True".into(),
            reason: Some("KubeletReady".into()),
            last_heartbeat_time: Some(Time(now())),
            last_transition_time: Some(Time(now())),
            ..NodeCondition::default()
        }]),
        ..NodeStatus::default()
    });
    let patch = Patch::Merge(json!({"status": serde_json::to_value(&node.status).expect("a status encodes")}));
    client.patch::<Node>("", name, &patch, &PatchParams::status()).await.expect("a node says how it is");
}

async fn renew(client: &Client, name: &str) {
    let spec = LeaseSpec {
        holder_identity: Some(name.to_owned()),
        lease_duration_seconds: Some(40),
        renew_time: Some(MicroTime(now())),
        ..LeaseSpec::default()
    };
    let patch = Patch::Merge(json!({"spec": spec}));
    let renewed = client.patch::<Lease>(LEASES, name, &patch, &PatchParams::default()).await;
    if renewed.is_err_and(|e| e.is_not_found()) {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(name.to_owned()), namespace: Some(LEASES.into()), ..ObjectMeta::default() },
            spec: Some(spec),
        };
        client.create(&lease).await.expect("a lease is made");
    }
}

async fn sync(client: &Client, pod: &Pod, subnet: u8, next_address: &mut u8) {
    let (namespace, name) = (pod.namespace(), pod.name());
    if pod.metadata.deletion_timestamp.is_some() {
        // Gone already, or another by that name: both are fine.
        let _ = client.delete::<Pod>(namespace, name, &DeleteParams::uid(pod.uid()).grace(0)).await;
        return;
    }
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let broken = pod.spec.iter().flat_map(|s| &s.containers).any(|c| c.image.as_ref().is_some_and(|i| i.contains(BROKEN)));
    if matches!(phase, Some("Running" | "Succeeded" | "Failed")) || broken {
        return;
    }
    let image = pod.spec.iter().flat_map(|s| &s.containers).find_map(|c| c.image.as_deref());
    if let Some(end) = image.and_then(|i| [(DONE, "Succeeded"), (FAILS, "Failed")].into_iter().find(|(name, _)| *name == i)) {
        let patch = Patch::Strategic(json!({"status": {"phase": end.1, "startTime": Time(now())}}));
        let _ = client.patch::<Pod>(namespace, name, &patch, &PatchParams::status()).await;
        return;
    }
    let ip = format!("10.244.{subnet}.{next_address}");
    *next_address = next_address.wrapping_add(1).max(1);
    let patch = Patch::Strategic(json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": Time(now()),
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": Time(now())}],
    }}));
    let _ = client.patch::<Pod>(namespace, name, &patch, &PatchParams::status()).await;
}
