//! When a pod has to leave a tainted node. Pure.

use api::core::{Taint, Toleration};
use api::jiff::Timestamp;

use crate::clock::plus_seconds;
use crate::node::tolerates;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stays,
    LeavesAt(Timestamp),
}

/// A `NoExecute` taint, and since when it counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Since {
    pub(super) taint: Taint,
    pub(super) at: Timestamp,
}

/// `began` is when the pod came to the node: a toleration's seconds do not begin before.
pub(super) fn decide(taints: &[Since], tolerations: &[Toleration], began: Timestamp) -> Verdict {
    let mut leaves: Option<Timestamp> = None;
    for Since { taint, at } in taints {
        let matching: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        let start = (*at).max(began);
        let end = if matching.is_empty() {
            Some(start)
        } else {
            let seconds = matching.iter().filter_map(|t| t.toleration_seconds).min();
            seconds.map(|s| plus_seconds(start, s.max(0)))
        };
        leaves = match (leaves, end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    leaves.map_or(Verdict::Stays, Verdict::LeavesAt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn who_leaves_when() {
        let taint = |key: &str, since| Since {
            taint: Taint { key: key.into(), effect: "NoExecute".into(), ..Taint::default() },
            at: at(since),
        };
        let toleration = |key: &str, seconds: Option<i64>| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            toleration_seconds: seconds,
            value: None,
        };
        let stays = Verdict::Stays;
        let leaves = |s| Verdict::LeavesAt(at(s));
        for (taints, tolerations, began, want) in [
            (vec![], vec![], 0, stays),
            (vec![taint("a", 100)], vec![], 0, leaves(100)),
            (vec![taint("a", 100)], vec![toleration("a", None)], 0, stays),
            (vec![taint("a", 100)], vec![toleration("a", Some(300))], 0, leaves(400)),
            (vec![taint("a", 100)], vec![toleration("a", Some(300))], 1000, leaves(1300)),
            (vec![taint("a", 100)], vec![toleration("a", Some(300)), toleration("a", Some(60))], 0, leaves(160)),
            (vec![taint("a", 100)], vec![toleration("a", Some(-5))], 0, leaves(100)),
            (vec![taint("a", 100)], vec![toleration("b", None)], 0, leaves(100)),
            (vec![taint("a", 100), taint("b", 50)], vec![toleration("a", Some(300)), toleration("b", None)], 0, leaves(400)),
            (vec![taint("a", 100), taint("b", 50)], vec![toleration("a", Some(300))], 0, leaves(50)),
        ] {
            assert_eq!(decide(&taints, &tolerations, at(began)), want, "{taints:?} {tolerations:?}");
        }
    }
}
