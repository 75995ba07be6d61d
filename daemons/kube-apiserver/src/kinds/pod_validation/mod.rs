//! What can be wrong with pods and pod templates, by subject.

mod container;
mod environment;
mod handlers;
mod network;
mod scheduling;
mod security;
mod sysctls;
mod update;
mod volumes;

use std::collections::BTreeSet;

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use self::container::all_containers;
use self::network::{dns_config, host_aliases};
use self::scheduling::{affinity, topology_spread};
use self::security::security_context;
pub(in crate::kinds) use self::update::{ephemeral_update, status_update, update};
use crate::kinds::containers;
use crate::kinds::validate::{self, one_of, required_one_of};
use crate::kinds::value::{has, int, items, number, text, truth};

pub(in crate::kinds) fn pod(pod: &Value, errors: &mut FieldErrors) {
    spec(&pod["spec"], &Path::new("spec"), errors);
    // Mirror pods come from a kubelet's own files, and lie on its node.
    let mirror = pod.pointer("/metadata/annotations").and_then(|a| a.get("kubernetes.io/config.mirror"));
    if mirror.is_some() && text(pod, "/spec/nodeName").is_empty() {
        let path = Path::new("metadata").child("annotations").key("kubernetes.io/config.mirror");
        errors.invalid(&path, "", "must set spec.nodeName if mirror pod annotation is set");
    }
}

/// A template: its labels and its pod's spec.
pub(in crate::kinds) fn template(template: &Value, path: &Path, errors: &mut FieldErrors) {
    let metadata = path.child("metadata");
    if let Some(labels) = template.pointer("/metadata/labels") {
        validate::labels(labels, &path.child("labels"), errors);
    }
    for (key, _) in crate::kinds::value::entries(template, "/metadata/annotations") {
        errors.invalid_each(&metadata.child("annotations"), key, names::qualified_name(&key.to_lowercase()));
    }
    spec(&template["spec"], &path.child("spec"), errors);
    if !items(template, "/spec/ephemeralContainers").is_empty() {
        errors.forbidden(&path.child("spec").child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// The template of a workload whose pods always run.
pub(in crate::kinds) fn endless_template(owner: &str, value: &Value, path: &Path, errors: &mut FieldErrors) {
    template(value, path, errors);
    let spec = path.child("spec");
    let policy = text(value, "/spec/restartPolicy");
    if !matches!(policy, "" | "Always") {
        errors.not_supported(&spec.child("restartPolicy"), policy, &["Always"]);
    }
    if has(value, "/spec/activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {owner} is not Supported");
        errors.forbidden(&spec.child("activeDeadlineSeconds"), detail);
    }
}

pub(in crate::kinds) fn spec(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let volumes = volumes::volumes(items(spec, "/volumes"), &path.child("volumes"), errors);
    if items(spec, "/containers").is_empty() {
        errors.required(&path.child("containers"), "");
    }
    all_containers(spec, &volumes, path, errors);
    for field in ["limits", "requests"] {
        for (name, value) in crate::kinds::value::entries(spec, &format!("/resources/{field}")) {
            validate::quantity(value, &path.child("resources").child(field).key(name), errors);
        }
    }
    required_one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    required_one_of(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    dns_config(spec, path, errors);
    if let Some(selector) = spec.get("nodeSelector") {
        validate::labels(selector, &path.child("nodeSelector"), errors);
    }
    for (field, rule) in [
        ("serviceAccountName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
    ] {
        let value = text(spec, &format!("/{field}"));
        if !value.is_empty() {
            errors.invalid_each(&path.child(field), value, rule(value));
        }
    }
    if let Some(seconds) = number(spec, "/activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, names::range_message(1, i64::from(i32::MAX)));
    }
    one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    validate::tolerations(items(spec, "/tolerations"), &path.child("tolerations"), errors);
    host_aliases(spec, path, errors);
    security_context(spec, path, errors);
    affinity(spec, path, errors);
    topology_spread(spec, path, errors);
    for (index, gate) in items(spec, "/readinessGates").iter().enumerate() {
        let kind = text(gate, "/conditionType");
        errors.invalid_each(&path.child("readinessGates").index(index).child("conditionType"), kind, names::qualified_name(kind));
    }
    let mut gates = BTreeSet::new();
    for (index, gate) in items(spec, "/schedulingGates").iter().enumerate() {
        let path = path.child("schedulingGates").index(index);
        let name = text(gate, "/name");
        errors.invalid_each(&path, name, names::qualified_name(name));
        if !gates.insert(name) {
            errors.duplicate(&path, name);
        }
    }
    if has(spec, "/os") {
        let name = text(spec, "/os/name");
        let path = path.child("os");
        if name.is_empty() {
            errors.required(&path.child("name"), "cannot be empty");
        } else if !matches!(name, "linux" | "windows") {
            errors.not_supported(&path, name, &["linux", "windows"]);
        }
    }
    if truth(spec, "/hostNetwork") {
        for visit in containers::all(spec, path) {
            for (index, port) in items(visit.container, "/ports").iter().enumerate() {
                if int(port, "/hostPort") != int(port, "/containerPort") {
                    let path = visit.path.child("ports").index(index).child("hostPort");
                    let detail = "must match `containerPort` when `hostNetwork` is true";
                    errors.invalid(&path, int(port, "/hostPort"), detail);
                }
            }
        }
    }
}
