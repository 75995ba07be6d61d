//! Topology spread constraints, compiled.

use api::core::TopologySpreadConstraint;
use machinery::selector::LabelSelector;

use crate::affinity::{Labels, compile};

/// Pods of one selector, spread over the domains of one topology key.
#[derive(Clone, Debug, PartialEq)]
pub struct SpreadConstraint {
    pub topology_key: String,
    pub max_skew: i64,
    /// `DoNotSchedule`; otherwise the skew only costs score.
    pub hard: bool,
    pub min_domains: i64,
    /// Pods that match all of these; none at all matches no pod.
    pub selectors: Vec<LabelSelector>,
    /// `nodeAffinityPolicy: Honor` (the default): nodes the pod cannot go to do not count.
    pub honor_affinity: bool,
    /// `nodeTaintsPolicy: Honor`: nodes whose taints the pod does not tolerate do not count.
    pub honor_taints: bool,
}

impl SpreadConstraint {
    /// `labels` are the pod's own, for `matchLabelKeys`.
    pub fn of(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = constraint.label_selector.clone();
        if let Some(selector) = &mut selector {
            for key in constraint.match_label_keys.iter().flatten() {
                if let Some(value) = labels.get(key) {
                    selector.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
                }
            }
        }
        Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            selectors: selector.as_ref().and_then(compile).into_iter().collect(),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// The pod would itself be counted.
    pub fn counts(&self, labels: &Labels) -> bool {
        !self.selectors.is_empty() && self.selectors.iter().all(|s| s.matches(labels))
    }

    /// What spreads a workload's pods when they ask for nothing themselves (upstream's system defaults).
    pub fn system_defaults(selectors: &[LabelSelector]) -> [Self; 2] {
        let soft = |key: &str, max_skew| Self {
            topology_key: key.to_owned(),
            max_skew,
            hard: false,
            min_domains: 1,
            selectors: selectors.to_vec(),
            honor_affinity: true,
            honor_taints: false,
        };
        [soft(HOSTNAME, 3), soft("topology.kubernetes.io/zone", 5)]
    }
}

pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
