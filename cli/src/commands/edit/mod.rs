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
    flags::{ManagerFlag, ValidateFlag},
    targets::{NOTHING_NAMED, Targets, two_way},
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
    file: FileFlags,
    #[command(flatten)]
    manager: ManagerFlag,
    /// Write down what the object is changed to, for `apply` to compare with
    #[arg(long)]
    save_config: bool,
    #[command(flatten)]
    output: OutputFlags,
    /// Show the patch that is sent
    #[arg(long)]
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
    let form = Form { subject: Subject::Object, as_json, crlf: args.file.windows_line_endings };
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

/// How the file of an editor is written, and what comes out of it looked at.
#[derive(Args, Clone, Debug)]
struct FileFlags {
    /// End the lines of the file as Windows does
    #[arg(long)]
    windows_line_endings: bool,
    #[command(flatten)]
    validate: ValidateFlag,
}

/// Has objects that do not exist yet edited one after another, and makes each with `save`.
///
/// # Errors
/// Of the first that is not made; what was edited of it stays in a file.
pub async fn before_create(
    infos: Vec<Info>,
    output: Option<&str>,
    crlf: bool,
    reporter: &mut Reporter,
    save: impl AsyncFn(&Info, &Value) -> Result<Value>,
) -> Result<()> {
    let form = Form { subject: Subject::New, as_json: is_json(output)?, crlf };
    for info in infos {
        let item = Item { original: info.object.clone(), info };
        session::edit(&[item], form, reporter, async |item, edited| save(&item.info, edited).await).await?;
    }
    Ok(())
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
    file: FileFlags,
    #[command(flatten)]
    manager: ManagerFlag,
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
    let form = Form { subject: Subject::LastApplied, as_json, crlf: args.file.windows_line_endings };
    let save = async |item: &Item, edited: &Value| {
        check_identity(&item.original, edited)?;
        let request = apply::write_last_applied(&item.info, edited).query("fieldManager", args.manager.or(apply::CLIENT_SIDE));
        session.json(args.file.validate.ask(request)).await
    };
    session::edit(&items, form, &mut reporter, save).await
}

/// Sends the difference, so that what others changed meanwhile stays.
async fn change(args: &EditArgs, session: &Session, info: &Info, original: &Value, edited: &Value) -> Result<Value> {
    check_identity(original, edited)?;
    let annotated = args.save_config.then(|| apply::annotated(edited));
    let (kind, body) = two_way(original, annotated.as_ref().unwrap_or(edited));
    if args.output_patch {
        println!("Patch: {}", machinery::gotext::json(&body));
    }
    let path = args.subresource.as_ref().map_or_else(|| info.path(), |subresource| format!("{}/{subresource}", info.path()));
    let request = Request::patch(path, kind, &body).query("fieldManager", args.manager.or("kctl-edit"));
    session.json(args.file.validate.ask(request)).await
}

/// An edited object is still the same object.
fn check_identity(original: &Value, edited: &Value) -> Result<()> {
    let same = ["apiVersion", "kind"].iter().all(|field| original[field] == edited[field])
        && machinery::meta::name(original) == machinery::meta::name(edited);
    if same { Ok(()) } else { Err(Error::message("At least one of apiVersion, kind and name was changed")) }
}
