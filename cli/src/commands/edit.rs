//! `kctl edit`: changes an object in an editor.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use machinery::status::Reason;
use serde_json::Value;

use super::{
    apply,
    targets::{NOTHING_NAMED, Targets, patch, two_way},
};
use crate::{
    kube::{Error, Info, Request, Result, Session, manifest},
    output::{
        OutputFlags,
        format::{DryRun, Reporter, json_text},
    },
};

const HEADER: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

/// Edits objects in an editor ($KUBE_EDITOR, $EDITOR, else vi)
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
    let as_json = args.output.output.as_deref() == Some("json");
    if args.targets.words.is_empty() && args.targets.files.is_empty() {
        return Err(Error::message(NOTHING_NAMED));
    }
    let mut reporter = Reporter::new(&args.output, DryRun::No)?;
    let (infos, errors) = args.targets.fetch(session).await?;
    Error::all(errors)?;
    let mut failures = Vec::new();
    for info in infos {
        let mut original = info.object.clone();
        machinery::meta::metadata_mut(&mut original).remove("managedFields");
        let send = async |edited: &Value| change(&args, session, &info, &original, edited).await;
        match edit(&info, &original, as_json, send).await {
            Ok(Some(after)) => reporter.done(&info, &after, "edited")?,
            Ok(None) => eprintln!("Edit cancelled, no changes made."),
            Err(error) => failures.push(error),
        }
    }
    Error::all(failures)
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
    let as_json = args.output.output.as_deref() == Some("json");
    let mut reporter = Reporter::new(&args.output, DryRun::No)?;
    let (infos, errors) = args.targets.fetch(session).await?;
    Error::all(errors)?;
    let mut any = false;
    for info in infos {
        let last = apply::last_applied(&info.object).map_err(|error| Error::message(error.to_string()))?;
        let Some(last) = last else { continue };
        any = true;
        let write = async |edited: &Value| {
            check_identity(&last, edited)?;
            session.json(apply::write_last_applied(&info, edited).query("fieldManager", apply::CLIENT_SIDE)).await
        };
        match edit(&info, &last, as_json, write).await? {
            Some(after) => reporter.done(&info, &after, "edited")?,
            None => eprintln!("Edit cancelled, no changes made."),
        }
    }
    if any {
        return Ok(());
    }
    Err(Error::message(
        "no last-applied-configuration annotation found on resources, to create the annotation, use command `kctl apply set-last-applied --create-annotation`",
    ))
}

/// What came of the change, or nothing if there was none.
async fn edit(
    info: &Info,
    original: &Value,
    as_json: bool,
    change: impl AsyncFn(&Value) -> Result<Value>,
) -> Result<Option<Value>> {
    let text = if as_json { json_text(original) + "\n" } else { machinery::yaml::to_string(original) };
    let file = TemporaryFile::new(info, if as_json { "json" } else { "yaml" })?;
    // JSON has no comments.
    let header = if as_json { "" } else { HEADER };
    let mut shown = format!("{header}{text}");
    let mut failed = false;
    loop {
        std::fs::write(&file.0, &shown)?;
        open_editor(&file.0)?;
        let edited = std::fs::read_to_string(&file.0)?;
        let content = without_comments(&edited);
        if failed && content == without_comments(&shown) {
            eprintln!("A copy of your changes has been stored to {:?}", file.keep());
            return Err(Error::message("Edit cancelled, no valid changes were saved."));
        }
        if content == text {
            return Ok(None);
        }
        let outcome = match parse(&content) {
            Ok(edited) if edited == *original => return Ok(None),
            Ok(edited) => change(&edited).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(after) => return Ok(Some(after)),
            Err(error @ (Error::Refused { .. } | Error::Connect(_))) => return Err(error),
            Err(error) => {
                eprintln!("{}", refusal(info, &error));
                let about: String = error.text().lines().map(|line| format!("# {line}\n")).collect();
                let about = if as_json { String::new() } else { format!("{about}#\n") };
                shown = format!("{header}{about}{content}");
                failed = true;
            }
        }
    }
}

/// What is said of an edit that is not taken, before the editor is opened again.
fn refusal(info: &Info, error: &Error) -> String {
    let (kind, name) = (info.resource.full_name(), &info.name);
    if error.is_not_found() {
        format!("error: {kind} {name:?} could not be found on the server")
    } else if error.is(Reason::Invalid) || error.status().is_none() {
        format!("error: {kind} {name:?} is invalid")
    } else {
        format!("error: {kind} {name:?} could not be patched: {}", error.bare())
    }
}

fn parse(text: &str) -> Result<Value> {
    let mut values = manifest::parse("the edited file", text)?;
    match values.len() {
        1 => Ok(values.remove(0)),
        count => Err(Error::message(format!("the edited file has {count} objects, one was expected"))),
    }
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
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

fn open_editor(file: &Path) -> Result<()> {
    let editor =
        ["KUBE_EDITOR", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".into());
    let (program, arguments) = editor_command(&editor, file);
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !editor.contains('/') => {
            Err(Error::message(format!("unable to launch the editor {editor:?}")))
        }
        _ => Err(Error::message(format!("there was a problem with the editor {editor:?}"))),
    }
}

/// The program of the user's editor and its arguments: words, or a line for a shell when it has quotes.
fn editor_command(editor: &str, file: &Path) -> (String, Vec<OsString>) {
    if editor.contains(' ') && editor.contains(['"', '\'', '\\']) {
        let shell = std::env::var("SHELL").ok().filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/bash".into());
        let line = format!("{editor} {}", machinery::gotext::quote(&file.to_string_lossy()));
        return (shell, vec!["-c".into(), line.into()]);
    }
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi").to_owned();
    (program, words.map(OsString::from).chain([file.into()]).collect())
}

/// A file only we can read, gone when it is done with.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(info: &Info, end: &str) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let name = format!(
            "kctl-edit-{}-{}-{}.{end}",
            info.resource.kind.to_lowercase(),
            info.name.replace(['/', ':'], "-"),
            std::process::id()
        );
        let path = std::env::temp_dir().join(name);
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self(path))
    }

    fn keep(self) -> PathBuf {
        let path = self.0.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // it holds nothing that is needed
    }
}
