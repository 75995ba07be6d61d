//! The built-in plugins, under upstream's names, and which of them run by default.

mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod pod_topology_spread;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;

use crate::framework::Plugin;

pub use inter_pod_affinity::InterPodAffinity;
pub use node_resources::{FitStrategy, NodeResourcesFit};
pub use taint_toleration::tolerates;

/// The name under which preemption is switched off in a profile.
pub const DEFAULT_PREEMPTION: &str = "DefaultPreemption";

/// Default plugins in upstream's order, with their weights; a weight of 0 means it does not score.
pub fn defaults() -> Vec<(Box<dyn Plugin>, i64)> {
    vec![
        (Box::new(scheduling_gates::SchedulingGates), 0),
        (Box::new(node_unschedulable::NodeUnschedulable), 0),
        (Box::new(node_name::NodeName), 0),
        (Box::new(taint_toleration::TaintToleration), 3),
        (Box::new(node_affinity::NodeAffinity), 2),
        (Box::new(node_ports::NodePorts), 0),
        (Box::new(node_resources::NodeResourcesFit::default()), 1),
        (Box::new(volume_binding::VolumeBinding), 0),
        (Box::new(pod_topology_spread::PodTopologySpread), 2),
        (Box::new(inter_pod_affinity::InterPodAffinity::default()), 2),
        (Box::new(node_resources::BalancedAllocation), 1),
        (Box::new(image_locality::ImageLocality), 1),
    ]
}

/// Names that upstream's configuration may mention and that are built in here or have nothing to switch.
pub fn is_known(name: &str) -> bool {
    const OTHERS: &[&str] = &[
        DEFAULT_PREEMPTION,
        "PrioritySort",
        "DefaultBinder",
        "VolumeRestrictions",
        "NodeVolumeLimits",
        "VolumeZone",
        "DynamicResources",
        "NodeDeclaredFeatures",
        "GangScheduling",
    ];
    OTHERS.contains(&name) || defaults().iter().any(|(plugin, _)| plugin.name() == name)
}
