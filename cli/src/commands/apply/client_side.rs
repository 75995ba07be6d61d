//! Client-side apply: reads the object, computes the difference here, and sends it as a patch.

use std::time::Duration;

use machinery::{apply::LAST_APPLIED, meta, status::Reason};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    ApplyArgs, configuration,
    three_way::{self, Patch},
};
use crate::{
    commands::wait,
    kube::{Error, Info, Request, Result, Session},
    output::format::DryRun,
};

/// In whose name the fields of a client-side apply are kept, kubectl's and ours.
pub const MANAGER: &str = "kubectl-client-side-apply";
/// Patches of one object while others change it.
const TRIES_MAX: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a deleted object may take to be gone when no --timeout is given.
const GONE_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Creates the object or makes it what the file says: the object then, and what was done to it.
pub async fn apply(args: &ApplyArgs, session: &Session, info: &Info) -> Result<(Value, &'static str)> {
    let modified = configuration::annotated(&info.object);
    let dry_run = args.write.dry_run();
    let current = match session.json(Request::get(info.path())).await {
        Ok(current) => current,
        Err(error) if error.is_not_found() => {
            let mut object = modified;
            configuration::drop_nulls(&mut object);
            if dry_run != DryRun::Client {
                object = create(args, session, info, object).await.map_err(|error| info.during(error, "creating"))?;
            }
            return Ok((object, "created"));
        }
        Err(error) => {
            return Err(info.during(error, &format!("retrieving current configuration of:\n{}\nfrom server for:", about(info))));
        }
    };
    if meta::annotation(&current, LAST_APPLIED).is_none() {
        eprintln!("{}", annotation_missing(info));
    }
    let (patch, after) = if dry_run == DryRun::Client {
        let patch = compute(args, &modified, &current).map_err(|error| refused(info, None, error))?;
        let after = patch.apply(&current).map_err(|error| Error::message(format!("applying patch locally: {error}")))?;
        (patch, after)
    } else {
        patched(args, session, info, &modified, current).await?
    };
    super::warn_if_deleting(info, &after);
    Ok((after, if patch.is_empty() { "unchanged" } else { "configured" }))
}

/// Patches until nobody else is faster; replaces the object when that is allowed and needed.
async fn patched(args: &ApplyArgs, session: &Session, info: &Info, modified: &Value, current: Value) -> Result<(Patch, Value)> {
    let mut current = current;
    let mut tries = 0;
    loop {
        let patch = compute(args, modified, &current).map_err(|error| refused(info, None, info.during(error, "patching")))?;
        let error = match send(args, session, info, &patch, &current).await {
            Ok(after) => return Ok((patch, after)),
            Err(error) => error,
        };
        tries += 1;
        if error.is(Reason::Conflict) && tries <= TRIES_MAX {
            if tries > 1 {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            current = session.json(Request::get(info.path())).await?;
            continue;
        }
        if args.removal.force && (error.is(Reason::Conflict) || error.is(Reason::Invalid)) {
            let after = replace(args, session, info, modified, &current).await?;
            return Ok((patch, after));
        }
        return Err(refused(info, Some(&patch.body), info.during(error, "patching")));
    }
}

fn compute(args: &ApplyArgs, modified: &Value, current: &Value) -> Result<Patch> {
    let patch = three_way::patch(modified, current).and_then(|patch| {
        if !args.overwrite {
            three_way::keep_changes(&patch, current)?;
        }
        Ok(patch)
    });
    patch.map_err(|error| {
        let text = machinery::gotext::json;
        let original = meta::annotation(current, LAST_APPLIED).unwrap_or_default();
        let (modified, current) = (text(modified), text(current));
        Error::message(format!(
            "creating patch with:\noriginal:\n{original}\nmodified:\n{modified}\n\ncurrent:\n{current}\n\nfor: {error}"
        ))
    })
}

async fn send(args: &ApplyArgs, session: &Session, info: &Info, patch: &Patch, current: &Value) -> Result<Value> {
    if patch.is_empty() {
        return Ok(current.clone());
    }
    session.json(args.named(Request::patch(info.path(), patch.kind, &patch.body), MANAGER)).await
}

async fn create(args: &ApplyArgs, session: &Session, info: &Info, mut object: Value) -> Result<Value> {
    meta::metadata_mut(&mut object).remove("resourceVersion");
    session.json(args.named(Request::post(info.resource.path(&info.namespace, None), &object), MANAGER)).await
}

/// Deletes the object and creates it anew, or puts it back when that is refused.
async fn replace(args: &ApplyArgs, session: &Session, info: &Info, modified: &Value, original: &Value) -> Result<Value> {
    session.json(Request::delete(info.path(), &args.removal.options())).await?;
    let within = if args.removal.timeout.is_zero() { GONE_WITHIN } else { args.removal.timeout };
    wait::gone(session, info, None, Instant::now() + within).await?;
    let error = match create(args, session, info, modified.clone()).await {
        Ok(created) => return Ok(created),
        Err(error) => error,
    };
    match create(args, session, info, original.clone()).await {
        Ok(_) => Err(error),
        Err(second) => Err(Error::message(format!(
            "An error occurred force-replacing the existing object with the newly provided one:\n\n{}.\n\n\
             Additionally, an error occurred attempting to restore the original object:\n\n{}",
            error.bare(),
            second.bare()
        ))),
    }
}

/// Says what was tried on which object.
fn refused(info: &Info, patch: Option<&Value>, error: Error) -> Error {
    let patch = patch.map(machinery::gotext::json).unwrap_or_default();
    info.during(error, &format!("applying patch:\n{patch}\nto:\n{}\nfor:", about(info)))
}

fn about(info: &Info) -> String {
    let resource = &info.resource;
    format!(
        "Resource: \"{group}, Resource={}\", GroupVersionKind: \"{group}, Kind={}\"\nName: {:?}, Namespace: {:?}",
        resource.plural,
        resource.kind,
        info.name,
        info.namespace,
        group = resource.api_version_of_group(),
    )
}

fn annotation_missing(info: &Info) -> String {
    format!(
        "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by kctl apply. kctl apply should only be \
         used on resources created declaratively by either kctl create --save-config or kctl apply. The missing annotation will \
         be patched automatically.",
        info.resource.plural, info.name
    )
}
