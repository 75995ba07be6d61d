//! TaintToleration: taints keep pods away that do not tolerate them, or cost score.

use api::core::{Taint, Toleration};

use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, Scores, Verdicts, normalize};
use crate::nodes::Row;
use crate::pod::PodInfo;

#[derive(Debug)]
pub(crate) struct TaintToleration;

/// One of the tolerations covers the taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| {
        let is = |ours: &Option<String>, theirs: &str| ours.as_deref().is_none_or(|o| o.is_empty() || o == theirs);
        let value = t.value.as_deref().unwrap_or_default();
        let taint_value = taint.value.as_deref().unwrap_or_default();
        let numbers = || Some((taint_value.parse::<i64>().ok()?, value.parse::<i64>().ok()?));
        is(&t.effect, &taint.effect)
            && is(&t.key, &taint.key)
            && match t.operator.as_deref().unwrap_or_default() {
                "" | "Equal" => value == taint_value,
                "Exists" => true,
                "Gt" => numbers().is_some_and(|(theirs, ours)| theirs > ours),
                "Lt" => numbers().is_some_and(|(theirs, ours)| theirs < ours),
                _ => false,
            }
    })
}

/// The taint keeps new pods off the node.
pub(crate) fn repels(taint: &Taint) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        for (taint, rows) in cycle.nodes.taints() {
            if repels(taint) && !tolerates(&cycle.pod.wants.tolerations, taint) {
                verdicts.reject_all(rows, self.name(), Cure::None, "node(s) had untolerated taint(s)");
            }
        }
    }

    fn score(&self, cycle: &Cycle<'_>, feasible: &[Row]) -> Option<Scores> {
        let disliked: Vec<_> = cycle
            .nodes
            .taints()
            .filter(|(taint, _)| taint.effect == "PreferNoSchedule" && !tolerates(&cycle.pod.wants.tolerations, taint))
            .map(|(_, rows)| rows)
            .collect();
        if disliked.is_empty() {
            return None;
        }
        let mut scores: Scores =
            feasible.iter().map(|row| disliked.iter().filter(|rows| rows.contains(*row)).count() as i64).collect();
        normalize(&mut scores, true);
        Some(scores)
    }

    fn wakes(&self, event: &ClusterEvent, _pod: &PodInfo) -> bool {
        matches!(event, ClusterEvent::Node { delta, .. } if delta.added || delta.taints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_keys_and_effects() {
        let toleration = |json: serde_json::Value| serde_json::from_value::<Toleration>(json).unwrap();
        let taint = Taint { key: "k".into(), value: Some("5".into()), effect: "NoSchedule".into(), time_added: None };
        for (json, expected) in [
            (serde_json::json!({"operator": "Exists"}), true),
            (serde_json::json!({"key": "k", "operator": "Exists"}), true),
            (serde_json::json!({"key": "other", "operator": "Exists"}), false),
            (serde_json::json!({"key": "k", "value": "5"}), true),
            (serde_json::json!({"key": "k", "value": "6"}), false),
            (serde_json::json!({"key": "k", "value": "5", "effect": "NoExecute"}), false),
            (serde_json::json!({"key": "k", "value": "4", "operator": "Gt"}), true),
            (serde_json::json!({"key": "k", "value": "4", "operator": "Lt"}), false),
        ] {
            assert_eq!(tolerates(&[toleration(json.clone())], &taint), expected, "{json}");
        }
        assert!(!tolerates(&[], &taint));
    }
}
