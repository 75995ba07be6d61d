//! VolumeBinding: a pod goes where its claims' volumes can be used.
//!
//! Bound claims restrict the node. A claim of a class that waits for its first consumer lets the pod choose; the choice is then
//! written onto the claim (`volume.kubernetes.io/selected-node`) by the binding cycle, which waits for the volume.

use crate::bits::Bits;
use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, PreFilter, Verdicts};
use crate::pod::PodInfo;

#[derive(Debug)]
pub(crate) struct VolumeBinding;

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> PreFilter {
        for name in &cycle.pod.wants.claims {
            let Some(claim) = cycle.world.claim(&cycle.pod.key.namespace, name) else {
                return PreFilter::None(format!("persistentvolumeclaim \"{name}\" not found"));
            };
            if claim.deleting {
                return PreFilter::None(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            if !claim.bound && !cycle.world.class_waits(&claim.class) {
                return PreFilter::None("pod has unbound immediate PersistentVolumeClaims".into());
            }
        }
        PreFilter::All
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        for name in &cycle.pod.wants.claims {
            let Some(claim) = cycle.world.claim(&cycle.pod.key.namespace, name) else { continue };
            if !claim.bound {
                if !claim.selected_node.is_empty() {
                    let chosen = cycle.nodes.row(&claim.selected_node).into_iter().collect();
                    verdicts.keep_only(
                        &chosen,
                        self.name(),
                        Cure::None,
                        "node(s) didn't find available persistent volumes to bind",
                    );
                }
                continue;
            }
            match cycle.world.volume(&claim.volume) {
                None => {
                    verdicts.keep_only(
                        &Bits::default(),
                        self.name(),
                        Cure::None,
                        "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
                    );
                }
                Some(volume) => {
                    if let Some(terms) = &volume.nodes {
                        let mut rows = Bits::default();
                        terms.iter().for_each(|term| rows.union(&cycle.nodes.select_term(term)));
                        verdicts.keep_only(
                            &rows,
                            self.name(),
                            Cure::None,
                            "node(s) didn't match PersistentVolume's node affinity",
                        );
                    }
                }
            }
        }
    }

    fn wakes(&self, event: &ClusterEvent, _pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::Storage => true,
            ClusterEvent::Node { delta, .. } => delta.added || delta.labels,
            _ => false,
        }
    }
}
