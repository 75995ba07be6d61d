//! `kctl diff`: what an apply would change.
//!
//! Exit codes are those of diff: 0 for no difference, 1 for differences, more for an error.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use machinery::status::Reason;
use serde_json::Value;

use super::apply::{How, bare, prune, three_way_patch};
use crate::kube::{Error, Files, Info, Request, Result, Session, session::APPLY_PATCH};

/// Tries while an object keeps changing; the last does without a lock.
const TRIES_MAX: u32 = 4;
/// The code of an error: 1 is that there are differences.
const FAILED: u8 = 2;

/// Shows what an apply would change
///
///   kctl diff -f app.yaml
///   KUBECTL_EXTERNAL_DIFF="colordiff -N -u" kctl diff -f dir/ -R
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct DiffArgs {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    how: How,
    /// Show metadata.managedFields too
    #[arg(long)]
    show_managed_fields: bool,
    /// Show the values of secrets
    #[arg(long)]
    show_secrets: bool,
    /// Show what an apply with --prune would delete too
    #[arg(long)]
    prune: bool,
    /// With --prune: kinds that are deleted, GROUP/VERSION/KIND (core/v1/ConfigMap); may be given several times
    #[arg(long, value_name = "KIND")]
    prune_allowlist: Vec<String>,
    /// Objects that are asked for at the same time
    #[arg(long, default_value_t = 1, hide = true)]
    concurrency: usize,
}

pub async fn run(args: DiffArgs, session: &Session) -> Result<()> {
    match compare(&args, session).await {
        Ok(0) => Ok(()),
        Ok(code) => Err(Error::Exit(code)),
        Err(error) => {
            error.report();
            Err(Error::Exit(FAILED))
        }
    }
}

async fn compare(args: &DiffArgs, session: &Session) -> Result<u8> {
    if args.files.is_empty() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    args.how.check()?;
    let pruned = if args.prune { prune::kinds(session, &args.prune_allowlist).await? } else { Vec::new() };
    let mut visited = prune::Visited::default();
    let (infos, errors) = args.how.infos(&args.files, session).await?;
    Error::all(errors)?;
    let (live, merged) = (Directory::new("LIVE")?, Directory::new("MERGED")?);
    for info in &infos {
        let (before, after) = states(args, session, info).await?;
        if before.as_ref().and_then(machinery::meta::deletion_timestamp).is_some() {
            eprintln!("Warning: Detected changes to resource {} which is currently being deleted.", info.name);
        }
        visited.add(info, before.as_ref());
        let (before, after) = shown(before, after, args.show_managed_fields, args.show_secrets);
        let name = file_name(info);
        // What kubectl shows of a secret that is not there yet.
        let none = (before.is_none() && after["kind"] == "Secret" && !args.show_secrets).then_some(Value::Null);
        live.write(&name, before.as_ref().or(none.as_ref()))?;
        merged.write(&name, Some(&after))?;
    }
    // Something is left over when it is there and would not be.
    let gone = async |info: Info| live.write(&file_name(&info), Some(&masked(args, info.object)));
    if let Err(error) = prune::leftovers(session, &pruned, args.how.selector.as_deref(), &visited, gone).await {
        eprintln!("Warning: pruning failed and could not be evaluated: {}", error.bare());
    }
    let external = std::env::var("KUBECTL_EXTERNAL_DIFF").unwrap_or_default();
    let (program, arguments) = program(&external);
    let status = Command::new(&program).args(arguments).args([&live.0, &merged.0]).status();
    let failed = |about: String| Error::message(format!("failed to run {program:?}: {about}"));
    let status = status.map_err(|error| failed(error.to_string()))?;
    match status.code() {
        Some(code @ (0 | 1)) => Ok(u8::from(code == 1)),
        _ => Err(failed(status.to_string())),
    }
}

/// The object as it is, and as an apply would leave it. Tried again while others change it.
async fn states(args: &DiffArgs, session: &Session, info: &Info) -> Result<(Option<Value>, Value)> {
    let mut tries = 1;
    loop {
        let before = match session.json(Request::get(info.path())).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        match applied(args, session, info, before.as_ref(), tries < TRIES_MAX).await {
            Ok(after) => return Ok((before, after)),
            Err(error) if !args.how.server_side && error.is(Reason::Conflict) && tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// What the server says that an apply would leave. `locked` is to refuse when the object is no longer what was read.
async fn applied(args: &DiffArgs, session: &Session, info: &Info, before: Option<&Value>, locked: bool) -> Result<Value> {
    let request = match before {
        _ if args.how.server_side => {
            Request::patch(info.path(), APPLY_PATCH, &info.object).query("force", args.how.force_conflicts)
        }
        None => Request::post(info.resource.path(&info.namespace, None), &info.object),
        Some(before) => {
            let mut patch = three_way_patch(&bare(&info.object), before).map_err(|error| Error::message(error.to_string()))?;
            if patch.is_empty() {
                return Ok(before.clone());
            }
            if locked {
                let version = before["metadata"]["resourceVersion"].clone();
                machinery::meta::metadata_mut(&mut patch.body).insert("resourceVersion".into(), version);
            }
            Request::patch(info.path(), patch.kind, &patch.body)
        }
    };
    session.json(request.query("fieldManager", args.how.own_manager()).query("dryRun", "All")).await
}

/// `apps.v1.Deployment.default.web`.
fn file_name(info: &Info) -> String {
    let group = if info.resource.group.is_empty() { String::new() } else { format!("{}.", info.resource.group) };
    let name = info.name.replace('/', "%2F");
    format!("{group}{}.{}.{}.{name}", info.resource.version, info.resource.kind, info.namespace)
}

/// An object that would go, as it may be printed.
fn masked(args: &DiffArgs, mut object: Value) -> Value {
    if !args.show_secrets && object["kind"] == "Secret" && object["apiVersion"] == "v1" {
        mask(None, &mut object);
    }
    object
}

/// Both states as they may be printed.
fn shown(mut before: Option<Value>, mut after: Value, managed_fields: bool, secrets: bool) -> (Option<Value>, Value) {
    if !managed_fields {
        for object in before.iter_mut().chain([&mut after]) {
            machinery::meta::metadata_mut(object).remove("managedFields");
        }
    }
    if !secrets && after["kind"] == "Secret" && after["apiVersion"] == "v1" {
        mask(before.as_mut(), &mut after);
    }
    (before, after)
}

/// Replaces the values of a secret, so that one sees which are different and not what they are.
fn mask(before: Option<&mut Value>, after: &mut Value) {
    let mut none = Value::Null;
    let before = before.unwrap_or(&mut none).get_mut("data").and_then(Value::as_object_mut);
    let after = after.get_mut("data").and_then(Value::as_object_mut);
    let mut empty = (serde_json::Map::new(), serde_json::Map::new());
    let (before, after) = (before.unwrap_or(&mut empty.0), after.unwrap_or(&mut empty.1));
    for (key, old) in before.iter_mut() {
        match after.get_mut(key) {
            Some(new) if new != old => (*old, *new) = ("*** (before)".into(), "*** (after)".into()),
            Some(new) => (*old, *new) = ("***".into(), "***".into()),
            None => *old = "***".into(),
        }
    }
    for (key, new) in after.iter_mut() {
        if !before.contains_key(key) {
            *new = "***".into();
        }
    }
}

/// The program that compares, and its arguments: `KUBECTL_EXTERNAL_DIFF` is words, those with other characters than
/// letters, digits, `-` and `=` left out as kubectl leaves them out.
fn program(external: &str) -> (String, Vec<String>) {
    let mut words = external.split(' ');
    match words.next().filter(|program| !program.is_empty()) {
        None => ("diff".into(), vec!["-u".into(), "-N".into()]),
        Some(program) => {
            let plain = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-=".contains(c));
            (program.into(), words.filter(plain).map(str::to_owned).collect())
        }
    }
}

/// A directory only we can read, gone with what is in it when it is done with.
struct Directory(PathBuf);

impl Directory {
    fn new(prefix: &str) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path =
            std::env::temp_dir().join(format!("{prefix}-{}{}", std::process::id(), jiff::Timestamp::now().as_nanosecond()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Nothing for an object that is not there: the file is empty.
    fn write(&self, name: &str, object: Option<&Value>) -> Result<()> {
        let text = object.map(machinery::yaml::to_string).unwrap_or_default();
        Ok(std::fs::write(Path::new(&self.0).join(name), text)?)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // in the temporary directory, at worst it stays
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_secrets_are_not_shown() {
        let secret = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"managedFields": []}, "data": data});
        let check = |before: Option<Value>, after: Value, want: (Option<Value>, Value)| {
            let (before, after) = shown(before.map(secret), secret(after), false, false);
            assert_eq!((before.map(|mut object| object["data"].take()), after["data"].clone()), want);
        };
        check(None, json!({"a": "eA=="}), (None, json!({"a": "***"})));
        check(
            Some(json!({"a": "1", "b": "2", "c": "3"})),
            json!({"a": "1", "b": "9", "d": "4"}),
            (Some(json!({"a": "***", "b": "*** (before)", "c": "***"})), json!({"a": "***", "b": "*** (after)", "d": "***"})),
        );
        let (_, open) = shown(None, secret(json!({"a": "eA=="})), true, true);
        assert_eq!(open, secret(json!({"a": "eA=="})));
    }

    #[test]
    fn another_program() {
        let check = |external: &str, want: &[&str]| {
            let (name, arguments) = program(external);
            let got: Vec<String> = std::iter::once(name).chain(arguments).collect();
            assert_eq!(got, want, "{external}");
        };
        check("", &["diff", "-u", "-N"]);
        check("colordiff -N -u", &["colordiff", "-N", "-u"]);
        check("diff -u ;reboot --x=1", &["diff", "-u", "--x=1"]);
    }
}
