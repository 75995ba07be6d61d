//! Whether a node still gives signs of life. Pure.
//!
//! Times are our own: when a sign was *seen* to change, not what it says, since clocks of hosts need not agree.

use std::time::Duration;

use api::jiff::Timestamp;

use super::facts::Facts;
use crate::clock::since;

/// What a living node changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    pub(super) heartbeat: Option<Timestamp>,
    pub(super) ready: Option<String>,
    /// `spec.renewTime` of its Lease.
    pub(super) renewed: Option<Timestamp>,
}

/// The signs last seen, and since when they are as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) signs: Signs,
    pub(super) at: Timestamp,
}

/// Another look.
pub(super) fn look(before: Option<Seen>, signs: Signs, now: Timestamp) -> Seen {
    match before {
        Some(seen) if seen.signs == signs => seen,
        _ => Seen { signs, at: now },
    }
}

/// How long a node may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    pub(super) running: Duration,
    /// For one that has not yet said anything.
    pub(super) starting: Duration,
}

pub(super) fn is_silent(facts: &Facts, seen: &Seen, grace: Grace, now: Timestamp) -> bool {
    match facts.condition("Ready") {
        None => since(facts.created.max(seen.at), now) > grace.starting,
        Some(_) => since(seen.at, now) > grace.running,
    }
}

/// The conditions that a kubelet reports: unknown once it is silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// A condition to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
    /// It was never reported.
    pub(super) new: bool,
}

/// The conditions of a silent node that do not say so yet.
pub(super) fn lost_conditions(facts: &Facts) -> Vec<Lost> {
    let lost = |kind: &'static str| match facts.condition(kind) {
        None => Some(Lost { kind, reason: "NodeStatusNeverUpdated", message: "Kubelet never posted node status.", new: true }),
        Some("Unknown") => None,
        Some(_) => Some(Lost { kind, reason: "NodeStatusUnknown", message: "Kubelet stopped posting node status.", new: false }),
    };
    REPORTED.into_iter().filter_map(lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const GRACE: Grace = Grace { running: Duration::from_secs(40), starting: Duration::from_secs(60) };

    fn node(ready: Option<&str>) -> Facts {
        Facts {
            created: at(0),
            conditions: ready.map(|r| ("Ready".to_owned(), r.to_owned())).into_iter().collect(),
            ..Facts::default()
        }
    }

    #[test]
    fn a_node_lives_as_long_as_a_sign_changes() {
        let signs = |renewed| Signs { renewed: Some(at(renewed)), ..Signs::default() };
        let seen = look(None, signs(1), at(1000));
        assert_eq!(seen.at, at(1000), "the clock starts when it is first seen");
        let seen = look(Some(seen), signs(1), at(1030));
        assert_eq!(seen.at, at(1000));
        // A clock that runs backwards is a sign of life too.
        let seen = look(Some(seen), signs(0), at(1035));
        assert_eq!(seen.at, at(1035));
        for (now, silent) in [(1035, false), (1075, false), (1076, true)] {
            assert_eq!(is_silent(&node(Some("True")), &seen, GRACE, at(now)), silent, "at {now}");
        }
    }

    #[test]
    fn a_starting_node_has_longer() {
        let seen = Seen { signs: Signs::default(), at: at(0) };
        assert!(!is_silent(&node(None), &seen, GRACE, at(60)));
        assert!(is_silent(&node(None), &seen, GRACE, at(61)));
    }

    #[test]
    fn what_is_lost_is_written_once() {
        let lost = lost_conditions(&node(Some("True")));
        assert_eq!(
            lost.iter().map(|l| (l.kind, l.new)).collect::<Vec<_>>(),
            [("Ready", false), ("MemoryPressure", true), ("DiskPressure", true), ("PIDPressure", true)]
        );
        let mut silent = node(Some("Unknown"));
        REPORTED.iter().for_each(|k| _ = silent.conditions.insert((*k).into(), "Unknown".into()));
        assert_eq!(lost_conditions(&silent), []);
    }
}
