//! Which pods of a DaemonSet to create and to delete, and its status. Pure.

use std::collections::BTreeMap;

use api::Kind;
use api::apps::{DaemonSet, DaemonSetStatus};
use api::core::{Node, Pod};
use api::jiff::Timestamp;

use super::placement::{Fit, HASH_LABEL, Judge, target};
use crate::event::Note;
use crate::int_or_percent::{Round, resolve};
use crate::pod::{self, Availability};

/// Pods created and deleted in one pass.
pub(super) const BURST_MAX: usize = 250;

pub(super) struct Observed<'a> {
    pub(super) set: &'a DaemonSet,
    /// Of the DaemonSet's present template.
    pub(super) hash: &'a str,
    pub(super) nodes: &'a [Node],
    /// The pods that it owns.
    pub(super) pods: &'a [Pod],
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Names of nodes that get a pod.
    pub(super) create: Vec<String>,
    /// Indexes into the observed pods.
    pub(super) delete: Vec<usize>,
    /// Failed pods, to be replaced when their node's back-off allows.
    pub(super) failed: Vec<usize>,
    pub(super) notes: Vec<Note>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty() && self.failed.is_empty()
    }
}

/// One DaemonSet's view of the cluster: fits and pods by node.
struct View<'a> {
    observed: &'a Observed<'a>,
    fits: Vec<(&'a str, Fit)>,
    by_node: BTreeMap<&'a str, Vec<usize>>,
    min_ready_seconds: i32,
    surge_max: usize,
    unavailable_max: usize,
    now: Timestamp,
}

pub(super) fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let view = View::new(observed, now);
    let mut plan = view.manage();
    let strategy = observed.set.spec.as_ref().and_then(|s| s.update_strategy.as_ref()).and_then(|s| s.type_.as_deref());
    if plan.is_empty() && strategy != Some("OnDelete") {
        plan = if view.surge_max > 0 { view.roll_with_surge() } else { view.roll() };
    }
    plan.create.truncate(BURST_MAX);
    plan.delete.truncate(BURST_MAX);
    plan
}

impl<'a> View<'a> {
    fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let judge = Judge::new(observed.set);
        let fits: Vec<(&str, Fit)> = observed.nodes.iter().map(|n| (n.name(), judge.fit(n))).collect();
        let mut by_node: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, pod) in observed.pods.iter().enumerate() {
            // A pod that ended and is being deleted is nobody's concern any more.
            if pod::is_finished(pod) && pod::is_deleting(pod) {
                continue;
            }
            if let Some(node) = target(pod) {
                by_node.entry(node).or_default().push(i);
            }
        }
        for pods in by_node.values_mut() {
            pods.sort_by_key(|i| seniority(&observed.pods[*i]));
        }
        let desired = fits.iter().filter(|(_, fit)| *fit == Fit::Runs).count();
        let (surge_max, unavailable_max) = limits(observed.set, desired);
        let min_ready_seconds = observed.set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
        Self { observed, fits, by_node, min_ready_seconds, surge_max, unavailable_max, now }
    }

    fn pod(&self, i: usize) -> &'a Pod {
        &self.observed.pods[i]
    }

    fn is_updated(&self, i: usize) -> bool {
        let labels = self.pod(i).metadata.labels.as_ref();
        labels.and_then(|l| l.get(HASH_LABEL)).is_some_and(|h| h == self.observed.hash)
    }

    fn is_available(&self, i: usize) -> bool {
        pod::availability(self.pod(i), self.min_ready_seconds, self.now) == Availability::Yes
    }

    /// One pod on each node that fits, none on others.
    fn manage(&self) -> Plan {
        let mut plan = Plan::default();
        for (node, fit) in &self.fits {
            match (fit, self.by_node.get(node)) {
                (Fit::Runs, None) => plan.create.push((*node).to_owned()),
                (Fit::Stays | Fit::No, None) => {}
                (Fit::No, Some(pods)) => plan.delete.extend(self.living(pods)),
                (Fit::Runs | Fit::Stays, Some(pods)) => self.manage_node(node, *fit, pods, &mut plan),
            }
        }
        // Pods meant for nodes that are gone will never run.
        for (node, pods) in &self.by_node {
            if !self.fits.iter().any(|(name, _)| name == node) {
                plan.delete.extend(self.living(pods).filter(|i| pod::node_name(self.pod(*i)).is_empty()));
            }
        }
        plan
    }

    fn living(&self, pods: &'a [usize]) -> impl Iterator<Item = usize> {
        pods.iter().copied().filter(|i| !pod::is_deleting(self.pod(*i)))
    }

    fn manage_node(&self, node: &str, fit: Fit, pods: &'a [usize], plan: &mut Plan) {
        let mut running = Vec::new();
        for i in self.living(pods) {
            let pod = self.pod(i);
            let subject = format!("daemon pod {}/{} on node {node}", pod.namespace(), pod.name());
            match pod::phase(pod) {
                "Failed" => {
                    plan.failed.push(i);
                    let message = format!("Found failed {subject}, will try to kill it");
                    plan.notes.push(Note::warning("FailedDaemonPod", message));
                }
                "Succeeded" => {
                    plan.delete.push(i);
                    let message = format!("Found succeeded {subject}, will try to delete it");
                    plan.notes.push(Note::normal("SucceededDaemonPod", message));
                }
                _ => running.push(i),
            }
        }
        if self.surge_max == 0 {
            plan.delete.extend(running.into_iter().skip(1));
            return;
        }
        if running.is_empty() && fit == Fit::Runs {
            plan.create.push(node.to_owned());
        }
        if running.len() < 2 {
            return;
        }
        // Two are right only while the new one is not ready and the old one is.
        let new = running.iter().copied().find(|i| self.is_updated(*i));
        let old = running.iter().copied().find(|i| !self.is_updated(*i));
        plan.delete.extend(running.into_iter().filter(|i| Some(*i) != new && Some(*i) != old));
        if let Some((new, old)) = new.zip(old)
            && (!pod::is_ready(self.pod(old)) || self.is_available(new))
        {
            plan.delete.push(old);
        }
    }

    /// The updated and the outdated pod of a node; `None` when there are several of a kind, which are to be sorted out first.
    fn pair(&self, pods: &'a [usize]) -> Option<(Option<usize>, Option<usize>)> {
        let (mut new, mut old) = (None, None);
        for i in self.living(pods) {
            let slot = if self.is_updated(i) { &mut new } else { &mut old };
            if slot.replace(i).is_some() {
                return None;
            }
        }
        Some((new, old))
    }

    /// Deletes outdated pods as far as `maxUnavailable` allows; those that are not available anyway, at once.
    fn roll(&self) -> Plan {
        let mut unavailable = 0;
        let (mut at_once, mut candidates) = (Vec::new(), Vec::new());
        for pods in self.by_node.values() {
            match self.pair(pods) {
                Some((Some(new), None)) => unavailable += usize::from(!self.is_available(new)),
                Some((None, Some(old))) if self.is_available(old) => candidates.push(old),
                Some((None, Some(old))) => {
                    at_once.push(old);
                    unavailable += 1;
                }
                // None, both (the old one is about to be deleted), or several.
                _ => unavailable += 1,
            }
        }
        // Nodes whose pod has yet to be made lack one too.
        unavailable += self.fits.iter().filter(|(n, fit)| *fit == Fit::Runs && !self.by_node.contains_key(n)).count();
        candidates.truncate(self.unavailable_max.saturating_sub(unavailable));
        at_once.extend(candidates);
        Plan { delete: at_once, ..Plan::default() }
    }

    /// Creates new pods beside the old as far as `maxSurge` allows, and deletes an old one when its successor is available.
    fn roll_with_surge(&self) -> Plan {
        let mut plan = Plan::default();
        let mut surging = 0;
        let mut candidates = Vec::new();
        for (node, pods) in &self.by_node {
            match self.pair(pods) {
                None => surging += 1,
                Some((_, None)) => {}
                Some((Some(new), Some(_))) if !self.is_available(new) => surging += 1,
                Some((Some(_), Some(old))) => plan.delete.push(old),
                Some((None, Some(old))) => {
                    let runs = self.fits.iter().any(|(n, fit)| n == node && *fit == Fit::Runs);
                    match (runs, self.is_available(old)) {
                        // No successor is made where a taint forbids it: the old one goes when it is of no use.
                        (false, true) => {}
                        (false, false) => plan.delete.push(old),
                        (true, false) => plan.create.push((*node).to_owned()),
                        (true, true) => candidates.push((*node).to_owned()),
                    }
                }
            }
        }
        candidates.truncate(self.surge_max.saturating_sub(surging));
        plan.create.extend(candidates);
        plan
    }
}

/// Pods on a node before those that wait, the older before the younger.
fn seniority(pod: &Pod) -> (bool, Timestamp, String) {
    let created = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |t| t.0);
    (pod::node_name(pod).is_empty(), created, pod.name().to_owned())
}

/// How many nodes may have two pods, and how many none that is available.
fn limits(set: &DaemonSet, desired: usize) -> (usize, usize) {
    let rolling = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref()).and_then(|s| s.rolling_update.clone());
    let rolling = rolling.unwrap_or_default();
    let total = i32::try_from(desired).unwrap_or(i32::MAX);
    let count = |value| usize::try_from(resolve(value, total, Round::Up)).unwrap_or(0);
    let (surge, unavailable) = (count(rolling.max_surge.as_ref()), count(rolling.max_unavailable.as_ref()));
    // Shares of nothing would let nothing happen.
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// The status, and when a pod that is ready now becomes available.
pub(super) fn status(observed: &Observed<'_>, now: Timestamp) -> (DaemonSetStatus, Option<Timestamp>) {
    let view = View::new(observed, now);
    let old = observed.set.status.clone().unwrap_or_default();
    let mut next: Option<Timestamp> = None;
    let (mut desired, mut current, mut misscheduled, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for (node, fit) in &view.fits {
        let senior = view.by_node.get(node).and_then(|pods| pods.first()).copied();
        match (fit, senior) {
            (Fit::Runs, None) => desired += 1,
            (Fit::Runs, Some(senior)) => {
                desired += 1;
                current += 1;
                ready += i32::from(pod::is_ready(view.pod(senior)));
                match pod::availability(view.pod(senior), view.min_ready_seconds, now) {
                    Availability::Yes => available += 1,
                    Availability::From(at) => next = Some(next.map_or(at, |n| n.min(at))),
                    Availability::No => {}
                }
                updated += i32::from(view.is_updated(senior));
            }
            (Fit::Stays | Fit::No, Some(_)) => misscheduled += 1,
            (Fit::Stays | Fit::No, None) => {}
        }
    }
    let status = DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: misscheduled,
        number_ready: ready,
        updated_number_scheduled: Some(updated),
        number_available: Some(available),
        number_unavailable: Some(desired - available),
        observed_generation: observed.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    (status, next)
}

/// Equal, where a count that is absent is 0.
pub(super) fn same(a: &DaemonSetStatus, b: &DaemonSetStatus) -> bool {
    let normal = |s: &DaemonSetStatus| {
        let count = |v: Option<i32>| Some(v.unwrap_or(0));
        DaemonSetStatus {
            updated_number_scheduled: count(s.updated_number_scheduled),
            number_available: count(s.number_available),
            number_unavailable: count(s.number_unavailable),
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
    use api::IntOrString;
    use api::apps::{DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
    use api::core::{NodeSpec, Taint};
    use api::metav1::ObjectMeta;

    fn set(surge: i32, unavailable: i32) -> DaemonSet {
        DaemonSet {
            metadata: ObjectMeta { name: Some("agent".into()), generation: Some(3), ..ObjectMeta::default() },
            spec: Some(DaemonSetSpec {
                update_strategy: Some(DaemonSetUpdateStrategy {
                    type_: Some("RollingUpdate".into()),
                    rolling_update: Some(RollingUpdateDaemonSet {
                        max_surge: Some(IntOrString::Int(surge)),
                        max_unavailable: Some(IntOrString::Int(unavailable)),
                    }),
                }),
                ..DaemonSetSpec::default()
            }),
            status: None,
        }
    }

    fn nodes(count: usize) -> Vec<Node> {
        (1..=count)
            .map(|i| Node {
                metadata: ObjectMeta { name: Some(format!("n{i}")), ..ObjectMeta::default() },
                spec: Some(NodeSpec::default()),
                status: None,
            })
            .collect()
    }

    /// `n1/new`, `n2/old/unready`: a pod on a node, its template, and what ails it.
    fn pods(texts: &[&str]) -> Vec<Pod> {
        let make = |(i, text): (usize, &&str)| {
            let parts: Vec<&str> = text.split('/').collect();
            let mut pod = running(&format!("p{i}"));
            pod.spec.as_mut().unwrap().node_name = Some(parts[0].into());
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
        texts.iter().enumerate().map(make).collect()
    }

    fn check(set: &DaemonSet, nodes: &[Node], texts: &[&str], create: &[&str], delete: &[usize]) {
        let pods = pods(texts);
        let plan = plan(&Observed { set, hash: "new", nodes, pods: &pods }, at(100));
        assert_eq!(
            (plan.create.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), plan.delete.as_slice()),
            (create, delete),
            "{texts:?}"
        );
    }

    #[test]
    fn one_pod_on_each_node() {
        let s = set(0, 1);
        check(&s, &nodes(3), &[], &["n1", "n2", "n3"], &[]);
        check(&s, &nodes(2), &["n1/new"], &["n2"], &[]);
        check(&s, &nodes(1), &["n1/new", "n1/new"], &[], &[1]);
        check(&s, &nodes(1), &["n1/new/deleting"], &[], &[]);
        check(&s, &nodes(1), &["n1/new/Failed/deleting"], &["n1"], &[]);
        check(&s, &nodes(1), &["n1/new/Succeeded"], &[], &[0]);
        // On a node that is gone: the node's garbage, not ours.
        check(&s, &nodes(1), &["n1/new", "gone/new"], &[], &[]);
    }

    #[test]
    fn failed_pods_wait_for_their_back_off() {
        let pods = pods(&["n1/new/Failed"]);
        let plan = plan(&Observed { set: &set(0, 1), hash: "new", nodes: &nodes(1), pods: &pods }, at(100));
        assert_eq!((plan.failed.as_slice(), plan.delete.len(), plan.notes[0].reason), (&[0][..], 0, "FailedDaemonPod"));
    }

    #[test]
    fn taints() {
        let tainted = |effect: &str| {
            let mut nodes = nodes(1);
            let taint = Taint { key: "own".into(), effect: effect.into(), ..Taint::default() };
            nodes[0].spec.as_mut().unwrap().taints = Some(vec![taint]);
            nodes
        };
        check(&set(0, 1), &tainted("NoSchedule"), &[], &[], &[]);
        check(&set(0, 1), &tainted("NoSchedule"), &["n1/new"], &[], &[]);
        check(&set(0, 1), &tainted("NoExecute"), &["n1/new"], &[], &[0]);
    }

    #[test]
    fn rolling_updates() {
        let n = nodes(3);
        check(&set(0, 1), &n, &["n1/old", "n2/old", "n3/old"], &[], &[0]);
        check(&set(0, 2), &n, &["n1/old", "n2/old", "n3/old"], &[], &[0, 1]);
        check(&set(0, 1), &n, &["n1/new/unready", "n2/old", "n3/old"], &[], &[]);
        check(&set(0, 1), &n, &["n1/new", "n2/old", "n3/old"], &[], &[1]);
        check(&set(0, 1), &n, &["n1/old/deleting", "n2/old", "n3/old"], &[], &[]);
        // What does not run is replaced whatever the limit.
        check(&set(0, 1), &n, &["n1/old/unready", "n2/old/unready", "n3/old"], &[], &[0, 1]);
        check(&set(0, 0), &n, &["n1/old", "n2/old", "n3/old"], &[], &[0]);
        check(&set(0, 1), &n, &["n1/new", "n2/new", "n3/new"], &[], &[]);
        let mut by_hand = set(0, 1);
        by_hand.spec.as_mut().unwrap().update_strategy.as_mut().unwrap().type_ = Some("OnDelete".into());
        check(&by_hand, &n, &["n1/old", "n2/old", "n3/old"], &[], &[]);
    }

    #[test]
    fn rolling_updates_with_surge() {
        let n = nodes(3);
        check(&set(1, 0), &n, &["n1/old", "n2/old", "n3/old"], &["n1"], &[]);
        check(&set(1, 0), &n, &["n1/old", "n1/new/unready", "n2/old", "n3/old"], &[], &[]);
        check(&set(1, 0), &n, &["n1/old", "n1/new", "n2/old", "n3/old"], &[], &[0]);
        check(&set(1, 0), &n, &["n1/new", "n2/old", "n3/old"], &["n2"], &[]);
        check(&set(1, 0), &n, &["n1/old/unready", "n2/old/unready", "n3/old"], &["n1", "n2", "n3"], &[]);
        check(&set(1, 0), &n, &["n1/old/unready", "n1/new/unready", "n2/new", "n3/new"], &[], &[0]);
    }

    #[test]
    fn the_status_counts_nodes() {
        let pods = pods(&["n1/new", "n2/old/unready", "gone/new"]);
        let (s, _) = status(&Observed { set: &set(0, 1), hash: "new", nodes: &nodes(3), pods: &pods }, at(100));
        assert_eq!(
            (s.desired_number_scheduled, s.current_number_scheduled, s.number_ready, s.number_available, s.number_unavailable),
            (3, 2, 1, Some(1), Some(2))
        );
        assert_eq!((s.updated_number_scheduled, s.number_misscheduled, s.observed_generation), (Some(1), 0, Some(3)));
    }
}
