//! The end of a definition: its objects go first, then the finalizer that held it.

use std::sync::Arc;
use std::time::Duration;

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::controller::set_status;
use super::definitions::{GROUP, PLURAL, is_builtin};
use super::naming;
use crate::lookup::Lookup;
use crate::registry::options::DeleteOptions;
use crate::registry::store::EntryExt;
use crate::registry::update::{Changed, Target};
use crate::registry::{Context, Served, metadata};
use crate::server::Server;

pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How long objects may take to go before the condition says so.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(5);

/// Whether a definition is going and still waits for its objects.
pub(super) fn is_due(definition: &Value) -> bool {
    meta::deletion_timestamp(definition).is_some() && metadata::finalizers(definition).contains(&FINALIZER)
}

/// Marks a definition that is to be deleted: called with the request, before the first mark is stored.
pub fn begin(definition: &mut Value, now: &str) {
    let mut finalizers: Vec<String> = metadata::finalizers(definition).into_iter().map(str::to_owned).collect();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    metadata::set_finalizers(definition, &finalizers);
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    naming::set_condition(definition, "Terminating", "True", "InstanceDeletionPending", message, now);
}

/// What the condition says at the end of an attempt.
struct Outcome {
    done: bool,
    reason: &'static str,
    message: String,
}

/// Removes the objects of a definition, and then the definition's finalizer. Tries until it is done or the definition is gone.
pub(super) async fn run(server: &Arc<Server>, name: &str) {
    loop {
        match attempt(server, name).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, name, "removing the objects of a definition"),
        }
        tokio::select! {
            () = server.shutdown.requested() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn attempt(server: &Arc<Server>, name: &str) -> Result<bool, Status> {
    let registry = &server.registry;
    let Some(definition) = registry.object(GROUP, PLURAL, "", name).filter(is_due) else { return Ok(true) };
    let now = || machinery::time::format((server.now)());
    let in_progress = now();
    let progress = move |object: &mut Value| {
        let message = "CustomResource deletion is in progress";
        naming::set_condition(object, "Terminating", "True", "InstanceDeletionInProgress", message, &in_progress);
    };
    set_status(registry, server, name, &progress, 0).await?;
    let outcome = end_objects(server, &definition).await;
    let (status, at) = (if outcome.done { "False" } else { "True" }, now());
    let report = |object: &mut Value| {
        naming::set_condition(object, "Terminating", status, outcome.reason, &outcome.message, &at);
    };
    if !outcome.done {
        set_status(registry, server, name, &report, 0).await?;
        return Ok(false);
    }
    release(server, name, &report).await?;
    Ok(true)
}

async fn end_objects(server: &Arc<Server>, definition: &Value) -> Outcome {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&definition["spec"]["group"]), text(&definition["spec"]["names"]["plural"]));
    if is_builtin(&group, &plural) {
        let message = "instances overlap with built-in resources in storage".to_owned();
        return Outcome { done: true, reason: "OverlappingBuiltInResource", message };
    }
    // In the version that is stored: a conversion webhook may be gone already.
    let any = || server.registry.all().into_iter().find(|any| any.resource.group == group && any.resource.plural == plural);
    let served = server.registry.stored(&group, &plural).or_else(any);
    let Some(served) = served.filter(|_| naming::is_true(definition, "Established")) else {
        return Outcome { done: true, reason: "NeverEstablished", message: "resource was never established".to_owned() };
    };
    if let Err(errors) = delete_all(server, &served).await {
        let message = format!("could not issue all deletes: {errors}");
        return Outcome { done: false, reason: "InstanceDeletionFailed", message };
    }
    match tokio::time::timeout(PATIENCE, until_empty(&served)).await {
        Ok(()) => Outcome { done: true, reason: "InstanceDeletionCompleted", message: "removed all instances".to_owned() },
        Err(_) => {
            let message = "could not confirm zero CustomResources remaining: timed out waiting for the condition".to_owned();
            Outcome { done: false, reason: "InstanceDeletionCheck", message }
        }
    }
}

/// Deletes every object as a client would: their finalizers count.
async fn delete_all(server: &Arc<Server>, served: &Served) -> Result<(), String> {
    let snapshot = served.store.consistent().await.map_err(|status| status.to_string())?;
    let cx = Context::server((server.now)());
    let mut errors = Vec::new();
    for entry in snapshot.scan(&served.store.prefix(""), None) {
        let Some(object) = entry.value() else { continue };
        let (namespace, name) = (meta::namespace(&object), meta::name(&object));
        match server.registry.delete(&cx, served, namespace, name, &DeleteOptions::default()).await {
            Ok(_) => {}
            Err(status) if status.code() == 404 => {}
            Err(status) => errors.push(status),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(machinery::field::aggregate(errors)) }
}

/// Waits for the last object to go.
async fn until_empty(served: &Served) {
    loop {
        let snapshot = served.store.cache.recent().await;
        if snapshot.is_empty() {
            return;
        }
        match served.store.cache.watch(snapshot.revision()).await {
            // Whatever happened, the state says whether it is over.
            Ok(mut watcher) => drop(watcher.next().await),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Takes the finalizer away; the definition goes with it unless others hold it.
async fn release(server: &Arc<Server>, name: &str, report: &(dyn Fn(&mut Value) + Send + Sync)) -> Result<(), Status> {
    set_status(&server.registry, server, name, report, 0).await?;
    let Some(served) = server.registry.stored(GROUP, PLURAL) else { return Ok(()) };
    let target = Target { served: &served, namespace: "", name, subresource: "" };
    let changed = |old: Option<&Value>| {
        let mut new = old.ok_or_else(|| served.not_found(name))?.clone();
        let left: Vec<String> =
            metadata::finalizers(&new).into_iter().filter(|finalizer| *finalizer != FINALIZER).map(str::to_owned).collect();
        metadata::set_finalizers(&mut new, &left);
        Ok(Changed::Object(new))
    };
    match server.registry.modify(&Context::server((server.now)()), target, &changed, false).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == 404 => Ok(()),
        Err(status) => Err(status),
    }
}
