//! `kctl apply`: makes the cluster as the files say.
//!
//! It is server-side apply throughout: the server keeps who set which field, so a field that leaves the files leaves the
//! object, and what others set stays. Without `--server-side` the files win over others, as with kubectl's own apply.

use clap::{Args, Subcommand};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::{applyset::ApplySet, create::ValidateFlag};
use crate::{
    kube::{
        Error, Files, Info, Request, Result, Session, select,
        session::{APPLY_PATCH, JSON_PATCH},
    },
    output::{
        OutputFlags,
        format::{DryRun, DryRunFlag, Reporter},
    },
};

pub const MANAGER: &str = "kctl";
/// What kubectl's client-side apply writes: its fields become ours.
const CLIENT_SIDE_MANAGER: &str = "kubectl-client-side-apply";
const CONCURRENT: usize = 8;

/// Applies files: creates what is missing and changes what is different
///
///   kctl apply -f app.yaml              kctl apply -f dir/ -R
///   kctl apply -f https://example.com/app.yaml
///   kctl apply -f dir/ --prune --applyset=app     deletes what left the files
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ApplyArgs {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    how: How,
    /// Delete objects of the set that are no longer in the files
    #[arg(long, requires = "applyset")]
    prune: bool,
    /// The set: [TYPE/]NAME of the object that keeps it (a secret by default)
    #[arg(long, value_name = "[TYPE/]NAME")]
    applyset: Option<String>,
    /// Apply to a subresource
    #[arg(long)]
    subresource: Option<String>,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    dry_run: DryRunFlag,
    #[command(flatten)]
    validate: ValidateFlag,
}

#[derive(Subcommand, Clone, Debug)]
enum Other {
    /// Not needed: the server keeps what was applied (kctl get TYPE NAME -o yaml --show-managed-fields)
    #[command(hide = true)]
    ViewLastApplied,
}

/// Which objects are applied, and what happens when others manage their fields.
#[derive(Args, Clone, Debug)]
pub struct How {
    /// Fields that others manage are conflicts
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", hide_default_value = true)]
    pub server_side: bool,
    /// With --server-side: take over fields that others manage
    #[arg(long)]
    pub force_conflicts: bool,
    /// In whose name fields are managed
    #[arg(long, default_value = MANAGER)]
    pub field_manager: String,
    /// Only objects of the files with these labels
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
}

impl How {
    pub fn check(&self) -> Result<()> {
        if self.force_conflicts && !self.server_side {
            return Err(Error::message("--force-conflicts only works with --server-side"));
        }
        Ok(())
    }

    /// The objects of the files that the selector takes.
    pub async fn infos(&self, files: &Files, session: &Session) -> Result<Vec<Info>> {
        let mut infos = select::from_files(session, files).await?;
        if let Some(selector) = &self.selector {
            let selector =
                machinery::selector::LabelSelector::parse(selector).map_err(|error| Error::message(error.to_string()))?;
            infos.retain(|info| selector.matches_object(&info.object));
        }
        Ok(infos)
    }

    /// The request that applies an object.
    pub fn request(&self, path: String, info: &Info) -> Request {
        let mut object = info.object.clone();
        // A file that was fetched from a cluster says whose it was; that is not applied.
        machinery::meta::metadata_mut(&mut object).remove("managedFields");
        Request::patch(path, APPLY_PATCH, &object)
            .query("fieldManager", &self.field_manager)
            .query("force", !self.server_side || self.force_conflicts)
    }
}

pub async fn run(args: ApplyArgs, session: &Session) -> Result<()> {
    if args.other.is_some() {
        return Err(Error::message(
            "there is no last-applied annotation with server-side apply: see `kctl get TYPE NAME -o yaml --show-managed-fields`",
        ));
    }
    if args.files.is_empty() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    let dry_run = args.dry_run.dry_run;
    if args.how.server_side && dry_run == DryRun::Client {
        return Err(Error::message("--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)"));
    }
    args.how.check()?;
    let mut infos = args.how.infos(&args.files, session).await?;
    if infos.is_empty() {
        return Err(Error::message("no objects passed to apply"));
    }
    let mut set = match &args.applyset {
        Some(name) => Some(ApplySet::new(session, name, dry_run).await?),
        None => None,
    };
    if let Some(set) = &mut set {
        set.adopt(session, &mut infos).await?;
    }
    let mut reporter = Reporter::new(&args.output, dry_run)?;
    let before: Vec<_> = stream::iter(&infos).map(|info| current(session, info)).buffered(CONCURRENT).collect().await;
    let mut errors = Vec::new();
    for (info, before) in infos.iter().zip(before) {
        let outcome = match before {
            Ok(before) => one(&args, session, info, before, &mut reporter).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(after) => set.iter_mut().for_each(|set| set.keep(machinery::meta::uid(&after))),
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)?;
    match set {
        Some(set) if args.prune => set.prune(session).await,
        _ => Ok(()),
    }
}

/// The object as it is now, if it is.
async fn current(session: &Session, info: &Info) -> Result<Option<Value>> {
    if info.name.is_empty() {
        let generated = machinery::meta::generate_name(&info.object);
        return Err(Error::message(if generated.is_empty() {
            format!("error when applying {:?}: resource name may not be empty", info.source.as_deref().unwrap_or_default())
        } else {
            format!("from {generated}: cannot use generate name with apply")
        }));
    }
    match session.json(Request::get(info.path())).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(info.during(error, "retrieving current configuration of")),
    }
}

async fn one(args: &ApplyArgs, session: &Session, info: &Info, before: Option<Value>, reporter: &mut Reporter) -> Result<Value> {
    let dry_run = args.dry_run.dry_run;
    if dry_run == DryRun::Client {
        reporter.done(info, before.as_ref().unwrap_or(&info.object), if before.is_some() { "configured" } else { "created" })?;
        return Ok(before.unwrap_or_else(|| info.object.clone()));
    }
    let mut after = send(args, session, info).await.map_err(|error| refused(info, error))?;
    if dry_run == DryRun::No
        && let Some(upgrade) = upgrade(&after, &args.how.field_manager)
    {
        match session.json(Request::patch(info.path(), JSON_PATCH, &upgrade).query("fieldManager", &args.how.field_manager)).await
        {
            // Fields that left the files can go only now that they are ours.
            Ok(_) => after = send(args, session, info).await.map_err(|error| refused(info, error))?,
            Err(error) => eprintln!("Warning: {} keeps fields of a client-side apply: {}", info.label(), error.text()),
        }
    }
    if let Some(time) = machinery::meta::deletion_timestamp(&after) {
        eprintln!("Warning: Detected changes to resource {} which is currently being deleted (since {time}).", info.name);
    }
    let same = |before: &Value| {
        if dry_run == DryRun::Server {
            without_history(before) == without_history(&after)
        } else {
            before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        }
    };
    let what = match &before {
        _ if args.how.server_side => "serverside-applied",
        None => "created",
        Some(before) if same(before) => "unchanged",
        Some(_) => "configured",
    };
    reporter.done(info, &after, what)?;
    Ok(after)
}

/// A tried change differs in who did it and when, always.
fn without_history(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
        metadata.remove("generation");
    }
    object
}

async fn send(args: &ApplyArgs, session: &Session, info: &Info) -> Result<Value> {
    let mut path = info.path();
    if let Some(subresource) = &args.subresource {
        path += &format!("/{subresource}");
    }
    let request = args
        .how
        .request(path, info)
        .query("fieldValidation", args.validate.validate.parameter())
        .query_some("dryRun", args.dry_run.dry_run.parameter());
    session.json(request).await
}

fn refused(info: &Info, error: Error) -> Error {
    let Error::Status(status) = &error else { return error };
    if status.code() == 409 {
        let conflict = &status.message;
        return Error::message(format!(
            "{conflict}\n\
             Please review the fields above--they currently have other managers. Here\n\
             are the ways you can resolve this warning:\n\
             * If you intend to manage all of these fields, please re-run the apply\n  command with the `--force-conflicts` flag.\n\
             * If you do not intend to manage all of the fields, please edit your\n  manifest to remove references to the fields that should keep their\n  current managers.\n\
             * You may co-own fields by updating your manifest to match the existing\n  value; in this case, you'll become the manager if the other manager(s)\n  stop managing the field (remove it from their configuration).\n\
             See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"
        ));
    }
    info.during(error, "applying")
}

/// The patch that gives the fields of kubectl's client-side apply to `manager`; `None` when there are none.
fn upgrade(object: &Value, manager: &str) -> Option<Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let of_client = |entry: &Value| {
        entry["manager"] == CLIENT_SIDE_MANAGER && entry["operation"] == "Update" && entry["subresource"].is_null()
    };
    if !entries.iter().any(of_client) {
        return None;
    }
    let mut kept: Vec<Value> = entries.iter().filter(|entry| !of_client(entry)).cloned().collect();
    let ours = kept
        .iter_mut()
        .find(|entry| entry["manager"] == manager && entry["operation"] == "Apply" && entry["subresource"].is_null())?;
    for entry in entries.iter().filter(|entry| of_client(entry)) {
        union(&mut ours["fieldsV1"], &entry["fieldsV1"]);
    }
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": object["metadata"]["resourceVersion"]},
    ]))
}

/// Field sets are trees of objects: their union is the union of the trees.
fn union(into: &mut Value, from: &Value) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else { return };
    for (key, value) in from {
        match into.get_mut(key) {
            Some(own) => union(own, value),
            None => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_over_client_side_fields() {
        let entry = |manager: &str, operation: &str, fields: Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
        let object = |entries: Value| json!({"metadata": {"resourceVersion": "7", "managedFields": entries}});
        let ours = entry("kctl", "Apply", json!({"f:data": {"f:a": {}}}));
        let theirs = entry(CLIENT_SIDE_MANAGER, "Update", json!({"f:data": {".": {}, "f:b": {}}}));
        let other = entry("x", "Update", json!({}));
        assert_eq!(upgrade(&object(json!([ours, other])), "kctl"), None);
        let patch = upgrade(&object(json!([ours, theirs, other])), "kctl").unwrap();
        let merged = entry("kctl", "Apply", json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}));
        assert_eq!(patch[0]["value"], json!([merged, other]));
        assert_eq!(patch[1]["value"], "7");
    }
}
