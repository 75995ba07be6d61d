//! NodePorts: a host port can be open once per node and address.

use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, Verdicts};
use crate::pod::PodInfo;

#[derive(Debug)]
pub(crate) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        let wanted = &cycle.pod.wants.host_ports;
        for port in wanted {
            for row in cycle.nodes.rows_with_port(&port.protocol, port.port) {
                let taken = || cycle.nodes.pods(*row).iter().flat_map(|p| &p.wants.host_ports).any(|p| p.conflicts_with(port));
                if verdicts.feasible().contains(*row) && taken() {
                    verdicts.reject(
                        *row,
                        self.name(),
                        Cure::Preemption,
                        "node(s) didn't have free ports for the requested pod ports",
                    );
                }
            }
        }
    }

    fn wakes(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::PodGone(gone) => {
                gone.wants.host_ports.iter().any(|p| pod.wants.host_ports.iter().any(|q| p.conflicts_with(q)))
            }
            ClusterEvent::Node { delta, .. } => delta.added,
            _ => false,
        }
    }
}
