//! The taints that a node's conditions ask for. Pure.

use api::core::Taint;
use api::jiff::Timestamp;

use super::facts::Facts;
use crate::clock::time;
use crate::node::is_same_taint;

const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, status, taint.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// What is to be done about a node's taints.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The whole list, when it is to change.
    pub(super) taints: Option<Vec<Taint>>,
    /// The change makes pods leave: it needs the zone's leave, if none was given the rest can be written alone.
    pub(super) evicts: bool,
}

/// Whether pods may be made to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    Allowed,
    /// Not now: who stays may stay, who leaves goes on leaving.
    Deferred,
    /// No node is heard of: the taints that make pods leave are taken back.
    Stopped,
}

pub(super) fn plan(facts: &Facts, eviction: Eviction, now: Timestamp) -> Plan {
    let taint =
        |key: &str, effect: &str| Taint { key: key.into(), effect: effect.into(), value: None, time_added: Some(time(now)) };
    let asked = |(condition, status, _): &&(&str, &str, &str)| facts.condition(condition) == Some(*status);
    let mut wanted: Vec<Taint> = BY_CONDITION.iter().filter(asked).map(|(_, _, key)| taint(key, NO_SCHEDULE)).collect();
    if facts.unschedulable {
        wanted.push(taint(UNSCHEDULABLE, NO_SCHEDULE));
    }
    let leaving = facts.taints.iter().any(|t| t.effect == NO_EXECUTE && [NOT_READY, UNREACHABLE].contains(&t.key.as_str()));
    let leave = match facts.condition("Ready") {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    };
    let evicts = leave.is_some() && !leaving && eviction != Eviction::Stopped;
    if let Some(key) = leave
        && (eviction == Eviction::Allowed || eviction == Eviction::Deferred && leaving)
    {
        wanted.push(taint(key, NO_EXECUTE));
    }
    let ours = |t: &Taint| match t.effect.as_str() {
        NO_SCHEDULE => t.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| *key == t.key),
        NO_EXECUTE => [NOT_READY, UNREACHABLE].contains(&t.key.as_str()),
        _ => false,
    };
    let mut taints: Vec<Taint> = facts.taints.clone();
    taints.retain(|t| !ours(t) || wanted.iter().any(|w| is_same_taint(w, t)));
    for taint in wanted {
        if !taints.iter().any(|t| is_same_taint(t, &taint)) {
            taints.push(taint);
        }
    }
    Plan { taints: (taints != facts.taints).then_some(taints), evicts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        conditions: &[(&str, &str)],
        unschedulable: bool,
        before: &[&str],
        eviction: Eviction,
        after: Option<&[&str]>,
        evicts: bool,
    ) {
        let parse = |text: &&str| {
            let (key, effect) = text.split_once(':').unwrap();
            let key = if key.contains('/') { key.to_owned() } else { format!("node.kubernetes.io/{key}") };
            Taint { key, effect: effect.into(), ..Taint::default() }
        };
        let facts = Facts {
            conditions: conditions.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            unschedulable,
            taints: before.iter().map(parse).collect(),
            ..Facts::default()
        };
        let got = plan(&facts, eviction, Timestamp::UNIX_EPOCH);
        let text = |t: &Taint| format!("{}:{}", t.key.trim_start_matches("node.kubernetes.io/"), t.effect);
        let names = got.taints.as_ref().map(|t| t.iter().map(text).collect::<Vec<_>>());
        assert_eq!(
            names.as_deref(),
            after.map(|a| a.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).as_deref(),
            "{conditions:?} {before:?} {eviction:?}"
        );
        assert_eq!(got.evicts, evicts);
    }

    #[test]
    fn taints_follow_conditions() {
        use Eviction::{Allowed, Deferred, Stopped};
        let (ready, broken, silent) = (("Ready", "True"), ("Ready", "False"), ("Ready", "Unknown"));
        check(&[ready], false, &[], Allowed, None, false);
        check(&[ready], false, &["example.com/own:NoExecute"], Allowed, None, false);
        check(&[ready], false, &["not-ready:NoSchedule", "not-ready:NoExecute"], Allowed, Some(&[]), false);
        check(&[ready], true, &[], Allowed, Some(&["unschedulable:NoSchedule"]), false);
        check(&[ready, ("DiskPressure", "True")], false, &[], Allowed, Some(&["disk-pressure:NoSchedule"]), false);
        check(&[broken], false, &[], Allowed, Some(&["not-ready:NoSchedule", "not-ready:NoExecute"]), true);
        check(&[broken], false, &[], Deferred, Some(&["not-ready:NoSchedule"]), true);
        check(&[broken], false, &[], Stopped, Some(&["not-ready:NoSchedule"]), false);
        check(
            &[silent],
            false,
            &["unreachable:NoSchedule"],
            Allowed,
            Some(&["unreachable:NoSchedule", "unreachable:NoExecute"]),
            true,
        );
        // From one to the other needs no leave: its pods are leaving already.
        check(
            &[silent],
            false,
            &["not-ready:NoSchedule", "not-ready:NoExecute"],
            Deferred,
            Some(&["unreachable:NoSchedule", "unreachable:NoExecute"]),
            false,
        );
        check(
            &[silent],
            false,
            &["unreachable:NoSchedule", "unreachable:NoExecute"],
            Stopped,
            Some(&["unreachable:NoSchedule"]),
            false,
        );
        check(&[], false, &[], Allowed, None, false);
    }
}
