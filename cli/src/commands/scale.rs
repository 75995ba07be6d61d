//! `kctl scale`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{flags::ChangeFlags, targets::Targets};
use crate::{
    kube::{Error, Info, Request, Result, Session, globals::duration, session::MERGE_PATCH},
    output::format::DryRun,
};

const POLL: Duration = Duration::from_millis(500);

/// Sets the number of replicas
///
///   kctl scale deploy/web --replicas=3
///   kctl scale deploy/web --current-replicas=2 --replicas=3
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ScaleArgs {
    #[command(flatten)]
    targets: Targets,
    /// How many there shall be
    #[arg(long, allow_negative_numbers = true)]
    replicas: i32,
    /// Only if there are so many now
    #[arg(long)]
    current_replicas: Option<i32>,
    /// Only if the object is still at this version
    #[arg(long)]
    resource_version: Option<String>,
    /// Wait so long for the replicas to be there
    #[arg(long, value_parser = duration, default_value = "0s")]
    timeout: Duration,
    #[command(flatten)]
    change: ChangeFlags,
}

pub async fn run(args: ScaleArgs, session: &Session) -> Result<()> {
    if args.replicas < 0 {
        return Err(Error::message("The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0"));
    }
    let dry_run = args.change.dry_run();
    let mut reporter = args.change.reporter()?;
    let count = args
        .targets
        .each(session, async |info| {
            let mut object = info.object.clone();
            if dry_run != DryRun::Client {
                scale(&args, session, info).await?;
            }
            object["spec"]["replicas"] = args.replicas.into();
            reporter.done(info, &object, "scaled")
        })
        .await?;
    if count == 0 { Err(Error::message("no objects passed to scale")) } else { Ok(()) }
}

async fn scale(args: &ScaleArgs, session: &Session, info: &Info) -> Result<()> {
    let path = format!("{}/scale", info.path());
    let mut patch = json!({"spec": {"replicas": args.replicas}});
    if args.current_replicas.is_some() || args.resource_version.is_some() {
        let now = session.json(Request::get(path.clone())).await?;
        let replicas = now["spec"]["replicas"].as_i64().unwrap_or(0);
        if args.current_replicas.is_some_and(|expected| i64::from(expected) != replicas) {
            let expected = args.current_replicas.unwrap_or(0);
            return Err(Error::message(format!("Expected replicas to be {expected}, was {replicas}")));
        }
        let version = now["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if args.resource_version.as_deref().is_some_and(|expected| expected != version) {
            let expected = args.resource_version.as_deref().unwrap_or_default();
            return Err(Error::message(format!("Expected resource version to be {expected}, was {version}")));
        }
        patch["metadata"] = json!({"resourceVersion": version});
    }
    let request = Request::patch(path.clone(), MERGE_PATCH, &patch).query("fieldManager", "kctl-scale");
    session.json(args.change.ask(request)).await?;
    if args.timeout.is_zero() || args.change.dry_run() != DryRun::No {
        return Ok(());
    }
    let there = async {
        loop {
            let now = session.json(Request::get(path.clone())).await?;
            if now["status"]["replicas"].as_i64().unwrap_or(0) == i64::from(args.replicas) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(args.timeout, there).await.unwrap_or_else(|_| Err(Error::message("timed out waiting for the condition")))
}
