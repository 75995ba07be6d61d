//! `kctl cordon`, `uncordon` and `drain`: nodes out of service and back.

mod evict;
mod filter;

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use crate::{
    kube::{
        Error, Info, Query, Request, Result, Session, complete,
        globals::duration,
        select::{self, CHUNK},
        session::STRATEGIC_PATCH,
    },
    output::format::{DryRun, DryRunFlag},
};
use filter::{Filtered, Rules};

/// Which nodes.
#[derive(Args, Clone, Debug)]
struct Nodes {
    #[arg(value_name = "NODE", add = ArgValueCompleter::new(complete::nodes))]
    names: Vec<String>,
    /// Nodes whose labels match (a=b,c!=d,e in (f,g))
    #[arg(short = 'l', long)]
    selector: Option<String>,
    #[command(flatten)]
    dry_run: DryRunFlag,
}

/// Keeps new pods away from a node
#[derive(Args, Clone, Debug)]
pub struct CordonArgs {
    #[command(flatten)]
    nodes: Nodes,
}

/// Lets new pods come to a node again
#[derive(Args, Clone, Debug)]
pub struct UncordonArgs {
    #[command(flatten)]
    nodes: Nodes,
}

/// Takes a node out of service: cordons it and evicts its pods, as their disruption budgets allow
///
///   kctl drain n1 --ignore-daemonsets
///   kctl drain n1 --ignore-daemonsets --delete-emptydir-data --force --grace-period=60
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct DrainArgs {
    #[command(flatten)]
    nodes: Nodes,
    /// Also pods that no controller would start again
    #[arg(long)]
    force: bool,
    /// Leave pods of daemon sets where they are
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Also pods with emptyDir volumes, whose data is lost
    #[arg(long, alias = "delete-local-data")]
    delete_emptydir_data: bool,
    /// Seconds that each pod has to end by itself; below 0, as the pod says
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    grace_period: i64,
    /// How long to try; 0 is for as long as it takes
    #[arg(long, value_parser = duration, default_value = "0s")]
    timeout: Duration,
    /// Only pods with these labels
    #[arg(long, default_value = "", hide_default_value = true)]
    pod_selector: String,
    /// Delete pods without asking their disruption budgets
    #[arg(long)]
    disable_eviction: bool,
    /// Do not wait for pods that are being deleted for longer than these seconds
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    skip_wait_for_delete_timeout: u32,
    /// Objects per request; 0 is all at once
    #[arg(long, default_value_t = CHUNK, hide = true)]
    chunk_size: usize,
}

pub async fn cordon(args: CordonArgs, session: &Session) -> Result<()> {
    let nodes = nodes(&args.nodes, "cordon", session).await?;
    mark(&nodes, true, args.nodes.dry_run.dry_run, session).await;
    Ok(())
}

pub async fn uncordon(args: UncordonArgs, session: &Session) -> Result<()> {
    let nodes = nodes(&args.nodes, "uncordon", session).await?;
    mark(&nodes, false, args.nodes.dry_run.dry_run, session).await;
    Ok(())
}

pub async fn drain(args: DrainArgs, session: &Session) -> Result<()> {
    if machinery::selector::LabelSelector::parse(&args.pod_selector).is_err() {
        return Err(Error::message("--pod-selector=<pod_selector> must be a valid label selector"));
    }
    let nodes = nodes(&args.nodes, "drain", session).await?;
    let dry_run = args.nodes.dry_run.dry_run;
    mark(&nodes, true, dry_run, session).await;
    let mut failures = Vec::new();
    for node in &nodes {
        match one(&args, session, &node.name).await {
            Ok(()) => println!("node/{} drained{}", node.name, dry_run.suffix()),
            Err(errors) => {
                let about = aggregate(&errors);
                eprintln!("error: unable to drain node {:?} due to error: {about}, continuing command...", node.name);
                failures.push((&node.name, errors));
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    eprintln!("There are pending nodes to be drained:");
    failures.iter().for_each(|(name, _)| eprintln!(" {name}"));
    let lines = match failures.as_slice() {
        [(_, errors)] => errors.clone(),
        many => many.iter().map(|(_, errors)| aggregate(errors)).collect(),
    };
    Err(Error::Plain(lines.join("\n")))
}

/// Several errors in one line, as kubectl writes them.
fn aggregate(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

async fn nodes(args: &Nodes, command: &'static str, session: &Session) -> Result<Vec<Info>> {
    if args.names.is_empty() && args.selector.is_none() {
        let usage = format!("USAGE: {command} NODE [flags]");
        return Err(Error::Usage { command, message: usage });
    }
    if !args.names.is_empty() && args.selector.is_some() {
        return Err(Error::Usage { command, message: "cannot specify both a node name and a --selector option".into() });
    }
    let names = args.names.iter().map(|name| name.strip_prefix("node/").or(name.strip_prefix("nodes/")).unwrap_or(name));
    let words = std::iter::once("nodes").chain(names).map(str::to_owned).collect();
    let query = Query { words, selector: args.selector.clone(), ..Query::default() };
    let (infos, errors) = query.fetch(session).await?;
    Error::all(errors)?;
    Ok(infos)
}

/// Sets whether pods may be scheduled to the nodes. An error of one is said, and does not keep the others from it.
async fn mark(nodes: &[Info], unschedulable: bool, dry_run: DryRun, session: &Session) {
    let verb = if unschedulable { "cordon" } else { "uncordon" };
    for node in nodes {
        if (node.object["spec"]["unschedulable"] == true) == unschedulable {
            println!("node/{} already {verb}ed{}", node.name, dry_run.suffix());
            continue;
        }
        if dry_run != DryRun::Client {
            let value = if unschedulable { Value::Bool(true) } else { Value::Null };
            let patch = json!({"spec": {"unschedulable": value}});
            let request = Request::patch(node.path(), STRATEGIC_PATCH, &patch).query_some("dryRun", dry_run.parameter());
            if let Err(error) = session.json(request).await {
                eprintln!("error: unable to {verb} node {:?}: {}", node.name, error.bare());
                continue;
            }
        }
        println!("node/{} {verb}ed{}", node.name, dry_run.suffix());
    }
}

/// Empties one node.
async fn one(args: &DrainArgs, session: &Session, node: &str) -> Result<(), Vec<String>> {
    let filtered = filtered(args, session, node).await.map_err(|error| vec![error.bare()])?;
    let errors = filtered.errors();
    if !errors.is_empty() {
        return Err(errors);
    }
    if let Some(warnings) = filtered.warnings() {
        eprintln!("Warning: {warnings}");
    }
    if args.nodes.dry_run.dry_run == DryRun::Client {
        for pod in &filtered.deleted {
            println!("evicting pod {} (dry run)", machinery::meta::key(pod));
        }
        return Ok(());
    }
    let removal = evict::Removal {
        session,
        grace_period: args.grace_period,
        timeout: args.timeout,
        dry_run: args.nodes.dry_run.dry_run,
        skip_after: args.skip_wait_for_delete_timeout,
        disable_eviction: args.disable_eviction,
    };
    let errors = removal.remove(&filtered.deleted).await;
    if errors.is_empty() {
        return Ok(());
    }
    if let Ok(pending) = self::filtered(args, session, node).await
        && !pending.deleted.is_empty()
    {
        eprintln!("There are pending pods in node {node:?} when an error occurred: {}", aggregate(&errors));
        pending.deleted.iter().for_each(|pod| eprintln!("pod/{}", machinery::meta::name(pod)));
    }
    Err(errors)
}

/// The node's pods, by what a drain does with each.
async fn filtered(args: &DrainArgs, session: &Session, node: &str) -> Result<Filtered> {
    let request = Request::get("/api/v1/pods")
        .query("fieldSelector", format!("spec.nodeName={node}"))
        .query_some("labelSelector", Some(&args.pod_selector));
    let (pods, _) = select::list(session, request).await?;
    let rules = Rules {
        force: args.force,
        ignore_daemon_sets: args.ignore_daemonsets,
        delete_empty_dir: args.delete_emptydir_data,
        skip_deleted_after: args.skip_wait_for_delete_timeout.into(),
    };
    let now = jiff::Timestamp::now();
    let mut filtered = Filtered::default();
    for pod in pods {
        let owner = match filter::daemon_set_of(&pod) {
            Some(name) => {
                let path = format!("/apis/apps/v1/namespaces/{}/daemonsets/{name}", machinery::meta::namespace(&pod));
                match session.json(Request::get(path)).await {
                    Ok(_) => filter::DaemonSet::Found,
                    Err(error) if error.is_not_found() => filter::DaemonSet::Missing(error.bare()),
                    Err(error) => filter::DaemonSet::Unknown(error.bare()),
                }
            }
            None => filter::DaemonSet::None,
        };
        let verdict = filter::verdict(&pod, &owner, &rules, now);
        filtered.add(pod, verdict);
    }
    Ok(filtered)
}
