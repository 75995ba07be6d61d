//! Delete: at once, or by marking the object and waiting for whoever must act first.

use ::store::{Entry, StoreError};
use jiff::{SignedDuration, Timestamp};
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::options::{DeleteOptions, Propagation};
use super::{Context, Registry, Served, metadata, traits};
use crate::admission::{Operation, Request};

const ATTEMPTS_MAX: usize = 8;
const POD_GRACE_SECONDS: i64 = 30;

/// What a deletion led to.
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Value),
    /// The object is marked (or was already) and waits.
    Pending(Value),
}

/// What to do with an object that is to be deleted.
#[derive(Debug, PartialEq)]
enum Plan {
    Remove,
    /// Store this marked object instead.
    Mark(Value),
    /// It is marked already.
    Wait,
}

impl Registry {
    pub async fn delete(
        &self,
        cx: &Context,
        served: &Served,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let mut snapshot = served.store.consistent().await?;
        let key = served.store.key(namespace, name);
        for _ in 0..ATTEMPTS_MAX {
            let Some(entry) = snapshot.get(&key).cloned() else { return Err(served.not_found(name)) };
            match self.try_delete(cx, served, namespace, name, options, &entry).await? {
                Some(deleted) => return Ok(deleted),
                None => snapshot = served.store.consistent().await?,
            }
        }
        Err(Status::modified(served.group_resource(), name))
    }

    /// None when someone else wrote in between.
    async fn try_delete(
        &self,
        cx: &Context,
        served: &Served,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
        entry: &Entry,
    ) -> Result<Option<Deleted>, Status> {
        let object = served.object(entry).await?;
        check_preconditions(served, &object, name, options)?;
        let dry_run = cx.options.dry_run || options.is_dry_run()?;
        let request = Request::new(cx, served, Operation::Delete, "", namespace, name).deleting(options, dry_run);
        self.admission.mutate(&request, &mut Value::Null, Some(&object)).await?;
        self.admission.validate(&request, &Value::Null, Some(&object)).await?;
        let plan = plan(served, &object, options, cx.now)?;
        let (result, mut after, gone) = match plan {
            Plan::Wait => return Ok(Some(Deleted::Pending(object))),
            Plan::Mark(marked) if dry_run => return Ok(Some(Deleted::Pending(marked))),
            Plan::Remove if dry_run => return Ok(Some(Deleted::Gone(object))),
            Plan::Mark(marked) => {
                let result = {
                    let stored = served.to_storage(&marked).await?;
                    served.store.update(namespace, name, &stored, entry.revision()).await
                };
                (result.map(|stored| stored.revision), marked, false)
            }
            Plan::Remove => (served.store.delete(namespace, name, entry.revision()).await, object, true),
        };
        match result {
            Ok(revision) => {
                if gone && meta::deletion_timestamp(&after).is_some() {
                    meta::metadata_mut(&mut after).insert("deletionGracePeriodSeconds".to_owned(), json!(0));
                }
                meta::metadata_mut(&mut after).insert("resourceVersion".to_owned(), revision.to_string().into());
                if !gone {
                    return Ok(Some(Deleted::Pending(after)));
                }
                self.hooks.after_delete(self, served, &after).await;
                Ok(Some(Deleted::Gone(after)))
            }
            Err(StoreError::Conflict { .. } | StoreError::NotFound) => Ok(None),
            Err(error) => Err(served.store.error(error, name)),
        }
    }
}

impl Deleted {
    /// What the client is told.
    pub fn answer(self, served: &Served) -> Value {
        match self {
            Self::Pending(object) => object,
            Self::Gone(object) if traits::returns_deleted(&served.group_resource()) => object,
            Self::Gone(object) => Status::deleted(served.group_resource(), meta::name(&object), meta::uid(&object)).to_value(),
        }
    }
}

fn check_preconditions(served: &Served, object: &Value, name: &str, options: &DeleteOptions) -> Result<(), Status> {
    let Some(preconditions) = &options.preconditions else { return Ok(()) };
    let current_uid = meta::uid(object);
    let current_version = meta::text(object, &["metadata", "resourceVersion"]);
    let why = if let Some(uid) = preconditions.uid.as_deref().filter(|uid| *uid != current_uid) {
        format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({current_uid}). The object might have been deleted and then recreated"
        )
    } else if let Some(version) = preconditions.resource_version.as_deref().filter(|version| *version != current_version) {
        format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({current_version}). The object might have been modified"
        )
    } else {
        return Ok(());
    };
    Err(Status::conflict((served.resource.group.as_str(), served.resource.kind.as_str()), name, why))
}

/// Decides. The three reasons to wait: finalizers, a grace period (pods), content (namespaces).
fn plan(served: &Served, object: &Value, options: &DeleteOptions, now: Timestamp) -> Result<Plan, Status> {
    let resource = served.group_resource();
    let mut marked = object.clone();
    let finalizers = finalizers_after(object, options.propagation()?);
    metadata::set_finalizers(&mut marked, &finalizers);
    let is_pod = resource.group.is_empty() && resource.resource == "pods";
    let grace = if is_pod { pod_grace(object, options) } else { 0 };
    let content = resource.group.is_empty()
        && resource.resource == "namespaces"
        && object["spec"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
    if content {
        meta::set_path(&mut marked, &["status", "phase"], json!("Terminating"));
    }
    let is_definition = resource.group == "apiextensions.k8s.io" && resource.resource == "customresourcedefinitions";
    if is_definition && meta::deletion_timestamp(object).is_none() {
        crate::custom::cleanup::begin(&mut marked, &machinery::time::format(now));
    }
    let waits = !metadata::finalizers(&marked).is_empty() || content;
    match meta::deletion_timestamp(object) {
        Some(_) if is_pod => shorten(&mut marked, object, options, now),
        Some(_) => {}
        None if grace > 0 || waits => mark(&mut marked, grace, now),
        None => {}
    }
    let pending_grace = is_pod && marked["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    Ok(match () {
        () if !waits && !pending_grace => Plan::Remove,
        () if marked == *object => Plan::Wait,
        () => Plan::Mark(marked),
    })
}

fn mark(object: &mut Value, grace: i64, now: Timestamp) {
    let generation = meta::generation(object);
    let at = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
    let metadata = meta::metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), json!(machinery::time::format(at)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    if generation > 0 {
        metadata.insert("generation".to_owned(), json!(generation + 1));
    }
}

/// A second deletion may only make the grace period shorter.
fn shorten(marked: &mut Value, object: &Value, options: &DeleteOptions, now: Timestamp) {
    let current = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let Some(asked) = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds }) else { return };
    if asked >= current {
        return;
    }
    let end = meta::deletion_timestamp(object).and_then(|text| text.parse::<Timestamp>().ok()).unwrap_or(now);
    let moved = end.checked_sub(SignedDuration::from_secs(current - asked)).unwrap_or(now);
    // A grace that is over already still leaves the kubelet its turn, unless the client asked for none.
    let (moved, asked) = if moved < now { (now, asked.min(1)) } else { (moved, asked) };
    let metadata = meta::metadata_mut(marked);
    metadata.insert("deletionTimestamp".to_owned(), json!(machinery::time::format(moved)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(asked));
}

fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if unscheduled || ended {
        return 0;
    }
    let asked = options.grace_period_seconds.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64());
    match asked.unwrap_or(POD_GRACE_SECONDS) {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

/// The finalizers that the propagation policy asks for, beside the object's own.
fn finalizers_after(object: &Value, propagation: Option<Propagation>) -> Vec<String> {
    let mut finalizers: Vec<String> = metadata::finalizers(object).into_iter().map(str::to_owned).collect();
    let Some(propagation) = propagation else { return finalizers };
    finalizers.retain(|finalizer| finalizer != metadata::ORPHAN && finalizer != metadata::FOREGROUND);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(metadata::FOREGROUND.to_owned()),
        Propagation::Orphan => finalizers.push(metadata::ORPHAN.to_owned()),
    }
    finalizers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods() {
        let pod = |spec: Value, phase: &str| json!({"spec": spec, "status": {"phase": phase}});
        let grace = |pod: &Value, asked: Option<i64>| {
            pod_grace(pod, &DeleteOptions { grace_period_seconds: asked, ..DeleteOptions::default() })
        };
        let running = pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 5}), "Running");
        assert_eq!(grace(&running, None), 5);
        assert_eq!(grace(&running, Some(0)), 0);
        assert_eq!(grace(&running, Some(-1)), 1);
        assert_eq!(grace(&pod(json!({"nodeName": "n"}), "Running"), None), 30);
        assert_eq!(grace(&pod(json!({}), "Pending"), None), 0);
        assert_eq!(grace(&pod(json!({"nodeName": "n"}), "Succeeded"), None), 0);
    }

    #[test]
    fn propagation_sets_finalizers() {
        let object = json!({"metadata": {"finalizers": ["orphan", "x/y"]}});
        assert_eq!(finalizers_after(&object, None), ["orphan", "x/y"]);
        assert_eq!(finalizers_after(&object, Some(Propagation::Background)), ["x/y"]);
        assert_eq!(finalizers_after(&object, Some(Propagation::Foreground)), ["x/y", "foregroundDeletion"]);
    }

    #[test]
    fn a_second_deletion_shortens() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let object = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}});
        let check = |asked: Option<i64>, at: &str, seconds: i64| {
            let mut marked = object.clone();
            let options = DeleteOptions { grace_period_seconds: asked, ..DeleteOptions::default() };
            shorten(&mut marked, &object, &options, now);
            assert_eq!(marked["metadata"], json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": seconds}));
        };
        check(None, "2026-01-01T00:00:30Z", 30);
        check(Some(60), "2026-01-01T00:00:30Z", 30);
        check(Some(10), "2026-01-01T00:00:10Z", 10);
        check(Some(0), "2026-01-01T00:00:00Z", 0);
    }
}
