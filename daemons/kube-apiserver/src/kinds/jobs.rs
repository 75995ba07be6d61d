//! Job and CronJob.

use machinery::field::{FieldErrors, Path};
use machinery::{meta, time};
use serde_json::{Value, json};

use super::table::{AGE, Column, NAME, column, containers, images, integer, wide};
use super::validate::{self, none_negative, one_of, required_one_of};
use super::value::{count, ensure, fill, has, int, items, number, object_in, set, text, truth};
use super::{Rules, Selectable, pod_validation};

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const OLD_CONTROLLER_UID: &str = "controller-uid";
const OLD_JOB_NAME: &str = "job-name";
/// A CronJob's name with the suffix of its Jobs must still be a Job's name.
const CRON_JOB_NAME_MAX: usize = 52;

pub(super) struct Job;

impl Rules for Job {
    fn default(&self, job: &mut Value) {
        ensure(job, &["spec", "template", "spec"]);
        default_spec(object_in(job, "spec"));
        let labels = job.pointer("/spec/template/metadata/labels").cloned();
        if let Some(labels) = labels.filter(|labels| count(labels, "") > 0)
            && count(job, "/metadata/labels") == 0
        {
            set(object_in(job, "metadata"), "labels", labels);
        }
    }

    /// Unless the creator chose one, the selector is the Job's own uid.
    fn prepare_for_create(&self, job: &mut Value) {
        if truth(job, "/spec/manualSelector") {
            return;
        }
        let (uid, name) = (meta::uid(job).to_owned(), meta::name(job).to_owned());
        let template = object_in(object_in(job, "spec"), "template");
        let labels = object_in(object_in(template, "metadata"), "labels");
        for (label, value) in [(CONTROLLER_UID, &uid), (OLD_CONTROLLER_UID, &uid), (JOB_NAME, &name), (OLD_JOB_NAME, &name)] {
            set(labels, label, value.as_str());
        }
        let labels = labels.clone();
        if count(job, "/metadata/labels") == 0 {
            set(object_in(job, "metadata"), "labels", labels);
        }
        let selector = object_in(object_in(job, "spec"), "selector");
        set(object_in(selector, "matchLabels"), CONTROLLER_UID, uid);
    }

    fn validate(&self, job: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&job["spec"], Path::new("spec"));
        validate_spec(spec, &path, errors);
        match spec.get("selector").filter(|selector| !selector.is_null()) {
            None => errors.required(&path.child("selector"), ""),
            Some(selector) => {
                validate::label_selector(selector, &path.child("selector"), errors);
                if !truth(spec, "/manualSelector") && count(selector, "/matchLabels") + count(selector, "/matchExpressions") != 1
                {
                    errors.invalid(&path.child("selector"), selector.clone(), "`selector` not auto-generated");
                }
                let matches = machinery::selector::LabelSelector::from_label_selector(selector)
                    .is_ok_and(|selector| selector.matches_object(&spec["template"]));
                if !matches {
                    let labels = spec.pointer("/template/metadata/labels").cloned().unwrap_or(Value::Null);
                    let path = path.child("template").child("metadata").child("labels");
                    errors.invalid(&path, labels, "`selector` does not match template `labels`");
                }
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if !subresource.is_empty() {
            return;
        }
        let path = Path::new("spec");
        let indexed = text(new, "/spec/completionMode") == "Indexed";
        let elastic = indexed && int(new, "/spec/completions") == int(new, "/spec/parallelism");
        let mut fixed =
            vec!["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];
        if !elastic {
            fixed.push("completions");
        }
        for field in fixed {
            validate::immutable(&new["spec"][field], &old["spec"][field], &path.child(field), errors);
        }
        // A suspended Job that never started may still be told where its pods go.
        let tunable = truth(old, "/spec/suspend") && !has(old, "/status/startTime");
        let mut template = new["spec"]["template"].clone();
        if tunable {
            for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
                super::value::restore(&mut template["spec"], &old["spec"]["template"]["spec"], field);
            }
            for field in ["labels", "annotations"] {
                super::value::restore(&mut template["metadata"], &old["spec"]["template"]["metadata"], field);
            }
        }
        if template != old["spec"]["template"] {
            errors.invalid(&path.child("template"), new["spec"]["template"].clone(), "field is immutable");
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[("status.successful", |job| int(job, "/status/succeeded").to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Status", |row| status(row.object).into()).says("Status of the job."),
            column("Completions", |row| completions(row.object).into()).of("api.batch.v1.JobStatus", "succeeded"),
            column("Duration", |row| {
                let Ok(start) = time::parse(text(row.object, "/status/startTime")) else { return "".into() };
                let end = time::parse(text(row.object, "/status/completionTime")).unwrap_or(row.now);
                time::age(start, end).into()
            })
            .says("Time required to complete the job."),
            AGE,
            containers(|row| row.containers("/spec/template/spec/containers")),
            images(|row| row.images("/spec/template/spec/containers")),
            wide("Selector", |row| row.selector("/spec/selector")).of("api.batch.v1.JobSpec", "selector"),
        ];
        COLUMNS
    }
}

fn default_spec(spec: &mut Value) {
    if !has(spec, "/completions") && !has(spec, "/parallelism") {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let limit = if has(spec, "/backoffLimitPerIndex") { i32::MAX } else { 6 };
    fill(spec, "backoffLimit", limit);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let replacement = if has(spec, "/podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replacement);
    fill(spec, "manualSelector", false);
}

fn validate_spec(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    none_negative(
        spec,
        &[
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "backoffLimit",
            "ttlSecondsAfterFinished",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
        ],
        path,
        errors,
    );
    one_of(spec, "completionMode", &["NonIndexed", "Indexed"], path, errors);
    if text(spec, "/completionMode") == "Indexed" {
        if !has(spec, "/completions") {
            errors.required(&path.child("completions"), "when completion mode is Indexed");
        }
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            if let Some(value) = spec.get(field).filter(|value| !value.is_null()) {
                errors.invalid(&path.child(field), value.clone(), "requires indexed completion mode");
            }
        }
    }
    pod_validation::template(&spec["template"], &path.child("template"), errors);
    let restart = path.child("template").child("spec").child("restartPolicy");
    match text(spec, "/template/spec/restartPolicy") {
        "" | "Always" => errors.required(&restart, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if has(spec, "/podFailurePolicy") => {
            errors.invalid(&restart, "OnFailure", "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(&restart, other, &["OnFailure", "Never"]),
    }
}

fn status(job: &Value) -> &'static str {
    let has =
        |kind: &str| items(job, "/status/conditions").iter().any(|c| text(c, "/type") == kind && text(c, "/status") == "True");
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if meta::deletion_timestamp(job).is_some() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = int(job, "/status/succeeded");
    match (number(job, "/spec/completions"), int(job, "/spec/parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

pub(super) struct CronJob;

impl Rules for CronJob {
    fn default(&self, job: &mut Value) {
        ensure(job, &["spec", "jobTemplate", "spec", "template", "spec"]);
    }

    fn validate(&self, job: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&job["spec"], Path::new("spec"));
        if meta::name(job).len() > CRON_JOB_NAME_MAX {
            let detail = format!("must be no more than {CRON_JOB_NAME_MAX} characters");
            errors.invalid(&Path::new("metadata").child("name"), meta::name(job), detail);
        }
        let schedule = text(spec, "/schedule");
        if schedule.is_empty() {
            errors.required(&path.child("schedule"), "");
        } else if let Some(problem) = schedule_problem(schedule) {
            errors.invalid(&path.child("schedule"), schedule, problem);
        }
        required_one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], &path, errors);
        none_negative(spec, &["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"], &path, errors);
        validate_spec(&spec["jobTemplate"]["spec"], &path.child("jobTemplate").child("spec"), errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Schedule", |row| row.text("/spec/schedule")).of("api.batch.v1.CronJobSpec", "schedule"),
            column("Timezone", |row| row.text_or("/spec/timeZone", "<none>")).of("api.batch.v1.CronJobSpec", "timeZone"),
            Column {
                kind: "boolean",
                ..column("Suspend", |row| if truth(row.object, "/spec/suspend") { "True" } else { "False" }.into())
                    .of("api.batch.v1.CronJobSpec", "suspend")
            },
            integer("Active", |row| row.count("/status/active")).of("api.batch.v1.CronJobStatus", "active"),
            column("Last Schedule", |row| {
                if row.has("/status/lastScheduleTime") { row.since("/status/lastScheduleTime") } else { json!("<none>") }
            })
            .of("api.batch.v1.CronJobStatus", "lastScheduleTime"),
            AGE,
            containers(|row| row.containers("/spec/jobTemplate/spec/template/spec/containers")),
            images(|row| row.images("/spec/jobTemplate/spec/template/spec/containers")),
            wide("Selector", |row| row.selector("/spec/jobTemplate/spec/selector")).of("api.batch.v1.JobSpec", "selector"),
        ];
        COLUMNS
    }
}

/// Why the text is no cron schedule: five fields of numbers, ranges and steps, or a word such as `@daily`.
fn schedule_problem(schedule: &str) -> Option<String> {
    const WORDS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    if schedule.starts_with('@') {
        let known = WORDS.contains(&schedule) || schedule.strip_prefix("@every ").is_some_and(|rest| !rest.trim().is_empty());
        return (!known).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let bounds: [(i64, i64, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, MONTHS), (0, 6, DAYS)];
    for (field, (low, high, words)) in fields.iter().zip(bounds) {
        let value = |text: &str| -> Option<i64> {
            let word = words.iter().position(|word| word.eq_ignore_ascii_case(text)).and_then(|at| i64::try_from(at).ok());
            word.map(|at| at + low).or_else(|| text.parse().ok())
        };
        for part in field.split(',') {
            let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            if step.is_some_and(|step| step.parse::<u32>().is_ok_and(|step| step == 0)) {
                return Some(format!("step of range should be a positive number: {part}"));
            }
            if step.is_some_and(|step| step.parse::<u32>().is_err()) {
                return Some(format!("failed to parse int from {}", step.unwrap_or_default()));
            }
            if matches!(range, "*" | "?") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let (Some(from_value), Some(to_value)) = (value(from), value(to)) else {
                return Some(format!("failed to parse int from {range}"));
            };
            if from_value < low {
                return Some(format!("beginning of range ({from_value}) below minimum ({low}): {part}"));
            }
            if to_value > high {
                return Some(format!("end of range ({to_value}) above maximum ({high}): {part}"));
            }
            if from_value > to_value {
                return Some(format!("beginning of range ({from_value}) beyond end of range ({to_value}): {part}"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-3,7 1 jan-mar mon", "@daily", "@every 5m", "0 0 ? * 0"] {
            assert_eq!(schedule_problem(good), None, "{good}");
        }
        for bad in ["", "* * * *", "60 * * * *", "* * 0 * *", "x * * * *", "*/0 * * * *", "5-3 * * * *", "@never"] {
            assert!(schedule_problem(bad).is_some(), "{bad}");
        }
    }
}
