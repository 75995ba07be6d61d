//! kube-controller-manager: the controllers, each a loop of index → decide → apply.
//!
//! A controller's folder holds its decision (`decide.rs`: pure, with tables of cases) and its shell (`mod.rs`: informers,
//! a queue, requests). What they share is beside them, one concept per file; [`controllers`] is the table of them all.

mod args;
mod autoscaler;
mod batch;
mod bootstrap;
mod certificates;
mod claims;
mod clock;
mod cluster_role_aggregation;
mod context;
pub mod controllers;
mod cronjob;
mod daemonset;
mod deployment;
mod discovery;
mod disruption;
mod endpoints;
mod error;
mod event;
mod fence;
mod follow;
mod garbage_collector;
mod hash;
mod history;
mod identity;
mod int_or_percent;
mod job;
mod metrics;
mod namespace;
mod node;
mod node_ipam;
mod node_lifecycle;
mod owner;
mod pod;
mod pod_control;
mod pod_gc;
mod replicaset;
mod resource_quota;
mod revisions;
mod root_ca;
mod scale;
mod selector;
mod service_account;
mod service_cidr;
mod settings;
mod statefulset;
mod storage_version_migrator;
mod taint_eviction;
mod template;
mod tokens;
mod ttl_after_finished;
mod upstream_flags;
mod volume;
mod worker;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use client::lease::{self, LeaseConfig};
use client::{Client, Config};
use daemon::feature_gates::FeatureGates;
use daemon::health::{Checks, Scope};
use daemon::{Shutdown, Threads};
use futures::FutureExt;
use tokio::task::JoinSet;

pub use args::Args;
pub use clock::Clock;
pub use context::Context;
pub use controllers::Controller;
pub use identity::Identities;
pub use settings::{Autoscaling, Settings, Signing, SigningFiles, Workers};

const PORT: u16 = 10257;

/// The daemon, from its command line.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    daemon::run_main(args, Threads::PerCore, upstream_flags::TABLES, |args: &Args| &args.common, run)
}

/// Runs until shutdown, or until leadership is lost.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let gates = FeatureGates::parse(&args.feature_gates).map_err(|why| anyhow::anyhow!("--feature-gates: {why}"))?;
    if !gates.unknown().is_empty() {
        tracing::info!(gates = gates.unknown().join(","), "these feature gates do nothing here");
    }
    let selected = controllers::selected(&args.controllers, &gates)?;
    client::queue::measure_by(metrics::Queues);
    let settings = args.settings()?;
    let config = Config::for_daemon(args.master.as_deref(), args.kubeconfig.as_deref());
    let config = config.with_context(|| match &args.kubeconfig {
        Some(path) => format!("--kubeconfig {}", path.display()),
        None => "no --kubeconfig was given".to_owned(),
    })?;
    let client = Client::new(config.clone());
    let identities = if args.use_service_account_credentials {
        Identities::service_accounts(client.clone(), Client::new(config.without_credentials()))
    } else {
        Identities::shared(client.clone())
    };
    let checks = Checks::new();
    let access = args.serving.access()?;
    if let Some((listener, tls)) = args.serving.open(PORT)? {
        let checks = checks.clone();
        tokio::spawn(daemon::endpoints::run(listener, Some(tls), checks, access, shutdown.clone()));
    }
    let leading = AtomicBool::new(false);
    let work = async {
        leading.store(true, Ordering::Relaxed);
        start(identities, Clock::wall(), settings, selected, &checks, shutdown.clone()).await;
    };
    if !args.election.leader_elect {
        work.await;
        return Ok(());
    }
    // Who loses the lease ends at once: who answers has it, or waits for it.
    checks.add("leaderElection", Scope::Live, || Ok(()));
    let lease = LeaseConfig {
        lease_duration: args.election.leader_elect_lease_duration,
        renew_deadline: args.election.leader_elect_renew_deadline,
        retry_period: args.election.leader_elect_retry_period,
        ..LeaseConfig::new(&args.election.leader_elect_resource_namespace, &args.election.leader_elect_resource_name, identity()?)
    };
    let waiting = async {
        shutdown.requested().await;
        if leading.load(Ordering::Relaxed) {
            // The controllers end by themselves, and then the lease is given back.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = lease::lead(&client, &lease, work) => result.context("kube-controller-manager"),
        () = waiting => Ok(()),
    }
}

/// Runs the given controllers until shutdown. Each has a check among `checks`, which fails once it has panicked.
pub async fn start(
    identities: Identities,
    clock: Clock,
    settings: Settings,
    selected: Vec<&'static Controller>,
    checks: &Checks,
    shutdown: Shutdown,
) {
    let ctx = Context::new(identities, clock, settings, shutdown.clone());
    let mut tasks = JoinSet::new();
    // All of them at once, as a cluster's start has them, may be much for a small API server.
    let waits = std::iter::successors(Some(Duration::ZERO), |wait| Some(*wait + ctx.settings.start_interval));
    for (controller, wait) in selected.into_iter().zip(waits) {
        let (ctx, name) = (Arc::clone(&ctx), controller.name);
        let panicked = Arc::new(AtomicBool::new(false));
        let seen = panicked.clone();
        checks.add(name, Scope::Live, move || if seen.load(Ordering::Relaxed) { Err("it panicked".into()) } else { Ok(()) });
        tasks.spawn(async move {
            tokio::time::sleep(wait).await;
            tracing::debug!(controller = name, "starting");
            if AssertUnwindSafe((controller.run)(ctx)).catch_unwind().await.is_err() {
                tracing::error!(controller = name, "panicked");
                panicked.store(true, Ordering::Relaxed);
            }
        });
    }
    shutdown.requested().await;
    tasks.shutdown().await;
}

/// Unique to this process: the host, and something random, as upstream has it.
fn identity() -> anyhow::Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host's name")?;
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("reading randomness")?;
    Ok(format!("{}_{}", host.trim(), uuid.trim()))
}
