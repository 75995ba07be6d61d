//! `kctl auth reconcile`: roles and bindings that have at least what files say.

use clap::Args;
use machinery::meta;
use serde_json::Value;

use crate::{
    commands::flags::ChangeFlags,
    kube::{Error, Files, Info, Request, Result, Session, select, session::JSON},
    output::format::DryRun,
};
use reqwest::Method;

/// Changes keep what others added unless told otherwise
#[derive(Args, Clone, Debug)]
pub struct ReconcileArgs {
    #[command(flatten)]
    files: Files,
    /// Take away subjects that the files do not have
    #[arg(long)]
    remove_extra_subjects: bool,
    /// Take away permissions that the files do not have
    #[arg(long)]
    remove_extra_permissions: bool,
    #[command(flatten)]
    change: ChangeFlags,
}

pub async fn run(args: ReconcileArgs, session: &Session) -> Result<()> {
    if args.files.is_empty() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    let mut reporter = args.change.reporter()?;
    for info in select::from_files(session, &args.files).await? {
        if info.resource.group != "rbac.authorization.k8s.io" {
            continue;
        }
        if info.resource.version != "v1" {
            return Err(Error::message("only rbac.authorization.k8s.io/v1 is supported"));
        }
        let (object, change) = one(&args, session, &info).await?;
        reporter.done(&info, &object, "reconciled")?;
        eprint!("{}", change.text());
    }
    Ok(())
}

/// What was done to an object.
#[derive(Debug, Default, PartialEq)]
struct Change {
    /// `create` or `update`; nothing when it was as it should be.
    operation: &'static str,
    /// It said that it is not to be changed.
    opted_out: bool,
    /// Subjects or rules.
    what: &'static str,
    missing: Vec<Value>,
    extra: Vec<Value>,
}

impl Change {
    fn text(&self) -> String {
        if self.operation.is_empty() {
            return String::new();
        }
        let caveat = ", but object opted out (rbac.authorization.kubernetes.io/autoupdate: false)";
        let mut text = format!("\treconciliation required {}{}\n", self.operation, if self.opted_out { caveat } else { "" });
        for (about, items) in [("missing {} added", &self.missing), ("extra {} removed", &self.extra)] {
            if !items.is_empty() {
                text += &format!("\t{}:\n", about.replace("{}", self.what));
                items.iter().for_each(|item| text += &format!("\t\t{}\n", shown(item)));
            }
        }
        text
    }
}

/// A rule or a subject as Go's `%+v` shows it.
fn shown(item: &Value) -> String {
    let list = |field: &str| {
        let items = item[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        items.collect::<Vec<_>>().join(" ")
    };
    let text = |field: &str| meta::text(item, &[field]).to_owned();
    if item["kind"].is_string() {
        let (kind, group, name, namespace) = (text("kind"), text("apiGroup"), text("name"), text("namespace"));
        return format!("{{Kind:{kind} APIGroup:{group} Name:{name} Namespace:{namespace}}}");
    }
    format!(
        "{{Verbs:[{}] APIGroups:[{}] Resources:[{}] ResourceNames:[{}] NonResourceURLs:[{}]}}",
        list("verbs"),
        list("apiGroups"),
        list("resources"),
        list("resourceNames"),
        list("nonResourceURLs")
    )
}

async fn one(args: &ReconcileArgs, session: &Session, info: &Info) -> Result<(Value, Change)> {
    let binding = info.resource.kind.ends_with("Binding");
    let what = if binding { "subjects" } else { "rules" };
    let changes = args.change.dry_run() == DryRun::No;
    let current = match session.json(Request::get(info.path())).await {
        Ok(object) => object,
        Err(error) if error.is_not_found() => {
            let missing = info.object[what].as_array().cloned().unwrap_or_default();
            let change = Change { operation: "create", what, missing, ..Change::default() };
            if !changes {
                return Ok((info.object.clone(), change));
            }
            let request = Request::post(info.resource.path(&info.namespace, None), &info.object);
            return Ok((session.json(request).await?, change));
        }
        Err(error) => return Err(error),
    };
    let merged = if binding {
        self::binding(&current, &info.object, args.remove_extra_subjects)?
    } else {
        role(&current, &info.object, args.remove_extra_permissions)
    };
    // An object may say that it is not to be changed by the likes of us.
    let opted_out = meta::annotation(&current, "rbac.authorization.kubernetes.io/autoupdate") == Some("false");
    let items = |object: &Value| object[what].as_array().cloned().unwrap_or_default();
    let (before, after) = (items(&current), items(&merged));
    let missing = after.iter().filter(|item| !before.contains(item)).cloned().collect();
    let extra = before.iter().filter(|item| !after.contains(item)).cloned().collect();
    let operation = if merged == current { "" } else { "update" };
    let change = Change { operation, opted_out, what, missing, extra };
    if merged == current || opted_out || !changes {
        return Ok((merged, change));
    }
    let request = Request::new(Method::PUT, info.path()).body(JSON, merged.to_string());
    Ok((session.json(request).await?, change))
}

/// Labels and annotations of the file win.
fn with_metadata(current: &Value, wanted: &Value) -> Value {
    let mut merged = current.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            merged["metadata"][field][key] = value.clone();
        }
    }
    merged
}

fn binding(current: &Value, wanted: &Value, remove: bool) -> Result<Value> {
    if current["roleRef"] != wanted["roleRef"] {
        return Err(Error::message(format!("{}: roleRef cannot be changed", meta::name(wanted))));
    }
    let mut merged = with_metadata(current, wanted);
    let subjects = |object: &Value| object["subjects"].as_array().cloned().unwrap_or_default();
    let (own, new) = (subjects(current), subjects(wanted));
    let kept = own.into_iter().filter(|subject| !remove || new.contains(subject));
    let mut all: Vec<Value> = kept.collect();
    all.extend(new.iter().filter(|subject| !all.contains(subject)).cloned().collect::<Vec<_>>());
    if !all.is_empty() || merged.get("subjects").is_some() {
        merged["subjects"] = all.into();
    }
    Ok(merged)
}

fn role(current: &Value, wanted: &Value, remove: bool) -> Value {
    let mut merged = with_metadata(current, wanted);
    if wanted["aggregationRule"].is_object() {
        merged["aggregationRule"] = wanted["aggregationRule"].clone();
        return merged;
    }
    let rules = |object: &Value| object["rules"].as_array().cloned().unwrap_or_default();
    let (own, new) = (rules(current), rules(wanted));
    let missing: Vec<Value> = new.iter().filter(|rule| !covered(&own, rule)).cloned().collect();
    let kept = own.into_iter().filter(|rule| !remove || covered(&new, rule));
    merged["rules"] = kept.chain(missing).collect();
    merged
}

/// Whether every combination that a rule allows is allowed by one of the others.
fn covered(rules: &[Value], rule: &Value) -> bool {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let field = |rule: &Value, name: &str| texts(&rule[name]);
    let has = |list: &[String], item: &str| list.iter().any(|own| own == "*" || own == item);
    let or_none = |mut list: Vec<String>| {
        if list.is_empty() {
            list.push(String::new());
        }
        list
    };
    let allows = |verb: &str, group: &str, resource: &str, name: &str| {
        rules.iter().any(|other| {
            let names = field(other, "resourceNames");
            has(&field(other, "verbs"), verb)
                && has(&field(other, "apiGroups"), group)
                && has(&field(other, "resources"), resource)
                && (names.is_empty() || has(&names, name))
        })
    };
    let paths = field(rule, "nonResourceURLs");
    let verbs = field(rule, "verbs");
    if !paths.is_empty() {
        let allowed = |verb: &String, path: &String| {
            rules.iter().any(|other| has(&field(other, "verbs"), verb) && has(&field(other, "nonResourceURLs"), path))
        };
        return verbs.iter().all(|verb| paths.iter().all(|path| allowed(verb, path)));
    }
    verbs.iter().all(|verb| {
        field(rule, "apiGroups").iter().all(|group| {
            field(rule, "resources")
                .iter()
                .all(|resource| or_none(field(rule, "resourceNames")).iter().all(|name| allows(verb, group, resource, name)))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use serde_json::json;

    use super::*;

    fn rule(verbs: &[&str], resources: &[&str]) -> Value {
        json!({"apiGroups": [""], "resources": resources, "verbs": verbs})
    }

    #[test]
    fn roles_gain_what_is_missing() {
        let object = |rules: &[Value]| json!({"metadata": {"name": "r"}, "rules": rules});
        let check = |own: &[Value], new: &[Value], remove, want: &[Value]| {
            assert_eq!(role(&object(own), &object(new), remove)["rules"], json!(want));
        };
        let (get, list, all) = (rule(&["get"], &["pods"]), rule(&["list"], &["pods"]), rule(&["*"], &["*"]));
        let both = [get.clone(), list];
        check(&both[..1], &both[1..], false, &both);
        check(&both[..1], &both[1..], true, &both[1..]);
        check(from_ref(&all), &both[..1], false, from_ref(&all));
        check(&[rule(&["get", "list"], &["pods"])], &[get], false, &[rule(&["get", "list"], &["pods"])]);
    }

    #[test]
    fn changes_are_told() {
        let missing = vec![rule(&["get"], &["pods"])];
        let change = Change { operation: "update", what: "rules", missing, ..Change::default() };
        let rule = "{Verbs:[get] APIGroups:[] Resources:[pods] ResourceNames:[] NonResourceURLs:[]}";
        assert_eq!(change.text(), format!("\treconciliation required update\n\tmissing rules added:\n\t\t{rule}\n"));
        assert_eq!(Change::default().text(), "");
    }

    #[test]
    fn bindings_gain_subjects() {
        let object = |names: &[&str]| {
            let subjects: Vec<Value> = names.iter().map(|name| json!({"kind": "User", "name": name})).collect();
            json!({"metadata": {"name": "b"}, "roleRef": {"name": "r"}, "subjects": subjects})
        };
        assert_eq!(binding(&object(&["a"]), &object(&["b"]), false).unwrap(), object(&["a", "b"]));
        assert_eq!(binding(&object(&["a"]), &object(&["b"]), true).unwrap(), object(&["b"]));
        let mut other = object(&["a"]);
        other["roleRef"]["name"] = "x".into();
        assert!(binding(&object(&["a"]), &other, false).is_err());
    }
}
