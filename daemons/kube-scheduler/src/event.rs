//! What can happen in the cluster that lets a waiting pod fit.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::nodes::NodeDelta;
use crate::pod::PodInfo;

/// A change, in the terms in which plugins wait.
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    /// A node came, or changed as described. Its labels are those after the change.
    Node {
        name: String,
        delta: NodeDelta,
        labels: BTreeMap<String, String>,
    },
    NodeRemoved,
    /// A pod now sits on a node.
    PodPlaced(Arc<PodInfo>),
    /// A placed pod's labels changed.
    PodRelabelled(Arc<PodInfo>),
    /// A placed pod asks for less than before.
    PodShrunk(Arc<PodInfo>),
    /// A pod left its node (or finished there).
    PodGone(Arc<PodInfo>),
    /// A claim, volume, class or CSI node changed.
    Storage,
    Namespace,
    /// Time alone: the pod has waited so long that a missed event is likelier than a reason.
    Waited,
}
