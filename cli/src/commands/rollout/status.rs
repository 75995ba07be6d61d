//! `kctl rollout status`: follows a change until it is complete.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use super::{Targets, whole_type};
use crate::kube::{Error, Info, Request, Result, Session, globals::duration, watch::Watch};

const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Tells how far a change is, and returns when it is complete
///
///   kctl rollout status deploy/web --timeout=60s
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct StatusArgs {
    #[command(flatten)]
    targets: Targets,
    /// Return only when the change is complete
    #[arg(short, long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true")]
    watch: bool,
    /// How long to wait; 0 is for as long as it takes
    #[arg(long, value_parser = duration, default_value = "0s")]
    timeout: Duration,
    /// Follow the change to this revision only
    #[arg(long, default_value_t = 0)]
    revision: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Going(String),
    Done(String),
}

pub async fn run(mut args: StatusArgs, session: &Session) -> Result<()> {
    whole_type(&mut args.targets);
    let (infos, mut errors) = args.targets.fetch(session).await?;
    if infos.is_empty() && errors.is_empty() {
        eprintln!("No resources found in {} namespace.", session.namespace);
        return Ok(());
    }
    let timeout = if args.timeout.is_zero() { FOREVER } else { args.timeout };
    let until = Instant::now() + timeout;
    for info in &infos {
        match tokio::time::timeout_at(until, follow(&args, session, info)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => errors.push(error),
            Err(_) => errors.push(Error::message("timed out waiting for the condition")),
        }
    }
    Error::all(errors)
}

async fn follow(args: &StatusArgs, session: &Session, info: &Info) -> Result<()> {
    let mut said = String::new();
    let mut object = info.object.clone();
    loop {
        let done = tell(args, info, &object, &mut said)?;
        if done || !args.watch {
            return Ok(());
        }
        let request = Request::get(info.resource.path(&info.namespace, None))
            .query("fieldSelector", format!("metadata.name={}", info.name));
        let list = session.json(request.clone()).await?;
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        object = list["items"].get(0).cloned().ok_or_else(|| Error::message("object has been deleted"))?;
        if tell(args, info, &object, &mut said)? {
            return Ok(());
        }
        let mut watch = Watch::open(session, request, revision).await?;
        loop {
            let event = match watch.next().await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(Error::Status(status)) if status.code() == 410 => break,
                Err(error) => return Err(error),
            };
            match event.kind.as_str() {
                "BOOKMARK" => continue,
                "DELETED" => return Err(Error::message("object has been deleted")),
                _ => {}
            }
            if tell(args, info, &event.object, &mut said)? {
                return Ok(());
            }
        }
    }
}

/// Prints what is new; true when it is complete.
fn tell(args: &StatusArgs, info: &Info, object: &Value, said: &mut String) -> Result<bool> {
    let (text, done) = match progress(&info.resource.kind, object, args.revision)? {
        Progress::Going(text) => (text, false),
        Progress::Done(text) => (text, true),
    };
    if text != *said {
        println!("{text}");
        *said = text;
    }
    Ok(done)
}

fn progress(kind: &str, object: &Value, revision: i64) -> Result<Progress> {
    match kind {
        "Deployment" => deployment(object, revision),
        "DaemonSet" => daemon_set(object),
        "StatefulSet" => stateful_set(object),
        _ => Err(Error::message(format!("no status viewer has been implemented for {kind}"))),
    }
}

fn count(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn observed(object: &Value) -> bool {
    count(object, "/metadata/generation") <= count(object, "/status/observedGeneration")
}

fn deployment(object: &Value, revision: i64) -> Result<Progress> {
    let name = machinery::meta::name(object);
    if revision > 0 {
        let current =
            machinery::meta::annotation(object, "deployment.kubernetes.io/revision").and_then(|text| text.parse::<i64>().ok());
        if current.is_some_and(|current| current != revision) {
            return Err(Error::message(format!(
                "desired revision ({revision}) is different from the running revision ({})",
                current.unwrap_or(0)
            )));
        }
    }
    if !observed(object) {
        return Ok(Progress::Going("Waiting for deployment spec update to be observed...".into()));
    }
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    if conditions.any(|condition| condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded") {
        return Err(Error::message(format!("deployment {name:?} exceeded its progress deadline")));
    }
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let (replicas, updated, available) =
        (count(object, "/status/replicas"), count(object, "/status/updatedReplicas"), count(object, "/status/availableReplicas"));
    let going = |rest: String| Ok(Progress::Going(format!("Waiting for deployment {name:?} rollout to finish: {rest}...")));
    if updated < wanted {
        return going(format!("{updated} out of {wanted} new replicas have been updated"));
    }
    if replicas > updated {
        return going(format!("{} old replicas are pending termination", replicas - updated));
    }
    if available < updated {
        return going(format!("{available} of {updated} updated replicas are available"));
    }
    Ok(Progress::Done(format!("deployment {name:?} successfully rolled out")))
}

fn daemon_set(object: &Value) -> Result<Progress> {
    let name = machinery::meta::name(object);
    if object["spec"]["updateStrategy"]["type"] != "RollingUpdate" {
        return Err(Error::message("rollout status is only available for RollingUpdate strategy type"));
    }
    if !observed(object) {
        return Ok(Progress::Going("Waiting for daemon set spec update to be observed...".into()));
    }
    let (wanted, updated, available) = (
        count(object, "/status/desiredNumberScheduled"),
        count(object, "/status/updatedNumberScheduled"),
        count(object, "/status/numberAvailable"),
    );
    let going = |rest: String| Ok(Progress::Going(format!("Waiting for daemon set {name:?} rollout to finish: {rest}...")));
    if updated < wanted {
        return going(format!("{updated} out of {wanted} new pods have been updated"));
    }
    if available < wanted {
        return going(format!("{available} of {wanted} updated pods are available"));
    }
    Ok(Progress::Done(format!("daemon set {name:?} successfully rolled out")))
}

fn stateful_set(object: &Value) -> Result<Progress> {
    if object["spec"]["updateStrategy"]["type"] != "RollingUpdate" {
        return Err(Error::message("rollout status is only available for RollingUpdate strategy type"));
    }
    if count(object, "/status/observedGeneration") == 0 || !observed(object) {
        return Ok(Progress::Going("Waiting for statefulset spec update to be observed...".into()));
    }
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let (ready, updated) = (count(object, "/status/readyReplicas"), count(object, "/status/updatedReplicas"));
    if ready < wanted {
        return Ok(Progress::Going(format!("Waiting for {} pods to be ready...", wanted - ready)));
    }
    let partition = count(object, "/spec/updateStrategy/rollingUpdate/partition");
    if partition > 0 {
        if updated < wanted - partition {
            return Ok(Progress::Going(format!(
                "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...",
                wanted - partition
            )));
        }
        return Ok(Progress::Done(format!("partitioned roll out complete: {updated} new pods have been updated...")));
    }
    let revision = object["status"]["updateRevision"].as_str().unwrap_or_default();
    if object["status"]["updateRevision"] != object["status"]["currentRevision"] {
        return Ok(Progress::Going(format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision {revision}..."
        )));
    }
    let current = count(object, "/status/currentReplicas");
    Ok(Progress::Done(format!("statefulset rolling update complete {current} pods at revision {revision}...")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deployments() {
        let check = |status: Value, want: Progress| {
            let object = json!({"metadata": {"name": "web", "generation": 2}, "spec": {"replicas": 3}, "status": status});
            assert_eq!(progress("Deployment", &object, 0).unwrap(), want);
        };
        let going = |text: &str| Progress::Going(text.into());
        check(json!({"observedGeneration": 1}), going("Waiting for deployment spec update to be observed..."));
        check(
            json!({"observedGeneration": 2, "updatedReplicas": 1}),
            going("Waiting for deployment \"web\" rollout to finish: 1 out of 3 new replicas have been updated..."),
        );
        check(
            json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 4}),
            going("Waiting for deployment \"web\" rollout to finish: 1 old replicas are pending termination..."),
        );
        check(
            json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2}),
            going("Waiting for deployment \"web\" rollout to finish: 2 of 3 updated replicas are available..."),
        );
        check(
            json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}),
            Progress::Done("deployment \"web\" successfully rolled out".into()),
        );
    }
}
