//! `kctl apply view-last-applied` and `set-last-applied`: what client-side apply wrote down.

use clap::Args;
use machinery::{apply::LAST_APPLIED, meta};
use serde_json::{Value, json};

use super::configuration;
use crate::{
    commands::{
        flags::ChangeFlags,
        targets::{NOTHING_NAMED, Selectors, Targets},
    },
    kube::{Error, Files, Request, Result, Session, select, session::MERGE_PATCH},
    output::format::{DryRun, indented},
};

/// Shows what was applied last
///
///   kctl apply view-last-applied deploy/web -o json
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ViewArgs {
    /// TYPE NAME… or TYPE/NAME…
    #[arg(value_name = "TYPE NAME | TYPE/NAME")]
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Objects whose labels match
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All objects of the types, in the namespace
    #[arg(long)]
    all: bool,
    /// yaml or json
    #[arg(short, long, default_value = "yaml")]
    output: String,
}

/// Sets what was applied last to what a file says, and nothing else
///
///   kctl apply set-last-applied -f app.yaml --create-annotation
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct SetArgs {
    #[command(flatten)]
    files: Files,
    /// Make the annotation on objects that have none
    #[arg(long)]
    create_annotation: bool,
    #[command(flatten)]
    change: ChangeFlags,
}

pub async fn view(args: ViewArgs, session: &Session) -> Result<()> {
    let selectors = Selectors { selector: args.selector, all: args.all, ..Selectors::default() };
    let targets = Targets { words: args.words, files: args.files, selectors };
    targets.selectors.check()?;
    if targets.words.is_empty() && targets.files.is_empty() {
        return Err(Error::message(NOTHING_NAMED));
    }
    let (infos, errors) = targets.query().fetch(session).await?;
    Error::all(errors)?;
    for info in &infos {
        if meta::annotation(&info.object, LAST_APPLIED).is_none()
            && let Some(source) = &info.source
        {
            let about = format!("no last-applied-configuration annotation found on resource: {}\n", info.name);
            return Err(Error::message(format!("error when {about} {source:?}: <nil>")));
        }
    }
    for info in &infos {
        // What was found by name and was never applied has nothing to show.
        let Some(text) = meta::annotation(&info.object, LAST_APPLIED) else { continue };
        let value: Value = serde_json::from_str(text).map_err(|error| Error::message(error.to_string()))?;
        match args.output.as_str() {
            "json" => println!("{}", indented(&value, b"  ")),
            "yaml" => print!("{}", machinery::yaml::to_string(&value)),
            other => {
                return Err(Error::Usage {
                    command: "apply view-last-applied",
                    message: format!("error: Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json"),
                });
            }
        }
    }
    Ok(())
}

pub async fn set(args: SetArgs, session: &Session) -> Result<()> {
    let dry_run = args.change.dry_run();
    let mut reporter = args.change.reporter()?;
    let mut changes = Vec::new();
    for info in select::from_files(session, &args.files).await? {
        let current = session.json(Request::get(info.path())).await?;
        let last = configuration::last_applied(&current).map_err(|error| Error::message(error.to_string()))?;
        if last.is_none() && !args.create_annotation {
            return Err(Error::message(format!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                info.name
            )));
        }
        if last.as_ref() == Some(&info.object) {
            println!("set-last-applied {}: no changes required.", info.name);
        } else {
            changes.push((info, current));
        }
    }
    for (info, current) in changes {
        let after = if dry_run == DryRun::Client {
            current
        } else {
            session.json(annotation(&info, &info.object).query_some("dryRun", dry_run.parameter())).await?
        };
        reporter.done(&info, &after, "configured")?;
    }
    Ok(())
}

/// The request that writes down that an object was applied.
pub fn annotation(info: &crate::kube::Info, applied: &Value) -> Request {
    let text = machinery::gotext::json(applied) + "\n";
    Request::patch(info.path(), MERGE_PATCH, &json!({"metadata": {"annotations": {LAST_APPLIED: text}}}))
}
