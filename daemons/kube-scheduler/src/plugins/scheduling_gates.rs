//! SchedulingGates: a pod waits until whoever set its gates takes them away.

use crate::event::ClusterEvent;
use crate::framework::Plugin;
use crate::pod::PodInfo;

#[derive(Debug)]
pub(crate) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Option<String> {
        (!pod.wants.gates.is_empty()).then(|| format!("waiting for scheduling gates: [{}]", pod.wants.gates.join(" ")))
    }

    fn wakes(&self, _event: &ClusterEvent, _pod: &PodInfo) -> bool {
        false
    }
}
