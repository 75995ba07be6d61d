//! A Job's pods: how a new one is made, and what one that is there tells of itself. Pure.

use api::Kind;
use api::batch::Job;
use api::core::{ContainerStatus, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use api::jiff::Timestamp;

use crate::clock::plus_seconds;
use crate::{owner, pod};

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// What the server leaves room for when it makes a name unique.
const GENERATED_NAME_LENGTH_MAX: usize = 58;

/// A pod to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct New {
    /// Of an indexed Job.
    pub(super) index: Option<u32>,
    /// With `backoffLimitPerIndex`: how often the index has failed, counted and ignored.
    pub(super) failures: Option<(i32, i32)>,
}

/// Whether it still has to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

pub(super) fn index_of(pod: &Pod) -> Option<u32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// The failures of its index before it: counted, and ignored.
pub(super) fn failures_before(pod: &Pod) -> (i32, i32) {
    let count = |key: &str| {
        let value = pod.metadata.annotations.as_ref().and_then(|a| a.get(key));
        value.and_then(|v| v.parse().ok()).filter(|n| *n >= 0).unwrap_or(0)
    };
    (count(FAILURES), count(IGNORED_FAILURES))
}

/// When a pod ended: by its containers, or else by its readiness, its deletion, its creation.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let deleted = || {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        pod.metadata.deletion_timestamp.as_ref().map(|t| plus_seconds(t.0, -grace))
    };
    let unready = || {
        let ready = pod::condition(pod, "Ready").filter(|c| c.status == "False")?;
        ready.last_transition_time.as_ref().map(|t| t.0)
    };
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    containers_finished_at(pod).or_else(unready).or_else(deleted).or(created).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The end of the last container, if all have ended.
fn containers_finished_at(pod: &Pod) -> Option<Timestamp> {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref()?);
    let restarts = |name: &str| {
        let mut init = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
        init.any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
    };
    let sidecars = status.init_container_statuses.iter().flatten().filter(|c| restarts(&c.name));
    let ended = |c: &ContainerStatus| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0);
    let ends: Option<Vec<Timestamp>> = status.container_statuses.iter().flatten().chain(sidecars).map(ended).collect();
    ends?.into_iter().max()
}

/// A new pod of the Job.
pub(super) fn pod_for(job: &Job, new: &New) -> Pod {
    let template = job.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let mut pod = pod::from_template(&template, job, owner::controller_ref(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    let labels = pod.metadata.labels.get_or_insert_default();
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", job.uid()),
        ("controller-uid", job.uid()),
        ("batch.kubernetes.io/job-name", job.name()),
        ("job-name", job.name()),
    ] {
        labels.entry(key.into()).or_insert_with(|| value.into());
    }
    let Some(index) = new.index else { return pod };
    labels.insert(INDEX.into(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if let Some((counted, ignored)) = new.failures {
        annotations.insert(FAILURES.into(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.into(), ignored.to_string());
        }
    }
    pod.metadata.generate_name = Some(name_prefix(job.name(), index));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{}-{index}", job.name()));
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
            env.push(index_variable());
        }
    }
    pod
}

fn name_prefix(job: &str, index: u32) -> String {
    let suffix = format!("-{index}-");
    let room = GENERATED_NAME_LENGTH_MAX.saturating_sub(suffix.len()).min(job.len());
    // Names are ASCII: any place is a boundary.
    format!("{}{suffix}", job.get(..room).unwrap_or(job))
}

fn index_variable() -> EnvVar {
    EnvVar {
        name: "JOB_COMPLETION_INDEX".into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") }),
            ..EnvVarSource::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_indexed_pod_knows_its_index_and_its_failures() {
        let job = Job::decode_value(json!({
            "metadata": {"name": "work", "namespace": "default", "uid": "u"},
            "spec": {"template": {"metadata": {"finalizers": [FINALIZER]}, "spec": {"containers": [{"name": "c"}]}}},
        }))
        .unwrap();
        let pod = pod_for(&job, &New { index: Some(7), failures: Some((2, 1)) });
        assert_eq!((index_of(&pod), failures_before(&pod), is_tracked(&pod)), (Some(7), (2, 1), true));
        assert_eq!(pod.metadata.finalizers.as_ref().unwrap().len(), 1);
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("work-7-"));
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("work-7"));
        assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
        let plain = pod_for(&job, &New::default());
        assert_eq!((index_of(&plain), failures_before(&plain)), (None, (0, 0)));
        assert_eq!(name_prefix(&"x".repeat(63), 10).len(), GENERATED_NAME_LENGTH_MAX);
    }

    #[test]
    fn when_a_pod_ended() {
        let seconds = |status, deletion: serde_json::Value| {
            let meta = json!({"creationTimestamp": "1970-01-01T00:00:01Z", "deletionTimestamp": deletion, "deletionGracePeriodSeconds": 5});
            finished_at(&Pod::decode_value(json!({"metadata": meta, "status": status})).unwrap()).as_second()
        };
        let ended = |at: &str| {
            json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "finishedAt": at}}})
        };
        let running =
            json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}});
        let unready = json!([{"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:00:07Z"}]);
        let none = serde_json::Value::Null;
        assert_eq!(
            seconds(json!({"containerStatuses": [ended("1970-01-01T00:00:09Z"), ended("1970-01-01T00:00:08Z")]}), none.clone()),
            9
        );
        assert_eq!(
            seconds(json!({"containerStatuses": [ended("1970-01-01T00:00:09Z"), running], "conditions": unready}), none.clone()),
            7
        );
        assert_eq!(seconds(json!({}), json!("1970-01-01T00:00:20Z")), 15);
        assert_eq!(seconds(json!({}), none), 1);
    }
}
