//! What makes pods: deployments, replica sets, daemon sets, stateful sets, jobs and cron jobs.

use serde_json::Value;

use super::{
    pod::template,
    writer::{Writer, controller, items, labels_text, or_none, pairs, show, time},
};

/// How many of an object's pods are in which phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    running: usize,
    waiting: usize,
    succeeded: usize,
    failed: usize,
}

impl Phases {
    /// Of the pods that `uid` controls.
    pub fn count(pods: &[Value], uid: &str) -> Self {
        let mut phases = Self::default();
        for pod in pods.iter().filter(|pod| machinery::meta::controller_of(pod).is_some_and(|owner| owner["uid"] == uid)) {
            match pod["status"]["phase"].as_str() {
                Some("Running") => phases.running += 1,
                Some("Pending") => phases.waiting += 1,
                Some("Succeeded") => phases.succeeded += 1,
                Some("Failed") => phases.failed += 1,
                _ => {}
            }
        }
        phases
    }

    fn text(self) -> String {
        let Self { running, waiting, succeeded, failed } = self;
        format!("{running} Running / {waiting} Waiting / {succeeded} Succeeded / {failed} Failed")
    }
}

const CONDITIONS: [(&str, &str); 3] = [("Type", "type"), ("Status", "status"), ("Reason", "reason")];

pub fn selector(object: &Value) -> String {
    machinery::selector::LabelSelector::from_label_selector(&object["spec"]["selector"])
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

pub fn deployment(out: &mut Writer, object: &Value, replica_sets: &[Value]) {
    let (spec, status) = (&object["spec"], &object["status"]);
    out.name_and_namespace(object);
    out.field(0, "CreationTimestamp", time(&object["metadata"]["creationTimestamp"]));
    out.labels_and_annotations(object);
    out.field(0, "Selector", selector(object));
    out.field(
        0,
        "Replicas",
        format!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            number(&spec["replicas"]),
            number(&status["updatedReplicas"]),
            number(&status["replicas"]),
            number(&status["availableReplicas"]),
            number(&status["unavailableReplicas"])
        ),
    );
    out.field(0, "StrategyType", show(&spec["strategy"]["type"]));
    out.field(0, "MinReadySeconds", number(&spec["minReadySeconds"]));
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        out.field(
            0,
            "RollingUpdateStrategy",
            format!("{} max unavailable, {} max surge", show(&rolling["maxUnavailable"]), show(&rolling["maxSurge"])),
        );
    }
    template(out, &spec["template"]);
    out.conditions(&status["conditions"], &CONDITIONS);
    let uid = machinery::meta::uid(object);
    let ours: Vec<&Value> =
        replica_sets.iter().filter(|set| machinery::meta::controller_of(set).is_some_and(|owner| owner["uid"] == uid)).collect();
    if ours.is_empty() {
        return;
    }
    let revision = |set: &Value| {
        machinery::meta::annotation(set, "deployment.kubernetes.io/revision").and_then(|text| text.parse::<i64>().ok())
    };
    let newest = ours.iter().filter_map(|set| revision(set)).max();
    let (new, old): (Vec<&Value>, Vec<&Value>) = ours.iter().partition(|set| newest.is_some() && revision(set) == newest);
    let text = |sets: &[&Value]| {
        let one = |set: &&Value| {
            format!(
                "{} ({}/{} replicas created)",
                machinery::meta::name(set),
                number(&set["status"]["replicas"]),
                number(&set["spec"]["replicas"])
            )
        };
        or_none(sets.iter().map(one).collect::<Vec<_>>().join(", "))
    };
    out.field(0, "OldReplicaSets", text(&old));
    out.field(0, "NewReplicaSet", text(&new));
}

pub fn replica_set(out: &mut Writer, object: &Value, phases: Phases) {
    out.name_and_namespace(object);
    out.field(0, "Selector", selector(object));
    out.labels_and_annotations(object);
    let owner = controller(object);
    if !owner.is_empty() {
        out.field(0, "Controlled By", owner);
    }
    out.field(
        0,
        "Replicas",
        format!("{} current / {} desired", number(&object["status"]["replicas"]), number(&object["spec"]["replicas"])),
    );
    out.field(0, "Pods Status", phases.text());
    template(out, &object["spec"]["template"]);
    out.conditions(&object["status"]["conditions"], &CONDITIONS);
}

pub fn daemon_set(out: &mut Writer, object: &Value, phases: Phases) {
    let status = &object["status"];
    out.name_and_namespace(object);
    out.field(0, "Selector", selector(object));
    out.field(0, "Node-Selector", labels_text(&object["spec"]["template"]["spec"]["nodeSelector"]));
    out.labels_and_annotations(object);
    for (title, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        out.line(0, format!("{title}: {}", number(&status[field])));
    }
    out.field(0, "Pods Status", phases.text());
    template(out, &object["spec"]["template"]);
}

pub fn stateful_set(out: &mut Writer, object: &Value, phases: Phases) {
    let spec = &object["spec"];
    out.name_and_namespace(object);
    out.field(0, "CreationTimestamp", time(&object["metadata"]["creationTimestamp"]));
    out.field(0, "Selector", selector(object));
    out.labels_and_annotations(object);
    out.field(0, "Replicas", format!("{} desired | {} total", number(&spec["replicas"]), number(&object["status"]["replicas"])));
    out.field(0, "Update Strategy", show(&spec["updateStrategy"]["type"]));
    if spec["updateStrategy"]["rollingUpdate"]["partition"].is_number() {
        out.field(1, "Partition", number(&spec["updateStrategy"]["rollingUpdate"]["partition"]));
    }
    out.field(0, "Pods Status", phases.text());
    template(out, &spec["template"]);
    if items(&spec["volumeClaimTemplates"]).is_empty() {
        out.field(0, "Volume Claims", "<none>");
        return;
    }
    out.line(0, "Volume Claims:");
    for claim in items(&spec["volumeClaimTemplates"]) {
        out.field(1, "Name", machinery::meta::name(claim));
        out.field(1, "StorageClass", show(&claim["spec"]["storageClassName"]));
        out.labels("  Labels", &claim["metadata"]["labels"]);
        let annotations = pairs(&claim["metadata"]["annotations"]).map(|(key, value)| format!("{key}={value}")).collect();
        out.list("  Annotations", annotations);
        let capacity = show(&claim["spec"]["resources"]["requests"]["storage"]);
        out.field(1, "Capacity", if capacity.is_empty() { "<default>".into() } else { capacity });
        out.field(1, "Access Modes", show(&claim["spec"]["accessModes"]));
    }
}

pub fn job(out: &mut Writer, object: &Value) {
    let (spec, status) = (&object["spec"], &object["status"]);
    out.name_and_namespace(object);
    out.field(0, "Selector", selector(object));
    out.labels_and_annotations(object);
    let owner = controller(object);
    if !owner.is_empty() {
        out.field(0, "Controlled By", owner);
    }
    out.some(0, "Parallelism", &spec["parallelism"]);
    out.field(0, "Completions", if spec["completions"].is_null() { "<unset>".into() } else { show(&spec["completions"]) });
    out.some(0, "Completion Mode", &spec["completionMode"]);
    out.some(0, "Suspend", &spec["suspend"]);
    out.some(0, "Backoff Limit", &spec["backoffLimit"]);
    out.some(0, "TTL Seconds After Finished", &spec["ttlSecondsAfterFinished"]);
    for (title, field) in [("Start Time", "startTime"), ("Completed At", "completionTime")] {
        if status[field].is_string() {
            out.field(0, title, time(&status[field]));
        }
    }
    let parse = |field: &str| status[field].as_str().and_then(|text| machinery::time::parse(text).ok());
    if let (Some(start), Some(end)) = (parse("startTime"), parse("completionTime")) {
        out.field(0, "Duration", machinery::time::age(start, end));
    }
    if spec["activeDeadlineSeconds"].is_number() {
        out.field(0, "Active Deadline Seconds", format!("{}s", show(&spec["activeDeadlineSeconds"])));
    }
    let ready = if status["ready"].is_number() { format!(" ({} Ready)", number(&status["ready"])) } else { String::new() };
    let (active, succeeded, failed) = (number(&status["active"]), number(&status["succeeded"]), number(&status["failed"]));
    out.field(0, "Pods Statuses", format!("{active} Active{ready} / {succeeded} Succeeded / {failed} Failed"));
    if spec["completionMode"] == "Indexed" {
        out.field(0, "Completed Indexes", or_none(show(&status["completedIndexes"])));
    }
    template(out, &spec["template"]);
}

pub fn cron_job(out: &mut Writer, object: &Value) {
    let spec = &object["spec"];
    let or_unset = |value: &Value| if value.is_null() { "<unset>".to_owned() } else { show(value) };
    out.name_and_namespace(object);
    out.labels_and_annotations(object);
    out.field(0, "Schedule", show(&spec["schedule"]));
    out.field(0, "Concurrency Policy", show(&spec["concurrencyPolicy"]));
    out.field(0, "Suspend", super::writer::truth(spec["suspend"] == true));
    out.field(0, "Successful Job History Limit", or_unset(&spec["successfulJobsHistoryLimit"]));
    out.field(0, "Failed Job History Limit", or_unset(&spec["failedJobsHistoryLimit"]));
    let deadline = &spec["startingDeadlineSeconds"];
    out.field(0, "Starting Deadline Seconds", if deadline.is_null() { "<unset>".into() } else { format!("{}s", show(deadline)) });
    let job = &spec["jobTemplate"]["spec"];
    out.field(0, "Selector", if job["selector"].is_null() { "<unset>".into() } else { selector(&spec["jobTemplate"]) });
    out.field(0, "Parallelism", or_unset(&job["parallelism"]));
    out.field(0, "Completions", or_unset(&job["completions"]));
    template(out, &job["template"]);
    let last = &object["status"]["lastScheduleTime"];
    out.field(0, "Last Schedule Time", if last.is_null() { "<unset>".into() } else { time(last) });
    let active: Vec<String> = items(&object["status"]["active"]).iter().map(|job| show(&job["name"])).collect();
    out.field(0, "Active Jobs", or_none(active.join(", ")));
}
