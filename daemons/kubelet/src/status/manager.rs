//! Statuses on their way to the API: the newest of each pod is kept, and written when it differs from what the API has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::Kind as _;
use api::core::{Pod, PodStatus};
use client::{Patch, PatchParams};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::agent::{Agent, Api};
use crate::pod::spec;

#[derive(Clone)]
struct Wanted {
    pod: Arc<Pod>,
    status: PodStatus,
    dirty: bool,
}

#[derive(Default)]
pub struct Statuses {
    wanted: Mutex<BTreeMap<String, Wanted>>,
    changed: Notify,
}

impl Statuses {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Wanted>> {
        self.wanted.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The newest status of a pod.
    pub fn set(&self, pod: &Arc<Pod>, status: PodStatus) {
        let mut wanted = self.lock();
        match wanted.get_mut(pod.uid()) {
            Some(w) if w.status == status => w.pod = pod.clone(),
            _ => {
                wanted.insert(pod.uid().to_owned(), Wanted { pod: pod.clone(), status, dirty: true });
                drop(wanted);
                self.changed.notify_one();
            }
        }
    }

    /// What the API has of a pod may not be what was written.
    pub fn check_again(&self, uid: &str) {
        if let Some(w) = self.lock().get_mut(uid) {
            w.dirty = true;
            self.changed.notify_one();
        }
    }

    pub fn check_all(&self) {
        self.lock().values_mut().for_each(|w| w.dirty = true);
        self.changed.notify_one();
    }

    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// All that was told has been written.
    pub fn is_written(&self, uid: &str) -> bool {
        self.lock().get(uid).is_none_or(|w| !w.dirty)
    }

    fn take_dirty(&self) -> Vec<(String, Wanted)> {
        let mut wanted = self.lock();
        let dirty = wanted.iter_mut().filter(|(_, w)| w.dirty);
        dirty
            .map(|(uid, w)| {
                w.dirty = false;
                (uid.clone(), w.clone())
            })
            .collect()
    }
}

/// Writes statuses for as long as the kubelet runs.
pub async fn run(agent: Arc<Agent>) {
    const PARALLEL: usize = 8;
    const RETRY: Duration = Duration::from_secs(2);
    loop {
        let dirty = agent.statuses.take_dirty();
        let Some(api) = agent.api() else {
            dirty.iter().for_each(|(uid, _)| agent.statuses.check_again(uid));
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let mut failed = false;
        let mut writes = futures::stream::iter(dirty)
            .map(|(uid, wanted)| {
                let api = &api;
                async move { (uid, write(api, &wanted).await) }
            })
            .buffer_unordered(PARALLEL);
        while let Some((uid, result)) = writes.next().await {
            match result {
                Ok(()) => agent.wake(&uid),
                Err(error) => {
                    tracing::debug!(uid, "writing a status: {}", daemon::chain(&error));
                    agent.statuses.check_again(&uid);
                    failed = true;
                }
            }
        }
        drop(writes);
        if failed {
            tokio::time::sleep(RETRY).await;
        } else {
            agent.statuses.changed.notified().await;
        }
    }
}

async fn write(api: &Api, wanted: &Wanted) -> Result<(), client::Error> {
    let pod = &wanted.pod;
    let Some(current) = api.pods.get(pod.namespace(), pod.name()) else {
        // A static pod whose mirror is not there yet, or a pod that is gone: the informer tells when that changes.
        return Ok(());
    };
    let current = current.parse()?;
    if !is_of(pod, &current) {
        return Ok(());
    }
    let Some(patch) = patch(&current, &wanted.status) else { return Ok(()) };
    match api.client.patch::<Pod>(pod.namespace(), pod.name(), &Patch::Strategic(patch), &PatchParams::status()).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}

/// The API's object is this pod, or the mirror of it.
fn is_of(pod: &Pod, current: &Pod) -> bool {
    if spec::is_static(pod) {
        spec::annotation(current, spec::CONFIG_MIRROR) == spec::annotation(pod, spec::CONFIG_HASH)
    } else {
        pod.uid() == current.uid()
    }
}

/// The strategic merge patch that makes the API's status the wanted one; `None` when it is already.
///
/// Conditions of others stay: the list is merged by type. Lists that are merged by a key which is their whole content are
/// replaced.
fn patch(current: &Pod, wanted: &PodStatus) -> Option<Value> {
    let now = serde_json::to_value(current.status.clone().unwrap_or_default()).unwrap_or_default();
    let mut next = serde_json::to_value(wanted).unwrap_or_default();
    let generation = current.meta().generation;
    if next.get("observedGeneration").is_none()
        && let Some(generation) = generation
    {
        // A mirror pod has a generation though its file has none.
        next["observedGeneration"] = generation.into();
    }
    let mut status = serde_json::Map::new();
    const OWNED: [&str; 14] = [
        "observedGeneration",
        "phase",
        "reason",
        "message",
        "hostIP",
        "hostIPs",
        "podIP",
        "podIPs",
        "startTime",
        "qosClass",
        "conditions",
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    for field in OWNED {
        let (old, new) = (now.get(field).cloned().unwrap_or(Value::Null), next.get(field).cloned().unwrap_or(Value::Null));
        // A class that was set is not changed any more.
        if field == "qosClass" && !old.is_null() {
            continue;
        }
        match field {
            "conditions" => {
                let changed = changed_conditions(&old, &new);
                if !changed.is_empty() {
                    status.insert(field.to_owned(), changed.into());
                }
            }
            "podIPs" | "hostIPs" if old != new => {
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(new.as_array().cloned().unwrap_or_default());
                status.insert(field.to_owned(), list.into());
            }
            _ if old != new => {
                status.insert(field.to_owned(), new);
            }
            _ => {}
        }
    }
    if status.is_empty() {
        return None;
    }
    Some(json!({"metadata": {"uid": current.uid()}, "status": status}))
}

/// The conditions that differ. A time of transition counts only when the status changed with it.
fn changed_conditions(old: &Value, new: &Value) -> Vec<Value> {
    let of = |list: &Value, kind: &Value| list.as_array().into_iter().flatten().find(|c| c["type"] == *kind).cloned();
    let mut changed = Vec::new();
    for condition in new.as_array().into_iter().flatten() {
        let mut condition = condition.clone();
        let before = of(old, &condition["type"]);
        if let Some(before) = &before {
            if before["status"] == condition["status"] && !before["lastTransitionTime"].is_null() {
                condition["lastTransitionTime"] = before["lastTransitionTime"].clone();
            }
            // The scheduler's condition carries what is its own.
            if condition["type"] == "PodScheduled" && before["status"] == "True" {
                continue;
            }
            for field in ["reason", "message"] {
                // Without the field a merge would keep the old one.
                if condition.get(field).is_none() && before.get(field).is_some_and(|v| !v.is_null()) {
                    condition[field] = Value::Null;
                }
            }
            let differs = ["status", "reason", "message", "lastTransitionTime", "observedGeneration"]
                .iter()
                .any(|f| before.get(*f).filter(|v| !v.is_null()) != condition.get(*f).filter(|v| !v.is_null()));
            if !differs {
                continue;
            }
        }
        changed.push(condition);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value) -> Pod {
        Pod::decode_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status})).unwrap()
    }

    fn patched(current: Value, wanted: Value) -> Option<Value> {
        let wanted: PodStatus = serde_json::from_value(wanted).unwrap();
        patch(&pod(current), &wanted).map(|p| p["status"].clone())
    }

    #[test]
    fn only_differences_are_sent() {
        let condition = |status: &str, time: &str| json!([{"type": "Ready", "status": status, "lastTransitionTime": time}]);
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let status = |s: &str, t: &str| json!({"phase": "Running", "conditions": condition(s, t), "podIPs": [{"ip": "1.1.1.1"}]});
        assert_eq!(patched(status("True", early), status("True", early)), None);
        assert_eq!(patched(status("True", early), status("True", late)), None);
        assert_eq!(patched(status("True", early), status("False", late)).unwrap()["conditions"], condition("False", late));
        let mut moved = status("True", early);
        moved["podIPs"][0]["ip"] = "2.2.2.2".into();
        assert_eq!(patched(status("True", early), moved).unwrap(), json!({"podIPs": [{"$patch": "replace"}, {"ip": "2.2.2.2"}]}));
    }

    #[test]
    fn what_others_wrote_stays() {
        let current =
            json!({"phase": "Running", "qosClass": "Burstable", "conditions": [{"type": "example.com/gate", "status": "True"}]});
        assert_eq!(patched(current, json!({"phase": "Running", "qosClass": "BestEffort", "conditions": []})), None);
    }

    #[test]
    fn a_reason_that_is_gone_is_removed() {
        let current = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "R", "message": "m"}]});
        let p = patched(current, json!({"conditions": [{"type": "Ready", "status": "True"}]})).unwrap();
        assert_eq!(p["conditions"][0]["reason"], Value::Null);
        assert!(p["conditions"][0].as_object().unwrap().contains_key("reason"));
    }
}
