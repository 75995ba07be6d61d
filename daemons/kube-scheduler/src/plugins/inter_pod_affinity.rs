//! InterPodAffinity: near some pods, away from others; and what pods already placed ask of the newcomer.

use std::collections::BTreeMap;

use crate::affinity::PodTerm;
use crate::bits::Bits;
use crate::counts::{NO_LABELS, PodQuery};
use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, SCORE_MAX, Scores, Verdicts};
use crate::nodes::Row;
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

/// Sums per (topology key, domain).
type Domains<'a> = BTreeMap<(&'a str, &'a str), i64>;

impl InterPodAffinity {
    const NAME: &'static str = "InterPodAffinity";

    fn query<'t>(cycle: &Cycle<'_>, terms: impl IntoIterator<Item = &'t PodTerm>) -> PodQuery {
        PodQuery::of_terms(terms, |selector| cycle.world.namespaces(selector))
    }

    /// Pods matching the query, added up per domain of the key.
    fn per_domain<'a>(cycle: &'a Cycle<'_>, query: &PodQuery, key: &'a str, weight: i64, into: &mut Domains<'a>) {
        for (row, count) in cycle.nodes.count(query).iter().enumerate().filter(|(_, count)| **count > 0) {
            if let Some(domain) = cycle.nodes.labels(row).get(key) {
                *into.entry((key, domain)).or_default() += weight * i64::from(*count);
            }
        }
    }
}

fn in_domain(cycle: &Cycle<'_>, domains: &Domains<'_>, row: Row, key: &str) -> i64 {
    let domain = cycle.nodes.labels(row).get(key);
    domain.and_then(|d| domains.get(&(key, d.as_str()))).copied().unwrap_or(0)
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        if let Some(affinity) = &cycle.pod.wants.affinity {
            if !affinity.required.is_empty() {
                let query = Self::query(cycle, &affinity.required);
                let mut near = Domains::new();
                affinity.required.iter().for_each(|t| Self::per_domain(cycle, &query, &t.topology_key, 1, &mut near));
                // The first pod of a group that wants to be together has nobody to join but itself.
                let first = near.is_empty() && query.matches(cycle.pod);
                let keep: Bits = verdicts
                    .feasible()
                    .iter()
                    .filter(|row| {
                        affinity.required.iter().all(|t| {
                            cycle.nodes.labels(*row).contains_key(&t.topology_key)
                                && (first || in_domain(cycle, &near, *row, &t.topology_key) > 0)
                        })
                    })
                    .collect();
                verdicts.keep_only(&keep, self.name(), Cure::None, "node(s) didn't match pod affinity rules");
            }
            for term in &affinity.required_anti {
                let mut far = Domains::new();
                Self::per_domain(cycle, &Self::query(cycle, [term]), &term.topology_key, 1, &mut far);
                let rejected: Bits =
                    verdicts.feasible().iter().filter(|row| in_domain(cycle, &far, *row, &term.topology_key) > 0).collect();
                verdicts.reject_all(&rejected, self.name(), Cure::Preemption, "node(s) didn't match pod anti-affinity rules");
            }
        }

        let namespace_labels = cycle.namespace_labels();
        let mut forbidden: BTreeMap<(&str, &str), ()> = BTreeMap::new();
        for (row, placed) in cycle.nodes.affine_pods() {
            for term in placed.wants.affinity.iter().flat_map(|a| &a.required_anti) {
                if let Some(domain) = cycle.nodes.labels(row).get(&term.topology_key)
                    && term.matches(cycle.pod, namespace_labels)
                {
                    forbidden.insert((&term.topology_key, domain), ());
                }
            }
        }
        for (key, domain) in forbidden.keys() {
            let rejected = cycle.nodes.select(&BTreeMap::from([((*key).to_owned(), (*domain).to_owned())]));
            verdicts.reject_all(
                &rejected,
                self.name(),
                Cure::Preemption,
                "node(s) didn't satisfy existing pods anti-affinity rules",
            );
        }
    }

    fn score(&self, cycle: &Cycle<'_>, feasible: &[Row]) -> Option<Scores> {
        let mut domains = Domains::new();
        if let Some(affinity) = &cycle.pod.wants.affinity {
            let terms = affinity.preferred.iter().map(|(w, t)| (i64::from(*w), t));
            let anti = affinity.preferred_anti.iter().map(|(w, t)| (-i64::from(*w), t));
            for (weight, term) in terms.chain(anti) {
                Self::per_domain(cycle, &Self::query(cycle, [term]), &term.topology_key, weight, &mut domains);
            }
        }
        let namespace_labels = cycle.namespace_labels();
        for (row, placed) in cycle.nodes.affine_pods() {
            let Some(affinity) = &placed.wants.affinity else { continue };
            let hard = affinity.required.iter().map(|t| (self.hard_affinity_weight, t));
            let near = affinity.preferred.iter().map(|(w, t)| (i64::from(*w), t));
            let far = affinity.preferred_anti.iter().map(|(w, t)| (-i64::from(*w), t));
            for (weight, term) in hard.chain(near).chain(far) {
                if let Some(domain) = cycle.nodes.labels(row).get(&term.topology_key)
                    && term.matches(cycle.pod, namespace_labels)
                {
                    *domains.entry((&term.topology_key, domain)).or_default() += weight;
                }
            }
        }
        if domains.is_empty() {
            return None;
        }
        let keys: std::collections::BTreeSet<&str> = domains.keys().map(|(key, _)| *key).collect();
        let sums: Vec<i64> =
            feasible.iter().map(|row| keys.iter().map(|key| in_domain(cycle, &domains, *row, key)).sum()).collect();
        let (least, most) = (sums.iter().min().copied().unwrap_or(0), sums.iter().max().copied().unwrap_or(0));
        let normal = |sum: &i64| match most - least {
            0 => 0,
            range => (SCORE_MAX as f64 * ((sum - least) as f64 / range as f64)) as i64,
        };
        Some(sums.iter().map(normal).collect())
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
