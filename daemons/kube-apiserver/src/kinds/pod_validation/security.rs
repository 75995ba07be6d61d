//! Security contexts of pods and containers.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::sysctls::sysctls;
use crate::kinds::validate::{one_of, required_one_of};
use crate::kinds::value::{items, number, text, texts, truth};

pub(super) fn container_security(container: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(context) = container.get("securityContext").filter(|context| !context.is_null()) else { return };
    let path = path.child("securityContext");
    user_ids(context, &["runAsUser", "runAsGroup"], &path, errors);
    if context.get("allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if truth(context, "/privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(&path, context.clone(), detail);
        }
        if texts(context, "/capabilities/add").contains(&"CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(&path, context.clone(), detail);
        }
    }
    seccomp(context, &path, errors);
}

pub(super) fn security_context(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(context) = spec.get("securityContext") else { return };
    sysctls(spec, path, errors);
    let path = path.child("securityContext");
    user_ids(context, &["fsGroup", "runAsUser", "runAsGroup"], &path, errors);
    for (index, group) in items(context, "/supplementalGroups").iter().filter_map(Value::as_i64).enumerate() {
        for message in names::user_id(group) {
            errors.invalid(&path.child("supplementalGroups").index(index), group, message);
        }
    }
    one_of(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], &path, errors);
    seccomp(context, &path, errors);
}

pub(super) fn user_ids(context: &Value, fields: &[&str], path: &Path, errors: &mut FieldErrors) {
    for field in fields {
        if let Some(id) = number(context, &format!("/{field}")) {
            for message in names::user_id(id) {
                errors.invalid(&path.child(field), id, message);
            }
        }
    }
}

pub(super) fn seccomp(context: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(profile) = context.get("seccompProfile").filter(|profile| !profile.is_null()) else { return };
    let path = path.child("seccompProfile");
    required_one_of(profile, "type", &["Localhost", "RuntimeDefault", "Unconfined"], &path, errors);
    let local = text(profile, "/localhostProfile");
    match (text(profile, "/type") == "Localhost", local.is_empty()) {
        (true, true) => errors.required(&path.child("localhostProfile"), "must be set when seccomp type is Localhost "),
        (false, false) => {
            errors.invalid(&path, profile.clone(), "can only be set when seccomp type is Localhost");
        }
        _ => {}
    }
}
