//! NodeAffinity: `nodeSelector` and node affinity, hard and soft.

use crate::bits::Bits;
use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, PreFilter, Scores, Verdicts, normalize};
use crate::nodes::Row;
use crate::pod::PodInfo;

#[derive(Debug)]
pub(crate) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> PreFilter {
        match cycle.pod.wants.node_affinity.named_nodes() {
            None => PreFilter::All,
            Some(names) if names.is_empty() => PreFilter::None("pod affinity terms conflict".into()),
            Some(names) => PreFilter::Only(names.into_iter().map(str::to_owned).collect()),
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        let affinity = &cycle.pod.wants.node_affinity;
        if affinity.selector.is_empty() && affinity.required.is_none() {
            return;
        }
        let mut rows = cycle.nodes.select(&affinity.selector);
        if let Some(terms) = &affinity.required {
            let mut any = Bits::default();
            terms.iter().for_each(|term| any.union(&cycle.nodes.select_term(term)));
            rows.intersect(&any);
        }
        verdicts.keep_only(&rows, self.name(), Cure::None, "node(s) didn't match Pod's node affinity/selector");
    }

    fn score(&self, cycle: &Cycle<'_>, feasible: &[Row]) -> Option<Scores> {
        let preferred = &cycle.pod.wants.node_affinity.preferred;
        if preferred.is_empty() {
            return None;
        }
        let mut scores = vec![0; feasible.len()];
        for (weight, term) in preferred {
            let rows = cycle.nodes.select_term(term);
            for (score, row) in scores.iter_mut().zip(feasible) {
                *score += if rows.contains(*row) { i64::from(*weight) } else { 0 };
            }
        }
        normalize(&mut scores, false);
        Some(scores)
    }

    fn wakes(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        matches!(event, ClusterEvent::Node { name, delta, labels }
            if (delta.added || delta.labels) && pod.wants.node_affinity.allows(name, labels))
    }
}
