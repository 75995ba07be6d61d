//! `kctl init`: preflight, the plan, and what to say when a step fails.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use host::systemd::Systemd;

use super::cluster::Cluster;
use super::context::Context;
use super::ledger::Ledger;
use super::plan::{self, Check, Failure};
use super::progress::Progress;
use super::{diagnose, node, paths, preflight, steps};

/// Make this host a Kubernetes cluster: control plane, node, pod network and DNS.
///
/// It can be run again at any time: what is as it should be is left alone, and what was cut off is completed.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// A file of kind Cluster (apiVersion kctl.dev/v1).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only print what would be done.
    #[arg(long)]
    dry_run: bool,
    /// The etcd to run instead of the distribution's.
    #[arg(long, value_name = "FILE")]
    etcd_binary: Option<PathBuf>,
    /// The container runtime's socket.
    #[arg(long, value_name = "unix://PATH")]
    cri_socket: Option<String>,
}

pub(super) async fn run(args: InitArgs) -> Result<ExitCode> {
    let cluster = configuration(&args)?;
    let ledger = Ledger::open(paths::LEDGER.as_ref())?;
    let findings = preflight::look(&cluster, &ledger);
    if !Systemd::is_booted() {
        bail!("{}", preflight::NO_SYSTEMD);
    }
    for warning in &findings.warnings {
        eprintln!("warning: {warning}");
    }
    if !findings.problems.is_empty() {
        bail!("this host is not ready:\n  - {}", findings.problems.join("\n  - "));
    }
    let name = node::name(&cluster).map_err(anyhow::Error::msg)?;
    let address = node::address(&cluster).map_err(anyhow::Error::msg)?;
    let context = Context::new(cluster, name, address).await?;
    let steps = steps::all();
    if args.dry_run {
        return dry_run(&steps, &context).await;
    }
    steps::keep_configuration(&context)?;
    let progress = Progress::new();
    match plan::run(&steps, &context, &|event| progress.tell(&event)).await {
        Ok(0) => println!("nothing to do: the cluster is as it should be"),
        Ok(_) => {
            println!("the cluster is ready after {:.1} s", progress.elapsed().as_secs_f32());
            println!("  export KUBECONFIG={}\n  kctl get pods --all-namespaces", paths::ADMIN_CONF);
        }
        Err(failures) => {
            for failure in &failures {
                explain(failure).await;
            }
            eprintln!("\nrun kctl init again when the cause is gone: it goes on where it stopped");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file given, or the one that the cluster was made with, or the defaults; flags go before all.
fn configuration(args: &InitArgs) -> Result<Cluster> {
    let known = std::path::Path::new(paths::CLUSTER_FILE);
    let mut cluster = match &args.config {
        Some(file) => Cluster::read(file)?,
        None if known.exists() => Cluster::read(known)?,
        None => Cluster::default(),
    };
    if let Some(binary) = &args.etcd_binary {
        cluster.etcd_binary = Some(std::path::absolute(binary).context("finding the etcd given")?);
    }
    if let Some(socket) = &args.cri_socket {
        cluster.cri_socket.clone_from(socket);
    }
    Ok(cluster)
}

async fn dry_run(steps: &[plan::Step<Context>], context: &Context) -> Result<ExitCode> {
    println!("node {} at {}, image {}", context.node_name, context.node_address, context.image_reference());
    for index in plan::order(steps) {
        let step = &steps[index];
        let (mark, reason) = match (step.check)(context).await {
            Ok(Check::Done) => ("done", String::new()),
            Ok(Check::Todo(reason)) => ("todo", format!(": {reason}")),
            // What a step looks at may not be there before the steps that it needs.
            Err(error) => ("todo", format!(": {error:#}")),
        };
        let needs = if step.needs.is_empty() { String::new() } else { format!(" (after {})", step.needs.join(", ")) };
        println!("{mark}  {:<18} {}{needs}{reason}", step.name, step.what);
    }
    Ok(ExitCode::SUCCESS)
}

async fn explain(failure: &Failure<'_, Context>) {
    eprintln!("\nerror: {}: {}", failure.step.name, failure.step.what);
    for cause in failure.error.chain() {
        eprintln!("  {cause}");
    }
    let Some(component) = failure.step.component else { return };
    let mut hints: Vec<&str> = diagnose::hints(&failure.error.chain().map(ToString::to_string).collect::<Vec<_>>());
    // A log has old troubles too; when the error itself is known, they only lead astray.
    let is_known = !hints.is_empty();
    for words in diagnose::last_words(component).await {
        if words.lines.is_empty() {
            eprintln!("{} has logged nothing", words.component);
            continue;
        }
        eprintln!("the last lines of {}:", words.component);
        for line in &words.lines {
            eprintln!("  | {line}");
        }
        if !is_known {
            hints.extend(diagnose::hints(&words.lines));
        }
    }
    hints.sort_unstable();
    hints.dedup();
    for hint in hints {
        eprintln!("hint: {hint}");
    }
}
