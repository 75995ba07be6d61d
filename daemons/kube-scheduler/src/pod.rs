//! [`PodInfo`]: what the scheduler keeps of a pod, read once when the pod changes.

use std::collections::BTreeMap;
use std::fmt;

use api::Kind;
use api::core::{ContainerPort, Pod, Toleration};
use jiff::Timestamp;

use crate::affinity::{NodeAffinity, PodAffinities};
use crate::resources::{Request, request_of};
use crate::spread::SpreadConstraint;

/// A pod's namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A port taken on the node's own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    const ANY: &'static str = "0.0.0.0";

    fn of(port: &ContainerPort) -> Option<Self> {
        let number = port.host_port.filter(|p| *p > 0)?;
        Some(Self {
            ip: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| Self::ANY.to_owned()),
            protocol: port.protocol.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "TCP".to_owned()),
            port: number,
        })
    }

    /// Both cannot be open on one node: the same port, on one address or on all of them.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == Self::ANY || other.ip == Self::ANY)
    }
}

/// The pod's controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// Everything a placement depends on. When this is unchanged, an update of the pod cannot make it schedulable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wants {
    pub labels: BTreeMap<String, String>,
    pub priority: i32,
    pub scheduler_name: String,
    pub request: Request,
    pub host_ports: Vec<HostPort>,
    pub tolerations: Vec<Toleration>,
    pub node_affinity: NodeAffinity,
    pub affinity: Option<Box<PodAffinities>>,
    pub spread: Vec<SpreadConstraint>,
    pub gates: Vec<String>,
    /// Normalised image names: containers, init containers and image volumes.
    pub images: Vec<String>,
    pub container_count: usize,
    /// PersistentVolumeClaims of the pod's namespace, by name.
    pub claims: Vec<String>,
    /// `preemptionPolicy` is not `Never`.
    pub may_preempt: bool,
    pub controller: Option<Controller>,
    pub deleting: bool,
}

/// What the status says; it changes without any effect on placement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    /// `Succeeded` or `Failed`: holds nothing any more.
    pub finished: bool,
    pub nominated_node: String,
    pub started: Option<Timestamp>,
    /// Marked by a scheduler as making room for another pod.
    pub preempted: bool,
    /// Conditions, as (status, reason, message), of `PodScheduled`.
    pub scheduled_condition: Option<(String, String, String)>,
    pub generation: i64,
}

/// A pod, as the scheduler sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodInfo {
    pub key: PodKey,
    pub uid: String,
    pub node: String,
    pub created: Option<Timestamp>,
    pub wants: Wants,
    pub state: PodState,
}

impl PodInfo {
    pub fn of(pod: &Pod) -> Self {
        let empty = api::core::PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let meta = pod.meta();
        let status = pod.status.as_ref();
        let condition = |kind: &str| status.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == kind));
        let namespace = pod.namespace().to_owned();
        let labels = meta.labels.clone().unwrap_or_default();
        let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let volumes = || spec.volumes.iter().flatten();
        let host_ports = containers()
            // An init container that ends before the others start holds its ports only while it runs.
            .filter(|c| spec.containers.iter().any(|own| std::ptr::eq(*c, own)) || c.restart_policy.as_deref() == Some("Always"))
            .flat_map(|c| c.ports.iter().flatten())
            .filter_map(HostPort::of)
            .collect();
        Self {
            uid: pod.uid().to_owned(),
            node: spec.node_name.clone().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|t| t.0),
            wants: Wants {
                priority: spec.priority.unwrap_or(0),
                scheduler_name: spec.scheduler_name.clone().unwrap_or_else(|| "default-scheduler".to_owned()),
                request: request_of(pod),
                host_ports,
                tolerations: spec.tolerations.clone().unwrap_or_default(),
                node_affinity: NodeAffinity::of(spec),
                affinity: PodAffinities::of(spec, &namespace).map(Box::new),
                spread: spec.topology_spread_constraints.iter().flatten().map(|c| SpreadConstraint::of(c, &labels)).collect(),
                gates: spec.scheduling_gates.iter().flatten().map(|g| g.name.clone()).collect(),
                images: containers()
                    .filter_map(|c| c.image.as_deref())
                    .chain(volumes().filter_map(|v| v.image.as_ref()?.reference.as_deref()))
                    .map(normalized_image)
                    .collect(),
                container_count: containers().count(),
                claims: volumes()
                    .filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
                        (Some(claim), _) => Some(claim.claim_name.clone()),
                        (None, Some(_)) => Some(format!("{}-{}", pod.name(), v.name)),
                        _ => None,
                    })
                    .collect(),
                may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
                controller: meta.owner_references.iter().flatten().find(|o| o.controller == Some(true)).map(|o| Controller {
                    kind: o.kind.clone(),
                    name: o.name.clone(),
                    uid: o.uid.clone(),
                }),
                deleting: meta.deletion_timestamp.is_some(),
                labels,
            },
            state: PodState {
                finished: matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")),
                nominated_node: status.and_then(|s| s.nominated_node_name.clone()).unwrap_or_default(),
                started: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
                preempted: condition("DisruptionTarget")
                    .is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some("PreemptionByScheduler")),
                scheduled_condition: condition("PodScheduled")
                    .map(|c| (c.status.clone(), c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default())),
                generation: meta.generation.unwrap_or(0),
            },
            key: PodKey { name: pod.name().to_owned(), namespace },
        }
    }

    /// Needs nothing: scored so that such pods do not pile up on one node.
    pub fn is_best_effort(&self) -> bool {
        self.wants.request.exact.milli_cpu == 0 && self.wants.request.exact.memory == 0
    }
}

/// An image name as node status has it: with a tag.
pub fn normalized_image(name: &str) -> String {
    let tagged = name.rfind(':') > name.rfind('/');
    if tagged { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_get_a_tag() {
        for (given, expected) in [
            ("nginx", "nginx:latest"),
            ("nginx:1", "nginx:1"),
            ("host:5000/nginx", "host:5000/nginx:latest"),
            ("a/b@sha256:00", "a/b@sha256:00"),
        ] {
            assert_eq!(normalized_image(given), expected);
        }
    }

    #[test]
    fn host_ports_conflict_through_the_any_address() {
        let port = |ip: &str| HostPort { ip: ip.into(), protocol: "TCP".into(), port: 80 };
        assert!(port("0.0.0.0").conflicts_with(&port("127.0.0.1")));
        assert!(!port("10.0.0.1").conflicts_with(&port("127.0.0.1")));
        assert!(!port("0.0.0.0").conflicts_with(&HostPort { protocol: "UDP".into(), ..port("0.0.0.0") }));
    }

    #[test]
    fn a_status_update_leaves_the_wants_alone() {
        let mut pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "namespace": "b", "labels": {"x": "y"}},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": 80}]}]},
        }))
        .unwrap();
        let before = PodInfo::of(&pod);
        assert_eq!(before.wants.host_ports.len(), 1);
        pod.status = Some(
            serde_json::from_value(serde_json::json!({"phase": "Pending", "conditions":
            [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m"}]}))
            .unwrap(),
        );
        let after = PodInfo::of(&pod);
        assert_eq!(before.wants, after.wants);
        assert_ne!(before.state, after.state);
    }
}
