//! Node, and ComponentStatus beside it.

use std::collections::BTreeSet;

use machinery::field::{FieldErrors, Path};
use serde_json::{Value, json};

use super::table::{AGE, Column, NAME, column, wide};
use super::validate;
use super::value::{entries, fill, has, items, object_in, set, text, truth};
use super::{Rules, Selectable};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

/// What a node says of its system: always written, known or not.
const NODE_INFO: &[&str] = &[
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
];

pub(super) struct Node;

impl Rules for Node {
    fn default(&self, node: &mut Value) {
        if !node["spec"].is_object() {
            set(node, "spec", json!({}));
        }
        let status = object_in(node, "status");
        let endpoint = object_in(object_in(status, "daemonEndpoints"), "kubeletEndpoint");
        fill(endpoint, "Port", 0);
        let info = object_in(status, "nodeInfo");
        for field in NODE_INFO {
            fill(info, field, "");
        }
        let capacity = node.pointer("/status/capacity").cloned();
        if let Some(capacity) = capacity.filter(|_| !has(node, "/status/allocatable")) {
            set(&mut node["status"], "allocatable", capacity);
        }
    }

    fn keeps_status(&self) -> bool {
        true
    }

    fn validate(&self, node: &Value, errors: &mut FieldErrors) {
        let spec = Path::new("spec");
        // Where upstream's messages place them.
        validate::taints(items(node, "/spec/taints"), &Path::new("metadata").child("taints"), errors);
        for (index, cidr) in items(node, "/spec/podCIDRs").iter().enumerate() {
            validate::cidr(cidr.as_str().unwrap_or_default(), &spec.child("podCIDRs").index(index), errors);
        }
        if items(node, "/spec/podCIDRs").len() > 2 {
            let message = "may specify no more than one CIDR for each IP family";
            errors.invalid(&spec.child("podCIDRs"), node["spec"]["podCIDRs"].clone(), message);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if !subresource.is_empty() {
            return;
        }
        let spec = Path::new("spec");
        let old_cidrs = items(old, "/spec/podCIDRs");
        if !old_cidrs.is_empty() && old_cidrs != items(new, "/spec/podCIDRs") {
            errors.forbidden(&spec.child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid");
        }
        let (old_id, new_id) = (text(old, "/spec/providerID"), text(new, "/spec/providerID"));
        if !old_id.is_empty() && old_id != new_id {
            errors.forbidden(&spec.child("providerID"), "node updates may not change providerID except from \"\" to valid");
        }
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[("spec.unschedulable", |node| truth(node, "/spec/unschedulable").to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Status", |row| status(row.object).into()).says("The status of the node"),
            column("Roles", |row| roles(row.object).into()).says("The roles of the node"),
            AGE,
            column("Version", |row| row.text("/status/nodeInfo/kubeletVersion"))
                .of("api.core.v1.NodeSystemInfo", "kubeletVersion"),
            wide("Internal-IP", |row| address(row.object, "InternalIP")).of("api.core.v1.NodeStatus", "addresses"),
            wide("External-IP", |row| address(row.object, "ExternalIP")).of("api.core.v1.NodeStatus", "addresses"),
            wide("OS-Image", |row| row.text_or("/status/nodeInfo/osImage", "<unknown>"))
                .of("api.core.v1.NodeSystemInfo", "osImage"),
            wide("Kernel-Version", |row| kernel(row.object).into()).of("api.core.v1.NodeSystemInfo", "kernelVersion"),
            wide("Container-Runtime", |row| row.text_or("/status/nodeInfo/containerRuntimeVersion", "<unknown>"))
                .of("api.core.v1.NodeSystemInfo", "containerRuntimeVersion"),
        ];
        COLUMNS
    }
}

fn status(node: &Value) -> String {
    let ready = items(node, "/status/conditions").iter().rfind(|c| text(c, "/type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if truth(node, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let roles: BTreeSet<&str> = entries(node, "/metadata/labels")
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn address(node: &Value, kind: &str) -> Value {
    let found = items(node, "/status/addresses").iter().find(|address| text(address, "/type") == kind);
    Value::from(found.map_or("<none>", |address| text(address, "/address")))
}

fn kernel(node: &Value) -> String {
    let version = match text(node, "/status/nodeInfo/kernelVersion") {
        "" => "<unknown>",
        version => version,
    };
    match text(node, "/status/nodeInfo/architecture") {
        "" => version.to_owned(),
        architecture => format!("{version} ({architecture})"),
    }
}

pub(super) const COMPONENT_STATUS: &[Column] = &[
    NAME,
    column("Status", |row| match healthy(row.object).map(|c| text(c, "/status")) {
        Some("True") => "Healthy".into(),
        Some(_) => "Unhealthy".into(),
        None => "Unknown".into(),
    })
    .says("Status of the component conditions"),
    column("Message", |row| healthy(row.object).map_or("", |c| text(c, "/message")).into())
        .says("Message of the component conditions"),
    column("Error", |row| healthy(row.object).map_or("", |c| text(c, "/error")).into()).says("Error of the component conditions"),
];

fn healthy(status: &Value) -> Option<&Value> {
    items(status, "/conditions").iter().find(|c| text(c, "/type") == "Healthy")
}
