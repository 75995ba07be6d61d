//! `kctl delete`: removes objects and waits until they are gone.

use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    raw,
    targets::{NOTHING_NAMED, Targets},
    wait,
};
use crate::{
    kube::{Error, Info, Request, Result, Session, globals::duration, select},
    output::format::DryRunFlag,
};

/// Deletions and waits under way at the same time.
const CONCURRENT: usize = 16;
/// Waiting "for ever".
pub const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Deletes objects by name, file or selector, and waits until they are gone
///
///   kctl delete pod a b              kctl delete -f app.yaml
///   kctl delete deploy/web --wait=false
///   kctl delete pods -l app=web      kctl delete pods --all
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct DeleteArgs {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    dry_run: DryRunFlag,
    /// What happens to the objects that belong to the deleted ones
    #[arg(long, value_enum, default_value = "background", num_args = 0..=1, default_missing_value = "background", require_equals = true)]
    cascade: Cascade,
    /// Time in seconds that a pod has to end by itself
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    grace_period: i64,
    /// Remove the object at once, without waiting for the node
    #[arg(long)]
    force: bool,
    /// A grace period of one second
    #[arg(long)]
    now: bool,
    /// What does not exist is no error
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ignore_not_found: Option<bool>,
    /// Return when the objects are gone
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true")]
    wait: bool,
    /// How long to wait; 0 is for as long as it takes
    #[arg(long, value_parser = duration, default_value = "0s")]
    timeout: Duration,
    /// Ask before deleting
    #[arg(short, long)]
    interactive: bool,
    /// `name` prints names only
    #[arg(short, long)]
    output: Option<String>,
    /// Send the deletion to this path, with the file as its body
    #[arg(long, value_name = "PATH")]
    raw: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Cascade {
    /// They are deleted afterwards
    #[value(alias = "true")]
    Background,
    /// They are deleted first
    Foreground,
    /// They stay
    #[value(alias = "false")]
    Orphan,
}

impl Cascade {
    /// As the API names it.
    pub fn policy(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

pub async fn run(args: DeleteArgs, session: &Session) -> Result<()> {
    if args.output.as_deref().is_some_and(|output| output != "name") {
        let output = args.output.unwrap_or_default();
        return Err(Error::message(format!("unexpected -o output mode: {output}. We only support '-o name'")));
    }
    if let Some(path) = &args.raw {
        if args.interactive {
            return Err(Error::message("--interactive can not be used with --raw"));
        }
        let files = &args.targets.files;
        raw::check(path, files, args.output.as_deref())?;
        return raw::send(session, Method::DELETE, path, files.filenames.first().map_or("", String::as_str)).await;
    }
    args.targets.selectors.check()?;
    if args.targets.words.is_empty() && args.targets.files.is_empty() {
        return Err(Error::message(NOTHING_NAMED));
    }
    let grace = grace(&args)?;
    if grace == Some(0) {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. \
             The resource may continue to run on the cluster indefinitely."
        );
    }
    let ignore_not_found = args.ignore_not_found.unwrap_or(args.targets.selectors.given());
    let (infos, mut errors) = infos(&args, session).await?;
    if infos.is_empty() && errors.is_empty() {
        println!("No resources found");
        return Ok(());
    }
    if args.interactive && !confirmed(&infos)? {
        println!("deletion is cancelled");
        return Ok(());
    }
    if session.namespace_given && !args.targets.selectors.all_namespaces && infos.iter().any(|info| !info.resource.namespaced) {
        eprintln!("Warning: deleting cluster-scoped resources, not scoped to the provided namespace");
    }
    let mut deleted = Vec::new();
    for info in &infos {
        match delete(&args, session, info, grace).await {
            Ok(uid) => deleted.push((info, uid)),
            Err(error) if ignore_not_found && error.is_not_found() => {}
            Err(error) => errors.push(info.during(error, "deleting")),
        }
    }
    if args.wait && args.dry_run.dry_run == Default::default() {
        let timeout = if args.timeout.is_zero() { FOREVER } else { args.timeout };
        let until = tokio::time::Instant::now() + timeout;
        let waits: Vec<_> = stream::iter(&deleted)
            .map(|(info, uid)| wait::gone(session, info, uid.as_deref(), until))
            .buffered(CONCURRENT)
            .collect()
            .await;
        errors.extend(waits.into_iter().filter_map(Result::err).filter(|error| {
            // Who may delete may not be allowed to look.
            !error.is(machinery::status::Reason::Forbidden) && !error.is(machinery::status::Reason::MethodNotAllowed)
        }));
    }
    Error::all(errors)
}

fn grace(args: &DeleteArgs) -> Result<Option<i64>> {
    if args.now && args.grace_period != -1 {
        return Err(Error::message("--now and --grace-period cannot be specified together"));
    }
    if args.force && args.grace_period > 0 {
        return Err(Error::message("--force and --grace-period greater than 0 cannot be specified together"));
    }
    Ok(match (args.force, args.now, args.grace_period) {
        (true, _, _) => Some(0),
        // Without --force nothing is removed under a running container.
        (_, true, _) | (_, _, 0) => Some(1),
        (_, _, seconds) => (seconds > 0).then_some(seconds),
    })
}

/// What to delete. Named objects are not looked at first: the server says whether they exist.
async fn infos(args: &DeleteArgs, session: &Session) -> Result<(Vec<Info>, Vec<Error>)> {
    let query = args.targets.query();
    let mut infos = if query.files.is_empty() { Vec::new() } else { select::from_files(session, &query.files).await? };
    let mut errors = Vec::new();
    if !query.words.is_empty() || infos.is_empty() {
        for target in query.targets(session).await? {
            match target {
                select::Target::Object { resource, namespace, name } => {
                    infos.push(Info { resource, namespace, name, object: Value::Null, source: None });
                }
                select::Target::Collection { ref resource, .. } => match select::list(session, query.request(&target)).await {
                    Ok((items, _)) => infos.extend(items.into_iter().map(|item| select::info(resource.clone(), item))),
                    Err(error) => errors.push(error),
                },
            }
        }
    }
    Ok((infos, errors))
}

/// Deletes and says so. The object's uid is returned if the server told it.
async fn delete(args: &DeleteArgs, session: &Session, info: &Info, grace: Option<i64>) -> Result<Option<String>> {
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": args.cascade.policy()});
    if let Some(seconds) = grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    let dry_run = args.dry_run.dry_run;
    let mut uid = None;
    if dry_run != crate::output::format::DryRun::Client {
        let answer = session.json(Request::delete(info.path(), &options).query_some("dryRun", dry_run.parameter())).await?;
        uid = [&answer["details"]["uid"], &answer["metadata"]["uid"]].into_iter().find_map(|uid| uid.as_str().map(str::to_owned));
    }
    if args.output.is_some() {
        println!("{}", info.label());
        return Ok(uid);
    }
    let what = if grace == Some(0) { "force deleted" } else { "deleted" };
    let from = if info.resource.namespaced { format!(" from {} namespace", info.namespace) } else { String::new() };
    println!("{} {:?} {what}{from}{}", info.resource.label(), info.name, dry_run.suffix());
    Ok(uid)
}

fn confirmed(infos: &[Info]) -> Result<bool> {
    println!("You are about to delete the following {} resource(s):", infos.len());
    infos.iter().for_each(|info| println!("{}", info.label()));
    print!("Do you want to continue? (y/N): ");
    std::io::Write::flush(&mut std::io::stdout())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
