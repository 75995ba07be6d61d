//! `kctl auth`: who am I, and what may I do.

mod reconcile;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    kube::{Error, Request, Result, Session},
    output::{Format, OutputFlags, Printer, tabs},
};

/// Tells who you are and what you may do
#[derive(Args, Clone, Debug)]
pub struct AuthArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    CanI(CanIArgs),
    Whoami(WhoAmIArgs),
    Reconcile(reconcile::ReconcileArgs),
}

/// Says whether something is allowed; exit code 1 is no
///
///   kctl auth can-i create deployments        kctl auth can-i get pods/log -n web
///   kctl auth can-i get /healthz              kctl auth can-i --list
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
struct CanIArgs {
    /// VERB TYPE[/NAME] or VERB /PATH
    #[arg(value_name = "VERB TYPE[/NAME] | VERB /PATH", num_args = 0..=3)]
    words: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// A subresource: log, exec, …
    #[arg(long, default_value = "")]
    subresource: String,
    /// Everything that is allowed in the namespace
    #[arg(long)]
    list: bool,
    /// No line with the names of columns
    #[arg(long)]
    no_headers: bool,
    /// Only the exit code
    #[arg(short, long)]
    quiet: bool,
}

/// Tells who you are to the server
#[derive(Args, Clone, Debug)]
struct WhoAmIArgs {
    #[command(flatten)]
    output: OutputFlags,
}

pub async fn run(args: AuthArgs, session: &Session) -> Result<()> {
    match args.what {
        What::CanI(args) if args.list && !args.words.is_empty() => {
            Err(Error::message("list option must be specified with no arguments"))
        }
        What::CanI(args) if args.list => list(&args, session).await,
        What::CanI(args) => can_i(&args, session).await,
        What::Whoami(args) => who_am_i(&args, session).await,
        What::Reconcile(args) => reconcile::run(args, session).await,
    }
}

async fn can_i(args: &CanIArgs, session: &Session) -> Result<()> {
    let usage = "you must specify two arguments: verb resource or verb resource/resourceName.";
    let [verb, object] = args.words.as_slice() else {
        return Err(Error::message(format!("{usage}\nSee 'kctl auth can-i -h' for help and examples.")));
    };
    let spec = if object.starts_with('/') {
        json!({"nonResourceAttributes": {"verb": verb, "path": object}})
    } else {
        resource_spec(args, session, verb, object).await?
    };
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
    let answer = session.json(Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)).await?;
    let status = &answer["status"];
    let allowed = status["allowed"] == true;
    if !args.quiet {
        let mut text = if allowed { "yes" } else { "no" }.to_owned();
        if let Some(reason) = status["reason"].as_str().filter(|reason| !allowed && !reason.is_empty()) {
            text += &format!(" - {reason}");
        }
        if let Some(error) = status["evaluationError"].as_str().filter(|error| !error.is_empty()) {
            text += &format!(" - {error}");
        }
        println!("{text}");
    }
    if allowed { Ok(()) } else { Err(Error::Exit(1)) }
}

async fn resource_spec(args: &CanIArgs, session: &Session, verb: &str, object: &str) -> Result<Value> {
    let (kind, name) = object.split_once('/').unwrap_or((object, ""));
    let (group, plural, namespaced) = match session.resource(kind).await {
        Ok(resource) => (resource.group, resource.plural, resource.namespaced),
        Err(Error::NoResource { .. }) => {
            let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
            if kind != "*" {
                let about = if group.is_empty() { String::new() } else { format!(" in group '{group}'") };
                eprintln!("Warning: the server doesn't have a resource type '{plural}'{about}\n");
            }
            (group.to_owned(), plural.to_owned(), true)
        }
        Err(error) => return Err(error),
    };
    if !namespaced {
        let about = if group.is_empty() { String::new() } else { format!(" in group '{group}'") };
        eprintln!("Warning: resource '{plural}' is not namespace scoped{about}\n");
    }
    let namespace = if args.all_namespaces { "" } else { &session.namespace };
    Ok(json!({"resourceAttributes": {
        "namespace": namespace, "verb": verb, "group": group, "resource": plural, "subresource": args.subresource, "name": name,
    }}))
}

async fn list(args: &CanIArgs, session: &Session) -> Result<()> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": session.namespace}});
    let answer = session.json(Request::post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review)).await?;
    let status = &answer["status"];
    if status["incomplete"] == true {
        eprint!("warning: the list may be incomplete");
        eprintln!("{}", status["evaluationError"].as_str().map_or_else(String::new, |error| format!(": {error}")));
    }
    let brackets = |list: &[String]| format!("[{}]", list.join(" "));
    let mut rows = Vec::new();
    for Rule { group, resource, names, verbs } in resource_rules(&status["resourceRules"]) {
        let (names, verbs) = (brackets(&names), brackets(&verbs));
        let order = format!("{verbs}[{group}][{resource}]{names}[]");
        let full = if group.is_empty() { resource } else { format!("{resource}.{group}") };
        rows.push((order, format!("{full}\t[]\t{names}\t{verbs}\n")));
    }
    for rule in status["nonResourceRules"].as_array().into_iter().flatten() {
        for url in texts(&rule["nonResourceURLs"]) {
            let verbs = brackets(&texts(&rule["verbs"]));
            rows.push((format!("{verbs}[][][][{url}]"), format!("\t[{url}]\t[]\t{verbs}\n")));
        }
    }
    // By verbs first: kubectl orders rules by the text of them.
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    let header = if args.no_headers { "" } else { "Resources\tNon-Resource URLs\tResource Names\tVerbs\n" };
    print!("{}", tabs::align(&format!("{header}{rows}"), tabs::TABLE));
    Ok(())
}

/// What may be done with one resource.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    group: String,
    resource: String,
    names: Vec<String>,
    verbs: Vec<String>,
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Rules resource by resource; those that speak of the same one are put together, unless they name several objects.
fn resource_rules(rules: &Value) -> Vec<Rule> {
    let mut found: Vec<Rule> = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        let (names, verbs) = (texts(&rule["resourceNames"]), texts(&rule["verbs"]));
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let same = |known: &&mut Rule| {
                    names.len() < 2 && (&known.group, &known.resource, &known.names) == (&group, &resource, &names)
                };
                match found.iter_mut().find(same) {
                    Some(known) => {
                        let new = verbs.iter().filter(|verb| !known.verbs.contains(verb)).cloned().collect::<Vec<_>>();
                        known.verbs.extend(new);
                    }
                    None => {
                        let (group, names, verbs) = (group.clone(), names.clone(), verbs.clone());
                        found.push(Rule { group, resource, names, verbs });
                    }
                }
            }
        }
    }
    found
}

async fn who_am_i(args: &WhoAmIArgs, session: &Session) -> Result<()> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = session.json(Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review)).await?;
    let mut printer = Printer::new(&args.output)?;
    if !matches!(printer.format(), Format::Human { .. }) {
        return printer.print(&answer, &|_| "selfsubjectreview.authentication.k8s.io/".into());
    }
    let user = &answer["status"]["userInfo"];
    let texts = |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let mut text = String::from("ATTRIBUTE\tVALUE\n");
    for (name, value) in [("Username", &user["username"]), ("UID", &user["uid"])] {
        if let Some(value) = value.as_str().filter(|value| !value.is_empty()) {
            text += &format!("{name}\t{value}\n");
        }
    }
    if user["groups"].as_array().is_some_and(|groups| !groups.is_empty()) {
        text += &format!("Groups\t[{}]\n", texts(&user["groups"]));
    }
    for (key, values) in user["extra"].as_object().into_iter().flatten() {
        text += &format!("Extra: {key}\t[{}]\n", texts(values));
    }
    print!("{}", tabs::align(&text, tabs::TABLE));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_one_resource_are_one() {
        let rule = |groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]| json!({"apiGroups": groups, "resources": resources, "resourceNames": names, "verbs": verbs});
        let rules = json!([
            rule(&[""], &["pods", "pods/log"], &[], &["get"]),
            rule(&["", "apps"], &["pods"], &[], &["list", "get"]),
            rule(&[""], &["pods"], &["a"], &["delete"]),
            rule(&[""], &["pods"], &["a", "b"], &["patch"]),
            rule(&[""], &["pods"], &["a", "b"], &["patch"]),
        ]);
        let got = resource_rules(&rules);
        let got: Vec<_> =
            got.iter().map(|r| format!("{}/{} {} {}", r.group, r.resource, r.names.join(","), r.verbs.join(","))).collect();
        let want =
            ["/pods  get,list", "/pods/log  get", "apps/pods  list,get", "/pods a delete", "/pods a,b patch", "/pods a,b patch"];
        assert_eq!(got, want);
    }
}
