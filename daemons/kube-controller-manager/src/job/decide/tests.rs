//! Cases of a Job's plan.

use super::super::pods::{FAILURES, FINALIZER, INDEX};
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
    assert_eq!((plan.terminate, conditions(&j)), (vec![2], vec!["FailureTarget"]));
    let mut left = vec![pods[0].clone(), pods[1].clone()];
    step(&mut j, &mut left, 21);
    assert_eq!(conditions(&j), ["FailureTarget", "Failed"]);
    assert_eq!(j.status.as_ref().unwrap().failed, Some(3), "the one that was running counts too");
}

#[test]
fn a_deadline() {
    let mut j = job(Some(1), 1);
    j.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    let mut pods = vec![pod("a", "Running")];
    assert_eq!(step(&mut j, &mut pods, 100).again_at, Some(at(160)));
    assert_eq!(step(&mut j, &mut pods, 160).terminate, [0]);
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
    assert_eq!(plan.create.iter().map(|n| n.index).collect::<Vec<_>>(), [Some(0), Some(3)]);
    assert_eq!(j.status.as_ref().unwrap().completed_indexes.as_deref(), Some("1"));
}

fn failed_at(name: &str, index: u32, before: i32) -> Pod {
    let mut pod = indexed(name, "Failed", index);
    pod.metadata.annotations.as_mut().unwrap().insert(FAILURES.into(), before.to_string());
    pod
}

fn by_index(completions: i32, limit: i32) -> Job {
    let mut j = job(Some(completions), completions);
    let spec = j.spec.as_mut().unwrap();
    (spec.completion_mode, spec.backoff_limit, spec.backoff_limit_per_index) = (Some("Indexed".into()), None, Some(limit));
    j
}

#[test]
fn each_index_fails_for_itself() {
    let mut j = by_index(2, 1);
    let mut pods = vec![failed_at("a", 0, 0), indexed("b", "Succeeded", 1)];
    let plan = step(&mut j, &mut pods, 5);
    assert_eq!((plan.create.len(), plan.again_at, plan.release), (0, Some(at(10)), vec![1]), "the failed one is held");
    let plan = step(&mut j, &mut pods, 10);
    assert_eq!(plan.create, [New { index: Some(0), failures: Some((1, 0)) }]);
    pods.push(failed_at("c", 0, 1));
    step(&mut j, &mut pods, 20);
    assert_eq!(j.status.as_ref().unwrap().failed_indexes.as_deref(), Some("0"));
    assert_eq!(conditions(&j), ["FailureTarget"]);
    let plan = step(&mut j, &mut pods, 21);
    assert_eq!((conditions(&j), plan.notes[0].reason), (vec!["FailureTarget", "Failed"], "FailedIndexes"));
    assert_eq!((j.status.as_ref().unwrap().failed, j.status.as_ref().unwrap().succeeded), (Some(2), Some(1)));
}

#[test]
fn too_many_indexes_fail() {
    let mut j = by_index(4, 0);
    j.spec.as_mut().unwrap().max_failed_indexes = Some(1);
    let mut pods = vec![failed_at("a", 0, 0), failed_at("b", 1, 0), indexed("c", "Running", 2)];
    let plan = step(&mut j, &mut pods, 5);
    assert_eq!((plan.terminate, plan.create.len()), (vec![2], 0));
    let status = j.status.as_ref().unwrap();
    assert_eq!(status.conditions.as_ref().unwrap()[0].reason.as_deref(), Some("MaxFailedIndexesExceeded"));
    assert_eq!((status.active, status.terminating), (Some(0), Some(1)));
}

#[test]
fn a_failure_that_is_ignored_is_replaced_and_not_counted() {
    let mut j = job(Some(1), 1);
    j.spec.as_mut().unwrap().backoff_limit = Some(0);
    let ignore = serde_json::json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "Ready", "status": "True"}]}]});
    j.spec.as_mut().unwrap().pod_failure_policy = serde_json::from_value(ignore).unwrap();
    let mut pods = vec![pod("a", "Failed")];
    let plan = step(&mut j, &mut pods, 100);
    assert_eq!((plan.create.len(), plan.release, conditions(&j).len()), (1, vec![0], 0));
    assert_eq!(j.status.as_ref().unwrap().failed.unwrap_or(0), 0);
}

#[test]
fn enough_successes_end_it_early() {
    let mut j = job(Some(5), 5);
    j.spec.as_mut().unwrap().completion_mode = Some("Indexed".into());
    let policy = serde_json::json!({"rules": [{"succeededIndexes": "0"}]});
    j.spec.as_mut().unwrap().success_policy = serde_json::from_value(policy).unwrap();
    let mut pods = vec![indexed("a", "Succeeded", 0), indexed("b", "Running", 1)];
    assert_eq!(step(&mut j, &mut pods, 5).terminate, [1]);
    let condition = &j.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
    assert_eq!((condition.type_.as_str(), condition.reason.as_deref()), ("SuccessCriteriaMet", Some("SuccessPolicy")));
    pods.truncate(1);
    step(&mut j, &mut pods, 6);
    assert_eq!(conditions(&j), ["SuccessCriteriaMet", "Complete"]);
    assert_eq!(j.status.as_ref().unwrap().failed.unwrap_or(0), 0, "what was stopped has not failed");
}
