//! How many pods to create, which to delete, and what the status is. Pure.

use std::collections::BTreeMap;

use api::core::{Pod, PodTemplateSpec};
use api::jiff::Timestamp;
use machinery::selector::LabelSelector;

use crate::clock::time;
use crate::pod::{self, Availability};

/// Pods created or deleted in one pass; the next pass goes on once these have been seen.
pub(super) const BURST_MAX: usize = 500;

/// What a ReplicaSet or a ReplicationController asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub replicas: i32,
    pub min_ready_seconds: i32,
    pub template: Option<&'a PodTemplateSpec>,
    pub generation: i64,
    /// `metadata.deletionTimestamp` is set: its pods are the garbage collector's.
    pub deleting: bool,
    pub terminating_counted: TerminatingCounted,
}

/// `status.terminatingReplicas` is a ReplicaSet's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TerminatingCounted {
    Yes,
    No,
}

/// The status of either kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Status {
    pub replicas: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    pub terminating: Option<i32>,
    pub observed_generation: i64,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    pub type_: String,
    pub status: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub last_transition_time: Option<api::metav1::Time>,
}

/// What to do about the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub create: usize,
    /// Indexes into the observed pods, first to go first.
    pub delete: Vec<usize>,
}

/// `owned` are all pods that the set manages; `kin` counts, per node, the active pods of sets with the same owner (so
/// that a shrinking Deployment thins out crowded nodes first).
pub(super) fn plan(wanted: &Wanted<'_>, owned: &[&Pod], kin: &BTreeMap<String, usize>, now: Timestamp) -> Plan {
    if wanted.deleting {
        return Plan::default();
    }
    let active: Vec<usize> = (0..owned.len()).filter(|i| pod::is_active(owned[*i])).collect();
    let replicas = usize::try_from(wanted.replicas).unwrap_or(0);
    if active.len() <= replicas {
        return Plan { create: (replicas - active.len()).min(BURST_MAX), delete: Vec::new() };
    }
    let surplus = (active.len() - replicas).min(BURST_MAX);
    let mut order = active;
    if surplus < order.len() {
        let rank = |p: &Pod| kin.get(pod::node_name(p)).copied().unwrap_or(0);
        order.sort_by(|a, b| {
            let (a, b) = (owned[*a], owned[*b]);
            pod::deletion_order(a, rank(a), b, rank(b), now)
        });
    }
    order.truncate(surplus);
    Plan { create: 0, delete: order }
}

/// What happened to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    Obeyed,
    CreateFailed(&'a str),
    DeleteFailed(&'a str),
}

/// The status to write, and when pods that are ready now become available.
pub(super) fn status(
    wanted: &Wanted<'_>,
    old: &Status,
    owned: &[&Pod],
    outcome: Outcome<'_>,
    now: Timestamp,
) -> (Status, Option<Timestamp>) {
    let labels = wanted.template.and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.as_ref());
    let template_labels = LabelSelector::from_labels(labels.into_iter().flatten().map(|(k, v)| (k.as_str(), v.as_str())));
    let mut new = Status { observed_generation: wanted.generation, conditions: old.conditions.clone(), ..Status::default() };
    let mut next: Option<Timestamp> = None;
    for pod in owned.iter().filter(|p| pod::is_active(p)) {
        new.replicas += 1;
        new.fully_labeled += i32::from(template_labels.matches(&pod.metadata.labels));
        new.ready += i32::from(pod::is_ready(pod));
        match pod::availability(pod, wanted.min_ready_seconds, now) {
            Availability::Yes => new.available += 1,
            Availability::From(at) => next = Some(next.map_or(at, |n| n.min(at))),
            Availability::No => {}
        }
    }
    if wanted.terminating_counted == TerminatingCounted::Yes {
        let terminating = owned.iter().filter(|p| pod::is_terminating(p)).count();
        new.terminating = Some(i32::try_from(terminating).unwrap_or(i32::MAX));
    }
    let failing = new.conditions.iter().any(|c| c.type_ == "ReplicaFailure");
    let failure = match outcome {
        Outcome::Obeyed => None,
        Outcome::CreateFailed(why) => Some(("FailedCreate", why)),
        Outcome::DeleteFailed(why) => Some(("FailedDelete", why)),
    };
    match failure {
        None => new.conditions.retain(|c| c.type_ != "ReplicaFailure"),
        Some((reason, message)) if !failing => new.conditions.push(Condition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(time(now)),
        }),
        Some(_) => {}
    }
    (new, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::{at, not_ready, running};

    fn wanted(replicas: i32) -> Wanted<'static> {
        Wanted {
            replicas,
            min_ready_seconds: 0,
            template: None,
            generation: 1,
            deleting: false,
            terminating_counted: TerminatingCounted::Yes,
        }
    }

    fn finished(mut pod: Pod) -> Pod {
        pod.status.as_mut().unwrap().phase = Some("Failed".into());
        pod
    }

    fn deleting(mut pod: Pod) -> Pod {
        pod.metadata.deletion_timestamp = Some(time(at(1)));
        pod
    }

    fn check(wanted: &Wanted<'_>, pods: &[Pod], create: usize, delete: &[&str]) {
        let pods: Vec<&Pod> = pods.iter().collect();
        let plan = plan(wanted, &pods, &BTreeMap::new(), at(100));
        let names: Vec<&str> = plan.delete.iter().map(|i| pods[*i].metadata.name.as_deref().unwrap()).collect();
        assert_eq!((plan.create, names.as_slice()), (create, delete));
    }

    #[test]
    fn counts() {
        let (a, b, c) = (running("a"), running("b"), running("c"));
        check(&wanted(3), &[], 3, &[]);
        check(&wanted(3), &[a.clone(), b.clone(), c.clone()], 0, &[]);
        check(&wanted(0), &[a.clone(), b.clone()], 0, &["a", "b"]);
        check(&wanted(2), &[a.clone(), not_ready(b.clone()), c.clone()], 0, &["b"]);
        check(&wanted(2), &[finished(a.clone()), deleting(b.clone())], 2, &[]);
        check(&wanted(1), &[deleting(a.clone()), b.clone(), not_ready(c.clone())], 0, &["c"]);
        check(&Wanted { deleting: true, ..wanted(3) }, &[], 0, &[]);
        check(&wanted(10_000), &[], BURST_MAX, &[]);
        check(&wanted(-1), &[a], 0, &["a"]);
    }

    #[test]
    fn a_crowded_node_is_thinned_out() {
        let mut elsewhere = running("a");
        elsewhere.spec.as_mut().unwrap().node_name = Some("n2".into());
        let crowded = running("b");
        let kin = [("n1".to_owned(), 5), ("n2".to_owned(), 1)].into();
        assert_eq!(plan(&wanted(1), &[&elsewhere, &crowded], &kin, at(100)).delete, [1]);
    }

    #[test]
    fn status_counts_and_the_next_look() {
        let mut young = running("young");
        young.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].last_transition_time = Some(time(at(95)));
        let pods = [running("a"), young, not_ready(running("b")), deleting(running("c")), finished(running("d"))];
        let pods: Vec<&Pod> = pods.iter().collect();
        let w = Wanted { min_ready_seconds: 10, ..wanted(3) };
        let (s, next) = status(&w, &Status::default(), &pods, Outcome::Obeyed, at(100));
        assert_eq!(
            (s.replicas, s.ready, s.available, s.fully_labeled, s.terminating, s.observed_generation),
            (3, 2, 1, 3, Some(1), 1)
        );
        assert_eq!(next, Some(at(105)));
    }

    #[test]
    fn a_failure_is_a_condition_until_it_is_over() {
        let (s, _) = status(&wanted(1), &Status::default(), &[], Outcome::CreateFailed("quota"), at(7));
        assert_eq!(s.conditions[0].reason.as_deref(), Some("FailedCreate"));
        let (again, _) = status(&wanted(1), &s, &[], Outcome::CreateFailed("other"), at(8));
        assert_eq!(again.conditions, s.conditions);
        let (over, _) = status(&wanted(1), &s, &[], Outcome::Obeyed, at(9));
        assert!(over.conditions.is_empty());
    }
}
