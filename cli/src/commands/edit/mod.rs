//! `kctl edit`: changes objects in an editor.

mod editor;
mod report;
mod session;

use clap::Args;
use report::Subject;
use serde_json::Value;
use session::{Form, Item};

use super::{
    apply,
    targets::{NOTHING_NAMED, Targets, patch, two_way},
};
use crate::{
    kube::{Error, Info, Request, Result, Session},
    output::{
        OutputFlags,
        format::{DryRun, Reporter},
    },
};

/// Edits objects in an editor ($KUBE_EDITOR, $EDITOR, else vi), several in one file
#[derive(Args, Clone, Debug)]
pub struct EditArgs {
    #[command(flatten)]
    targets: Targets,
    /// Edit a subresource: status, scale
    #[arg(long)]
    subresource: Option<String>,
    #[command(flatten)]
    output: OutputFlags,
    /// Show the patch that is sent
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", hide_default_value = true)]
    output_patch: bool,
}

pub async fn run(args: EditArgs, session: &Session) -> Result<()> {
    if args.targets.words.is_empty() && args.targets.files.is_empty() {
        return Err(Error::message(NOTHING_NAMED));
    }
    let as_json = is_json(args.output.output.as_deref())?;
    let mut reporter = Reporter::new(&args.output, DryRun::No)?;
    let (infos, errors) = args.targets.fetch(session).await?;
    Error::all(errors)?;
    let items: Vec<Item> = infos
        .into_iter()
        .map(|info| {
            let mut original = info.object.clone();
            machinery::meta::metadata_mut(&mut original).remove("managedFields");
            Item { info, original }
        })
        .collect();
    let form = Form { subject: Subject::Object, as_json };
    let save = async |item: &Item, edited: &Value| change(&args, session, &item.info, &item.original, edited).await;
    session::edit(&items, form, &mut reporter, save).await
}

/// Whether `-o` is JSON: what is edited can be read again.
fn is_json(output: Option<&str>) -> Result<bool> {
    match output {
        None | Some("" | "yaml" | "kyaml") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(Error::message(format!(
            "unable to match a printer suitable for the output format {other:?}, allowed formats are: json,kyaml,yaml"
        ))),
    }
}

/// Edits what was applied last, in an editor
///
///   kctl apply edit-last-applied deploy/web
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct EditLastArgs {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    output: OutputFlags,
}

pub async fn last_applied(args: EditLastArgs, session: &Session) -> Result<()> {
    let as_json = is_json(args.output.output.as_deref())?;
    let mut reporter = Reporter::new(&args.output, DryRun::No)?;
    let (infos, errors) = args.targets.fetch(session).await?;
    Error::all(errors)?;
    let mut items = Vec::new();
    for info in infos {
        let last = apply::last_applied(&info.object).map_err(|error| Error::message(error.to_string()))?;
        items.extend(last.map(|original| Item { info, original }));
    }
    if items.is_empty() {
        return Err(Error::message(
            "no last-applied-configuration annotation found on resources, to create the annotation, use command `kctl apply set-last-applied --create-annotation`",
        ));
    }
    let form = Form { subject: Subject::LastApplied, as_json };
    let save = async |item: &Item, edited: &Value| {
        check_identity(&item.original, edited)?;
        session.json(apply::write_last_applied(&item.info, edited).query("fieldManager", apply::CLIENT_SIDE)).await
    };
    session::edit(&items, form, &mut reporter, save).await
}

/// Sends the difference, so that what others changed meanwhile stays.
async fn change(args: &EditArgs, session: &Session, info: &Info, original: &Value, edited: &Value) -> Result<Value> {
    check_identity(original, edited)?;
    let (kind, body) = two_way(original, edited);
    if args.output_patch {
        println!("Patch: {}", machinery::gotext::json(&body));
    }
    match &args.subresource {
        None => patch(session, info, kind, &body, "edit", DryRun::No).await,
        Some(subresource) => {
            let request = Request::patch(format!("{}/{subresource}", info.path()), kind, &body);
            session.json(request.query("fieldManager", "kctl-edit")).await
        }
    }
}

/// An edited object is still the same object.
fn check_identity(original: &Value, edited: &Value) -> Result<()> {
    let same = ["apiVersion", "kind"].iter().all(|field| original[field] == edited[field])
        && machinery::meta::name(original) == machinery::meta::name(edited);
    if same { Ok(()) } else { Err(Error::message("At least one of apiVersion, kind and name was changed")) }
}
