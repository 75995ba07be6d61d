//! Pruning by label: deletes what was applied once with the labels and is no longer in the files.
//!
//! Alpha in kubectl, and followed by apply sets ([`super::set`]).

use std::collections::BTreeSet;

use machinery::{apply::LAST_APPLIED, meta};

use super::ApplyArgs;
use crate::{
    kube::{Error, Info, Request, Resource, Result, Session, select},
    output::format::{DryRun, Reporter},
};

/// Kinds that are pruned when none are named.
const KINDS: [&str; 16] = [
    "core/v1/ConfigMap",
    "core/v1/Endpoints",
    "core/v1/PersistentVolumeClaim",
    "core/v1/Pod",
    "core/v1/ReplicationController",
    "core/v1/Secret",
    "core/v1/Service",
    "batch/v1/Job",
    "batch/v1/CronJob",
    "networking.k8s.io/v1/Ingress",
    "apps/v1/DaemonSet",
    "apps/v1/Deployment",
    "apps/v1/ReplicaSet",
    "apps/v1/StatefulSet",
    "core/v1/Namespace",
    "core/v1/PersistentVolume",
];

/// What was applied: the rest of what has the labels goes.
#[derive(Debug, Default)]
pub struct Visited {
    pub namespaces: BTreeSet<String>,
    pub uids: BTreeSet<String>,
}

impl Visited {
    /// Takes note of an object of the files, and of what the server has of it.
    pub fn add(&mut self, info: &Info, live: Option<&serde_json::Value>) {
        if info.resource.namespaced {
            self.namespaces.insert(info.namespace.clone());
        }
        self.uids.extend(live.map(|live| meta::uid(live).to_owned()));
    }
}

/// The kinds that `--prune-allowlist` names.
pub async fn kinds(session: &Session, named: &[String]) -> Result<Vec<Resource>> {
    let mut kinds = Vec::new();
    let words: Vec<&str> = if named.is_empty() { KINDS.to_vec() } else { named.iter().map(String::as_str).collect() };
    for word in words {
        let (group, version, kind) = parse(word)?;
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let found = session.resource_of(&api_version, kind).await?;
        kinds.push(found.ok_or_else(|| Error::message(format!("no matches for kind {kind:?} in version {api_version:?}")))?);
    }
    // Objects of the cluster go last.
    kinds.sort_by_key(|kind: &Resource| !kind.namespaced);
    Ok(kinds)
}

/// `apps/v1/Deployment`; the core group is `core`.
fn parse(word: &str) -> Result<(&str, &str, &str)> {
    match word.split('/').collect::<Vec<_>>()[..] {
        [group, version, kind] => Ok((if group == "core" { "" } else { group }, version, kind)),
        _ => Err(Error::message(format!("invalid GroupVersionKind format: {word}, please follow <group/version/kind>"))),
    }
}

/// Deletes what is left over.
pub async fn prune(
    args: &ApplyArgs,
    session: &Session,
    kinds: &[Resource],
    visited: &Visited,
    reporter: &mut Reporter,
) -> Result<()> {
    let selector = args.how.selector.as_deref();
    let delete = async |info: Info| {
        remove(args, session, &info).await?;
        reporter.done(&info, &info.object, "pruned")
    };
    leftovers(session, kinds, selector, visited, delete).await
}

/// Shows what was applied once and is not among what was visited, one by one.
///
/// # Errors
/// When a list cannot be had, and the first error of `act`.
pub async fn leftovers(
    session: &Session,
    kinds: &[Resource],
    selector: Option<&str>,
    visited: &Visited,
    mut act: impl AsyncFnMut(Info) -> Result<()>,
) -> Result<()> {
    for kind in kinds {
        let namespaces: Vec<&str> =
            if kind.namespaced { visited.namespaces.iter().map(String::as_str).collect() } else { vec![""] };
        for namespace in namespaces {
            let scope = if kind.namespaced { "namespaced" } else { "nonNamespaced" };
            let about = format!("error pruning {scope} object {}, Kind={}", kind.api_version_of_group(), kind.kind);
            let list = Request::get(kind.path(namespace, None)).query_some("labelSelector", selector);
            let (found, _) = select::list(session, list).await.map_err(|error| error.during(&about))?;
            for object in found {
                let info = select::info(kind.clone(), object);
                if meta::annotation(&info.object, LAST_APPLIED).is_some() && !visited.uids.contains(meta::uid(&info.object)) {
                    act(info).await.map_err(|error| error.during(&about))?;
                }
            }
        }
    }
    Ok(())
}

async fn remove(args: &ApplyArgs, session: &Session, info: &Info) -> Result<()> {
    if args.write.dry_run() == DryRun::Client {
        return Ok(());
    }
    let request = Request::delete(info.path(), &args.removal.options());
    session.json(args.write.ask(request)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_in_full() {
        assert_eq!(parse("core/v1/ConfigMap").unwrap(), ("", "v1", "ConfigMap"));
        assert_eq!(parse("apps/v1/Deployment").unwrap(), ("apps", "v1", "Deployment"));
        assert!(parse("v1/Pod").is_err() && KINDS.iter().all(|kind| parse(kind).is_ok()));
    }
}
