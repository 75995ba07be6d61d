//! Whether it is time for a CronJob's next Job, and which old ones go. Pure.

use api::Kind;
use api::batch::{CronJob, CronJobStatus, Job};
use api::core::ObjectReference;
use api::jiff::Timestamp;
use api::jiff::tz::TimeZone;
use api::metav1::ObjectMeta;

use super::schedule::Schedule;
use crate::clock::{plus_seconds, time};
use crate::event::Note;
use crate::owner;

const MISSED_MAX: usize = 100;
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Indexes into the observed Jobs.
    pub(super) delete: Vec<usize>,
    pub(super) create: Option<Box<Job>>,
    pub(super) status: CronJobStatus,
    pub(super) notes: Vec<Note>,
    pub(super) again_at: Option<Timestamp>,
}

/// `jobs` are all that the CronJob owns; `zone` is that of `spec.timeZone`, or why there is none.
pub(super) fn decide(cron: &CronJob, jobs: &[Job], zone: Result<&TimeZone, &str>, now: Timestamp) -> Plan {
    let spec = &cron.spec;
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    note_finished(cron, jobs, &mut plan);
    for (condition, limit) in
        [("Complete", spec.successful_jobs_history_limit.unwrap_or(3)), ("Failed", spec.failed_jobs_history_limit.unwrap_or(1))]
    {
        plan.delete.extend(surplus(jobs, condition, limit));
    }
    if cron.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let zone = match zone {
        Ok(zone) => zone,
        Err(why) => {
            plan.notes.push(Note::warning("UnknownTimeZone", why));
            return plan;
        }
    };
    if spec.suspend == Some(true) {
        return plan;
    }
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            plan.notes.push(Note::warning("UnparseableSchedule", format!("unparseable schedule: {error}")));
            return plan;
        }
    };
    plan.again_at = schedule.next(now, zone);
    let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let last = plan.status.last_schedule_time.as_ref().map_or(created, |t| t.0);
    let since = match spec.starting_deadline_seconds {
        Some(seconds) => last.max(plus_seconds(now, -seconds)),
        None => last,
    };
    let (due, missed) = schedule.last_between(since, now, zone, MISSED_MAX);
    if missed > MISSED_MAX {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.notes.push(Note::warning("TooManyMissedTimes", message));
    }
    let Some(due) = due else { return plan };
    let active: Vec<usize> = (0..jobs.len()).filter(|i| is_active(&jobs[*i])).collect();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notes.push(Note::normal("JobAlreadyActive", message));
            return plan;
        }
        Some("Replace") => {
            plan.status.active = None;
            plan.delete.extend(active);
        }
        _ => {}
    }
    plan.create = Some(Box::new(job_for(cron, due, zone)));
    plan.status.last_schedule_time = Some(time(due));
    plan
}

/// A Job's name follows from its time, so that no time has two.
fn job_for(cron: &CronJob, due: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED_AT.into(), local(due, zone));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name(), due.as_second() / 60)),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner::controller_ref(cron)]),
            creation_timestamp: None,
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.unwrap_or_default()),
        status: None,
    }
}

/// RFC 3339 with the zone's offset.
fn local(at: Timestamp, zone: &TimeZone) -> String {
    if *zone == TimeZone::UTC {
        return machinery::time::format(at);
    }
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// Brings `status.active` up to date, and tells of those that have ended.
fn note_finished(cron: &CronJob, jobs: &[Job], plan: &mut Plan) {
    let was_active = cron.status.as_ref().and_then(|s| s.active.clone()).unwrap_or_default();
    for job in jobs {
        let known = was_active.iter().any(|a| a.uid.as_deref() == Some(job.uid()));
        let Some(end) = end_of(job) else {
            if !known {
                let message = format!("Saw a job that the controller did not create or forgot: {}", job.name());
                plan.notes.push(Note::warning("UnexpectedJob", message));
            }
            continue;
        };
        if known {
            let message = format!("Saw completed job: {}, condition: {end}", job.name());
            plan.notes.push(Note::normal("SawCompletedJob", message));
        }
        if end == "Complete" {
            let at = job.status.as_ref().and_then(|s| s.completion_time.clone());
            if at.as_ref().map(|t| t.0) > plan.status.last_successful_time.as_ref().map(|t| t.0) {
                plan.status.last_successful_time = at;
            }
        }
    }
    for missing in was_active.iter().filter(|a| !jobs.iter().any(|j| a.uid.as_deref() == Some(j.uid()))) {
        let name = missing.name.as_deref().unwrap_or_default();
        plan.notes.push(Note::normal("MissingJob", format!("Active job went missing: {name}")));
    }
    let active: Vec<ObjectReference> = jobs.iter().filter(|j| is_active(j)).map(reference).collect();
    plan.status.active = (!active.is_empty()).then_some(active);
}

pub(super) fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

fn end_of(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some(&ended.type_)
}

fn is_active(job: &Job) -> bool {
    end_of(job).is_none() && job.metadata.deletion_timestamp.is_none()
}

/// The oldest of those that ended so, beyond `limit`.
fn surplus(jobs: &[Job], condition: &str, limit: i32) -> Vec<usize> {
    let ended = |j: &Job| end_of(j) == Some(condition) && j.metadata.deletion_timestamp.is_none();
    let mut ended: Vec<usize> = (0..jobs.len()).filter(|i| ended(&jobs[*i])).collect();
    let started = |j: &Job| j.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    ended.sort_by_key(|i| (started(&jobs[*i]), jobs[*i].name().to_owned()));
    let count = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    ended.truncate(count);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cron(policy: &str, last: Option<&str>, more: serde_json::Value) -> CronJob {
        let mut value = json!({
            "metadata": {"name": "tick", "namespace": "default", "uid": "c", "creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "*/5 * * * *", "concurrencyPolicy": policy, "jobTemplate": {"spec": {"template": {}}}},
            "status": {"lastScheduleTime": last},
        });
        for (k, v) in more.as_object().unwrap() {
            value["spec"][k] = v.clone();
        }
        CronJob::decode_value(value).unwrap()
    }

    fn job(name: &str, end: Option<&str>) -> Job {
        let conditions = end.map(|e| json!([{"type": e, "status": "True"}]));
        Job::decode_value(json!({
            "metadata": {"name": name, "uid": name}, "spec": {"template": {}},
            "status": {"conditions": conditions, "startTime": "2026-01-01T00:00:00Z"},
        }))
        .unwrap()
    }

    #[test]
    fn when_a_job_is_made() {
        let running = [job("a", None)];
        let name = |due: &str| Some(format!("tick-{}", at(due).as_second() / 60));
        for (policy, last, jobs, more, now, want) in [
            ("Allow", None, &[][..], json!({}), "2026-01-01T00:04:00Z", None),
            ("Allow", None, &[], json!({}), "2026-01-01T00:05:00Z", name("2026-01-01T00:05:00Z")),
            ("Allow", Some("2026-01-01T00:05:00Z"), &[], json!({}), "2026-01-01T00:09:59Z", None),
            // Missed ones are made up for by one.
            ("Allow", Some("2026-01-01T00:05:00Z"), &[], json!({}), "2026-01-01T00:31:00Z", name("2026-01-01T00:30:00Z")),
            ("Allow", Some("2026-01-01T00:05:00Z"), &[], json!({"startingDeadlineSeconds": 30}), "2026-01-01T00:31:00Z", None),
            ("Allow", None, &[], json!({"suspend": true}), "2026-01-01T00:05:00Z", None),
            ("Allow", None, &running, json!({}), "2026-01-01T00:05:00Z", name("2026-01-01T00:05:00Z")),
            ("Forbid", None, &running, json!({}), "2026-01-01T00:05:00Z", None),
            ("Replace", None, &running, json!({}), "2026-01-01T00:05:00Z", name("2026-01-01T00:05:00Z")),
        ] {
            let plan = decide(&cron(policy, last, more), jobs, Ok(&TimeZone::UTC), at(now));
            assert_eq!(plan.create.map(|j| j.name().to_owned()), want, "{policy} {last:?} at {now}");
            assert_eq!(plan.delete.len(), usize::from(policy == "Replace"));
        }
    }

    #[test]
    fn the_next_time_is_looked_for_and_history_is_short() {
        let jobs: Vec<Job> = ["a", "b", "c", "d", "e"].iter().map(|n| job(n, Some("Complete"))).collect();
        let plan = decide(
            &cron("Allow", Some("2026-01-01T00:05:00Z"), json!({})),
            &jobs,
            Ok(&TimeZone::UTC),
            at("2026-01-01T00:06:00Z"),
        );
        assert_eq!((plan.again_at, plan.delete), (Some(at("2026-01-01T00:10:00Z")), vec![0, 1]));
    }

    #[test]
    fn a_zone_that_is_not_known_starts_nothing() {
        let cron = cron("Allow", None, json!({"timeZone": "x"}));
        let plan = decide(&cron, &[], Err("invalid timeZone"), at("2026-01-01T00:05:00Z"));
        assert_eq!((plan.create, plan.notes[0].reason), (None, "UnknownTimeZone"));
        let zone = TimeZone::fixed(api::jiff::tz::offset(2));
        let job = decide(&cron, &[], Ok(&zone), at("2026-01-01T00:05:00Z")).create.unwrap();
        assert_eq!(job.metadata.annotations.unwrap()[SCHEDULED_AT], "2026-01-01T02:05:00+02:00");
    }
}
