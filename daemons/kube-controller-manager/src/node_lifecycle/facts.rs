//! What of a node matters to its life cycle, kept so that a look at all nodes decodes none of them.

use std::collections::BTreeMap;

use api::Kind;
use api::core::{Node, Taint};
use api::jiff::Timestamp;

use crate::node;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: u64,
    pub(super) created: Timestamp,
    /// Status by type: `True`, `False`, `Unknown`.
    pub(super) conditions: BTreeMap<String, String>,
    /// When the kubelet last wrote the Ready condition.
    pub(super) heartbeat: Option<Timestamp>,
    pub(super) zone: String,
    pub(super) unschedulable: bool,
    pub(super) taints: Vec<Taint>,
}

impl Facts {
    pub(super) fn of(node: &Node) -> Self {
        let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
        let label = |key: &str| node.metadata.labels.as_ref().and_then(|l| l.get(key)).map_or("", String::as_str);
        Self {
            name: node.name().to_owned(),
            uid: node.uid().to_owned(),
            resource_version: node.resource_version(),
            created: node.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            conditions: conditions.map(|c| (c.type_.clone(), c.status.clone())).collect(),
            heartbeat: node::condition(node, "Ready").and_then(|c| c.last_heartbeat_time.as_ref()).map(|t| t.0),
            zone: format!("{}:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone")),
            unschedulable: node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true)),
            taints: node::taints(node).to_vec(),
        }
    }

    pub(super) fn condition(&self, kind: &str) -> Option<&str> {
        self.conditions.get(kind).map(String::as_str)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.condition("Ready") == Some("True")
    }
}
