//! `kctl edit`: changes an object in an editor.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use serde_json::Value;

use super::targets::{Targets, patch, two_way};
use crate::{
    kube::{Error, Info, Result, Session, manifest},
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
}

pub async fn run(args: EditArgs, session: &Session) -> Result<()> {
    let as_json = args.output.output.as_deref() == Some("json");
    let mut reporter = Reporter::new(&OutputFlags::default(), DryRun::No)?;
    let (infos, errors) = args.targets.fetch(session).await?;
    Error::all(errors)?;
    let mut failures = Vec::new();
    for info in infos {
        match edit(session, &info, as_json).await {
            Ok(Some(after)) => reporter.done(&info, &after, "edited")?,
            Ok(None) => eprintln!("Edit cancelled, no changes made."),
            Err(error) => failures.push(error),
        }
    }
    Error::all(failures)
}

/// The object after the change, or nothing if there was none.
async fn edit(session: &Session, info: &Info, as_json: bool) -> Result<Option<Value>> {
    let mut original = info.object.clone();
    machinery::meta::metadata_mut(&mut original).remove("managedFields");
    let text = if as_json { json_text(&original) + "\n" } else { machinery::yaml::to_string(&original) };
    let file = TemporaryFile::new(info, if as_json { "json" } else { "yaml" })?;
    let mut shown = format!("{HEADER}{text}");
    let mut failed: Option<Error> = None;
    loop {
        std::fs::write(&file.0, &shown)?;
        open_editor(&file.0)?;
        let edited = std::fs::read_to_string(&file.0)?;
        let content = without_comments(&edited);
        if failed.is_some() && edited == shown {
            eprintln!("{}", failed.map(|error| error.text()).unwrap_or_default());
            return Err(Error::message(format!(
                "Edit cancelled, no valid changes were saved.\nA copy of your changes has been stored to {:?}",
                file.keep()
            )));
        }
        if content.trim().is_empty() || content == text {
            return Ok(None);
        }
        let outcome = match parse(&content) {
            Ok(edited) if edited == original => return Ok(None),
            Ok(edited) => change(session, info, &original, &edited).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(after) => return Ok(Some(after)),
            Err(error @ (Error::Refused { .. } | Error::Connect(_))) => return Err(error),
            Err(error) => {
                let about: String = error.text().lines().map(|line| format!("# {line}\n")).collect();
                shown = format!("{HEADER}{about}#\n{content}");
                failed = Some(error);
            }
        }
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
async fn change(session: &Session, info: &Info, original: &Value, edited: &Value) -> Result<Value> {
    for field in ["apiVersion", "kind"] {
        if original[field] != edited[field] {
            return Err(Error::message(format!("{field} may not be changed")));
        }
    }
    if machinery::meta::name(original) != machinery::meta::name(edited) {
        return Err(Error::message("At least one of apiVersion, kind and name was changed"));
    }
    let (kind, body) = two_way(original, edited);
    patch(session, info, kind, &body, "edit", DryRun::No).await
}

fn open_editor(file: &Path) -> Result<()> {
    let editor =
        ["KUBE_EDITOR", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".into());
    // An editor is a command with arguments: EDITOR="code --wait".
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(file).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::message(format!("there was a problem with the editor {editor:?}: {status}"))),
        Err(error) => {
            let terminal = if std::io::stdin().is_terminal() { "" } else { " (there is no terminal)" };
            Err(Error::message(format!("unable to launch the editor {editor:?}: {error}{terminal}")))
        }
    }
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
