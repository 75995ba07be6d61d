//! How many of a budget's pods may be disrupted now. Pure; behaviour follows upstream's `pkg/controller/disruption`.

use std::collections::BTreeMap;

use api::core::Pod;
use api::jiff::Timestamp;
use api::metav1::{Condition, Time};
use api::policy::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use api::{IntOrString, Kind};

use crate::clock::{plus_seconds, time};
use crate::event::Note;
use crate::int_or_percent::{Round, resolve};
use crate::pod;

/// A pod whose eviction was granted counts as gone for so long; then it is taken to have stayed.
const DELETION_SECONDS: i64 = 120;
const CONDITION: &str = "DisruptionAllowed";

/// The pods that the owners of a budget's pods ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) replicas: i32,
    /// Pods without an owner.
    pub(super) unmanaged: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The budget with its new status.
    pub(super) status: Option<Box<PodDisruptionBudget>>,
    pub(super) notes: Vec<Note>,
    /// Pods that were expected to go and did not, to be told so.
    pub(super) stayed: Vec<String>,
    pub(super) again_at: Option<Timestamp>,
}

/// Whether the budget is a share of what its pods' owners ask for, so that these have to be known.
pub(super) fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    budget.spec.as_ref().is_some_and(|s| s.max_unavailable.is_some() || matches!(s.min_available, Some(IntOrString::String(_))))
}

/// `pods` are those that the budget selects, `scale` is what their owners ask for, or why that is not known.
pub(super) fn decide(budget: &PodDisruptionBudget, pods: &[Pod], scale: Result<&Scale, &str>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if pods.is_empty() {
        plan.notes.push(Note::normal("NoPods", "No matching pods found"));
    }
    let old = budget.status.clone().unwrap_or_default();
    let scale = match scale {
        Ok(scale) => scale,
        Err(why) => {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            plan.notes.push(Note::warning("CalculateExpectedPodCountFailed", message));
            plan.status = changed(budget, failed(old, why, now));
            return plan;
        }
    };
    if !scale.unmanaged.is_empty() && needs_scale(budget) {
        plan.notes.push(unmanaged(budget));
    }
    let (expected, desired) = wanted(budget, pods.len(), scale);
    let disrupted = still_disrupted(&old.disrupted_pods.clone().unwrap_or_default(), pods, now, &mut plan);
    let healthy = healthy(pods, &disrupted, now);
    // None while nothing is known of the pods: a budget must not be spent before its first pods are seen.
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let generation = budget.metadata.generation;
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(&mut conditions, (status, reason, ""), generation, now);
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: generation,
        conditions: Some(conditions),
    };
    plan.status = changed(budget, status);
    plan
}

fn changed(budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> Option<Box<PodDisruptionBudget>> {
    let mut old = budget.status.clone().unwrap_or_default();
    // Empty and absent mean the same.
    old.disrupted_pods.take_if(|p| p.is_empty());
    (budget.status.is_none() || old != status).then(|| Box::new(PodDisruptionBudget { status: Some(status), ..budget.clone() }))
}

/// Nothing is known: nothing may be disrupted.
fn failed(mut status: PodDisruptionBudgetStatus, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    status.disruptions_allowed = Some(0);
    let generation = status.observed_generation;
    set_condition(status.conditions.get_or_insert_default(), ("False", "SyncFailed", why), generation, now);
    status.disrupted_pods.take_if(|p| p.is_empty());
    status
}

fn unmanaged(budget: &PodDisruptionBudget) -> Note {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    // A selector holds strings: it always encodes.
    let selector = selector.map(|s| serde_json::to_string(s).expect("selectors encode")).unwrap_or_default();
    let message = format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status \
         of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please \
         set \".spec.minAvailable\" field of the PDB to an integer value."
    );
    Note::warning("UnmanagedPods", message)
}

/// How many pods there should be, and how many of them healthy.
fn wanted(budget: &PodDisruptionBudget, pods: usize, scale: &Scale) -> (i32, i32) {
    let Some(spec) = &budget.spec else { return (0, 0) };
    let total = scale.replicas;
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (total, (total - resolve(Some(most), total, Round::Up)).max(0)),
        (None, Some(IntOrString::Int(least))) => (i32::try_from(pods).unwrap_or(i32::MAX), *least),
        (None, Some(least)) => (total, resolve(Some(least), total, Round::Up)),
        (None, None) => (0, 0),
    }
}

/// Of the pods whose eviction was granted those that are still to go.
fn still_disrupted(granted: &BTreeMap<String, Time>, pods: &[Pod], now: Timestamp, plan: &mut Plan) -> BTreeMap<String, Time> {
    let mut left = BTreeMap::new();
    for pod in pods.iter().filter(|p| !pod::is_deleting(p)) {
        let Some(at) = granted.get(pod.name()) else { continue };
        let until = plus_seconds(at.0, DELETION_SECONDS);
        if until < now {
            plan.stayed.push(pod.name().to_owned());
        } else {
            plan.again_at = Some(plan.again_at.map_or(until, |a| a.min(until)));
            left.insert(pod.name().to_owned(), at.clone());
        }
    }
    left
}

fn healthy(pods: &[Pod], disrupted: &BTreeMap<String, Time>, now: Timestamp) -> i32 {
    let goes = |p: &Pod| {
        let granted = disrupted.get(p.name());
        pod::is_deleting(p) || granted.is_some_and(|at| plus_seconds(at.0, DELETION_SECONDS) > now)
    };
    i32::try_from(pods.iter().filter(|p| !goes(p) && pod::is_ready(p)).count()).unwrap_or(i32::MAX)
}

fn set_condition(
    conditions: &mut Vec<Condition>,
    (status, reason, message): (&str, &str, &str),
    generation: Option<i64>,
    now: Timestamp,
) {
    let since = conditions.iter().find(|c| c.type_ == CONDITION && c.status == status).map(|c| c.last_transition_time.clone());
    let condition = Condition {
        type_: CONDITION.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| time(now)),
    };
    match conditions.iter_mut().find(|c| c.type_ == CONDITION) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

/// When a pod's `DisruptionTarget` condition is stale, because nobody deletes the pod; `None` if it never will be.
pub(super) fn stale_at(pod: &Pod) -> Option<Timestamp> {
    let condition = pod::condition(pod, "DisruptionTarget").filter(|c| c.status == "True")?;
    // The kubelet's own may take as long as the pod takes to end.
    if pod::is_deleting(pod) || pod::is_finished(pod) || condition.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    let since = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    Some(plus_seconds(since, DELETION_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::{at, not_ready, running};
    use serde_json::{Value, json};

    fn budget(spec: Value) -> PodDisruptionBudget {
        PodDisruptionBudget::decode_value(json!({"metadata": {"name": "b", "generation": 3}, "spec": spec})).unwrap()
    }

    fn pods(ready: usize, unready: usize) -> Vec<Pod> {
        let pod = |i: usize| running(&format!("p{i}"));
        (0..ready).map(pod).chain((ready..ready + unready).map(|i| not_ready(pod(i)))).collect()
    }

    /// Expected, desired, healthy, allowed.
    fn counts(status: &PodDisruptionBudgetStatus) -> [i32; 4] {
        [status.expected_pods, status.desired_healthy, status.current_healthy, status.disruptions_allowed].map(Option::unwrap)
    }

    #[test]
    fn counting() {
        for (spec, ready, unready, replicas, want) in [
            (json!({"minAvailable": 2}), 3, 0, 0, [3, 2, 3, 1]),
            (json!({"minAvailable": 2}), 1, 2, 0, [3, 2, 1, 0]),
            (json!({"minAvailable": 0}), 0, 0, 0, [0, 0, 0, 0]),
            (json!({"minAvailable": "50%"}), 3, 0, 3, [3, 2, 3, 1]),
            (json!({"minAvailable": "28%"}), 7, 0, 10, [10, 3, 7, 4]),
            (json!({"maxUnavailable": 1}), 3, 0, 3, [3, 2, 3, 1]),
            (json!({"maxUnavailable": 1}), 2, 1, 3, [3, 2, 2, 0]),
            (json!({"maxUnavailable": "30%"}), 10, 0, 10, [10, 7, 10, 3]),
            (json!({"maxUnavailable": 5}), 2, 0, 2, [2, 0, 2, 2]),
            (json!({"maxUnavailable": 0}), 2, 0, 2, [2, 2, 2, 0]),
        ] {
            let scale = Scale { replicas, unmanaged: Vec::new() };
            let plan = decide(&budget(spec.clone()), &pods(ready, unready), Ok(&scale), at(9));
            let status = plan.status.unwrap().status.unwrap();
            assert_eq!(counts(&status), want, "{spec}");
            let condition = &status.conditions.unwrap()[0];
            let word = if want[3] > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), word);
            assert_eq!((condition.observed_generation, status.observed_generation), (Some(3), Some(3)));
        }
    }

    #[test]
    fn what_is_right_is_not_written_again() {
        let first = decide(&budget(json!({"minAvailable": 1})), &pods(2, 0), Ok(&Scale::default()), at(9)).status.unwrap();
        assert_eq!(decide(&first, &pods(2, 0), Ok(&Scale::default()), at(50)).status, None);
        let second = decide(&first, &pods(1, 1), Ok(&Scale::default()), at(50)).status.unwrap();
        assert_eq!(second.status.unwrap().conditions.unwrap()[0].last_transition_time.0, at(50));
    }

    #[test]
    fn granted_evictions_count_for_two_minutes() {
        let mut b = budget(json!({"minAvailable": 1}));
        let granted = [("p0", 0), ("p1", 100), ("gone", 100)].map(|(n, s)| (n.to_owned(), time(at(s)))).into();
        b.status = Some(PodDisruptionBudgetStatus { disrupted_pods: Some(granted), ..PodDisruptionBudgetStatus::default() });
        let plan = decide(&b, &pods(3, 0), Ok(&Scale::default()), at(130));
        let status = plan.status.unwrap().status.unwrap();
        assert_eq!(status.disrupted_pods.as_ref().unwrap().keys().collect::<Vec<_>>(), ["p1"]);
        assert_eq!((counts(&status), plan.again_at, plan.stayed), ([3, 1, 2, 1], Some(at(220)), vec!["p0".to_owned()]));
    }

    #[test]
    fn without_knowledge_nothing_is_allowed() {
        let mut b = budget(json!({"maxUnavailable": 1}));
        b.status = Some(PodDisruptionBudgetStatus { disruptions_allowed: Some(2), ..PodDisruptionBudgetStatus::default() });
        let plan = decide(&b, &pods(3, 0), Err("found no controllers for pod \"p0\""), at(9));
        let status = plan.status.unwrap().status.unwrap();
        assert_eq!((status.disruptions_allowed, status.conditions.unwrap()[0].reason.as_str()), (Some(0), "SyncFailed"));
        assert_eq!(plan.notes[0].reason, "CalculateExpectedPodCountFailed");
        let scale = Scale { replicas: 2, unmanaged: vec!["p2".into()] };
        assert_eq!(decide(&b, &pods(3, 0), Ok(&scale), at(9)).notes[0].reason, "UnmanagedPods");
    }

    #[test]
    fn a_target_that_nobody_deletes() {
        let target = |reason: &str, phase: &str| {
            let mut pod = running("a");
            let status = pod.status.as_mut().unwrap();
            status.phase = Some(phase.into());
            let condition = &mut status.conditions.as_mut().unwrap()[0];
            condition.type_ = "DisruptionTarget".into();
            condition.reason = Some(reason.into());
            pod
        };
        assert_eq!(stale_at(&target("EvictionByEvictionAPI", "Running")), Some(at(120)));
        assert_eq!(stale_at(&target("TerminationByKubelet", "Running")), None);
        assert_eq!(stale_at(&target("EvictionByEvictionAPI", "Failed")), None);
        assert_eq!(stale_at(&running("a")), None);
    }
}
