//! InterPodAffinity: near some pods, away from others; and what pods already placed ask of the newcomer.

use std::collections::BTreeSet;

use crate::affinity::PodTerm;
use crate::bits::Bits;
use crate::counts::{NO_LABELS, PodQuery};
use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, SCORE_MAX, Scores, Verdicts};
use crate::nodes::{Domains, Row};
use crate::pod::PodInfo;

#[derive(Debug)]
pub struct InterPodAffinity {
    /// What a placed pod's hard affinity to the newcomer is worth in score.
    pub hard_affinity_weight: i64,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        Self { hard_affinity_weight: 1 }
    }
}

/// Sums over the domains of each topology key that somebody asked about.
struct Sums<'a> {
    cycle: &'a Cycle<'a>,
    keys: Vec<(&'a str, Domains, Vec<i64>)>,
}

impl<'a> Sums<'a> {
    fn new(cycle: &'a Cycle<'a>) -> Self {
        Self { cycle, keys: Vec::new() }
    }

    /// The sums of a key; few keys are ever in use.
    fn key(&mut self, key: &'a str) -> usize {
        if let Some(at) = self.keys.iter().position(|(k, ..)| *k == key) {
            return at;
        }
        let domains = self.cycle.nodes.domains(key);
        let sums = domains.each(0);
        self.keys.push((key, domains, sums));
        self.keys.len() - 1
    }

    fn add(&mut self, key: &'a str, row: Row, amount: i64) {
        let at = self.key(key);
        let (_, domains, sums) = &mut self.keys[at];
        if let Some(domain) = domains.of(row) {
            sums[domain] += amount;
        }
    }

    /// Adds the pods that match the query, wherever they are.
    fn add_matching(&mut self, key: &'a str, query: &PodQuery, weight: i64) {
        let at = self.key(key);
        let (_, domains, sums) = &mut self.keys[at];
        for (row, count) in self.cycle.nodes.count(query).iter().enumerate().filter(|(_, count)| **count > 0) {
            if let Some(domain) = domains.of(row) {
                sums[domain] += weight * i64::from(*count);
            }
        }
    }

    /// The sum of the row's domain of this key; `None` where it has none.
    fn at(&self, key: &str, row: Row) -> Option<i64> {
        let (_, domains, sums) = self.keys.iter().find(|(k, ..)| *k == key)?;
        Some(sums[domains.of(row)?])
    }

    /// Over all keys.
    fn total(&self, row: Row) -> i64 {
        self.keys.iter().filter_map(|(_, domains, sums)| Some(sums[domains.of(row)?])).sum()
    }

    fn is_zero(&self) -> bool {
        self.keys.iter().all(|(.., sums)| sums.iter().all(|s| *s == 0))
    }

    /// Feasible rows in a domain with a sum, of any key.
    fn rows(&self, feasible: &Bits) -> Bits {
        let marked = |row: &Row| self.keys.iter().any(|(_, domains, sums)| domains.of(*row).is_some_and(|d| sums[d] > 0));
        if self.is_zero() { Bits::default() } else { feasible.iter().filter(marked).collect() }
    }
}

impl InterPodAffinity {
    const NAME: &'static str = "InterPodAffinity";

    fn query<'t>(cycle: &Cycle<'_>, terms: impl IntoIterator<Item = &'t PodTerm>) -> PodQuery {
        PodQuery::of_terms(terms, |selector| cycle.world.namespaces(selector))
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        if let Some(affinity) = &cycle.pod.wants.affinity {
            if !affinity.required.is_empty() {
                let query = Self::query(cycle, &affinity.required);
                let mut near = Sums::new(cycle);
                let keys: BTreeSet<&str> = affinity.required.iter().map(|t| t.topology_key.as_str()).collect();
                keys.iter().for_each(|key| near.add_matching(key, &query, 1));
                // The first pod of a group that wants to be together has nobody to join but itself.
                let first = near.is_zero() && query.matches(cycle.pod);
                let joins = |row: Row| keys.iter().all(|key| near.at(key, row).is_some_and(|pods| first || pods > 0));
                let keep: Bits = verdicts.feasible().iter().filter(|row| joins(*row)).collect();
                verdicts.keep_only(&keep, self.name(), Cure::None, "node(s) didn't match pod affinity rules");
            }
            let mut far = Sums::new(cycle);
            for term in &affinity.required_anti {
                far.add_matching(&term.topology_key, &Self::query(cycle, [term]), 1);
            }
            let rejected = far.rows(verdicts.feasible());
            verdicts.reject_all(&rejected, self.name(), Cure::Preemption, "node(s) didn't match pod anti-affinity rules");
        }

        let namespace_labels = cycle.namespace_labels();
        let mut forbidden = Sums::new(cycle);
        for (row, placed) in cycle.nodes.affine_pods() {
            for term in placed.wants.affinity.iter().flat_map(|a| &a.required_anti) {
                if term.matches(cycle.pod, namespace_labels) {
                    forbidden.add(&term.topology_key, row, 1);
                }
            }
        }
        let rejected = forbidden.rows(verdicts.feasible());
        let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
        verdicts.reject_all(&rejected, self.name(), Cure::Preemption, reason);
    }

    fn score(&self, cycle: &Cycle<'_>, feasible: &[Row]) -> Option<Scores> {
        let mut sums = Sums::new(cycle);
        if let Some(affinity) = &cycle.pod.wants.affinity {
            let terms = affinity.preferred.iter().map(|(w, t)| (i64::from(*w), t));
            let anti = affinity.preferred_anti.iter().map(|(w, t)| (-i64::from(*w), t));
            for (weight, term) in terms.chain(anti) {
                sums.add_matching(&term.topology_key, &Self::query(cycle, [term]), weight);
            }
        }
        let namespace_labels = cycle.namespace_labels();
        for (row, placed) in cycle.nodes.affine_pods() {
            let Some(affinity) = &placed.wants.affinity else { continue };
            let hard = affinity.required.iter().map(|t| (self.hard_affinity_weight, t));
            let near = affinity.preferred.iter().map(|(w, t)| (i64::from(*w), t));
            let far = affinity.preferred_anti.iter().map(|(w, t)| (-i64::from(*w), t));
            for (weight, term) in hard.chain(near).chain(far) {
                if term.matches(cycle.pod, namespace_labels) {
                    sums.add(&term.topology_key, row, weight);
                }
            }
        }
        if sums.is_zero() {
            return None;
        }
        let totals: Vec<i64> = feasible.iter().map(|row| sums.total(*row)).collect();
        let (least, most) = (totals.iter().min().copied().unwrap_or(0), totals.iter().max().copied().unwrap_or(0));
        let normal = |sum: &i64| match most - least {
            0 => 0,
            range => (SCORE_MAX as f64 * ((sum - least) as f64 / range as f64)) as i64,
        };
        Some(totals.iter().map(normal).collect())
    }

    fn wakes(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::PodPlaced(other) => pod
                .wants
                .affinity
                .as_ref()
                .is_some_and(|a| a.required.iter().any(|t| t.namespace_selector.is_some() || t.matches(other, &NO_LABELS))),
            ClusterEvent::PodGone(_) | ClusterEvent::PodRelabelled(_) | ClusterEvent::Namespace => true,
            ClusterEvent::Node { delta, .. } => delta.added || delta.labels,
            _ => false,
        }
    }
}
