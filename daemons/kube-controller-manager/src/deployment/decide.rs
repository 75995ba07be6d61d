//! What a Deployment's ReplicaSets should be, and its status: one pure function of what is observed.
//!
//! Behaviour follows upstream's `pkg/controller/deployment`; where upstream writes several times in one pass (paused
//! conditions, revision, status), the plan has one write of each object.

use std::collections::BTreeMap;

use api::Kind;
use api::apps::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus,
};
use api::jiff::Timestamp;
use api::metav1::ObjectMeta;

use super::condition::{self, reason};
use super::revision;
use crate::clock::plus_seconds;
use crate::event::Note;
use crate::int_or_percent::{Round, resolve};
use crate::{hash, owner};

/// What the controller sees.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub deployment: &'a Deployment,
    /// The ReplicaSets that it owns.
    pub sets: &'a [ReplicaSet],
    /// By ReplicaSet's uid: pods that have not run to their end.
    pub pods_unfinished: &'a BTreeMap<String, usize>,
}

/// What to write, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub sets: Vec<SetWrite>,
    /// Names of ReplicaSets beyond the revision history.
    pub delete: Vec<ReplicaSetId>,
    /// The Deployment with its new spec: only when rolling back.
    pub update: Option<Box<Deployment>>,
    /// The Deployment with its new status, and the revision annotation.
    pub status: Option<Box<Deployment>>,
    /// Events that tell of no single write.
    pub notes: Vec<Note>,
    /// When to look again though nothing happens: the progress deadline.
    pub again_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct SetWrite {
    pub set: Box<ReplicaSet>,
    pub verb: Verb,
    /// Recorded once it is written.
    pub note: Option<Note>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Update,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplicaSetId {
    pub name: String,
    pub uid: String,
}

pub(super) fn decide(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let mut work = Work::new(observed, now);
    if observed.deployment.metadata.deletion_timestamp.is_some() {
        work.sync_newest(IfAbsent::LeaveAbsent);
        return work.finish(Progress::NotEstimated);
    }
    work.paused_conditions();
    if work.spec.paused == Some(true) {
        return work.scale_only();
    }
    if let Some(to) = rollback_revision(observed.deployment) {
        return work.roll_back(to);
    }
    if work.is_scaling_event() {
        return work.scale_only();
    }
    match work.strategy {
        Strategy::Recreate => work.recreate(observed.pods_unfinished),
        Strategy::RollingUpdate => work.rolling_update(),
    }
}

/// The status that reports why a ReplicaSet could not be made.
pub(super) fn create_failed(deployment: &Deployment, set: &str, why: &str, now: Timestamp) -> (Option<Deployment>, Note) {
    let message = format!("Failed to create new replica set \"{set}\": {why}");
    let note = Note::warning(reason::REPLICA_SET_CREATE_ERROR, message.clone());
    if !deployment.spec.as_ref().is_some_and(has_progress_deadline) {
        return (None, note);
    }
    let mut after = deployment.clone();
    let conditions = after.status.get_or_insert_default().conditions.get_or_insert_default();
    let failed = condition::new(condition::PROGRESSING, "False", reason::REPLICA_SET_CREATE_ERROR, message, now);
    condition::set(conditions, failed);
    ((after != *deployment).then_some(after), note)
}

/// What it means that the ReplicaSet's name was taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Taken {
    /// By the very ReplicaSet that was wanted, ours or free to be adopted: the cache is behind.
    ByWanted,
    /// By another template with the same hash, or another's ReplicaSet: this status makes the next name differ.
    ByAnother(Box<Deployment>),
}

pub(crate) fn name_taken(deployment: &Deployment, by: &ReplicaSet) -> Taken {
    let free = owner::controller_of(&by.metadata).is_none() && by.metadata.deletion_timestamp.is_none();
    let ours = owner::is_controlled_by(&by.metadata, deployment.uid());
    if (ours || free) && revision::same_template(deployment, by) {
        return Taken::ByWanted;
    }
    let mut after = deployment.clone();
    let count = after.status.get_or_insert_default().collision_count.get_or_insert(0);
    *count = count.saturating_add(1);
    Taken::ByAnother(Box::new(after))
}

/// Whether the ReplicaSet runs the Deployment's template.
pub(crate) fn is_newest(deployment: &Deployment, set: &ReplicaSet) -> bool {
    revision::same_template(deployment, set)
}

fn rollback_revision(deployment: &Deployment) -> Option<i64> {
    deployment.metadata.annotations.as_ref()?.get(revision::ROLLBACK_TO)?.parse().ok()
}

fn has_progress_deadline(spec: &DeploymentSpec) -> bool {
    spec.progress_deadline_seconds.is_some_and(|s| s != i32::MAX)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    RollingUpdate,
    Recreate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfAbsent {
    Create,
    LeaveAbsent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Estimated,
    /// Scaling is no progress, nor is the lack of it a failure.
    NotEstimated,
}

/// A ReplicaSet as it is and as it shall be.
struct Set {
    live: Option<ReplicaSet>,
    want: ReplicaSet,
}

impl Set {
    fn replicas(&self) -> i32 {
        self.want.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }

    fn live_replicas(&self) -> i32 {
        self.live.as_ref().map_or(0, |l| l.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1))
    }

    fn status(&self) -> ReplicaSetStatus {
        self.want.status.clone().unwrap_or_default()
    }

    /// Never more than were asked for: a status that is behind its spec still counts pods that are about to go.
    fn available(&self) -> i32 {
        self.reported_available().min(self.replicas())
    }

    fn reported_available(&self) -> i32 {
        self.want.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
    }

    fn is_active(&self) -> bool {
        self.replicas() > 0
    }

    fn age_key(&self) -> (Timestamp, String) {
        let created = self.want.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |t| t.0);
        (created, self.want.metadata.name.clone().unwrap_or_default())
    }
}

/// One pass, as it takes shape.
struct Work<'a> {
    deployment: &'a Deployment,
    spec: DeploymentSpec,
    now: Timestamp,
    strategy: Strategy,
    replicas: i32,
    surge_max: i32,
    unavailable_max: i32,
    /// Oldest first.
    sets: Vec<Set>,
    /// The one that runs the Deployment's template.
    newest: Option<usize>,
    revision: Option<String>,
    conditions: Vec<DeploymentCondition>,
    plan: Plan,
}

impl<'a> Work<'a> {
    fn new(observed: &Observed<'a>, now: Timestamp) -> Self {
        let deployment = observed.deployment;
        let spec = deployment.spec.clone().unwrap_or_default();
        let mut sets: Vec<Set> = observed.sets.iter().map(|s| Set { live: Some(s.clone()), want: s.clone() }).collect();
        sets.sort_by_key(Set::age_key);
        // Should there ever be several with this template, the oldest is it.
        let newest = sets.iter().position(|s| revision::same_template(deployment, &s.want));
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = match spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) {
            Some("Recreate") => Strategy::Recreate,
            _ => Strategy::RollingUpdate,
        };
        let (surge_max, unavailable_max) = limits(&spec, strategy, replicas);
        let conditions = deployment.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        let plan = Plan::default();
        Self {
            deployment,
            spec,
            now,
            strategy,
            replicas,
            surge_max,
            unavailable_max,
            sets,
            newest,
            revision: None,
            conditions,
            plan,
        }
    }

    fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let newest = self.newest;
        (0..self.sets.len()).filter(move |i| Some(*i) != newest)
    }

    fn total_replicas(&self) -> i32 {
        self.sets.iter().map(Set::replicas).sum()
    }

    fn total_available(&self) -> i32 {
        self.sets.iter().map(Set::available).sum()
    }

    /// Being paused is not lack of progress; a lack already reported stays reported.
    fn paused_conditions(&mut self) {
        if !has_progress_deadline(&self.spec)
            || condition::has_reason(&self.conditions, condition::PROGRESSING, reason::PROGRESS_DEADLINE_EXCEEDED)
        {
            return;
        }
        let said = condition::has_reason(&self.conditions, condition::PROGRESSING, reason::DEPLOYMENT_PAUSED);
        let (why, message) = match (self.spec.paused == Some(true), said) {
            (true, false) => (reason::DEPLOYMENT_PAUSED, "Deployment is paused"),
            (false, true) => (reason::DEPLOYMENT_RESUMED, "Deployment is resumed"),
            _ => return,
        };
        let condition = condition::new(condition::PROGRESSING, "Unknown", why, message, self.now);
        condition::set(&mut self.conditions, condition);
    }

    /// Finds (or makes) the ReplicaSet of the Deployment's template and gives it the highest revision.
    fn sync_newest(&mut self, if_absent: IfAbsent) {
        let next = revision::max(self.old().map(|i| &self.sets[i].want)) + 1;
        if let Some(i) = self.newest {
            let min_ready = self.spec.min_ready_seconds;
            let set = &mut self.sets[i].want;
            revision::sync_newest(self.deployment, set, next);
            let spec = set.spec.get_or_insert_default();
            if spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
                spec.min_ready_seconds = min_ready;
            }
            self.revision = revision::annotation(set, revision::REVISION).map(str::to_owned);
            if has_progress_deadline(&self.spec) && condition::get(&self.conditions, condition::PROGRESSING).is_none() {
                let message = format!("Found new replica set \"{}\"", set.name());
                self.progressing("True", reason::FOUND_NEW_REPLICA_SET, message);
            }
            return;
        }
        if if_absent == IfAbsent::LeaveAbsent {
            return;
        }
        let mut set = self.new_set();
        let others = self.total_replicas();
        revision::sync_newest(self.deployment, &mut set, next);
        revision::set_counts(&mut set, self.replicas, self.replicas + self.surge_max);
        set.spec.get_or_insert_default().replicas = Some(self.newest_replicas(0, others));
        self.revision = Some(next.to_string());
        if has_progress_deadline(&self.spec) {
            let message = format!("Created new replica set \"{}\"", set.name());
            self.progressing("True", reason::NEW_REPLICA_SET_CREATED, message);
        }
        self.newest = Some(self.sets.len());
        self.sets.push(Set { live: None, want: set });
    }

    fn new_set(&self) -> ReplicaSet {
        let mut template = self.spec.template.clone();
        let collisions = self.deployment.status.as_ref().and_then(|s| s.collision_count);
        let hash = hash::of_template(&template, collisions);
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(revision::TEMPLATE_HASH_LABEL.into(), hash.clone());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(revision::TEMPLATE_HASH_LABEL.into(), hash.clone());
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(set_name(self.deployment.name(), &hash)),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![owner::controller_ref(self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        }
    }

    /// How many replicas the newest may have, when it has `has` and all together `total`.
    fn newest_replicas(&self, has: i32, total: i32) -> i32 {
        match self.strategy {
            Strategy::Recreate => self.replicas,
            Strategy::RollingUpdate => {
                let room = (self.replicas + self.surge_max - total).max(0);
                has + room.min(self.replicas - has)
            }
        }
    }

    fn progressing(&mut self, status: &str, why: &str, message: String) {
        let condition = condition::new(condition::PROGRESSING, status, why, message, self.now);
        condition::set(&mut self.conditions, condition);
    }

    fn scale(&mut self, set: usize, replicas: i32) {
        let (desired, max) = (self.replicas, self.replicas + self.surge_max);
        let set = &mut self.sets[set].want;
        set.spec.get_or_insert_default().replicas = Some(replicas);
        revision::set_counts(set, desired, max);
    }

    /// `spec.replicas` has changed since the active ReplicaSets were sized.
    fn is_scaling_event(&self) -> bool {
        self.sets
            .iter()
            .filter(|s| s.is_active())
            .any(|s| revision::count(&s.want, revision::DESIRED_REPLICAS).is_some_and(|n| n != self.replicas))
    }

    fn scale_only(mut self) -> Plan {
        self.sync_newest(IfAbsent::LeaveAbsent);
        self.scale_proportionally();
        if self.spec.paused == Some(true) && rollback_revision(self.deployment).is_none() {
            self.clean_up_history();
        }
        self.finish(Progress::NotEstimated)
    }

    /// A Deployment that changes size amid a rollout keeps the proportions of its ReplicaSets.
    fn scale_proportionally(&mut self) {
        let active: Vec<usize> = (0..self.sets.len()).filter(|i| self.sets[*i].is_active()).collect();
        let only = match active.as_slice() {
            [] => self.newest.or_else(|| self.old().last()),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(only) = only {
            if self.sets[only].replicas() != self.replicas {
                self.scale(only, self.replicas);
            }
            return;
        }
        if active.is_empty() {
            return;
        }
        if self.newest.is_some_and(|i| self.is_saturated(i)) {
            let newest = self.newest;
            for i in active.into_iter().filter(|i| Some(*i) != newest) {
                self.scale(i, 0);
            }
            return;
        }
        if self.strategy == Strategy::RollingUpdate {
            for (set, size) in self.proportions(active) {
                self.scale(set, size);
            }
        }
    }

    /// The newest has all replicas, and they are available.
    fn is_saturated(&self, newest: usize) -> bool {
        let set = &self.sets[newest];
        revision::count(&set.want, revision::DESIRED_REPLICAS) == Some(self.replicas)
            && set.replicas() == self.replicas
            && set.available() == self.replicas
    }

    fn proportions(&self, mut active: Vec<usize>) -> Vec<(usize, i32)> {
        let allowed = if self.replicas > 0 { self.replicas + self.surge_max } else { 0 };
        let to_add = allowed - active.iter().map(|i| self.sets[*i].replicas()).sum::<i32>();
        // From the largest to the smallest; among equals the newer grow first and the older shrink first.
        if to_add > 0 {
            active.reverse();
        }
        if to_add != 0 {
            active.sort_by_key(|i| std::cmp::Reverse(self.sets[*i].replicas()));
        }
        let mut added = 0;
        let mut sizes: Vec<(usize, i32)> = Vec::new();
        for i in active {
            let share = self.proportion(&self.sets[i], to_add, added);
            added += share;
            sizes.push((i, self.sets[i].replicas() + share));
        }
        if let Some((_, largest)) = sizes.first_mut() {
            *largest = (*largest + to_add - added).max(0);
        }
        sizes
    }

    fn proportion(&self, set: &Set, to_add: i32, added: i32) -> i32 {
        let left = to_add - added;
        if left == 0 {
            return 0;
        }
        let fraction = self.fraction(set);
        if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
    }

    fn fraction(&self, set: &Set) -> i32 {
        if self.replicas == 0 {
            return -set.replicas();
        }
        let status_replicas = || self.deployment.status.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        let before = revision::count(&set.want, revision::MAX_REPLICAS).filter(|n| *n != 0).unwrap_or_else(status_replicas);
        if before == 0 {
            return 0;
        }
        let size = f64::from(set.replicas()) * f64::from(self.replicas + self.surge_max) / f64::from(before);
        // Saturating at the bounds of i32 is what is wanted.
        size.round() as i32 - set.replicas()
    }

    fn rolling_update(mut self) -> Plan {
        self.sync_newest(IfAbsent::Create);
        if !self.scale_newest() && !self.scale_old() {
            self.clean_up_if_complete();
        }
        self.finish(Progress::Estimated)
    }

    /// Grows the newest as far as the surge allows (or shrinks it). Whether it did.
    fn scale_newest(&mut self) -> bool {
        let Some(newest) = self.newest else { return false };
        let has = self.sets[newest].replicas();
        let size = if has >= self.replicas { self.replicas } else { self.newest_replicas(has, self.total_replicas()) };
        if size == has {
            return false;
        }
        self.scale(newest, size);
        true
    }

    /// Shrinks the old as far as availability allows, those that are not healthy first. Whether it did.
    fn scale_old(&mut self) -> bool {
        let Some(newest) = self.newest else { return false };
        let old: Vec<usize> = self.old().filter(|i| self.sets[*i].is_active()).collect();
        let min_available = self.replicas - self.unavailable_max;
        let newest_unavailable = self.sets[newest].replicas() - self.sets[newest].available();
        let mut unhealthy_budget = self.total_replicas() - min_available - newest_unavailable;
        if old.is_empty() || unhealthy_budget <= 0 {
            return false;
        }
        let mut scaled = false;
        let mut shrink = |work: &mut Self, i: usize, by: i32| {
            if by > 0 {
                work.scale(i, work.sets[i].replicas() - by);
                scaled = true;
            }
        };
        for i in &old {
            let unhealthy = self.sets[*i].replicas() - self.sets[*i].available();
            let by = unhealthy.clamp(0, unhealthy_budget);
            shrink(self, *i, by);
            unhealthy_budget -= by;
        }
        let mut budget = self.total_available() - min_available;
        for i in &old {
            let by = self.sets[*i].replicas().clamp(0, budget.max(0));
            shrink(self, *i, by);
            budget -= by;
        }
        scaled
    }

    fn recreate(mut self, pods_unfinished: &BTreeMap<String, usize>) -> Plan {
        self.sync_newest(IfAbsent::LeaveAbsent);
        let old: Vec<usize> = self.old().collect();
        let active: Vec<usize> = old.iter().copied().filter(|i| self.sets[*i].is_active()).collect();
        if !active.is_empty() {
            for i in active {
                self.scale(i, 0);
            }
            return self.finish(Progress::Estimated);
        }
        let runs = |set: &Set| set.status().replicas > 0 || pods_unfinished.get(set.want.uid()).copied().unwrap_or(0) > 0;
        if old.iter().any(|i| runs(&self.sets[*i])) {
            return self.finish(Progress::Estimated);
        }
        self.sync_newest(IfAbsent::Create);
        if let Some(newest) = self.newest.filter(|i| self.sets[*i].replicas() != self.replicas) {
            self.scale(newest, self.replicas);
        }
        self.clean_up_if_complete();
        self.finish(Progress::Estimated)
    }

    /// Copies the template of an earlier revision into the Deployment, as clients that cannot do it themselves ask.
    fn roll_back(mut self, to: i64) -> Plan {
        let to = if to == 0 { revision::last(self.sets.iter().map(|s| &s.want)) } else { to };
        let mut after = self.deployment.clone();
        after.metadata.annotations.get_or_insert_default().remove(revision::ROLLBACK_TO);
        let found = self.sets.iter().find(|s| revision::of(&s.want) == Some(to)).map(|s| s.want.clone());
        let note = match found {
            _ if to == 0 => Note::warning("DeploymentRollbackRevisionNotFound", "Unable to find last revision."),
            None => Note::warning("DeploymentRollbackRevisionNotFound", "Unable to find the revision to rollback to."),
            Some(set) if revision::same_template(self.deployment, &set) => Note::warning(
                "DeploymentRollbackTemplateUnchanged",
                format!("The rollback revision contains the same template as current deployment \"{}\"", after.name()),
            ),
            Some(set) => {
                let template = set.spec.as_ref().and_then(|s| s.template.clone()).unwrap_or_default();
                after.spec.get_or_insert_default().template = revision::without_hash(&template);
                let mut annotations = revision::annotations_from(self.deployment, &set);
                annotations.remove(revision::ROLLBACK_TO);
                after.metadata.annotations = Some(annotations);
                let message = format!("Rolled back deployment \"{}\" to revision {to}", after.name());
                Note::normal("DeploymentRollback", message)
            }
        };
        self.plan.update = Some(Box::new(after));
        self.plan.notes.push(note);
        self.plan
    }

    fn clean_up_if_complete(&mut self) {
        if is_complete(self.deployment, self.replicas, &self.deployment.status.clone().unwrap_or_default()) {
            self.clean_up_history();
        }
    }

    /// Deletes the oldest empty ReplicaSets beyond `revisionHistoryLimit`.
    fn clean_up_history(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.filter(|l| *l != i32::MAX) else { return };
        let alive = |i: &usize| self.sets[*i].want.metadata.deletion_timestamp.is_none();
        let mut old: Vec<usize> = self.old().filter(alive).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        // A stable sort: sets are in order of age already.
        old.sort_by_key(|i| revision::of(&self.sets[*i].want));
        for i in old.into_iter().take(surplus) {
            let (set, status) = (&self.sets[i], self.sets[i].status());
            let seen = status.observed_generation.unwrap_or(0) >= set.want.metadata.generation.unwrap_or(0);
            if status.replicas == 0 && set.replicas() == 0 && set.live_replicas() == 0 && seen {
                let (name, uid) = (set.want.name().to_owned(), set.want.uid().to_owned());
                self.plan.delete.push(ReplicaSetId { name, uid });
            }
        }
    }

    fn finish(mut self, progress: Progress) -> Plan {
        let status = self.status(progress);
        for set in &self.sets {
            if let Some(write) = set_write(set) {
                self.plan.sets.push(write);
            }
        }
        let mut after = self.deployment.clone();
        if let Some(revision) = self.revision.take() {
            after.metadata.annotations.get_or_insert_default().insert(revision::REVISION.into(), revision);
        }
        self.plan.again_at = self.deadline(&status);
        after.status = Some(status);
        if !same(&after, self.deployment) {
            self.plan.status = Some(Box::new(after));
        }
        self.plan
    }

    fn status(&mut self, progress: Progress) -> DeploymentStatus {
        let old = self.deployment.status.clone().unwrap_or_default();
        let statuses: Vec<ReplicaSetStatus> = self.sets.iter().map(Set::status).collect();
        let sum = |count: fn(&ReplicaSetStatus) -> i32| statuses.iter().map(count).sum::<i32>();
        let available = self.sets.iter().map(Set::reported_available).sum();
        let mut status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: Some(sum(|s| s.replicas)),
            updated_replicas: Some(self.newest.map_or(0, |i| statuses[i].replicas)),
            ready_replicas: Some(sum(|s| s.ready_replicas.unwrap_or(0))),
            available_replicas: Some(available),
            unavailable_replicas: Some((self.total_replicas() - available).max(0)),
            // Unknown as long as one ReplicaSet that has been looked at does not say.
            terminating_replicas: statuses
                .iter()
                .all(|s| s.terminating_replicas.is_some() || s.observed_generation.unwrap_or(0) == 0)
                .then(|| sum(|s| s.terminating_replicas.unwrap_or(0))),
            collision_count: old.collision_count,
            conditions: None,
        };
        let (status_text, why, message) = if available >= self.replicas - self.unavailable_max {
            ("True", reason::MINIMUM_REPLICAS_AVAILABLE, "Deployment has minimum availability.")
        } else {
            ("False", reason::MINIMUM_REPLICAS_UNAVAILABLE, "Deployment does not have minimum availability.")
        };
        let condition = condition::new(condition::AVAILABLE, status_text, why, message, self.now);
        condition::set(&mut self.conditions, condition);
        if progress == Progress::Estimated {
            self.estimate_progress(&old, &status);
            self.replica_failure();
        }
        status.conditions = Some(self.conditions.clone());
        status
    }

    fn estimate_progress(&mut self, old: &DeploymentStatus, new: &DeploymentStatus) {
        if !has_progress_deadline(&self.spec) {
            condition::remove(&mut self.conditions, condition::PROGRESSING);
            return;
        }
        let was_complete = condition::has_reason(&self.conditions, condition::PROGRESSING, reason::NEW_REPLICA_SET_AVAILABLE);
        if new.replicas == new.updated_replicas && was_complete {
            return;
        }
        let subject = match self.newest {
            Some(i) => format!("ReplicaSet \"{}\"", self.sets[i].want.name()),
            None => format!("Deployment \"{}\"", self.deployment.name()),
        };
        if is_complete(self.deployment, self.replicas, new) {
            let message = format!("{subject} has successfully progressed.");
            self.progressing("True", reason::NEW_REPLICA_SET_AVAILABLE, message);
        } else if has_progressed(old, new) {
            let message = format!("{subject} is progressing.");
            let mut condition = condition::new(condition::PROGRESSING, "True", reason::REPLICA_SET_UPDATED, message, self.now);
            if let Some(before) = condition::get(&self.conditions, condition::PROGRESSING).filter(|c| c.status == "True") {
                condition.last_transition_time = before.last_transition_time.clone();
            }
            // Removed first: progress moves `lastUpdateTime` though the reason stays.
            condition::remove(&mut self.conditions, condition::PROGRESSING);
            condition::set(&mut self.conditions, condition);
        } else if self.is_timed_out() {
            let message = format!("{subject} has timed out progressing.");
            self.progressing("False", reason::PROGRESS_DEADLINE_EXCEEDED, message);
        }
    }

    fn is_timed_out(&self) -> bool {
        let Some(condition) = condition::get(&self.conditions, condition::PROGRESSING) else { return false };
        match condition.reason.as_deref() {
            Some(reason::NEW_REPLICA_SET_AVAILABLE) => false,
            Some(reason::PROGRESS_DEADLINE_EXCEEDED) => true,
            _ => self.deadline_after(condition).is_some_and(|at| at < self.now),
        }
    }

    fn deadline_after(&self, condition: &DeploymentCondition) -> Option<Timestamp> {
        let seconds = self.spec.progress_deadline_seconds.filter(|s| *s != i32::MAX)?;
        Some(plus_seconds(condition.last_update_time.as_ref()?.0, i64::from(seconds)))
    }

    /// When to look whether the rollout is stuck, if it is still under way.
    fn deadline(&self, status: &DeploymentStatus) -> Option<Timestamp> {
        let condition = condition::get(&self.conditions, condition::PROGRESSING)?;
        let over = [reason::PROGRESS_DEADLINE_EXCEEDED, reason::NEW_REPLICA_SET_AVAILABLE, reason::DEPLOYMENT_PAUSED];
        if condition.reason.as_deref().is_some_and(|r| over.contains(&r)) || is_complete(self.deployment, self.replicas, status) {
            return None;
        }
        Some(plus_seconds(self.deadline_after(condition)?, 1))
    }

    /// A ReplicaSet that can't make its pods is reported, the newest before others.
    fn replica_failure(&mut self) {
        let order = self.newest.into_iter().chain(self.old());
        let failure = order.flat_map(|i| self.sets[i].status().conditions.unwrap_or_default());
        match failure.into_iter().find(|c| c.type_ == condition::REPLICA_FAILURE) {
            None => condition::remove(&mut self.conditions, condition::REPLICA_FAILURE),
            Some(c) => condition::set(
                &mut self.conditions,
                DeploymentCondition {
                    type_: c.type_,
                    status: c.status,
                    reason: c.reason,
                    message: c.message,
                    last_update_time: c.last_transition_time.clone(),
                    last_transition_time: c.last_transition_time,
                },
            ),
        }
    }
}

/// The write that makes a ReplicaSet what it shall be, if it is not.
fn set_write(set: &Set) -> Option<SetWrite> {
    let verb = match &set.live {
        None => Verb::Create,
        Some(live) if *live == set.want => return None,
        Some(_) => Verb::Update,
    };
    let (from, to) = (set.live_replicas(), set.replicas());
    let note = (from != to).then(|| {
        let direction = if from < to { "up" } else { "down" };
        let name = set.want.name();
        Note::normal("ScalingReplicaSet", format!("Scaled {direction} replica set {name} from {from} to {to}"))
    });
    Some(SetWrite { set: Box::new(set.want.clone()), verb, note })
}

/// Every replica is of the newest template and available, and no other runs.
fn is_complete(deployment: &Deployment, replicas: i32, status: &DeploymentStatus) -> bool {
    status.updated_replicas.unwrap_or(0) == replicas
        && status.replicas.unwrap_or(0) == replicas
        && status.available_replicas.unwrap_or(0) == replicas
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |v: Option<i32>| v.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

/// Equal, where an absent count is 0 and absent conditions are none (a server leaves out what is empty).
fn same(a: &Deployment, b: &Deployment) -> bool {
    let normal = |d: &Deployment| {
        let s = d.status.clone().unwrap_or_default();
        DeploymentStatus {
            observed_generation: Some(s.observed_generation.unwrap_or(0)),
            replicas: Some(s.replicas.unwrap_or(0)),
            updated_replicas: Some(s.updated_replicas.unwrap_or(0)),
            ready_replicas: Some(s.ready_replicas.unwrap_or(0)),
            available_replicas: Some(s.available_replicas.unwrap_or(0)),
            unavailable_replicas: Some(s.unavailable_replicas.unwrap_or(0)),
            terminating_replicas: Some(s.terminating_replicas.unwrap_or(0)),
            conditions: Some(s.conditions.unwrap_or_default()),
            collision_count: s.collision_count,
        }
    };
    a.metadata.annotations == b.metadata.annotations && normal(a) == normal(b)
}

/// How many pods may be too many, and how many may be missing.
fn limits(spec: &DeploymentSpec, strategy: Strategy, replicas: i32) -> (i32, i32) {
    if strategy == Strategy::Recreate {
        return (0, 0);
    }
    let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.clone()).unwrap_or_default();
    let surge = resolve(rolling.max_surge.as_ref(), replicas, Round::Up);
    let mut unavailable = resolve(rolling.max_unavailable.as_ref(), replicas, Round::Down);
    if surge == 0 && unavailable == 0 {
        // Shares of small numbers can both come out as nothing, and then no rollout could begin.
        unavailable = 1;
    }
    (surge, unavailable.min(replicas))
}

/// `name-hash`, the name cut where both would not fit.
fn set_name(deployment: &str, hash: &str) -> String {
    const NAME_MAX: usize = 253;
    let keep = NAME_MAX - 1 - hash.len();
    format!("{}-{hash}", deployment.get(..keep).unwrap_or(deployment))
}

#[cfg(test)]
mod tests;
