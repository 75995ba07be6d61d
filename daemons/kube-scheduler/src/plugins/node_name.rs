//! NodeName: a pod that already names its node goes nowhere else.

use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, Verdicts};
use crate::pod::PodInfo;

#[derive(Debug)]
pub(crate) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        if !cycle.pod.node.is_empty() {
            let only = cycle.nodes.row(&cycle.pod.node).into_iter().collect();
            verdicts.keep_only(&only, self.name(), Cure::None, "node(s) didn't match the requested node name");
        }
    }

    fn wakes(&self, event: &ClusterEvent, _pod: &PodInfo) -> bool {
        matches!(event, ClusterEvent::Node { delta, .. } if delta.added)
    }
}
