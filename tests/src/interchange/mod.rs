//! One table of what controllers and a scheduler do through an API server: it holds whichever of the daemons are ours and
//! whichever are upstream's, since they know each other through the API alone.

mod access;
mod bed;
mod garbage;
mod network;
mod policy;
mod scheduling;
mod storage;
mod workloads;

use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::Client;

pub use bed::Bed;

type Work = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A check has a namespace of its own, and ends with what was not seen.
pub struct Check {
    pub name: &'static str,
    run: fn(Bed) -> Work,
}

const CHECK_TIME_MAX: Duration = Duration::from_secs(150);

macro_rules! checks {
    ($($name:literal => $run:path,)*) => { &[$(Check { name: $name, run: |bed| Box::pin($run(bed)) },)*] };
}

pub const CHECKS: &[Check] = checks! {
    "deployment" => workloads::deployment,
    "replication-controller" => workloads::replication_controller,
    "stateful-set" => workloads::stateful_set,
    "daemon-set" => workloads::daemon_set,
    "job" => workloads::job,
    "job-ttl" => workloads::job_ttl,
    "cron-job" => workloads::cron_job,
    "autoscaler" => workloads::autoscaler,
    "scheduling-gate" => scheduling::gate,
    "anti-affinity" => scheduling::anti_affinity,
    "unschedulable" => scheduling::unschedulable,
    "preemption" => scheduling::preemption,
    "delete-background" => garbage::background,
    "delete-foreground" => garbage::foreground,
    "delete-orphan" => garbage::orphan,
    "delete-namespace" => garbage::namespace,
    "service-account" => access::service_account,
    "token-secret" => access::token_secret,
    "signing-request" => access::signing_request,
    "aggregated-role" => access::aggregated_role,
    "endpoint-slices" => network::endpoint_slices,
    "mirrored-endpoints" => network::mirrored_endpoints,
    "claim" => storage::claim,
    "claim-protection" => storage::protection,
    "quota" => policy::quota,
    "disruption" => policy::disruption,
};

/// What became of a check.
pub struct Outcome {
    pub name: &'static str,
    pub took: Duration,
    pub result: Result<()>,
}

/// Runs the checks whose names `chosen` takes, all at the same time.
pub async fn run(client: &Client, chosen: impl Fn(&str) -> bool) -> Vec<Outcome> {
    let running = CHECKS.iter().filter(|check| chosen(check.name)).map(|check| one(client.clone(), check));
    futures::future::join_all(running).await
}

async fn one(client: Client, check: &Check) -> Outcome {
    let begin = Instant::now();
    let work = async {
        let bed = Bed::new(client, check.name).await.context("a namespace with its service account")?;
        (check.run)(bed).await
    };
    let result = match tokio::time::timeout(CHECK_TIME_MAX, work).await {
        Ok(result) => result,
        Err(_) => (|| bail!("no end after {} s", CHECK_TIME_MAX.as_secs()))(),
    };
    Outcome { name: check.name, took: begin.elapsed(), result }
}
