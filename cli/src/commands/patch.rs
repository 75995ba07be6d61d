//! `kctl patch`.

use clap::Args;
use machinery::gvk::Gvk;
use reqwest::Method;
use serde_json::Value;

use super::{
    flags::{ChangeFlags, ManagerFlag},
    targets::Targets,
};
use crate::{
    kube::{
        Error, Info, Request, Resource, Result, Session, manifest, select,
        session::{JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH},
    },
    output::format::DryRun,
};

/// Changes fields of objects by a patch
///
///   kctl patch deploy web -p '{"spec":{"replicas":3}}'
///   kctl patch svc web --type=json -p '[{"op":"remove","path":"/metadata/labels/x"}]'
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct PatchArgs {
    #[command(flatten)]
    targets: Targets,
    /// The patch, as JSON or YAML
    #[arg(short, long)]
    patch: Option<String>,
    /// A file with the patch
    #[arg(long, value_name = "FILE", conflicts_with = "patch")]
    patch_file: Option<std::path::PathBuf>,
    /// How the patch is meant: strategic merges lists by their keys (built-in kinds only), merge is RFC 7386, json RFC 6902
    #[arg(long = "type", value_name = "strategic|merge|json", default_value = "strategic")]
    kind: String,
    /// Patch a subresource: status, scale
    #[arg(long)]
    subresource: Option<String>,
    /// Patch what is in the files, without a server
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    manager: ManagerFlag,
    #[command(flatten)]
    change: ChangeFlags,
}

pub async fn run(args: PatchArgs, session: &Session) -> Result<()> {
    let kind = match args.kind.as_str() {
        "strategic" => STRATEGIC_PATCH,
        "merge" => MERGE_PATCH,
        "json" => JSON_PATCH,
        other => return Err(Error::message(format!("--type must be one of [json merge strategic], not {other:?}"))),
    };
    let text = match (&args.patch, &args.patch_file) {
        (Some(patch), _) => patch.clone(),
        (None, Some(file)) => {
            std::fs::read_to_string(file).map_err(|error| Error::message(format!("unable to read patch file: {error}")))?
        }
        (None, None) => return Err(Error::message("must specify --patch or --patch-file containing the contents of the patch")),
    };
    // What looks like JSON is sent as it is: the server says what is wrong with it.
    let body = if text.trim_start().starts_with(['{', '[']) { text } else { from_yaml(&text)?.to_string() };
    let dry_run = args.change.dry_run();
    if args.local {
        return local(&args, &body, kind).await;
    }
    let mut reporter = args.change.reporter()?;
    let count = args
        .targets
        .each(session, async |info| {
            let after = if dry_run == DryRun::Client {
                locally(&info.object, &parsed(&body)?, kind)?
            } else {
                let mut path = info.path();
                if let Some(subresource) = &args.subresource {
                    path += &format!("/{subresource}");
                }
                let request = Request::new(Method::PATCH, path)
                    .body(kind, body.clone())
                    .query("fieldManager", args.manager.or("kctl-patch"));
                let answer = session.json(request.query_some("dryRun", dry_run.parameter())).await;
                answer.map_err(|error| match error.status() {
                    Some(status) if status.code() == 415 && kind == STRATEGIC_PATCH => {
                        let resource = &info.resource;
                        let about = format!("{}, Kind={}", resource.api_version_of_group(), resource.kind);
                        Error::message(format!("{kind} is not supported by {about}: {}", status.message))
                    }
                    _ => error,
                })?
            };
            let changed = after["metadata"]["resourceVersion"] != info.object["metadata"]["resourceVersion"]
                || dry_run != DryRun::No && after != info.object;
            let what = if changed || args.subresource.is_some() { "patched" } else { "patched (no change)" };
            match args.subresource.is_some().then(|| Gvk::of(&after)).flatten() {
                // What a subresource shows may be of another kind.
                Some(gvk) if gvk.kind != info.resource.kind => {
                    let resource = Resource { group: gvk.group, version: gvk.version, kind: gvk.kind, ..info.resource.clone() };
                    reporter.done(&Info { resource, ..info.clone() }, &after, what)
                }
                _ => reporter.done(info, &after, what),
            }
        })
        .await?;
    if count == 0 { Err(Error::message("no objects passed to patch")) } else { Ok(()) }
}

fn from_yaml(text: &str) -> Result<Value> {
    let values = manifest::parse("the patch", text)
        .map_err(|error| Error::message(format!("unable to parse {text:?}: {}", error.text())))?;
    values.into_iter().next().ok_or_else(|| Error::message("the patch is empty"))
}

fn parsed(body: &str) -> Result<Value> {
    serde_json::from_str(body).map_err(|_| {
        let why = machinery::gojson::syntax_error(body.as_bytes()).unwrap_or_default();
        Error::message(format!("unable to parse {body:?}: {why}"))
    })
}

/// Patches what is in files, and no server.
async fn local(args: &PatchArgs, body: &str, kind: &str) -> Result<()> {
    let patch = parsed(body)?;
    let mut reporter = args.change.local_reporter()?;
    for info in select::local_files(&args.targets.files).await? {
        let after = locally(&info.object, &patch, kind)?;
        reporter.done(&info, &after, if after == info.object { "patched (no change)" } else { "patched" })?;
    }
    Ok(())
}

/// What a patch makes of an object, as far as it can be told here.
pub fn locally(object: &Value, patch: &Value, kind: &str) -> Result<Value> {
    let mut after = object.clone();
    match kind {
        MERGE_PATCH => machinery::patch::merge::apply(&mut after, patch),
        JSON_PATCH => machinery::patch::json::apply(&mut after, patch).map_err(|error| Error::message(error.to_string()))?,
        _ => {
            let gvk = machinery::gvk::Gvk::of(object);
            let ty = gvk.as_ref().and_then(|gvk| schema::builtin().type_of(&gvk.group, &gvk.version, &gvk.kind));
            let ty = ty.ok_or_else(|| {
                Error::message("strategic merge patch is not supported for this kind locally, try --type merge")
            })?;
            after = machinery::patch::strategic::apply(object, patch, ty).map_err(|error| Error::message(error.to_string()))?;
        }
    }
    Ok(after)
}
