//! `kctl rollout history` and `undo`: the pod templates that were, kept in replica sets and controller revisions.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Targets, whole_type};
use crate::{
    commands::{describe::pod_template, flags::ChangeFlags, patch},
    kube::{
        Error, Info, Request, Result, Session, select,
        session::{JSON_PATCH, STRATEGIC_PATCH},
    },
    output::{OutputFlags, Printer, format::DryRun, tabs},
};

const REVISION: &str = "deployment.kubernetes.io/revision";
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
const HASH_LABEL: &str = "pod-template-hash";
/// Annotations that belong to the deployment, not to its template.
const KEPT: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

/// Lists earlier revisions, or shows one
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    #[command(flatten)]
    targets: Targets,
    /// Show this revision's pod template
    #[arg(long, default_value_t = 0)]
    revision: i64,
    #[command(flatten)]
    output: OutputFlags,
}

/// Goes back to an earlier revision
///
///   kctl rollout undo deploy/web          kctl rollout undo deploy/web --to-revision=3
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct UndoArgs {
    #[command(flatten)]
    targets: Targets,
    /// The revision; 0 is the one before the current
    #[arg(long, default_value_t = 0)]
    to_revision: i64,
    #[command(flatten)]
    change: ChangeFlags,
}

/// One revision: its number and the object that keeps it.
struct Revision {
    number: i64,
    keeper: Value,
}

impl Revision {
    fn template(&self) -> &Value {
        // Controller revisions keep a patch of the whole object.
        let of_patch = self.keeper.pointer("/data/spec/template");
        of_patch.unwrap_or(&self.keeper["spec"]["template"])
    }

    /// The object of that time: the replica set that kept it, else the object with what its revision keeps.
    fn object(&self, info: &Info) -> Result<Value> {
        let Some(data) = self.keeper.get("data") else { return Ok(self.keeper.clone()) };
        patch::locally(&info.object, data, STRATEGIC_PATCH)
    }

    fn cause(&self) -> &str {
        machinery::meta::annotation(&self.keeper, CHANGE_CAUSE).filter(|cause| !cause.is_empty()).unwrap_or("<none>")
    }
}

async fn revisions(session: &Session, info: &Info) -> Result<Vec<Revision>> {
    let deployment = match info.resource.kind.as_str() {
        "Deployment" => true,
        "DaemonSet" | "StatefulSet" => false,
        kind => return Err(Error::message(format!("no history viewer has been implemented for {kind:?}"))),
    };
    let plural = if deployment { "replicasets" } else { "controllerrevisions" };
    let request = Request::get(format!("/apis/apps/v1/namespaces/{}/{plural}", info.namespace));
    let (items, _) = select::list(session, request).await?;
    let uid = machinery::meta::uid(&info.object);
    let ours = |item: &Value| {
        machinery::meta::owner_references(item).iter().any(|owner| owner["uid"] == uid && owner["controller"] == true)
    };
    let number = |item: &Value| {
        if deployment { machinery::meta::annotation(item, REVISION)?.parse().ok() } else { item["revision"].as_i64() }
    };
    let mut revisions: Vec<_> =
        items.into_iter().filter(ours).filter_map(|item| Some(Revision { number: number(&item)?, keeper: item })).collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}

pub async fn run(mut args: HistoryArgs, session: &Session) -> Result<()> {
    whole_type(&mut args.targets);
    if args.revision < 0 {
        return Err(Error::message("revision must be a positive integer"));
    }
    let (infos, mut errors) = args.targets.fetch(session).await?;
    let mut printer = Printer::new(&args.output)?;
    if !printer.format().is_human() {
        for info in &infos {
            if let Err(error) = print(session, info, args.revision, &mut printer).await {
                errors.push(error);
            }
        }
        return Error::all(errors);
    }
    for info in &infos {
        match history(session, info, args.revision).await {
            Ok(text) => {
                let with = if args.revision > 0 { format!("with revision #{}", args.revision) } else { String::new() };
                println!("{} {with}\n{text}", info.label());
            }
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)
}

/// Prints the objects of one revision, or of all.
async fn print(session: &Session, info: &Info, revision: i64, printer: &mut Printer) -> Result<()> {
    let revisions = revisions(session, info).await?;
    let found: Vec<_> = revisions.iter().filter(|one| revision == 0 || one.number == revision).collect();
    if revision > 0 && found.is_empty() {
        return Err(Error::message("unable to find the specified revision"));
    }
    for one in found {
        let object = one.object(info)?;
        let label = |object: &Value| {
            let (group, kind) = ("apps", machinery::meta::kind(object).to_lowercase());
            format!("{kind}.{group}/{}", machinery::meta::name(object))
        };
        printer.print(&object, &label)?;
    }
    Ok(())
}

async fn history(session: &Session, info: &Info, revision: i64) -> Result<String> {
    let revisions = revisions(session, info).await?;
    if revisions.is_empty() {
        return Ok("No rollout history found.".into());
    }
    if revision > 0 {
        let found = revisions
            .iter()
            .find(|r| r.number == revision)
            .ok_or_else(|| Error::message("unable to find the specified revision"))?;
        let mut template = found.template().clone();
        if found.cause() != "<none>" {
            machinery::meta::set_annotation(&mut template, CHANGE_CAUSE, Some(found.cause()));
        }
        return Ok(pod_template(&template));
    }
    let lines: String = revisions.iter().map(|revision| format!("{}\t{}\n", revision.number, revision.cause())).collect();
    Ok(tabs::align(&format!("REVISION\tCHANGE-CAUSE\n{lines}"), tabs::DESCRIBE))
}

pub async fn undo(mut args: UndoArgs, session: &Session) -> Result<()> {
    whole_type(&mut args.targets);
    let mut reporter = args.change.reporter()?;
    args.targets
        .each(session, async |info| {
            let revisions = revisions(session, info).await?;
            let target = choose(info, &revisions, args.to_revision)?;
            if args.change.dry_run() == DryRun::Client {
                return reporter.done(info, &info.object, &pod_template(target.template()));
            }
            if info.object["spec"]["paused"] == true {
                return Err(Error::message(
                    "you cannot rollback a paused deployment; resume it first with 'kctl rollout resume' and try again",
                ));
            }
            if without_hash(target.template()) == without_hash(&info.object["spec"]["template"]) {
                let what = format!("skipped rollback (current template already matches revision {})", args.to_revision);
                return reporter.done(info, &info.object, &what);
            }
            let (kind, body) = plan(info, target);
            let request = Request::patch(info.path(), kind, &body).query("fieldManager", "kctl-rollout");
            let after = session.json(args.change.ask(request)).await?;
            reporter.done(info, &after, "rolled back")
        })
        .await
        .map(drop)
}

fn choose<'a>(info: &Info, revisions: &'a [Revision], number: i64) -> Result<&'a Revision> {
    if number != 0 {
        return revisions
            .iter()
            .find(|revision| revision.number == number)
            .ok_or_else(|| Error::message(format!("unable to find specified revision {number} in history")));
    }
    let before = revisions.len().checked_sub(2).map(|at| &revisions[at]);
    before.ok_or_else(|| {
        Error::message(if info.resource.kind == "Deployment" {
            format!("no rollout history found for deployment {:?}", info.name)
        } else {
            "no last revision to roll back to".into()
        })
    })
}

fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    if let Some(template) = template.as_object_mut() {
        template.remove("$patch");
    }
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("creationTimestamp");
    }
    template
}

/// The patch that brings a revision back.
fn plan(info: &Info, target: &Revision) -> (&'static str, Value) {
    if info.resource.kind != "Deployment" {
        return (STRATEGIC_PATCH, target.keeper["data"].clone());
    }
    let mut annotations = Map::new();
    for (key, value) in
        machinery::meta::annotations(&info.object).into_iter().flatten().filter(|(key, _)| KEPT.contains(&key.as_str()))
    {
        annotations.insert(key.clone(), value.clone());
    }
    for (key, value) in
        machinery::meta::annotations(&target.keeper).into_iter().flatten().filter(|(key, _)| !KEPT.contains(&key.as_str()))
    {
        annotations.insert(key.clone(), value.clone());
    }
    let patch = json!([
        {"op": "replace", "path": "/spec/template", "value": without_hash(target.template())},
        {"op": "replace", "path": "/metadata/annotations", "value": annotations},
    ]);
    (JSON_PATCH, patch)
}
