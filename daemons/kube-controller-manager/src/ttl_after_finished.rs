//! ttl-after-finished-controller: finished Jobs go after `spec.ttlSecondsAfterFinished`.

use std::sync::Arc;

use api::Kind;
use api::batch::Job;
use api::jiff::Timestamp;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, DeleteParams, Informer, ObjectKey, Precondition, Propagation};

use crate::clock::{plus_seconds, until};
use crate::context::Context;
use crate::error::{During, Error, GoneIsDone};

pub(crate) const NAME: &str = "ttl-after-finished-controller";

pub(crate) async fn run(ctx: Arc<Context>) {
    let jobs = ctx.informers.jobs.clone();
    jobs.synced().await;
    let queue: Queue<ObjectKey> = Queue::new();
    let q = queue.clone();
    jobs.subscribe(move |change| q.add(change.object().key()));
    let client = ctx.client(NAME);
    client::controller::run(NAME, queue, ctx.settings.workers.ttl_after_finished, move |key| {
        let (ctx, jobs, client) = (ctx.clone(), jobs.clone(), client.clone());
        async move { reconcile(&ctx, &jobs, &client, &key).await }
    })
    .await;
}

async fn reconcile(ctx: &Context, jobs: &Informer<Job>, client: &Client, key: &ObjectKey) -> Result<Outcome, Error> {
    let Some(cached) = jobs.get_key(key) else { return Ok(Outcome::Done) };
    let job = cached.parse()?;
    let Some(at) = expires(&job) else { return Ok(Outcome::Done) };
    let now = ctx.clock.now();
    if at > now {
        return Ok(Outcome::Again(until(at, now)));
    }
    // The version that was looked at: its time may have been prolonged meanwhile.
    let params = DeleteParams {
        propagation: Some(Propagation::Foreground),
        precondition: Precondition { uid: Some(job.uid().to_owned()), resource_version: Some(job.resource_version()) },
        ..DeleteParams::default()
    };
    let deleted = client.delete::<Job>(&key.namespace, &key.name, &params).await;
    deleted.gone_is_done().during(|| format!("deleting the finished Job {key}"))?;
    Ok(Outcome::Done)
}

/// When a Job's time is over; `None` while it runs, when it stays, or when it goes already.
fn expires(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let finished = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    let at = plus_seconds(finished.last_transition_time.as_ref()?.0, i64::from(seconds));
    job.metadata.deletion_timestamp.is_none().then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn when_jobs_expire() {
        for (ttl, condition, want) in [
            (json!(60), "Complete", Some(160)),
            (json!(0), "Failed", Some(100)),
            (json!(null), "Complete", None),
            (json!(60), "Suspended", None),
        ] {
            let job = Job::decode_value(json!({
                "metadata": {}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": [{"type": condition, "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"}]},
            }))
            .unwrap();
            assert_eq!(expires(&job), want.map(|s| Timestamp::from_second(s).unwrap()), "{ttl} {condition}");
        }
    }
}
