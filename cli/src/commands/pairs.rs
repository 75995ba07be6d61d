//! `KEY=VALUE` and `KEY-` arguments: what `label` and `annotate` have in common.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    flags::{ChangeFlags, ManagerFlag},
    targets::{Selectors, Targets, patch},
};
use crate::{
    kube::{Error, Files, Info, Result, Session, select, session::MERGE_PATCH},
    output::format::{DryRun, Reporter},
};

#[derive(Args, Clone, Debug)]
pub struct PairArgs {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    #[command(flatten)]
    manager: ManagerFlag,
    #[command(flatten)]
    change: ChangeFlags,
    /// Change the objects of the files, without a server
    #[arg(long)]
    local: bool,
    /// Replace values that are there already
    #[arg(long)]
    overwrite: bool,
    /// Print what the object has
    #[arg(long)]
    list: bool,
    /// Change the object only if it is still at this version
    #[arg(long)]
    resource_version: Option<String>,
}

/// The two commands' differences.
pub struct Field {
    /// Of `metadata`.
    pub name: &'static str,
    /// The field manager, unless another is named.
    pub manager: &'static str,
    /// `label`, `annotation`.
    pub noun: &'static str,
    pub check: fn(&str, &str) -> Result<()>,
    /// After a change: `labeled`.
    pub added: &'static str,
    pub removed: &'static str,
    pub both: &'static str,
    pub unchanged: &'static str,
    pub taken: fn(&[(&str, &str, &str)]) -> Error,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Pairs {
    set: BTreeMap<String, String>,
    remove: Vec<String>,
}

/// Splits the objects from what to do to them: the first word that sets or removes something begins the latter.
fn split<'a>(words: &'a [String], field: &Field) -> Result<(&'a [String], Pairs)> {
    let is_pair = |word: &String| word.contains('=') || word.ends_with('-');
    let at = words.iter().position(is_pair).unwrap_or(words.len());
    let mut pairs = Pairs::default();
    for word in &words[at..] {
        if let Some((key, value)) = word.split_once('=') {
            (field.check)(word, value)?;
            pairs.set.insert(key.to_owned(), value.to_owned());
        } else if let Some(key) = word.strip_suffix('-') {
            pairs.remove.push(key.to_owned());
        } else {
            return Err(Error::message(format!("all resources must be specified before {} changes: {word}", field.noun)));
        }
    }
    if pairs.remove.iter().any(|key| pairs.set.contains_key(key)) {
        return Err(Error::message(format!("can not both modify and remove a {} in the same command", field.noun)));
    }
    Ok((&words[..at], pairs))
}

/// The values after the change and what to call it.
fn change<'f>(
    field: &'f Field,
    current: &Map<String, Value>,
    pairs: &Pairs,
    overwrite: bool,
) -> Result<(Map<String, Value>, &'f str)> {
    if !overwrite {
        let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
        let taken: Vec<_> = pairs.set.iter().filter_map(|(key, value)| Some((key, value, text(current.get(key)?)))).collect();
        let taken: Vec<_> = taken
            .iter()
            .filter(|(_, value, now)| *value != now)
            .map(|(key, value, now)| (key.as_str(), value.as_str(), now.as_str()))
            .collect();
        if !taken.is_empty() {
            return Err((field.taken)(&taken));
        }
    }
    let mut changes = Map::new();
    for (key, value) in &pairs.set {
        if current.get(key).and_then(Value::as_str) != Some(value) {
            changes.insert(key.clone(), value.as_str().into());
        }
    }
    let added = !changes.is_empty();
    let removed: Vec<_> = pairs.remove.iter().filter(|key| current.contains_key(*key)).collect();
    for key in &removed {
        changes.insert((*key).clone(), Value::Null);
    }
    let what = match (added, !removed.is_empty()) {
        (true, true) => field.both,
        (true, false) => field.added,
        (false, true) => field.removed,
        (false, false) => field.unchanged,
    };
    Ok((changes, what))
}

pub async fn run(words: &[String], args: &PairArgs, field: &Field, session: &Session) -> Result<()> {
    let (words, pairs) = split(words, field)?;
    let targets = Targets { words: words.to_vec(), files: args.files.clone(), selectors: args.selectors.clone() };
    if args.local {
        check_local(&targets, args.change.dry_run())?;
    } else {
        targets.check()?;
    }
    if pairs == Pairs::default() && !args.list {
        return Err(Error::message(format!("at least one {} update is required", field.noun)));
    }
    let (infos, mut errors) =
        if args.local { (select::local_files(&targets.files).await?, Vec::new()) } else { targets.fetch(session).await? };
    if args.resource_version.is_some() && infos.len() > 1 {
        return Err(Error::message("--resource-version may only be used with a single resource"));
    }
    let mut reporter = args.change.reporter()?;
    let single = infos.len() == 1;
    for info in &infos {
        if let Err(error) = one(info, &pairs, args, field, session, &mut reporter, single).await {
            errors.push(error);
        }
    }
    Error::all(errors)
}

fn check_local(targets: &Targets, dry_run: DryRun) -> Result<()> {
    targets.selectors.check()?;
    let why = if dry_run == DryRun::Server {
        "cannot specify --local and --dry-run=server - did you mean --dry-run=client?"
    } else if !targets.words.is_empty() {
        "can only use local files by -f pod.yaml or --filename=pod.json when --local=true is set"
    } else if targets.files.is_empty() {
        "one or more files must be specified as -f pod.yaml or --filename=pod.json"
    } else {
        return Ok(());
    };
    Err(Error::message(why))
}

async fn one(
    info: &Info,
    pairs: &Pairs,
    args: &PairArgs,
    field: &Field,
    session: &Session,
    reporter: &mut Reporter,
    single: bool,
) -> Result<()> {
    let empty = Map::new();
    let current = info.object["metadata"][field.name].as_object().unwrap_or(&empty);
    // A list shows what would be.
    let tried = args.local || args.list || args.change.dry_run() == DryRun::Client;
    for key in pairs.remove.iter().filter(|key| !tried && !current.contains_key(*key)) {
        println!("{} {key:?} not found.", field.noun);
    }
    let (changes, what) = change(field, current, pairs, args.overwrite)?;
    let mut object = info.object.clone();
    if !changes.is_empty() {
        let mut body = json!({"metadata": {field.name: changes}});
        if let Some(version) = &args.resource_version {
            body["metadata"]["resourceVersion"] = version.as_str().into();
        }
        if tried {
            machinery::patch::merge::apply(&mut object, &body);
        } else {
            object = patch(session, info, MERGE_PATCH, &body, args.manager.or(field.manager), args.change.dry_run()).await?;
        }
    }
    if args.list {
        if !single {
            println!("Listing {} for {}.{}/{}:", field.name, info.resource.kind, info.resource.group, info.name);
        }
        for (key, value) in object["metadata"][field.name].as_object().unwrap_or(&empty) {
            println!("{}{key}={}", if single { "" } else { " " }, value.as_str().unwrap_or_default());
        }
        return Ok(());
    }
    reporter.done(info, &object, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{annotate, label};

    fn check(field: &Field, line: &str, overwrite: bool, want: Result<(Value, &str), &str>) {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        let current = json!({"x": "0", "y": "1"});
        let got = split(&words, field).and_then(|(objects, pairs)| {
            assert_eq!(objects, ["pod", "a"]);
            change(field, current.as_object().unwrap(), &pairs, overwrite)
        });
        let got = got.map(|(changes, what)| (Value::Object(changes), what)).map_err(|error| error.text());
        assert_eq!(got, want.map_err(str::to_owned), "{line}");
    }

    #[test]
    fn sets_and_removes() {
        let field = &label::FIELD;
        check(field, "pod a x=1", true, Ok((json!({"x": "1"}), "labeled")));
        check(field, "pod a x=0", false, Ok((json!({}), "not labeled")));
        check(field, "pod a z= y-", false, Ok((json!({"z": "", "y": null}), "modified")));
        check(field, "pod a y-", false, Ok((json!({"y": null}), "unlabeled")));
        check(field, "pod a x=1", false, Err("error: 'x' already has a value (0), and --overwrite is false"));
        check(field, "pod a q=1 q-", false, Err("error: can not both modify and remove a label in the same command"));
        let field = &annotate::FIELD;
        check(field, "pod a y-", false, Ok((json!({"y": null}), "annotated")));
        check(
            field,
            "pod a x=1",
            false,
            Err("error: --overwrite is false but found the following declared annotation(s): 'x' already has a value (0)"),
        );
    }
}
