//! Which of a StatefulSet's pods to make, delete or wait for, and its status. Pure.
//!
//! Pods have ordinals. With `OrderedReady` a pod is made when all before it are ready, and deleted when it is the last.

use std::collections::BTreeMap;

use api::Kind;
use api::apps::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use api::core::Pod;
use api::jiff::Timestamp;

use crate::history::HASH_LABEL;
use crate::pod::{self, Availability};

pub(super) struct Observed<'a> {
    pub(super) set: &'a StatefulSet,
    /// The revision of the present template, and the one that is being replaced.
    pub(super) update: &'a str,
    pub(super) current: &'a str,
    /// The pods that it owns.
    pub(super) pods: &'a [Pod],
}

/// A pod to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct New {
    pub(super) ordinal: i32,
    pub(super) revision: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) create: Vec<New>,
    /// Indexes into the observed pods.
    pub(super) delete: Vec<usize>,
    /// When a pod that is ready becomes available, which others wait for.
    pub(super) again_at: Option<Timestamp>,
}

/// The ordinal in a pod's name, when the name is one of this set's.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let text = pod.strip_prefix(set)?.strip_prefix('-')?;
    let number: i32 = text.parse().ok()?;
    (number >= 0 && number.to_string() == text).then_some(number)
}

struct Limits {
    ordered: bool,
    start: i32,
    end: i32,
    /// `None`: pods are updated when someone deletes them.
    partition: Option<i32>,
    min_ready_seconds: i32,
}

impl Limits {
    fn of(spec: &StatefulSetSpec) -> Self {
        let strategy = spec.update_strategy.as_ref();
        let start = spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let on_delete = strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete");
        Self {
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            start,
            end: start.saturating_add(spec.replicas.unwrap_or(1)),
            partition: (!on_delete).then(|| rolling.and_then(|r| r.partition).unwrap_or(0)),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        }
    }
}

pub(super) fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let set = observed.set;
    let mut plan = Plan::default();
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let limits = Limits::of(&set.spec.clone().unwrap_or_default());
    let by_ordinal: BTreeMap<i32, usize> =
        observed.pods.iter().enumerate().filter_map(|(i, p)| Some((ordinal(set.name(), p.name())?, i))).collect();
    let wanted = limits.start..limits.end;
    for i in wanted.clone() {
        let settled = match by_ordinal.get(&i) {
            None => {
                plan.create.push(New { ordinal: i, revision: revision_for(observed, &limits, i) });
                false
            }
            Some(p) => settle(&observed.pods[*p], *p, &limits, &mut plan, now),
        };
        if limits.ordered && !settled {
            return plan;
        }
    }
    // From the last to the first.
    for (_, p) in by_ordinal.iter().rev().filter(|(i, _)| !wanted.contains(i)) {
        if !pod::is_deleting(&observed.pods[*p]) {
            plan.delete.push(*p);
        }
        if limits.ordered {
            return plan;
        }
    }
    if !plan.create.is_empty() || !plan.delete.is_empty() {
        return plan;
    }
    let Some(partition) = limits.partition else { return plan };
    for (_, p) in by_ordinal.range(limits.start.saturating_add(partition)..).rev() {
        let pod = &observed.pods[*p];
        let outdated = revision_of(pod) != Some(observed.update);
        if outdated && !pod::is_deleting(pod) {
            plan.delete.push(*p);
            return plan;
        }
        // One that is not back yet holds up the next.
        if outdated || availability(pod, &limits, now, &mut plan.again_at) != Availability::Yes {
            return plan;
        }
    }
    plan
}

/// Whether the pod is as it should be, so that the next may be looked at; one that has ended is replaced.
fn settle(pod: &Pod, index: usize, limits: &Limits, plan: &mut Plan, now: Timestamp) -> bool {
    if pod::is_finished(pod) && !pod::is_deleting(pod) {
        plan.delete.push(index);
        return false;
    }
    !pod::is_deleting(pod) && availability(pod, limits, now, &mut plan.again_at) == Availability::Yes
}

fn availability(pod: &Pod, limits: &Limits, now: Timestamp, again_at: &mut Option<Timestamp>) -> Availability {
    if pod::phase(pod) != "Running" {
        return Availability::No;
    }
    let availability = pod::availability(pod, limits.min_ready_seconds, now);
    if let Availability::From(at) = availability {
        *again_at = Some(again_at.map_or(at, |a| a.min(at)));
    }
    availability
}

/// Below the partition, and where the rollout has not come yet, a pod that is lost comes back as it was.
fn revision_for(observed: &Observed<'_>, limits: &Limits, ordinal: i32) -> String {
    let current_replicas = observed.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
    let old = match limits.partition {
        Some(0) => ordinal < limits.start.saturating_add(current_replicas),
        Some(partition) => ordinal < limits.start.saturating_add(partition),
        None => false,
    };
    if old { observed.current.to_owned() } else { observed.update.to_owned() }
}

pub(super) fn revision_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(HASH_LABEL).map(String::as_str)
}

pub(super) fn status(observed: &Observed<'_>, now: Timestamp) -> StatefulSetStatus {
    let set = observed.set;
    let old = set.status.clone().unwrap_or_default();
    let limits = Limits::of(&set.spec.clone().unwrap_or_default());
    let (mut replicas, mut ready, mut available, mut current, mut updated) = (0, 0, 0, 0, 0);
    for pod in observed.pods.iter().filter(|p| !pod::phase(p).is_empty()) {
        let running = pod::phase(pod) == "Running";
        replicas += 1;
        ready += i32::from(running && pod::is_ready(pod));
        available += i32::from(availability(pod, &limits, now, &mut None) == Availability::Yes);
        if !pod::is_deleting(pod) {
            current += i32::from(revision_of(pod) == Some(observed.current));
            updated += i32::from(revision_of(pod) == Some(observed.update));
        }
    }
    let mut revision = observed.current.to_owned();
    // Everyone has the new template: from now on it is the current one.
    if limits.partition == Some(0) && updated == replicas && ready == replicas && replicas == limits.end - limits.start {
        revision = observed.update.to_owned();
        current = updated;
    }
    StatefulSetStatus {
        replicas,
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        current_replicas: Some(current),
        updated_replicas: Some(updated),
        current_revision: Some(revision_name(set, &revision)),
        update_revision: Some(revision_name(set, observed.update)),
        observed_generation: set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
    }
}

/// Revisions stand in the status by the name of their object.
pub(super) fn revision_name(set: &StatefulSet, hash: &str) -> String {
    format!("{}-{hash}", set.name())
}

/// Equal, where a count that is absent is 0.
pub(super) fn same(a: &StatefulSetStatus, b: &StatefulSetStatus) -> bool {
    let normal = |s: &StatefulSetStatus| {
        let count = |v: Option<i32>| Some(v.unwrap_or(0));
        StatefulSetStatus {
            ready_replicas: count(s.ready_replicas),
            available_replicas: count(s.available_replicas),
            current_replicas: count(s.current_replicas),
            updated_replicas: count(s.updated_replicas),
            observed_generation: Some(s.observed_generation.unwrap_or(0)),
            ..s.clone()
        }
    };
    normal(a) == normal(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::time;
    use crate::pod::tests::{at, not_ready, running};
    use api::apps::{RollingUpdateStatefulSetStrategy, StatefulSetUpdateStrategy};
    use api::metav1::ObjectMeta;

    fn set(replicas: i32, policy: &str, partition: i32) -> StatefulSet {
        StatefulSet {
            metadata: ObjectMeta { name: Some("db".into()), ..ObjectMeta::default() },
            spec: Some(StatefulSetSpec {
                replicas: Some(replicas),
                pod_management_policy: Some(policy.into()),
                update_strategy: Some(StatefulSetUpdateStrategy {
                    type_: Some("RollingUpdate".into()),
                    rolling_update: Some(RollingUpdateStatefulSetStrategy {
                        partition: Some(partition),
                        ..RollingUpdateStatefulSetStrategy::default()
                    }),
                }),
                ..StatefulSetSpec::default()
            }),
            status: None,
        }
    }

    /// `0/new`, `1/old/unready`: ordinal, revision, what ails it.
    fn pods(texts: &[&str]) -> Vec<Pod> {
        let make = |text: &&str| {
            let parts: Vec<&str> = text.split('/').collect();
            let mut pod = running(&format!("db-{}", parts[0]));
            pod.metadata.labels = Some([(HASH_LABEL.to_owned(), parts[1].to_owned())].into());
            for ail in &parts[2..] {
                match *ail {
                    "unready" => pod = not_ready(pod),
                    "deleting" => pod.metadata.deletion_timestamp = Some(time(at(1))),
                    phase => pod.status.as_mut().unwrap().phase = Some(phase.into()),
                }
            }
            pod
        };
        texts.iter().map(make).collect()
    }

    fn check(set: &StatefulSet, texts: &[&str], create: &[i32], delete: &[usize]) {
        let pods = pods(texts);
        let plan = plan(&Observed { set, update: "new", current: "old", pods: &pods }, at(100));
        let ordinals: Vec<i32> = plan.create.iter().map(|n| n.ordinal).collect();
        assert_eq!((ordinals.as_slice(), plan.delete.as_slice()), (create, delete), "{texts:?}");
    }

    #[test]
    fn in_order() {
        let s = set(3, "OrderedReady", 0);
        check(&s, &[], &[0], &[]);
        check(&s, &["0/new/unready"], &[], &[]);
        check(&s, &["0/new"], &[1], &[]);
        check(&s, &["0/new", "2/new"], &[1], &[]);
        check(&s, &["0/new", "1/new/Failed"], &[], &[1]);
        check(&s, &["0/new", "1/new/deleting", "2/new"], &[], &[]);
        check(&s, &["0/new", "1/new", "2/new"], &[], &[]);
        check(&s, &["0/new", "1/new", "2/new", "3/new", "4/new"], &[], &[4]);
        check(&s, &["0/new", "1/new", "2/new", "3/new", "4/new/deleting"], &[], &[]);
    }

    #[test]
    fn all_at_once() {
        let s = set(3, "Parallel", 0);
        check(&s, &[], &[0, 1, 2], &[]);
        check(&s, &["0/new/unready", "3/new", "4/new"], &[1, 2], &[2, 1]);
    }

    #[test]
    fn updates_from_the_last_to_the_first() {
        let s = set(3, "OrderedReady", 0);
        check(&s, &["0/old", "1/old", "2/old"], &[], &[2]);
        check(&s, &["0/old", "1/old", "2/new/unready"], &[], &[]);
        check(&s, &["0/old", "1/old", "2/new"], &[], &[1]);
        check(&set(3, "OrderedReady", 2), &["0/old", "1/old", "2/new"], &[], &[]);
        check(&set(3, "OrderedReady", 2), &["0/old", "1/old", "2/old"], &[], &[2]);
        let mut by_hand = set(3, "OrderedReady", 0);
        by_hand.spec.as_mut().unwrap().update_strategy.as_mut().unwrap().type_ = Some("OnDelete".into());
        check(&by_hand, &["0/old", "1/old", "2/old"], &[], &[]);
    }

    #[test]
    fn below_the_partition_the_old_comes_back() {
        let s = set(3, "OrderedReady", 2);
        let pods = pods(&["0/old", "2/new"]);
        let plan = plan(&Observed { set: &s, update: "new", current: "old", pods: &pods }, at(100));
        assert_eq!(plan.create, [New { ordinal: 1, revision: "old".into() }]);
    }

    #[test]
    fn the_status_and_the_end_of_a_rollout() {
        let s = set(2, "OrderedReady", 0);
        let count = |texts: &[&str]| {
            let pods = pods(texts);
            let s = status(&Observed { set: &s, update: "new", current: "old", pods: &pods }, at(100));
            (
                s.replicas,
                s.ready_replicas.unwrap(),
                s.current_replicas.unwrap(),
                s.updated_replicas.unwrap(),
                s.current_revision.unwrap(),
            )
        };
        assert_eq!(count(&["0/old", "1/new/unready"]), (2, 1, 1, 1, "db-old".into()));
        assert_eq!(count(&["0/new", "1/new"]), (2, 2, 2, 2, "db-new".into()));
    }

    #[test]
    fn ordinals_in_names() {
        for (name, want) in
            [("db-0", Some(0)), ("db-12", Some(12)), ("db-01", None), ("db-x", None), ("dbx-1", None), ("db--1", None)]
        {
            assert_eq!(ordinal("db", name), want, "{name}");
        }
    }
}
