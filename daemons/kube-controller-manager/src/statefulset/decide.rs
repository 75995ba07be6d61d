//! Which of a StatefulSet's pods to make, delete or wait for, and its status. Pure.
//!
//! Pods have ordinals. With `OrderedReady` a pod is made when all before it are ready, and deleted when it is the last.

use std::collections::BTreeMap;

use api::Kind;
use api::apps::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use api::core::Pod;
use api::jiff::Timestamp;

use super::pods::{ordinal, revision_name, revision_of};
use crate::int_or_percent::{Round, resolve};
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
    /// Pods that wait: should a claim of theirs be missing, it is made.
    pub(super) furnish: Vec<usize>,
    /// Pods beyond those that are asked for, in order.
    pub(super) condemned: Vec<usize>,
    /// When a pod that is ready becomes available, which others wait for.
    pub(super) again_at: Option<Timestamp>,
}

struct Limits {
    ordered: bool,
    start: i32,
    end: i32,
    /// `None`: pods are updated when someone deletes them.
    update: Option<Update>,
    min_ready_seconds: i32,
}

/// How a new template is rolled out.
struct Update {
    /// Ordinals below it keep the old one; `None` when nothing is said of it.
    partition: Option<i32>,
    /// How many may be missing at a time; `None`: one after the other.
    unavailable_max: Option<usize>,
}

impl Limits {
    fn of(spec: &StatefulSetSpec) -> Self {
        let strategy = spec.update_strategy.as_ref();
        let start = spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
        let replicas = spec.replicas.unwrap_or(1);
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let on_delete = strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete");
        let most = rolling.and_then(|r| r.max_unavailable.as_ref());
        let update = Update {
            partition: rolling.map(|r| r.partition.unwrap_or(0)),
            // A small share may come to none: then nothing would ever be updated.
            unavailable_max: most.map(|m| usize::try_from(resolve(Some(m), replicas, Round::Down)).unwrap_or(0).max(1)),
        };
        Self {
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            start,
            end: start.saturating_add(replicas),
            update: (!on_delete).then_some(update),
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
    plan.condemned = by_ordinal.iter().filter(|(o, _)| !wanted.contains(o)).map(|(_, i)| *i).collect();
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
    scale_down(observed, &limits, &mut plan, now);
    if plan.create.is_empty() && plan.delete.is_empty() && (plan.condemned.is_empty() || !limits.ordered) {
        let wanted: Vec<usize> = by_ordinal.iter().filter(|(o, _)| wanted.contains(o)).map(|(_, i)| *i).collect();
        roll(observed, &limits, &wanted, &mut plan, now);
    }
    plan
}

/// From the last to the first; in order, one by one, and none while another that is to go is not well.
fn scale_down(observed: &Observed<'_>, limits: &Limits, plan: &mut Plan, now: Timestamp) {
    let condemned = plan.condemned.clone();
    let pod = |i: usize| &observed.pods[i];
    if !limits.ordered {
        plan.delete.extend(condemned.into_iter().rev().filter(|i| !pod::is_deleting(pod(*i))));
        return;
    }
    let Some(last) = condemned.last().copied() else { return };
    let first_unwell = condemned.iter().copied().find(|i| !is_available(pod(*i), limits, now, &mut plan.again_at));
    if !pod::is_deleting(pod(last)) && first_unwell.is_none_or(|unwell| unwell == last) {
        plan.delete.push(last);
    }
}

/// Deletes pods of the old template, which come back with the new one. `wanted` is in order of ordinals.
fn roll(observed: &Observed<'_>, limits: &Limits, wanted: &[usize], plan: &mut Plan, now: Timestamp) {
    let Some(update) = &limits.update else { return };
    let pod = |i: usize| &observed.pods[i];
    let is_old = |i: &usize| revision_of(observed.set, pod(*i)) != Some(observed.update) && !pod::is_deleting(pod(*i));
    let partition = limits.start.saturating_add(update.partition.unwrap_or(0));
    let rolled = |i: &usize| ordinal(observed.set.name(), pod(*i).name()).is_some_and(|o| o >= partition);
    if let Some(most) = update.unavailable_max {
        let missing = wanted.iter().filter(|i| !is_available(pod(**i), limits, now, &mut plan.again_at)).count();
        let old = wanted.iter().rev().copied().filter(|i| rolled(i) && is_old(i));
        plan.delete.extend(old.take(most.saturating_sub(missing)));
        return;
    }
    for i in wanted.iter().rev().copied().filter(|i| rolled(i)) {
        if is_old(&i) {
            plan.delete.push(i);
            return;
        }
        // One that is not back yet holds up the next.
        if !is_available(pod(i), limits, now, &mut plan.again_at) {
            return;
        }
    }
}

/// Whether the pod is as it should be, so that the next may be looked at; one that has ended is replaced.
fn settle(pod: &Pod, index: usize, limits: &Limits, plan: &mut Plan, now: Timestamp) -> bool {
    if pod::is_finished(pod) && !pod::is_deleting(pod) {
        plan.delete.push(index);
        return false;
    }
    if pod::phase(pod) == "Pending" {
        plan.furnish.push(index);
    }
    is_available(pod, limits, now, &mut plan.again_at)
}

/// Running, ready for long enough, and not about to go.
fn is_available(pod: &Pod, limits: &Limits, now: Timestamp, again_at: &mut Option<Timestamp>) -> bool {
    !pod::is_deleting(pod) && availability(pod, limits, now, again_at) == Availability::Yes
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
    let old = match limits.update.as_ref().map(|u| u.partition) {
        Some(None) => ordinal < limits.start.saturating_add(current_replicas),
        Some(Some(partition)) => ordinal < limits.start.saturating_add(partition),
        None => false,
    };
    if old { observed.current.to_owned() } else { observed.update.to_owned() }
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
            current += i32::from(revision_of(set, pod) == Some(observed.current));
            updated += i32::from(revision_of(set, pod) == Some(observed.update));
        }
    }
    let mut revision = observed.current.to_owned();
    // Everyone has the new template: from now on it is the current one.
    if limits.update.is_some() && updated == replicas && ready == replicas && replicas == limits.end - limits.start {
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
    use crate::history::HASH_LABEL;
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
    fn nothing_goes_while_another_that_is_to_go_is_not_well() {
        let s = set(1, "OrderedReady", 0);
        check(&s, &["0/new", "1/new", "2/new"], &[], &[2]);
        check(&s, &["0/new", "1/new", "2/new/unready"], &[], &[2]);
        check(&s, &["0/new", "1/new/unready", "2/new"], &[], &[]);
        check(&s, &["0/new", "1/new/unready", "2/new/unready"], &[], &[]);
        check(&s, &["0/new/unready", "1/new", "2/new"], &[], &[]);
    }

    #[test]
    fn several_at_a_time() {
        let mut s = set(4, "OrderedReady", 0);
        let rolling = s.spec.as_mut().unwrap().update_strategy.as_mut().unwrap().rolling_update.as_mut().unwrap();
        rolling.max_unavailable = Some(api::IntOrString::Int(2));
        check(&s, &["0/old", "1/old", "2/old", "3/old"], &[], &[3, 2]);
        check(&s, &["0/old", "1/old", "2/old", "3/new"], &[], &[2, 1]);
        let rolling = s.spec.as_mut().unwrap().update_strategy.as_mut().unwrap().rolling_update.as_mut().unwrap();
        rolling.max_unavailable = Some(api::IntOrString::String("10%".into()));
        check(&s, &["0/old", "1/old", "2/old", "3/old"], &[], &[3]);
    }

    #[test]
    fn ordinals_begin_where_they_are_asked_to() {
        let mut s = set(2, "OrderedReady", 0);
        s.spec.as_mut().unwrap().ordinals = Some(api::apps::StatefulSetOrdinals { start: Some(5) });
        check(&s, &[], &[5], &[]);
        check(&s, &["4/new", "5/new", "6/new"], &[], &[0]);
        check(&s, &["5/new", "6/old"], &[], &[1]);
    }
}
