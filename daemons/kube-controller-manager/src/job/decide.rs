//! What a Job's pods should be, what has been counted, and whether it is over. Pure.
//!
//! Each pod carries a finalizer until it is counted, so that a finished pod is counted once though it be deleted: first
//! its uid is written to `status.uncountedTerminatedPods`, then the finalizer goes, then the uid becomes part of the sum.
//! A succeeded pod of an indexed Job needs no uid: its index is written.

use std::collections::{BTreeMap, BTreeSet};

use api::Kind;
use api::batch::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use api::core::Pod;
use api::jiff::Timestamp;

use super::pods::{New, failures_before, finished_at, index_of, is_tracked};
use super::{indexes, policy};
use crate::clock::{plus_seconds, time};
use crate::event::Note;
use crate::pod;
use policy::Verdict;

#[cfg(test)]
mod tests;

const BURST_MAX: usize = 500;
/// So many uids at most stand in a status; the rest waits for the next pass.
const UNCOUNTED_MAX: usize = 500;
const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_SECONDS_MAX: i64 = 600;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<New>,
    /// Indexes into the observed pods: they go uncounted.
    pub(super) delete: Vec<usize>,
    /// They go because the Job is over, and are counted.
    pub(super) terminate: Vec<usize>,
    /// The Job with its new status.
    pub(super) status: Option<Box<Job>>,
    /// Counted pods, whose finalizer goes after the status is written.
    pub(super) release: Vec<usize>,
    pub(super) notes: Vec<Note>,
    pub(super) again_at: Option<Timestamp>,
}

/// `pods` are all that the Job owns.
pub(super) fn decide(job: &Job, pods: &[Pod], now: Timestamp) -> Plan {
    let mut work = Work::new(job, pods, now);
    if work.is_finished() {
        return work.clean_up();
    }
    work.observe();
    work.judge();
    if work.target.is_some() {
        work.plan.terminate = work.active.clone();
        work.leave(work.active.clone());
    } else {
        if job.metadata.deletion_timestamp.is_none() {
            work.manage();
        }
        if !work.judge_completion() && job.metadata.deletion_timestamp.is_none() {
            work.tell_suspension();
        }
    }
    work.track();
    work.conclude();
    work.finish()
}

/// How a Job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Success,
    Failure,
}

impl End {
    /// The condition that announces the end, and the one that declares it once all pods are gone and counted.
    fn conditions(self) -> (&'static str, &'static str) {
        match self {
            Self::Success => ("SuccessCriteriaMet", "Complete"),
            Self::Failure => ("FailureTarget", "Failed"),
        }
    }
}

struct Work<'a> {
    job: &'a Job,
    spec: JobSpec,
    pods: &'a [Pod],
    now: Timestamp,
    status: JobStatus,
    uncounted: UncountedTerminatedPods,
    /// Indexes of active pods.
    active: Vec<usize>,
    /// As the counts will be when the plan is carried out.
    active_count: usize,
    ready_count: usize,
    terminating_count: usize,
    succeeded: usize,
    failed: usize,
    completions: u32,
    completed: BTreeSet<u32>,
    failed_indexes: BTreeSet<u32>,
    /// By index: the failed pod that stays until its successor is made, which takes its count of failures over.
    held: BTreeMap<u32, usize>,
    target: Option<End>,
    plan: Plan,
}

impl<'a> Work<'a> {
    fn new(job: &'a Job, pods: &'a [Pod], now: Timestamp) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        let status = job.status.clone().unwrap_or_default();
        let active: Vec<usize> = (0..pods.len()).filter(|i| pod::is_active(&pods[*i])).collect();
        let completions = u32::try_from(spec.completions.unwrap_or(0)).unwrap_or(0);
        let set = |text: &Option<String>| indexes::parse(text.as_deref().unwrap_or_default(), completions);
        Self {
            completed: set(&status.completed_indexes),
            failed_indexes: set(&status.failed_indexes),
            uncounted: status.uncounted_terminated_pods.clone().unwrap_or_default(),
            active_count: active.len(),
            ready_count: active.iter().filter(|i| pod::is_ready(&pods[**i])).count(),
            terminating_count: pods.iter().filter(|p| pod::is_terminating(p)).count(),
            job,
            spec,
            pods,
            now,
            status,
            active,
            succeeded: 0,
            failed: 0,
            completions,
            held: BTreeMap::new(),
            target: None,
            plan: Plan::default(),
        }
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn counts_by_index(&self) -> bool {
        self.is_indexed() && self.spec.backoff_limit_per_index.is_some()
    }

    /// A pod that goes is replaced when it has ended, not before.
    fn waits_for_the_end(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed") || self.spec.pod_failure_policy.is_some()
    }

    fn true_condition(&self, kind: &str) -> Option<&JobCondition> {
        self.status.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True")
    }

    fn is_finished(&self) -> bool {
        self.true_condition("Complete").is_some() || self.true_condition("Failed").is_some()
    }

    /// Of a finished Job no pod is kept running, nor held by the finalizer.
    fn clean_up(mut self) -> Plan {
        self.plan.delete = self.active;
        self.plan.release = (0..self.pods.len()).filter(|i| is_tracked(&self.pods[*i])).collect();
        self.plan
    }

    /// The index of an indexed Job's pod, if it is one of the Job's.
    fn index(&self, pod: &Pod) -> Option<u32> {
        index_of(pod).filter(|i| *i < self.completions)
    }

    /// A pod that somebody deletes has failed as soon as it is deleted, unless its end is to be waited for.
    fn has_failed(&self, pod: &Pod) -> bool {
        let phase = pod::phase(pod);
        phase == "Failed" || (pod::is_deleting(pod) && phase != "Succeeded" && !self.waits_for_the_end())
    }

    fn verdict(&self, pod: &Pod) -> Verdict {
        policy::judge(self.spec.pod_failure_policy.as_ref(), pod)
    }

    /// Adds up what is known: the sums of the status, the uids that wait, and the pods that are new among the finished.
    fn observe(&mut self) {
        let tracked: BTreeSet<&str> = self.pods.iter().filter(|p| is_tracked(p)).map(Kind::uid).collect();
        // The finalizer of the others is gone: they become part of the sum.
        let settle = |uids: &mut Option<Vec<String>>, sum: &mut Option<i32>| {
            let waiting = uids.take().unwrap_or_default();
            let before = waiting.len();
            let waiting: Vec<String> = waiting.into_iter().filter(|uid| tracked.contains(uid.as_str())).collect();
            *sum = Some(sum.unwrap_or(0).saturating_add(i32::try_from(before - waiting.len()).unwrap_or(i32::MAX)));
            *uids = (!waiting.is_empty()).then_some(waiting);
        };
        settle(&mut self.uncounted.failed, &mut self.status.failed);
        settle(&mut self.uncounted.succeeded, &mut self.status.succeeded);
        let knows = |uids: &Option<Vec<String>>, pod: &Pod| uids.iter().flatten().any(|uid| uid == pod.uid());
        let is_new = |p: &&Pod, uids| is_tracked(p) && !knows(uids, p) && (!self.is_indexed() || self.index(p).is_some());
        let counts = |p: &&Pod| self.has_failed(p) && self.verdict(p) != Verdict::Ignore;
        let new_failed = self.pods.iter().filter(|p| is_new(p, &self.uncounted.failed) && counts(p)).count();
        let succeeded = |p: &&Pod| pod::phase(p) == "Succeeded";
        if self.is_indexed() {
            let new = self.pods.iter().filter(|p| is_tracked(p) && succeeded(p)).filter_map(|p| self.index(p));
            let new: Vec<u32> = new.collect();
            self.completed.extend(new);
            self.succeeded = self.completed.len();
        } else {
            let new = self.pods.iter().filter(|p| is_new(p, &self.uncounted.succeeded) && succeeded(p)).count();
            self.succeeded = sum(self.status.succeeded, &self.uncounted.succeeded) + new;
        }
        self.failed = sum(self.status.failed, &self.uncounted.failed) + new_failed;
        if self.counts_by_index() {
            self.observe_indexes();
        }
    }

    /// Indexes that have failed for good, and the pods that hold the count of those that have not.
    fn observe_indexes(&mut self) {
        let limit = self.spec.backoff_limit_per_index.unwrap_or(0);
        let gone = |p: &Pod| match self.verdict(p) {
            Verdict::FailIndex => true,
            Verdict::Ignore => false,
            Verdict::Count | Verdict::FailJob(_) => failures_before(p).0 >= limit,
        };
        let failed: Vec<(usize, u32)> = (0..self.pods.len())
            .filter(|i| is_tracked(&self.pods[*i]) && self.has_failed(&self.pods[*i]))
            .filter_map(|i| Some((i, self.index(&self.pods[i])?)))
            .collect();
        let lost: Vec<u32> = failed.iter().filter(|(i, _)| gone(&self.pods[*i])).map(|(_, index)| *index).collect();
        self.failed_indexes.extend(lost);
        let running: BTreeSet<u32> = self.active.iter().filter_map(|i| index_of(&self.pods[*i])).collect();
        for (i, index) in failed {
            if self.completed.contains(&index) || self.failed_indexes.contains(&index) || running.contains(&index) {
                continue;
            }
            let rank = |i: usize| {
                let (counted, ignored) = failures_before(&self.pods[i]);
                (counted.saturating_add(ignored), finished_at(&self.pods[i]))
            };
            if self.held.get(&index).is_none_or(|last| rank(*last) <= rank(i)) {
                self.held.insert(index, i);
            }
        }
    }

    /// Whether the Job has come to its end before all is done. What was announced stays; then failures; then success.
    fn judge(&mut self) {
        if self.status.start_time.is_none() && !self.is_suspended() {
            self.status.start_time = Some(time(self.now));
        }
        for end in [End::Success, End::Failure] {
            if self.true_condition(end.conditions().0).is_some() {
                self.target = Some(end);
                return;
            }
        }
        if let Some((reason, message)) = self.failure() {
            return self.announce(End::Failure, reason, &message);
        }
        if self.is_indexed()
            && let Some(message) = policy::success(self.spec.success_policy.as_ref(), self.completions, &self.completed)
        {
            self.announce(End::Success, "SuccessPolicy", &message);
        }
    }

    fn failure(&mut self) -> Option<(&'static str, String)> {
        let refused = self.pods.iter().filter(|p| self.has_failed(p)).find_map(|p| match self.verdict(p) {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = refused {
            return Some(("PodFailurePolicy", message));
        }
        // With a limit for each index there is none for all by default.
        let default = if self.counts_by_index() { i32::MAX } else { 6 };
        let limit = usize::try_from(self.spec.backoff_limit.unwrap_or(default)).unwrap_or(0);
        if self.failed > limit || self.restarts_exceed(limit) {
            return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit".into()));
        }
        let started = self.status.start_time.as_ref().map(|t| t.0);
        let deadline = self.spec.active_deadline_seconds.zip(started).map(|(seconds, at)| plus_seconds(at, seconds));
        if let Some(deadline) = deadline.filter(|_| !self.is_suspended()) {
            if deadline <= self.now {
                return Some(("DeadlineExceeded", "Job was active longer than specified deadline".into()));
            }
            self.look_again(deadline);
        }
        if !self.counts_by_index() {
            return None;
        }
        let failed = self.failed_indexes.len();
        let most = self.spec.max_failed_indexes.map(|m| usize::try_from(m).unwrap_or(0));
        if most.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(("MaxFailedIndexesExceeded", message.into()));
        }
        let all = usize::try_from(self.completions).is_ok_and(|all| failed + self.succeeded >= all);
        (failed > 0 && all).then(|| ("FailedIndexes", "Job has failed indexes".into()))
    }

    /// Containers that are restarted in place fail without a failed pod.
    fn restarts_exceed(&self, limit: usize) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
        let lives = |p: &&Pod| matches!(pod::phase(p), "Running" | "Pending");
        let restarts: usize = self.pods.iter().filter(lives).map(pod::restarts).sum();
        policy == Some("OnFailure") && restarts > 0 && restarts >= limit
    }

    fn judge_completion(&mut self) -> bool {
        let complete = self.active_count == 0
            && match self.spec.completions {
                // A work queue: over when one succeeded and none is left.
                None => self.succeeded > 0,
                Some(completions) => usize::try_from(completions).is_ok_and(|c| self.succeeded >= c),
            };
        if complete {
            self.announce(End::Success, "CompletionsReached", "Reached expected number of succeeded pods");
        }
        complete
    }

    fn announce(&mut self, end: End, reason: &str, message: &str) {
        self.target = Some(end);
        self.condition(end.conditions().0, reason, message);
    }

    fn manage(&mut self) {
        if self.is_suspended() {
            self.plan.delete = self.active.clone();
            return self.leave(self.active.clone());
        }
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let wanted = match self.spec.completions {
            None if self.succeeded > 0 => self.active.len(),
            None => parallelism,
            Some(completions) => usize::try_from(completions).unwrap_or(0).saturating_sub(self.succeeded).min(parallelism),
        };
        let mut surplus = self.surplus(wanted);
        surplus.truncate(BURST_MAX);
        if !surplus.is_empty() {
            self.plan.delete = surplus.clone();
            return self.leave(surplus);
        }
        let waiting = if self.waits_for_the_end() { self.terminating_count } else { 0 };
        let missing = wanted.saturating_sub(self.active.len() + waiting).min(BURST_MAX);
        if missing == 0 {
            return;
        }
        if let Some(at) = self.backoff_until().filter(|at| *at > self.now) {
            return self.look_again(at);
        }
        self.plan.create = match (self.is_indexed(), self.counts_by_index()) {
            (false, _) => vec![New::default(); missing],
            (true, false) => self.free_indexes(missing).map(|i| New { index: Some(i), failures: None }).collect(),
            (true, true) => self.successors(missing),
        };
        self.active_count += self.plan.create.len();
    }

    /// These active pods are about to go.
    fn leave(&mut self, pods: Vec<usize>) {
        self.active_count -= pods.len();
        self.ready_count -= pods.iter().filter(|i| pod::is_ready(&self.pods[**i])).count();
        self.terminating_count += pods.len();
    }

    /// Active pods beyond those wanted; of an indexed Job first those whose index is taken, complete or out of range.
    fn surplus(&self, wanted: usize) -> Vec<usize> {
        let mut order = self.active.clone();
        order.sort_by(|a, b| pod::deletion_order(&self.pods[*a], 0, &self.pods[*b], 0, self.now));
        let mut surplus = Vec::new();
        if self.is_indexed() {
            let mut taken = self.completed.clone();
            // The most worthy of each index stays.
            order.reverse();
            order.retain(|i| {
                let keep = self.index(&self.pods[*i]).is_some_and(|index| taken.insert(index));
                if !keep {
                    surplus.push(*i);
                }
                keep
            });
            order.reverse();
        }
        let beyond = order.len().saturating_sub(wanted);
        surplus.extend(order.into_iter().take(beyond));
        surplus
    }

    /// The lowest indexes that have neither a pod nor an end.
    fn free_indexes(&self, count: usize) -> impl Iterator<Item = u32> {
        let waits = self.waits_for_the_end();
        let holds = |p: &&Pod| pod::is_active(p) || waits && pod::is_terminating(p);
        let taken: BTreeSet<u32> = self.pods.iter().filter(holds).filter_map(index_of).collect();
        let ended = |i: &u32| self.completed.contains(i) || self.failed_indexes.contains(i);
        (0..self.completions).filter(move |i| !taken.contains(i) && !ended(i)).take(count)
    }

    /// With a limit of failures for each index, each index waits for itself.
    fn successors(&mut self, count: usize) -> Vec<New> {
        let mut ready = Vec::new();
        let mut next: Option<Timestamp> = None;
        for index in self.free_indexes(count) {
            let before = self.held.get(&index).map(|i| &self.pods[*i]);
            let (mut counted, mut ignored) = before.map_or((0, 0), failures_before);
            if let Some(pod) = before {
                let from = delay(finished_at(pod), usize::try_from(counted.saturating_add(ignored)).unwrap_or(0) + 1);
                if from > self.now {
                    next = Some(next.map_or(from, |n| n.min(from)));
                    continue;
                }
                let which = if self.verdict(pod) == Verdict::Ignore { &mut ignored } else { &mut counted };
                *which = which.saturating_add(1);
            }
            ready.push(New { index: Some(index), failures: Some((counted, ignored)) });
        }
        if let Some(at) = next {
            self.look_again(at);
        }
        ready
    }

    /// After a failure new pods wait, the longer the more failed since the last success.
    fn backoff_until(&self) -> Option<Timestamp> {
        if self.counts_by_index() {
            return None;
        }
        // What was deleted on purpose has no finalizer any more.
        let failed = |p: &&Pod| pod::phase(p) == "Failed" || is_tracked(p) && self.has_failed(p);
        let last_success = self.pods.iter().filter(|p| pod::phase(p) == "Succeeded").map(finished_at).max();
        let failures = self.pods.iter().filter(failed).map(finished_at);
        let failures: Vec<Timestamp> = failures.filter(|at| last_success.is_none_or(|s| *at > s)).collect();
        let last = failures.iter().max()?;
        Some(delay(*last, failures.len()))
    }

    fn tell_suspension(&mut self) {
        let known = self.status.conditions.iter().flatten().find(|c| c.type_ == "Suspended").map(|c| c.status == "True");
        match (self.is_suspended(), known) {
            (true, None | Some(false)) => {
                self.condition("Suspended", "JobSuspended", "Job suspended");
                self.plan.notes.push(Note::normal("Suspended", "Job suspended"));
                self.status.start_time = None;
            }
            (false, Some(true)) => {
                if let Some(c) = self.status.conditions.iter_mut().flatten().find(|c| c.type_ == "Suspended") {
                    *c = condition("Suspended", "False", "JobResumed", "Job resumed", self.now);
                }
                self.status.start_time = Some(time(self.now));
                self.plan.notes.push(Note::normal("Resumed", "Job resumed"));
            }
            _ => {}
        }
    }

    /// Writes down which pods have ended, and lets go of those that are written down.
    fn track(&mut self) {
        let deleting = self.job.metadata.deletion_timestamp.is_some();
        let mut order: Vec<usize> = (0..self.pods.len()).filter(|i| is_tracked(&self.pods[*i])).collect();
        order.sort_by_key(|i| index_of(&self.pods[*i]));
        for i in order {
            let pod = &self.pods[i];
            let (succeeded, failed) = (pod::phase(pod) == "Succeeded", self.has_failed(pod));
            let held = || index_of(pod).and_then(|index| self.held.get(&index)) == Some(&i);
            if !(deleting || self.target.is_some() || succeeded || failed && !held()) {
                continue;
            }
            self.plan.release.push(i);
            if succeeded {
                if !self.is_indexed() {
                    note_uid(&mut self.uncounted.succeeded, pod.uid());
                }
            } else if (failed || self.target == Some(End::Failure))
                && (!self.is_indexed() || self.index(pod).is_some())
                && self.verdict(pod) != Verdict::Ignore
            {
                note_uid(&mut self.uncounted.failed, pod.uid());
            }
            if count(&self.uncounted.succeeded) + count(&self.uncounted.failed) >= UNCOUNTED_MAX {
                break;
            }
        }
        if self.is_indexed() {
            self.status.succeeded = i32::try_from(self.completed.len()).ok();
            self.status.completed_indexes = Some(indexes::print(&self.completed)).filter(|t| !t.is_empty());
            self.status.failed_indexes = self.counts_by_index().then(|| indexes::print(&self.failed_indexes));
        }
    }

    /// The end is declared when no pod runs any more and all are counted.
    fn conclude(&mut self) {
        let counted = self.uncounted.succeeded.is_none() && self.uncounted.failed.is_none();
        let Some(end) = self.target.filter(|_| counted && self.active_count == 0 && self.terminating_count == 0) else { return };
        let (announced, declared) = end.conditions();
        let told = self.true_condition(announced).cloned();
        let (reason, message) = told.map(|c| (c.reason.unwrap_or_default(), c.message.unwrap_or_default())).unwrap_or_default();
        self.condition(declared, &reason, &message);
        match end {
            End::Failure => self.plan.notes.push(Note::warning(failure_reason(&reason), message)),
            End::Success => {
                self.status.completion_time = Some(time(self.now));
                if self.spec.completions.is_some_and(|c| usize::try_from(c).is_ok_and(|c| self.succeeded > c)) {
                    let message = "Too many succeeded pods running after completion count reached";
                    self.plan.notes.push(Note::warning("TooManySucceededPods", message));
                }
                self.plan.notes.push(Note::normal("Completed", "Job completed"));
            }
        }
    }

    fn condition(&mut self, kind: &str, reason: &str, message: &str) {
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|c| c.type_ != kind);
        conditions.push(condition(kind, "True", reason, message, self.now));
    }

    fn look_again(&mut self, at: Timestamp) {
        self.plan.again_at = Some(self.plan.again_at.map_or(at, |a| a.min(at)));
    }

    fn finish(mut self) -> Plan {
        let count = |n: usize| i32::try_from(n).ok();
        self.status.active = count(self.active_count);
        self.status.ready = count(self.ready_count);
        self.status.terminating = count(self.terminating_count);
        self.status.uncounted_terminated_pods = Some(self.uncounted);
        if !same(&self.status, &self.job.status.clone().unwrap_or_default()) {
            self.plan.status = Some(Box::new(Job { status: Some(self.status), ..self.job.clone() }));
        }
        self.plan
    }
}

fn count(uids: &Option<Vec<String>>) -> usize {
    uids.as_ref().map_or(0, Vec::len)
}

fn sum(total: Option<i32>, uncounted: &Option<Vec<String>>) -> usize {
    usize::try_from(total.unwrap_or(0)).unwrap_or(0) + count(uncounted)
}

fn note_uid(uids: &mut Option<Vec<String>>, uid: &str) {
    let uids = uids.get_or_insert_default();
    if !uids.iter().any(|known| known == uid) {
        uids.push(uid.to_owned());
    }
}

/// When the pod after the `failures`th failure may be made.
fn delay(last: Timestamp, failures: usize) -> Timestamp {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    plus_seconds(last, (BACKOFF_SECONDS << doublings).min(BACKOFF_SECONDS_MAX))
}

/// The reasons by which a Job fails, as events have them.
fn failure_reason(reason: &str) -> &'static str {
    let reasons = ["PodFailurePolicy", "BackoffLimitExceeded", "DeadlineExceeded", "MaxFailedIndexesExceeded", "FailedIndexes"];
    reasons.into_iter().find(|r| *r == reason).unwrap_or("Failed")
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

/// Equal, where what is absent is zero or empty.
fn same(a: &JobStatus, b: &JobStatus) -> bool {
    let normal = |s: &JobStatus| {
        let count = |v: Option<i32>| Some(v.unwrap_or(0));
        JobStatus {
            active: count(s.active),
            ready: count(s.ready),
            terminating: count(s.terminating),
            succeeded: count(s.succeeded),
            failed: count(s.failed),
            conditions: Some(s.conditions.clone().unwrap_or_default()),
            uncounted_terminated_pods: Some(s.uncounted_terminated_pods.clone().unwrap_or_default()),
            ..s.clone()
        }
    };
    normal(a) == normal(b)
}
