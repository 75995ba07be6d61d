//! What may change in a pod, its ephemeral containers and its status.

use std::collections::BTreeSet;

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::spec;
use crate::kinds::value::{has, int, items, number, restore, text};

/// Of a pod's spec only images, tolerations (more of them), deadlines (shorter ones) and gates (fewer) may change.
pub(in crate::kinds) fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    for list in ["containers", "initContainers"] {
        let (before, after) = (items(&old["spec"], &format!("/{list}")), items(&new["spec"], &format!("/{list}")));
        if before.len() != after.len() {
            errors.forbidden(&path.child(list), "pod updates may not add or remove containers");
            return;
        }
    }
    let deadline = path.child("activeDeadlineSeconds");
    match (number(new, "/spec/activeDeadlineSeconds"), number(old, "/spec/activeDeadlineSeconds")) {
        (Some(after), Some(before)) if after > before => {
            errors.invalid(&deadline, after, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            errors.invalid(&deadline, Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
    let kept = items(new, "/spec/tolerations");
    if items(old, "/spec/tolerations").iter().any(|toleration| !kept.contains(toleration)) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        let modified = items(old, "/spec/tolerations").iter().any(|before| {
            !kept
                .iter()
                .any(|after| ["key", "operator", "value", "effect"].iter().all(|field| before.get(field) == after.get(field)))
        });
        if modified {
            errors.forbidden(&path.child("tolerations"), detail);
        }
    }
    let before = texts_of(items(old, "/spec/schedulingGates"));
    for (index, gate) in items(new, "/spec/schedulingGates").iter().enumerate() {
        if !before.contains(text(gate, "/name")) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, "/name"));
            errors.forbidden(&path.child("schedulingGates").index(index), detail);
        }
    }
    let mut masked = new["spec"].clone();
    for list in ["containers", "initContainers"] {
        let before = items(&old["spec"], &format!("/{list}")).to_vec();
        for (container, old) in crate::kinds::value::items_mut(&mut masked, &format!("/{list}")).zip(&before) {
            restore(container, old, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(&mut masked, &old["spec"], field);
    }
    if int(old, "/spec/terminationGracePeriodSeconds") < 0 && int(&masked, "/terminationGracePeriodSeconds") == 1 {
        restore(&mut masked, &old["spec"], "terminationGracePeriodSeconds");
    }
    if !items(old, "/spec/schedulingGates").is_empty() {
        // A gated pod may still be told where to go, if that narrows the choice.
        let before = &old["spec"]["nodeSelector"];
        let narrowed =
            crate::kinds::value::entries(before, "").all(|(key, value)| masked["nodeSelector"].get(key) == Some(value));
        if !narrowed {
            let detail = "field is immutable when `podIsGated`: only additions are allowed";
            errors.invalid(&path.child("nodeSelector"), masked["nodeSelector"].clone(), detail);
        }
        restore(&mut masked, &old["spec"], "nodeSelector");
        restore(&mut masked, &old["spec"], "affinity");
    }
    if masked != old["spec"] {
        let changed = machinery::linediff::of_values(&old["spec"], &masked);
        errors.forbidden(
            &path,
            format!(
                "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                 `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                 `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n{changed}"
            ),
        );
    }
}

pub(super) fn texts_of(gates: &[Value]) -> BTreeSet<&str> {
    gates.iter().map(|gate| text(gate, "/name")).collect()
}

/// Ephemeral containers are added and never changed or removed.
pub(in crate::kinds) fn ephemeral_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec").child("ephemeralContainers");
    spec(&new["spec"], &Path::new("spec"), errors);
    let after = items(new, "/spec/ephemeralContainers");
    for before in items(old, "/spec/ephemeralContainers") {
        let name = text(before, "/name");
        match after.iter().find(|container| text(container, "/name") == name) {
            None => errors.forbidden(&path, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(container) if container != before => {
                errors.forbidden(&path, format!("existing ephemeral containers {name:?} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
}

/// What a kubelet may not do to a pod's status.
pub(in crate::kinds) fn status_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let status = Path::new("status");
    let (before, after) = (text(old, "/status/qosClass"), text(new, "/status/qosClass"));
    if !before.is_empty() && before != after {
        errors.invalid(&status.child("qosClass"), after, "field is immutable");
    }
    let nominated = text(new, "/status/nominatedNodeName");
    if !nominated.is_empty() {
        errors.invalid_each(&status.child("nominatedNodeName"), nominated, names::dns1123_subdomain(nominated));
    }
    // A container that is done for good stays done.
    let policy = text(new, "/spec/restartPolicy");
    if policy == "Always" {
        return;
    }
    for (list, field) in [("/status/containerStatuses", "containerStatuses")] {
        for (index, before) in items(old, list).iter().enumerate() {
            let Some(ended) = before.pointer("/state/terminated") else { continue };
            if policy == "OnFailure" && int(ended, "/exitCode") != 0 {
                continue;
            }
            let after = items(new, list).iter().find(|status| text(status, "/name") == text(before, "/name"));
            if after.is_some_and(|status| !has(status, "/state/terminated")) {
                errors.forbidden(
                    &status.child(field).index(index).child("state"),
                    "may not be transitioned to non-terminated state",
                );
            }
        }
    }
}
