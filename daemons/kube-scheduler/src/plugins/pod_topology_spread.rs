//! PodTopologySpread: pods of a workload over the domains of a topology key.

use std::sync::Arc;

use machinery::selector::LabelSelector;

use crate::bits::Bits;
use crate::counts::PodQuery;
use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, SCORE_MAX, Scores, Verdicts};
use crate::nodes::Row;
use crate::plugins::taint_toleration::{repels, tolerates};
use crate::pod::PodInfo;
use crate::spread::{HOSTNAME, SpreadConstraint};
use crate::world::WorkloadKind;

#[derive(Debug)]
pub(crate) struct PodTopologySpread;

impl PodTopologySpread {
    const NAME: &'static str = "PodTopologySpread";
}

/// Rows that count for a constraint: those the pod could go to, as far as the constraint honours that.
fn counted_rows(cycle: &Cycle<'_>, constraint: &SpreadConstraint) -> Bits {
    let mut rows = cycle.nodes.live().clone();
    let affinity = &cycle.pod.wants.node_affinity;
    if constraint.honor_affinity && (!affinity.selector.is_empty() || affinity.required.is_some()) {
        rows = rows.iter().filter(|row| affinity.allows(cycle.nodes.name(*row), cycle.nodes.labels(*row))).collect();
    }
    if constraint.honor_taints {
        for (taint, tainted) in cycle.nodes.taints() {
            if repels(taint) && !tolerates(&cycle.pod.wants.tolerations, taint) {
                rows.subtract(tainted);
            }
        }
    }
    rows
}

fn matching(cycle: &Cycle<'_>, constraint: &SpreadConstraint) -> Arc<Vec<u32>> {
    cycle.nodes.count(&PodQuery::in_namespace(&cycle.pod.key.namespace, &constraint.selectors))
}

fn at(counts: &[u32], row: Row) -> i64 {
    counts.get(row).copied().unwrap_or(0).into()
}

/// Services and the controller that stand for the pod: the selector of the default constraints.
fn workload_selectors(cycle: &Cycle<'_>) -> Vec<LabelSelector> {
    let mut workloads: Vec<_> = cycle.world.workloads_of(cycle.pod).collect();
    workloads.sort_by_key(|w| w.kind != WorkloadKind::Service);
    workloads.into_iter().map(|w| w.selector.clone()).collect()
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        let hard: Vec<_> = cycle.pod.wants.spread.iter().filter(|c| c.hard).collect();
        if hard.is_empty() {
            return;
        }
        // A node that lacks one of the keys is in no domain at all.
        let mut keyed = cycle.nodes.live().clone();
        hard.iter().for_each(|c| keyed.intersect(&cycle.nodes.rows_with_key(&c.topology_key)));

        for constraint in hard {
            let key = &constraint.topology_key;
            let with_key = cycle.nodes.rows_with_key(key);
            verdicts.keep_only(
                &with_key,
                self.name(),
                Cure::None,
                "node(s) didn't match pod topology spread constraints (missing required label)",
            );
            let mut counted = counted_rows(cycle, constraint);
            counted.intersect(&keyed);
            let counts = matching(cycle, constraint);
            let domains = cycle.nodes.domains(key);
            let mut sums: Vec<Option<i64>> = domains.each(None);
            for row in counted.iter() {
                if let Some(domain) = domains.of(row) {
                    *sums[domain].get_or_insert(0) += at(&counts, row);
                }
            }
            let known = sums.iter().flatten().count() as i64;
            let least = match sums.iter().flatten().min() {
                _ if known < constraint.min_domains => 0,
                Some(least) => *least,
                None => i64::from(i32::MAX),
            };
            let itself = i64::from(constraint.counts(&cycle.pod.wants.labels));
            // Domains without a counted node hold nothing.
            let full = |count: Option<i64>| count.unwrap_or(0) + itself - least > constraint.max_skew;
            let full: Vec<bool> = sums.iter().map(|sum| full(*sum)).collect();
            let rejected: Bits =
                verdicts.feasible().iter().filter(|row| domains.of(*row).is_some_and(|domain| full[domain])).collect();
            verdicts.reject_all(&rejected, self.name(), Cure::Preemption, "node(s) didn't match pod topology spread constraints");
        }
    }

    fn score(&self, cycle: &Cycle<'_>, feasible: &[Row]) -> Option<Scores> {
        let defaults;
        let (soft, own): (Vec<&SpreadConstraint>, bool) = if cycle.pod.wants.spread.is_empty() {
            let selectors = workload_selectors(cycle);
            if selectors.is_empty() {
                return None;
            }
            defaults = SpreadConstraint::system_defaults(&selectors);
            (defaults.iter().collect(), false)
        } else {
            (cycle.pod.wants.spread.iter().filter(|c| !c.hard).collect(), true)
        };
        if soft.is_empty() {
            return None;
        }
        // The pod's own constraints ask for all their keys; the defaults make do with what nodes have.
        let mut keyed = cycle.nodes.live().clone();
        if own {
            soft.iter().for_each(|c| keyed.intersect(&cycle.nodes.rows_with_key(&c.topology_key)));
        }
        let scored = |row: &Row| keyed.contains(*row);
        let candidates = feasible.iter().filter(|r| scored(r)).count();

        let mut sums = vec![0.0_f64; feasible.len()];
        for constraint in &soft {
            let key = &constraint.topology_key;
            let counts = matching(cycle, constraint);
            let weight = |domains: usize| ((domains + 2) as f64).ln();
            let cost = |count: i64, weight: f64| count as f64 * weight + (constraint.max_skew - 1) as f64;
            if key == HOSTNAME {
                let weight = weight(candidates);
                let named = cycle.nodes.rows_with_key(key);
                for (sum, row) in sums.iter_mut().zip(feasible).filter(|(_, row)| scored(row)) {
                    if named.contains(*row) {
                        *sum += cost(at(&counts, *row), weight);
                    }
                }
                continue;
            }
            // Only domains that a candidate is in matter; nodes without the key are together in one more.
            let domains = cycle.nodes.domains(key);
            let mut pods: Vec<Option<i64>> = domains.each(None);
            let mut without_key = 0;
            for row in feasible.iter().filter(|r| scored(r)) {
                match domains.of(*row) {
                    Some(domain) => pods[domain] = Some(0),
                    None => without_key = 1,
                }
            }
            let candidates = pods.iter().flatten().count();
            if candidates == 0 {
                continue;
            }
            let weight = weight(candidates + without_key);
            let mut counted = counted_rows(cycle, constraint);
            counted.intersect(&keyed);
            for row in counted.iter() {
                if let Some(count) = domains.of(row).and_then(|domain| pods[domain].as_mut()) {
                    *count += at(&counts, row);
                }
            }
            for (sum, row) in sums.iter_mut().zip(feasible).filter(|(_, row)| scored(row)) {
                if let Some(count) = domains.of(*row).and_then(|domain| pods[domain]) {
                    *sum += cost(count, weight);
                }
            }
        }

        let sums: Vec<i64> = sums.into_iter().map(|s| s.round() as i64).collect();
        let of_scored = || sums.iter().zip(feasible).filter(|(_, row)| scored(row)).map(|(sum, _)| *sum);
        let (least, most) = (of_scored().min().unwrap_or(0), of_scored().max().unwrap_or(0));
        let normal = |(sum, row): (&i64, &Row)| match most {
            _ if !scored(row) => 0,
            0 => SCORE_MAX,
            _ => SCORE_MAX * (most + least - sum) / most,
        };
        Some(sums.iter().zip(feasible).map(normal).collect())
    }

    fn wakes(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        let spreads = |other: &PodInfo| {
            other.key.namespace == pod.key.namespace && pod.wants.spread.iter().any(|c| c.counts(&other.wants.labels))
        };
        match event {
            ClusterEvent::PodPlaced(other) | ClusterEvent::PodGone(other) => spreads(other),
            ClusterEvent::PodRelabelled(_) | ClusterEvent::NodeRemoved => true,
            ClusterEvent::Node { delta, .. } => delta.added || delta.labels || delta.taints,
            _ => false,
        }
    }
}
