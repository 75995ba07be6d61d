//! NodeUnschedulable: cordoned nodes take only pods that tolerate the cordon's taint.

use api::core::Taint;

use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, Verdicts};
use crate::plugins::tolerates;
use crate::pod::PodInfo;

#[derive(Debug)]
pub(crate) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        if cycle.nodes.unschedulable.is_empty() {
            return;
        }
        let cordon = Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Default::default() };
        if !tolerates(&cycle.pod.wants.tolerations, &cordon) {
            verdicts.reject_all(&cycle.nodes.unschedulable, self.name(), Cure::None, "node(s) were unschedulable");
        }
    }

    fn wakes(&self, event: &ClusterEvent, _pod: &PodInfo) -> bool {
        matches!(event, ClusterEvent::Node { delta, .. } if delta.added || delta.taints)
    }
}
