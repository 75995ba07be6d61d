//! What a Job's pods should be, what has been counted, and whether it is over. Pure.
//!
//! Each pod carries a finalizer until it is counted, so that a finished pod is counted once though it be deleted: first
//! its uid is written to `status.uncountedTerminatedPods`, then the finalizer goes, then the uid becomes part of the sum.

use std::collections::BTreeSet;

use api::Kind;
use api::batch::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use api::core::Pod;
use api::jiff::Timestamp;

use super::indexes;
use crate::clock::{plus_seconds, time};
use crate::event::Note;
use crate::pod;

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const BURST_MAX: usize = 500;
const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_SECONDS_MAX: i64 = 600;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// One pod each; with its completion index in an indexed Job.
    pub(super) create: Vec<Option<u32>>,
    /// Indexes into the observed pods: they go uncounted.
    pub(super) delete: Vec<usize>,
    /// The Job with its new status.
    pub(super) status: Option<Box<Job>>,
    /// Counted pods, whose finalizer goes after the status is written.
    pub(super) release: Vec<usize>,
    pub(super) notes: Vec<Note>,
    pub(super) again_at: Option<Timestamp>,
}

/// What of a Job this controller does not do, in the words of its API.
pub(super) fn unsupported(spec: &JobSpec) -> Option<&'static str> {
    let checks = [
        (spec.backoff_limit_per_index.is_some(), "spec.backoffLimitPerIndex"),
        (spec.pod_failure_policy.is_some(), "spec.podFailurePolicy"),
        (spec.success_policy.is_some(), "spec.successPolicy"),
    ];
    checks.into_iter().find(|(used, _)| *used).map(|(_, field)| field)
}

/// `pods` are all that the Job owns.
pub(super) fn decide(job: &Job, pods: &[Pod], now: Timestamp) -> Plan {
    let mut work = Work::new(job, pods, now);
    if work.is_finished() {
        return work.clean_up();
    }
    work.count();
    work.judge();
    if work.has("FailureTarget") || work.has("SuccessCriteriaMet") {
        work.plan.delete = work.active.clone();
    } else if job.metadata.deletion_timestamp.is_none() {
        work.manage();
    }
    work.conclude();
    work.finish()
}

struct Work<'a> {
    job: &'a Job,
    spec: JobSpec,
    pods: &'a [Pod],
    now: Timestamp,
    status: JobStatus,
    /// Indexes of active pods.
    active: Vec<usize>,
    terminating: usize,
    succeeded: usize,
    failed: usize,
    completed: BTreeSet<u32>,
    plan: Plan,
}

impl<'a> Work<'a> {
    fn new(job: &'a Job, pods: &'a [Pod], now: Timestamp) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        let status = job.status.clone().unwrap_or_default();
        let active = (0..pods.len()).filter(|i| pod::is_active(&pods[*i])).collect();
        let terminating = pods.iter().filter(|p| pod::is_terminating(p)).count();
        let count = u32::try_from(spec.completions.unwrap_or(0)).unwrap_or(0);
        let completed = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), count);
        let plan = Plan::default();
        Self { job, spec, pods, now, status, active, terminating, succeeded: 0, failed: 0, completed, plan }
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn has(&self, kind: &str) -> bool {
        self.status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True")
    }

    fn is_finished(&self) -> bool {
        self.has("Complete") || self.has("Failed")
    }

    /// Of a finished Job no pod is kept running, nor held by the finalizer.
    fn clean_up(mut self) -> Plan {
        self.plan.delete = self.active;
        self.plan.release = (0..self.pods.len()).filter(|i| is_tracked(&self.pods[*i])).collect();
        self.plan
    }

    fn count(&mut self) {
        let uncounted = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let tracked: BTreeSet<&str> = self.pods.iter().filter(|p| is_tracked(p)).map(Kind::uid).collect();
        // Their finalizer is gone: they become part of the sum.
        let split = |uids: Option<Vec<String>>| -> (Vec<String>, Vec<String>) {
            uids.unwrap_or_default().into_iter().partition(|uid| tracked.contains(uid.as_str()))
        };
        let (mut succeeded, summed_succeeded) = split(uncounted.succeeded);
        let (mut failed, summed_failed) = split(uncounted.failed);
        let add = |sum: &mut Option<i32>, count: usize| {
            *sum = Some(sum.unwrap_or(0).saturating_add(i32::try_from(count).unwrap_or(i32::MAX)));
        };
        add(&mut self.status.failed, summed_failed.len());
        if !self.is_indexed() {
            add(&mut self.status.succeeded, summed_succeeded.len());
        }
        for (i, pod) in self.pods.iter().enumerate().filter(|(_, p)| is_tracked(p)) {
            let uid = pod.uid().to_owned();
            let known = succeeded.contains(&uid) || failed.contains(&uid);
            match pod::phase(pod) {
                "Succeeded" => {
                    if let Some(index) = index_of(pod).filter(|_| self.is_indexed()) {
                        self.completed.insert(index);
                    }
                    if !known {
                        succeeded.push(uid);
                    }
                    self.plan.release.push(i);
                }
                phase if phase == "Failed" || self.counts_as_failed(pod) => {
                    if !known {
                        failed.push(uid);
                    }
                    self.plan.release.push(i);
                }
                _ => {}
            }
        }
        let sum = |sum: Option<i32>, uncounted: usize| usize::try_from(sum.unwrap_or(0)).unwrap_or(0) + uncounted;
        self.failed = sum(self.status.failed, failed.len());
        if self.is_indexed() {
            self.succeeded = self.completed.len();
            self.status.succeeded = i32::try_from(self.succeeded).ok();
            self.status.completed_indexes = Some(indexes::print(&self.completed)).filter(|t| !t.is_empty());
        } else {
            self.succeeded = sum(self.status.succeeded, succeeded.len());
        }
        let list = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
        self.status.uncounted_terminated_pods =
            Some(UncountedTerminatedPods { succeeded: list(succeeded), failed: list(failed) });
    }

    /// A pod that somebody deletes has failed as soon as it is deleted, unless failures are to be waited for.
    fn counts_as_failed(&self, pod: &Pod) -> bool {
        pod::is_deleting(pod) && self.spec.pod_replacement_policy.as_deref() != Some("Failed")
    }

    /// Whether the Job has come to its end, one way or the other.
    fn judge(&mut self) {
        if self.status.start_time.is_none() && !self.is_suspended() {
            self.status.start_time = Some(time(self.now));
        }
        if self.has("FailureTarget") || self.has("SuccessCriteriaMet") {
            return;
        }
        let limit = usize::try_from(self.spec.backoff_limit.unwrap_or(6)).unwrap_or(0);
        if self.failed > limit || self.restarts_exceed(limit) {
            self.condition("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
            return;
        }
        let started = self.status.start_time.as_ref().map(|t| t.0);
        let deadline = self.spec.active_deadline_seconds.zip(started).map(|(seconds, at)| plus_seconds(at, seconds));
        if let Some(deadline) = deadline.filter(|_| !self.is_suspended()) {
            if deadline <= self.now {
                self.condition("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline");
                return;
            }
            self.look_again(deadline);
        }
        let complete = match self.spec.completions {
            // A work queue: over when one succeeded and none is left.
            None => self.succeeded > 0 && self.active.is_empty(),
            Some(completions) => usize::try_from(completions).is_ok_and(|c| self.succeeded >= c),
        };
        if complete {
            let message = "Reached expected number of succeeded pods";
            self.condition("SuccessCriteriaMet", "CompletionsReached", message);
        }
    }

    /// Containers that are restarted in place fail without a failed pod.
    fn restarts_exceed(&self, limit: usize) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
        let restarts: usize = self.active.iter().map(|i| pod::restarts(&self.pods[*i])).sum();
        policy == Some("OnFailure") && restarts > 0 && restarts >= limit
    }

    fn manage(&mut self) {
        let was_suspended = self.has("Suspended");
        if self.is_suspended() {
            if !was_suspended {
                self.condition("Suspended", "JobSuspended", "Job suspended");
                self.plan.notes.push(Note::normal("Suspended", "Job suspended"));
            }
            self.status.start_time = None;
            self.plan.delete = self.active.clone();
            return;
        }
        if was_suspended {
            if let Some(c) = self.status.conditions.iter_mut().flatten().find(|c| c.type_ == "Suspended") {
                *c = condition("Suspended", "False", "JobResumed", "Job resumed", self.now);
            }
            self.status.start_time = Some(time(self.now));
            self.plan.notes.push(Note::normal("Resumed", "Job resumed"));
        }
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let wanted = match self.spec.completions {
            None if self.succeeded > 0 => self.active.len().min(parallelism),
            None => parallelism,
            Some(completions) => usize::try_from(completions).unwrap_or(0).saturating_sub(self.succeeded).min(parallelism),
        };
        let surplus = self.surplus(wanted);
        if !surplus.is_empty() {
            self.plan.delete = surplus;
            return;
        }
        let waiting = if self.spec.pod_replacement_policy.as_deref() == Some("Failed") { self.terminating } else { 0 };
        let missing = wanted.saturating_sub(self.active.len() + waiting).min(BURST_MAX);
        if missing == 0 {
            return;
        }
        if let Some(at) = self.backoff_until().filter(|at| *at > self.now) {
            self.look_again(at);
            return;
        }
        self.plan.create = if self.is_indexed() { self.free_indexes(missing) } else { vec![None; missing] };
    }

    /// Active pods beyond those wanted; of an indexed Job first those whose index is taken, complete or out of range.
    fn surplus(&self, wanted: usize) -> Vec<usize> {
        let mut order = self.active.clone();
        order.sort_by(|a, b| pod::deletion_order(&self.pods[*a], 0, &self.pods[*b], 0, self.now));
        let mut surplus = Vec::new();
        if self.is_indexed() {
            let count = u32::try_from(self.spec.completions.unwrap_or(0)).unwrap_or(0);
            let mut taken = self.completed.clone();
            // The most worthy of each index stays.
            order.reverse();
            order.retain(|i| {
                let keep = index_of(&self.pods[*i]).is_some_and(|index| index < count && taken.insert(index));
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

    fn free_indexes(&self, count: usize) -> Vec<Option<u32>> {
        let completions = u32::try_from(self.spec.completions.unwrap_or(0)).unwrap_or(0);
        let waits = self.spec.pod_replacement_policy.as_deref() == Some("Failed");
        let holds = |p: &&Pod| pod::is_active(p) || waits && pod::is_terminating(p);
        let taken: BTreeSet<u32> = self.pods.iter().filter(holds).filter_map(index_of).collect();
        let free = (0..completions).filter(|i| !taken.contains(i) && !self.completed.contains(i));
        free.take(count).map(Some).collect()
    }

    /// After a failure new pods wait, the longer the more failed since the last success.
    fn backoff_until(&self) -> Option<Timestamp> {
        let failed = |p: &&Pod| pod::phase(p) == "Failed" || pod::is_deleting(p) && !pod::is_finished(p);
        let last_success = self.pods.iter().filter(|p| pod::phase(p) == "Succeeded").filter_map(finished_at).max();
        let failures = self.pods.iter().filter(failed).filter_map(finished_at);
        let failures: Vec<Timestamp> = failures.filter(|at| last_success.is_none_or(|s| *at > s)).collect();
        let last = failures.iter().max()?;
        let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(16);
        Some(plus_seconds(*last, (BACKOFF_SECONDS << doublings).min(BACKOFF_SECONDS_MAX)))
    }

    /// The end is declared when no pod runs any more and all are counted.
    fn conclude(&mut self) {
        let uncounted = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let counted = uncounted.succeeded.is_none() && uncounted.failed.is_none();
        let quiet = self.active.is_empty() && self.terminating == 0;
        if !counted || !quiet {
            return;
        }
        let target = |kind: &str| {
            let found = self.status.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True");
            found.map(|c| (c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default()))
        };
        if let Some((reason, message)) = target("FailureTarget") {
            self.condition("Failed", &reason, &message);
            // The reasons are among these three.
            let reason = match reason.as_str() {
                "DeadlineExceeded" => "DeadlineExceeded",
                _ => "BackoffLimitExceeded",
            };
            self.plan.notes.push(Note::warning(reason, message));
        } else if let Some((reason, message)) = target("SuccessCriteriaMet") {
            self.condition("Complete", &reason, &message);
            self.status.completion_time = Some(time(self.now));
            self.plan.notes.push(Note::normal("Completed", "Job completed"));
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
        let ready = self.active.iter().filter(|i| pod::is_ready(&self.pods[**i])).count();
        self.status.active = count(self.active.len());
        self.status.ready = count(ready);
        self.status.terminating = count(self.terminating);
        if !same(&self.status, &self.job.status.clone().unwrap_or_default()) {
            self.plan.status = Some(Box::new(Job { status: Some(self.status), ..self.job.clone() }));
        }
        self.plan
    }
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

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

fn index_of(pod: &Pod) -> Option<u32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// When a pod's last container ended, or else when it was last heard of.
fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    let ended = containers.filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()).map(|t| t.0).max();
    let ready = pod::condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|t| t.0);
    ended.or(ready).or(deleted).or(pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
}

/// Equal, where what is absent is zero or empty.
fn same(a: &JobStatus, b: &JobStatus) -> bool {
    let normal = |s: &JobStatus| {
        let count = |v: Option<i32>| Some(v.unwrap_or(0));
        let uncounted = s.uncounted_terminated_pods.clone().unwrap_or_default();
        JobStatus {
            active: count(s.active),
            ready: count(s.ready),
            terminating: count(s.terminating),
            succeeded: count(s.succeeded),
            failed: count(s.failed),
            conditions: Some(s.conditions.clone().unwrap_or_default()),
            uncounted_terminated_pods: Some(uncounted),
            ..s.clone()
        }
    };
    normal(a) == normal(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::{at, running};
    use api::metav1::ObjectMeta;

    fn job(completions: Option<i32>, parallelism: i32) -> Job {
        Job {
            metadata: ObjectMeta { name: Some("work".into()), uid: Some("j".into()), ..ObjectMeta::default() },
            spec: Some(JobSpec { completions, parallelism: Some(parallelism), backoff_limit: Some(1), ..JobSpec::default() }),
            status: None,
        }
    }

    fn pod(name: &str, phase: &str) -> Pod {
        let mut pod = running(name);
        pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
        pod.status.as_mut().unwrap().phase = Some(phase.into());
        pod
    }

    fn indexed(name: &str, phase: &str, index: u32) -> Pod {
        let mut pod = pod(name, phase);
        pod.metadata.annotations = Some([(INDEX.to_owned(), index.to_string())].into());
        pod
    }

    /// One pass; the Job and the pods as they are after it was obeyed (new pods are not made).
    fn step(job: &mut Job, pods: &mut [Pod], now: i64) -> Plan {
        let plan = decide(job, pods, at(now));
        if let Some(after) = &plan.status {
            *job = (**after).clone();
        }
        for i in plan.release.iter().chain(&plan.delete) {
            pods[*i].metadata.finalizers = None;
        }
        plan
    }

    fn conditions(job: &Job) -> Vec<&str> {
        let status = job.status.as_ref().unwrap();
        status.conditions.iter().flatten().filter(|c| c.status == "True").map(|c| c.type_.as_str()).collect()
    }

    #[test]
    fn pods_are_made_up_to_parallelism_and_completions() {
        for (completions, parallelism, phases, want) in [
            (Some(3), 2, &[][..], 2),
            (Some(3), 5, &[], 3),
            (Some(3), 2, &["Running"], 1),
            (Some(3), 2, &["Running", "Running"], 0),
            (Some(3), 2, &["Succeeded", "Succeeded"], 1),
            (None, 2, &[], 2),
            (None, 2, &["Running", "Succeeded"], 0),
        ] {
            let pods: Vec<Pod> = phases.iter().enumerate().map(|(i, p)| pod(&format!("p{i}"), p)).collect();
            let plan = decide(&job(completions, parallelism), &pods, at(1000));
            assert_eq!(plan.create.len(), want, "{completions:?} {parallelism} {phases:?}");
        }
    }

    #[test]
    fn a_pod_is_counted_once() {
        let mut j = job(Some(2), 2);
        let mut pods = vec![pod("a", "Succeeded"), pod("b", "Running")];
        let plan = step(&mut j, &mut pods, 10);
        assert_eq!(plan.release, [0]);
        let status = j.status.clone().unwrap();
        assert_eq!(status.uncounted_terminated_pods.unwrap().succeeded.unwrap(), ["uid-a"]);
        assert_eq!(status.succeeded.unwrap_or(0), 0);
        step(&mut j, &mut pods, 11);
        assert_eq!(j.status.as_ref().unwrap().succeeded, Some(1));
        // Deleted afterwards: it stays counted.
        let mut left = vec![pods[1].clone()];
        step(&mut j, &mut left, 12);
        assert_eq!(j.status.as_ref().unwrap().succeeded, Some(1));
        left[0].status.as_mut().unwrap().phase = Some("Succeeded".into());
        step(&mut j, &mut left, 13);
        assert_eq!(conditions(&j), ["SuccessCriteriaMet"]);
        let plan = step(&mut j, &mut left, 14);
        assert_eq!(conditions(&j), ["SuccessCriteriaMet", "Complete"]);
        assert_eq!(plan.notes, [Note::normal("Completed", "Job completed")]);
        assert_eq!((j.status.as_ref().unwrap().succeeded, step(&mut j, &mut left, 15)), (Some(2), Plan::default()));
    }

    #[test]
    fn failures_are_retried_with_a_delay_and_then_given_up() {
        let mut j = job(Some(1), 1);
        let mut pods = vec![pod("a", "Failed")];
        let plan = step(&mut j, &mut pods, 1);
        assert_eq!((plan.create.len(), plan.again_at), (0, Some(at(10))), "ten seconds after the failure at 0");
        assert_eq!(step(&mut j, &mut pods, 10).create.len(), 1);
        pods.push(pod("b", "Failed"));
        pods.push(pod("c", "Running"));
        let plan = step(&mut j, &mut pods, 20);
        assert_eq!((plan.delete, conditions(&j)), (vec![2], vec!["FailureTarget"]));
        let mut left = vec![pods[0].clone(), pods[1].clone()];
        step(&mut j, &mut left, 21);
        assert_eq!(conditions(&j), ["FailureTarget", "Failed"]);
        assert_eq!(j.status.as_ref().unwrap().failed, Some(2));
    }

    #[test]
    fn a_deadline() {
        let mut j = job(Some(1), 1);
        j.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
        let mut pods = vec![pod("a", "Running")];
        assert_eq!(step(&mut j, &mut pods, 100).again_at, Some(at(160)));
        assert_eq!(step(&mut j, &mut pods, 160).delete, [0]);
        assert_eq!(conditions(&j), ["FailureTarget"]);
    }

    #[test]
    fn suspending_and_resuming() {
        let mut j = job(Some(1), 1);
        let mut pods = vec![pod("a", "Running")];
        step(&mut j, &mut pods, 1);
        j.spec.as_mut().unwrap().suspend = Some(true);
        assert_eq!(step(&mut j, &mut pods, 2).delete, [0]);
        assert_eq!((conditions(&j), j.status.as_ref().unwrap().start_time.clone()), (vec!["Suspended"], None));
        j.spec.as_mut().unwrap().suspend = Some(false);
        let plan = step(&mut j, &mut [], 3);
        assert_eq!((plan.create.len(), conditions(&j).len()), (1, 0));
    }

    #[test]
    fn each_index_once() {
        let mut j = job(Some(4), 4);
        j.spec.as_mut().unwrap().completion_mode = Some("Indexed".into());
        let mut pods = vec![indexed("a", "Succeeded", 1), indexed("b", "Running", 2), indexed("c", "Running", 2)];
        let plan = step(&mut j, &mut pods, 100);
        assert_eq!(plan.delete.len(), 1, "two for one index");
        pods.remove(plan.delete[0]);
        let plan = step(&mut j, &mut pods, 101);
        assert_eq!(plan.create, [Some(0), Some(3)]);
        assert_eq!(j.status.as_ref().unwrap().completed_indexes.as_deref(), Some("1"));
    }
}
