//! The node agent: runs the pods that are bound to this node, and those that it finds as files.
//!
//! ```text
//! files ──┐                                        ┌─ volumes, cgroups
//!         ├─> agent ──> one task per pod (worker) ─┤
//! API  ───┘      ^            plan = compute(spec, what the runtime has)
//!                │                                 └─ CRI: sandbox, containers
//!   runtime's list and events, probes, changed objects: wake the pod's task
//! ```
//!
//! **Invariants:** static pods need no API server; what is to be done is decided by pure functions ([`runtime::actions`],
//! [`status`], [`admission`], …) from the whole state, never from which event came; nothing from a specification reaches a
//! shell or a path outside the pod's own directories.

#![allow(clippy::result_large_err, reason = "a Status is the answer to a refused request: made once, and sent")]

mod admission;
mod agent;
mod args;
mod backend;
mod certificates;
mod cgroup;
mod config;
mod connect;
mod gc;
mod lock_file;
mod node;
mod objects;
mod orphans;
mod pleg;
mod pod;
mod probe;
mod runtime;
mod server;
mod stats;
mod status;
mod tokens;
mod upstream_flags;
mod volume;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daemon::Shutdown;
use daemon::health::{Checks, Scope};
use tokio::net::TcpListener;

use agent::Agent;
pub use args::Args;
use config::{CgroupDriver, Config};
use node::machine::Machine;
use runtime::client::Runtime;

pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    daemon::run_main::<Args, _, _>(args, daemon::Threads::One, upstream_flags::TABLES, |a| &a.common, run)
}

pub async fn run(args: Args, shutdown: Shutdown) -> Result<()> {
    let mut config = Config::load(&args)?;
    let machine = Machine::read();
    config.max_pods = config.pods_max(machine.cpus);
    check_host(&config, &machine)?;
    prepare_process(&config);
    let lock = match &config.lock_file {
        None => lock_file::Lock::default(),
        Some(path) => tokio::select! {
            lock = lock_file::Lock::acquire(path, config.exit_on_lock_contention) => lock?,
            () = shutdown.requested() => return Ok(()),
        },
    };
    for directory in [config.root_dir.join("pods"), config.cert_dir.clone(), config.log_dir.clone()] {
        std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let runtime =
        Runtime::new(cri::connect(&config.runtime_endpoint)?, cri::connect(&config.image_endpoint)?, config.runtime_timeout);
    let driver = wait_for_runtime(&runtime, &config, &shutdown).await;
    if shutdown.is_requested() {
        return Ok(());
    }
    let cgroups = cgroup::Cgroups::new(driver, config.cgroups_per_qos, config.cpu_quota, config.pod_pids_max);
    let agent = Agent::new(config, machine, runtime, cgroups);
    agent.cgroups.ensure_classes(&[], agent.allocatable()["cpu"]).await.context("making the cgroups of pods")?;
    let last_list = Arc::new(pleg::LastList::new(None));
    watch_runtime(agent.clone());
    tokio::spawn(pleg::run(agent.clone(), last_list.clone()));
    tokio::spawn(status::manager::run(agent.clone()));
    tokio::spawn(housekeeping(agent.clone()));
    healthz(&agent, last_list.clone(), shutdown.clone()).await?;

    let (read, first_read) = tokio::sync::oneshot::channel();
    match agent.config.static_pod_path.clone() {
        Some(path) => drop(tokio::spawn(pod::file_source::run(agent.clone(), path, read))),
        None => drop(read),
    }
    // Either it was read, or there is none.
    let _ = first_read.await;
    let limits = gc::Limits::of(&agent.config);
    let pods = Arc::new(backend::Pods(agent.clone()));
    let collect = async {
        // Not before the sources are read: what is not known yet is in use.
        if agent.sources_ready.subscribe().wait_for(|r| *r).await.is_ok() {
            gc::run(agent.runtime.clone(), pods, limits, shutdown.clone()).await;
        }
        std::future::pending::<()>().await;
    };
    let serve = async {
        let client = if agent.config.kubeconfig.is_some() {
            Some(connect::run(agent.clone(), last_list).await?)
        } else {
            agent.sources_ready.send_replace(true);
            tracing::info!("no --kubeconfig: only static pods run");
            if let Some(cidr) = &agent.config.pod_cidr {
                agent.runtime.set_pod_cidr(cidr).await.context("telling the runtime the pod network")?;
            }
            None
        };
        connect::serve(agent.clone(), client, shutdown.clone()).await
    };
    tokio::select! {
        result = serve => result,
        () = collect => Ok(()),
        () = lock.contended() => bail!("another process opened the lock file"),
        // Pods outlive their kubelet: nothing is stopped here.
        () = shutdown.requested() => Ok(()),
    }
}

/// Refuses a host that the configuration does not want.
fn check_host(config: &Config, machine: &Machine) -> Result<()> {
    if config.fail_swap_on && machine.swap_bytes > 0 {
        bail!("running with swap on is not supported: disable swap, or set failSwapOn to false");
    }
    if config.fail_cgroup_v1 && !cgroup::is_v2() {
        bail!("kubelet is configured to not run on a host using cgroup v1: use cgroup v2, or set failCgroupV1 to false");
    }
    if config.protect_kernel_defaults {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).ok();
        let wrong: Vec<String> = node::tunables::deviations(read).iter().map(ToString::to_string).collect();
        if !wrong.is_empty() {
            bail!("protectKernelDefaults: [{}]", wrong.join(", "));
        }
    }
    Ok(())
}

/// What the configuration says of this process.
fn prepare_process(config: &Config) {
    if !config.feature_gates.unknown().is_empty() {
        tracing::info!(gates = config.feature_gates.unknown().join(","), "these feature gates do nothing here");
    }
    if let Some(score) = config.oom_score_adj {
        daemon::process::set_oom_score_adj(score);
    }
    if let Some(files) = config.open_files_max {
        use rustix::process::{Resource, Rlimit, setrlimit};
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) }) {
            tracing::warn!(files, %error, "the number of open files stays as it is");
        }
    }
}

/// Waits until the runtime answers, and learns its cgroup driver where it tells.
async fn wait_for_runtime(runtime: &Runtime, config: &Config, shutdown: &Shutdown) -> CgroupDriver {
    let mut told = false;
    loop {
        match runtime.version().await {
            Ok(version) => {
                tracing::info!(name = version.runtime_name, version = version.runtime_version, "runtime");
                break;
            }
            Err(error) if !told => {
                tracing::warn!(endpoint = config.runtime_endpoint, %error, "waiting for the runtime");
                told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = shutdown.requested() => break,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
    match runtime.cgroup_driver().await {
        Ok(Some(driver)) => driver,
        // Older runtimes do not tell: the configuration decides.
        Ok(None) | Err(_) => config.cgroup_driver,
    }
}

/// Keeps in mind whether the runtime can give pods a network.
fn watch_runtime(agent: Arc<Agent>) {
    tokio::spawn(async move {
        loop {
            let problem = match agent.runtime.status().await {
                Ok(status) => runtime_problem(&status),
                Err(error) => Some(format!("the runtime does not answer: {error}")),
            };
            let was = agent.network_error.load_full();
            let ready = problem.is_none();
            if was.as_deref() != problem.as_ref() {
                match &problem {
                    Some(problem) => tracing::warn!(problem, "the runtime is not ready"),
                    None => tracing::info!("the runtime and its network are ready"),
                }
                agent.network_error.store(problem.map(Arc::new));
                agent.wake_all();
            }
            tokio::time::sleep(if ready { Duration::from_secs(5) } else { Duration::from_millis(500) }).await;
        }
    });
}

fn runtime_problem(status: &cri::v1::RuntimeStatus) -> Option<String> {
    for kind in ["RuntimeReady", "NetworkReady"] {
        let condition = status.conditions.iter().find(|c| c.r#type == kind);
        match condition {
            Some(c) if c.status => {}
            Some(c) => return Some(format!("{kind}=false reason:{} message:{}", c.reason, c.message)),
            None => return Some(format!("{kind} condition is missing")),
        }
    }
    None
}

/// Work that comes up from time to time.
async fn housekeeping(agent: Arc<Agent>) {
    const PERIOD: Duration = Duration::from_secs(30);
    loop {
        let pods: Vec<_> = agent.pods().into_iter().filter(|(_, s)| !s.ended).map(|(p, _)| p).collect();
        if let Err(error) = agent.cgroups.ensure_classes(&pods, agent.allocatable()["cpu"]).await {
            tracing::warn!("cgroups: {}", daemon::chain(&error));
        }
        orphans::clean_directories(&agent).await;
        tokio::time::sleep(PERIOD).await;
    }
}

async fn healthz(agent: &Arc<Agent>, last_list: Arc<pleg::LastList>, shutdown: Shutdown) -> Result<()> {
    let Some((ip, port)) = agent.config.healthz else { return Ok(()) };
    let checks = Checks::new();
    checks.add("syncloop", Scope::Live, move || match *last_list.borrow() {
        Some(at) if at.elapsed() > pleg::HEALTHY => Err("the runtime does not answer".to_owned()),
        _ => Ok(()),
    });
    let address = SocketAddr::new(ip, port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    tokio::spawn(daemon::endpoints::run(listener, None, checks, daemon::endpoints::MetricsAccess::Anyone, shutdown));
    Ok(())
}
