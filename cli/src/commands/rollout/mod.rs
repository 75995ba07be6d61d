//! `kctl rollout`: changes of pod templates, and how far they are.

mod history;
mod status;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    flags::{ChangeFlags, ManagerFlag},
    targets::{Targets, patch},
};
use crate::{
    kube::{Error, Info, Result, Session, session::STRATEGIC_PATCH},
    output::format::DryRun,
};

/// Follows, undoes, pauses and resumes changes of deployments, daemon sets and stateful sets
#[derive(Args, Clone, Debug)]
pub struct RolloutArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    Status(status::StatusArgs),
    History(history::HistoryArgs),
    Undo(history::UndoArgs),
    /// Starts all pods anew
    Restart(ChangeArgs),
    /// Stops a deployment's controller from starting pods
    Pause(ChangeArgs),
    /// Lets it go on
    Resume(ChangeArgs),
}

#[derive(Args, Clone, Debug)]
struct ChangeArgs {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    manager: ManagerFlag,
    #[command(flatten)]
    change: ChangeFlags,
}

pub async fn run(args: RolloutArgs, session: &Session) -> Result<()> {
    match args.what {
        What::Status(args) => status::run(args, session).await,
        What::History(args) => history::run(args, session).await,
        What::Undo(args) => history::undo(args, session).await,
        What::Restart(args) => change(args, session, restart, "restarted").await,
        What::Pause(args) => change(args, session, pause, "paused").await,
        What::Resume(args) => change(args, session, resume, "resumed").await,
    }
}

async fn change(mut args: ChangeArgs, session: &Session, plan: fn(&Info) -> Result<Value>, what: &str) -> Result<()> {
    if args.targets.words.is_empty() && args.targets.files.is_empty() {
        return Err(Error::message("required resource not specified"));
    }
    whole_type(&mut args.targets);
    let dry_run = args.change.dry_run();
    let mut reporter = args.change.reporter()?;
    let count = args
        .targets
        .each(session, async |info| {
            let body = plan(info)?;
            let after = if dry_run == DryRun::Client {
                info.object.clone()
            } else {
                patch(session, info, STRATEGIC_PATCH, &body, args.manager.or("kctl-rollout"), dry_run).await?
            };
            reporter.done(info, &after, what)
        })
        .await?;
    if count == 0 {
        eprintln!("No resources found in {} namespace.", session.namespace);
    }
    Ok(())
}

/// A type without names is all of its objects here.
fn whole_type(targets: &mut Targets) {
    if targets.words.len() == 1 && !targets.words[0].contains('/') && !targets.selectors.given() {
        targets.selectors.all = true;
    }
}

fn supported(info: &Info, kinds: &[&str], verb: &str) -> Result<()> {
    if kinds.contains(&info.resource.kind.as_str()) {
        return Ok(());
    }
    Err(Error::message(format!("{} {:?} {verb} is not supported", info.resource.full_name(), info.name)))
}

fn restart(info: &Info) -> Result<Value> {
    supported(info, &["Deployment", "DaemonSet", "StatefulSet"], "restarting")?;
    if info.object["spec"]["paused"] == true {
        return Err(Error::message(format!(
            "{} {:?} can't restart paused deployment (run rollout resume first)",
            info.resource.full_name(),
            info.name
        )));
    }
    let now = machinery::time::format(jiff::Timestamp::now());
    Ok(json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}}))
}

fn pause(info: &Info) -> Result<Value> {
    supported(info, &["Deployment"], "pausing")?;
    if info.object["spec"]["paused"] == true {
        return Err(Error::message(format!("{} {:?} is already paused", info.resource.full_name(), info.name)));
    }
    Ok(json!({"spec": {"paused": true}}))
}

fn resume(info: &Info) -> Result<Value> {
    supported(info, &["Deployment"], "resuming")?;
    if info.object["spec"]["paused"] != true {
        return Err(Error::message(format!("{} {:?} is not paused", info.resource.full_name(), info.name)));
    }
    Ok(json!({"spec": {"paused": null}}))
}
