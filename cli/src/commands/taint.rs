//! `kctl taint`: taints of nodes.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use super::{
    flags::{ManagerFlag, WriteFlags},
    targets::{Selectors, Targets, two_way},
};
use crate::{
    kube::{Error, Files, Request, Result, Session, complete},
    output::format::DryRun,
};

/// Sets and removes taints of nodes: KEY[=VALUE]:EFFECT with NoSchedule, PreferNoSchedule or NoExecute
///
///   kctl taint node n1 dedicated=web:NoSchedule     kctl taint node n1 dedicated-
///   kctl taint nodes -l zone=a broken:NoExecute     kctl taint node n1 dedicated:NoSchedule-
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct TaintArgs {
    /// node NAME… KEY=VALUE:EFFECT… KEY[:EFFECT]-…
    #[arg(value_name = "node NAME KEY=VALUE:EFFECT", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    /// Nodes whose labels match (a=b,c!=d,e in (f,g))
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All nodes
    #[arg(long)]
    all: bool,
    /// Replace values that are there already
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    manager: ManagerFlag,
    #[command(flatten)]
    write: WriteFlags,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Taint {
    key: String,
    value: String,
    /// Empty in a removal of every effect.
    effect: String,
}

impl Taint {
    /// `KEY=VALUE:EFFECT`, `KEY:EFFECT` or `KEY`.
    fn parse(text: &str) -> Result<Self> {
        let invalid = |more: &str| Error::message(format!("invalid taint spec: {text}{more}"));
        let mut parts = text.split(':');
        let (pair, effect, rest) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if rest.is_some() {
            return Err(invalid(""));
        }
        let (key, value) = match effect {
            None => (pair, ""),
            Some(effect) if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) => {
                return Err(Error::message(format!("invalid taint effect: {effect}, unsupported taint effect")));
            }
            Some(_) => pair.split_once('=').unwrap_or((pair, "")),
        };
        if value.contains('=') {
            return Err(invalid(""));
        }
        for errors in [machinery::names::label_value(value), machinery::names::qualified_name(key)] {
            if !errors.is_empty() {
                return Err(invalid(&format!(", {}", errors.join("; "))));
            }
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), effect: effect.unwrap_or_default().to_owned() })
    }

    fn of(value: &Value) -> Self {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        Self { key: text("key"), value: text("value"), effect: text("effect") }
    }

    /// `key=value:effect`, as errors name a taint.
    fn text(&self) -> String {
        match (self.effect.as_str(), self.value.as_str()) {
            ("", "") => self.key.clone(),
            ("", value) => format!("{}={value}:", self.key),
            (effect, "") => format!("{}:{effect}", self.key),
            (effect, value) => format!("{}={value}:{effect}", self.key),
        }
    }

    fn json(&self) -> Value {
        let mut taint = json!({"effect": self.effect, "key": self.key});
        if !self.value.is_empty() {
            taint["value"] = self.value.as_str().into();
        }
        taint
    }

    fn is(&self, other: &Self) -> bool {
        self.key == other.key && self.effect == other.effect
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    set: Vec<Taint>,
    remove: Vec<Taint>,
}

/// Splits the nodes from the changes: the first word that is a taint begins the latter.
fn split(words: &[String]) -> Result<(&[String], &[String])> {
    let is_taint = |word: &String| word.contains(['=', ':']) || word.ends_with('-');
    let at = words.iter().position(is_taint).unwrap_or(words.len());
    let (nodes, taints) = words.split_at(at);
    if let Some(word) = taints.iter().find(|word| !is_taint(word)) {
        return Err(Error::message(format!("all resources must be specified before taint changes: {word}")));
    }
    if nodes.is_empty() {
        return Err(Error::message("one or more resources must be specified as <resource> <name>"));
    }
    if taints.is_empty() {
        return Err(Error::message("at least one taint update is required"));
    }
    Ok((nodes, taints))
}

fn changes(specs: &[String]) -> Result<Changes> {
    let mut changes = Changes::default();
    for spec in specs {
        if let Some(removed) = spec.strip_suffix('-') {
            changes.remove.push(Taint { value: String::new(), ..Taint::parse(removed)? });
            continue;
        }
        let taint = Taint::parse(spec)?;
        if taint.effect.is_empty() {
            return Err(Error::message(format!("invalid taint spec: {spec}")));
        }
        if changes.set.iter().any(|other| other.is(&taint)) {
            let Taint { key, value, effect } = taint;
            let shown = format!("{{{key} {value} {effect} <nil>}}");
            return Err(Error::message(format!("duplicated taints with the same key and effect: {shown}")));
        }
        changes.set.push(taint);
    }
    Ok(changes)
}

/// What is both set and removed.
fn check(changes: &Changes) -> Result<()> {
    let removed = |taint: &Taint| {
        let clash = |other: &&Taint| taint.key == other.key && (other.effect.is_empty() || taint.effect == other.effect);
        changes.remove.iter().filter(clash).map(|other| format!("{}={}", other.key, other.effect)).collect::<Vec<_>>()
    };
    let both: Vec<String> = changes.set.iter().flat_map(removed).collect();
    if both.is_empty() {
        return Ok(());
    }
    Err(Error::message(format!("can not both modify and remove the following taint(s) in the same command: {}", both.join(", "))))
}

/// The node's taints after the changes and what to call it.
fn apply(node: &str, old: &[Taint], changes: &Changes, overwrite: bool) -> Result<(Vec<Taint>, &'static str)> {
    if !overwrite {
        let taken: Vec<&str> =
            changes.set.iter().filter(|taint| old.iter().any(|other| other.is(taint))).map(|taint| taint.key.as_str()).collect();
        if !taken.is_empty() {
            let taken = taken.join(",");
            return Err(Error::message(format!(
                "node {node} already has {taken} taint(s) with same effect(s) and --overwrite is false"
            )));
        }
    }
    let mut taints = changes.set.clone();
    taints.extend(old.iter().filter(|taint| !changes.set.iter().any(|other| other.is(taint))).cloned());
    let added = taints.len() != old.len();
    let mut removed = false;
    let mut errors = Vec::new();
    for gone in &changes.remove {
        let before = taints.len();
        taints.retain(|taint| taint.key != gone.key || !gone.effect.is_empty() && taint.effect != gone.effect);
        removed = taints.len() != before;
        if !removed {
            errors.push(Error::message(format!("taint {:?} not found", gone.text())));
        }
    }
    Error::all(errors)?;
    let what = match (added, removed, overwrite) {
        (true, true, _) | (_, _, true) => "modified",
        (true, false, _) => "tainted",
        _ => "untainted",
    };
    Ok((taints, what))
}

pub async fn run(args: TaintArgs, session: &Session) -> Result<()> {
    let (nodes, specs) = split(&args.words)?;
    let changes = changes(specs).map_err(|error| Error::Usage { command: "taint", message: error.bare() })?;
    let resource = session.resource(&nodes[0]).await?;
    if resource.kind != "Node" {
        let kind = nodes[0].to_lowercase();
        return Err(Error::message(format!("invalid resource type {kind}, only node types are supported")));
    }
    check(&changes)?;
    if args.all && args.selector.is_some() {
        return Err(Error::message("setting 'all' parameter with a non empty selector is prohibited"));
    }
    if !args.all && args.selector.is_none() && nodes.len() < 2 {
        return Err(Error::message("at least one resource name must be specified since 'all' parameter is not set"));
    }
    let selectors = Selectors { selector: args.selector.clone(), all: args.all, ..Selectors::default() };
    let targets = Targets { words: nodes.to_vec(), files: Files::default(), selectors };
    let dry_run = args.write.dry_run();
    let mut reporter = args.write.reporter()?;
    let (infos, mut errors) = targets.fetch(session).await?;
    for info in &infos {
        let old: Vec<Taint> = info.object["spec"]["taints"].as_array().into_iter().flatten().map(Taint::of).collect();
        let (taints, what) = match apply(&info.name, &old, &changes, args.overwrite) {
            Ok(after) => after,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let mut object = info.object.clone();
        object["spec"]["taints"] = taints.iter().map(Taint::json).collect();
        if dry_run == DryRun::Client {
            reporter.done(info, &object, what)?;
            continue;
        }
        let (kind, patch) = two_way(&info.object, &object);
        let request = args.write.send(Request::patch(info.path(), kind, &patch), args.manager.or("kctl-taint"));
        match session.json(request).await {
            Ok(object) => reporter.done(info, &object, what)?,
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// The node has `a=1:NoSchedule` and `b:NoExecute`.
    fn check_line(line: &str, overwrite: bool, want: Result<(&str, &str), &str>) {
        let outcome = || {
            let words = words(line);
            let (nodes, specs) = split(&words)?;
            assert_eq!(nodes, ["node", "n"]);
            let changes = changes(specs)?;
            check(&changes)?;
            let old: Vec<Taint> = ["a=1:NoSchedule", "b:NoExecute"].iter().map(|t| Taint::parse(t).unwrap()).collect();
            apply("n", &old, &changes, overwrite)
        };
        let got = outcome().map(|(taints, what)| (taints.iter().map(Taint::text).collect::<Vec<_>>().join(" "), what));
        let got = got.map_err(|error| error.bare());
        let want = want.map(|(taints, what)| (taints.to_owned(), what)).map_err(str::to_owned);
        assert_eq!(got, want, "{line}");
    }

    #[test]
    fn sets_and_removes() {
        check_line("node n c=2:NoExecute", false, Ok(("c=2:NoExecute a=1:NoSchedule b:NoExecute", "tainted")));
        check_line("node n a-", false, Ok(("b:NoExecute", "untainted")));
        check_line("node n a:NoSchedule- c:NoExecute", false, Ok(("c:NoExecute b:NoExecute", "modified")));
        check_line("node n a=2:NoSchedule", true, Ok(("a=2:NoSchedule b:NoExecute", "modified")));
        check_line(
            "node n a=2:NoSchedule",
            false,
            Err("node n already has a taint(s) with same effect(s) and --overwrite is false"),
        );
        check_line("node n x-", false, Err("taint \"x\" not found"));
        check_line("node n a:NoExecute-", false, Err("taint \"a:NoExecute\" not found"));
    }

    #[test]
    fn what_is_no_taint() {
        check_line("node n c", false, Err("at least one taint update is required"));
        check_line(
            "node n c=2",
            false,
            Err(
                "invalid taint spec: c=2, name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
        );
        check_line("node n c:Never", false, Err("invalid taint effect: Never, unsupported taint effect"));
        check_line("node n c:NoExecute:x", false, Err("invalid taint spec: c:NoExecute:x"));
        check_line("node n c:NoExecute d", false, Err("all resources must be specified before taint changes: d"));
        check_line(
            "node n c:NoExecute c-",
            false,
            Err("can not both modify and remove the following taint(s) in the same command: c="),
        );
    }
}
