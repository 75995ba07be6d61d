//! Containers of all roles.

use std::collections::{BTreeMap, BTreeSet};

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::environment::environment;
use super::handlers::{NAMED_PROBES, lifecycle};
use super::security::container_security;
use super::volumes::local_path;
use crate::kinds::containers::{self, Role, is_sidecar};
use crate::kinds::validate::{self, PROTOCOLS, one_of, required, required_one_of};
use crate::kinds::value::{has, int, items, text, truth};

pub(super) fn all_containers(spec: &Value, volumes: &BTreeMap<&str, &str>, path: &Path, errors: &mut FieldErrors) {
    let mut names_of: BTreeMap<&str, Role> = BTreeMap::new();
    let mut host_ports = BTreeSet::new();
    // Main containers first: a collision is the other's fault.
    let mut visits = containers::all(spec, path);
    visits.sort_by_key(|visit| match visit.role {
        Role::Main => 0,
        Role::Init => 1,
        Role::Ephemeral => 2,
    });
    for visit in &visits {
        let (container, path) = (visit.container, &visit.path);
        container_common(container, volumes, path, errors);
        let name = text(container, "/name");
        if names_of.contains_key(name) {
            errors.duplicate(&path.child("name"), name);
        } else if !name.is_empty() {
            names_of.insert(name, visit.role);
        }
        if visit.role != Role::Ephemeral {
            one_of(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
        }
        match visit.role {
            Role::Main => {
                lifecycle(container, path, errors);
                container_host_ports(container, path, &mut host_ports, errors);
            }
            Role::Init if is_sidecar(container) => {
                lifecycle(container, path, errors);
                container_host_ports(container, path, &mut BTreeSet::new(), errors);
            }
            Role::Init => {
                for field in ["lifecycle"].iter().chain(NAMED_PROBES) {
                    if has(container, &format!("/{field}")) {
                        let detail = "may not be set for init containers without restartPolicy=Always";
                        errors.forbidden(&path.child(field), detail);
                    }
                }
            }
            Role::Ephemeral => {
                for field in ["ports", "lifecycle", "resizePolicy"].iter().chain(NAMED_PROBES) {
                    if has(container, &format!("/{field}")) {
                        errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
                    }
                }
                if container.pointer("/resources").is_some_and(|r| r.as_object().is_some_and(|r| !r.is_empty())) {
                    errors.forbidden(&path.child("resources"), "cannot be set for an Ephemeral Container");
                }
                let target = text(container, "/targetContainerName");
                let known = names_of.get(target).is_some_and(|role| *role != Role::Ephemeral);
                if !target.is_empty() && !known {
                    errors.push(machinery::field::FieldError::not_found(&path.child("targetContainerName"), target));
                }
            }
        }
    }
}

pub(super) fn container_common(container: &Value, volumes: &BTreeMap<&str, &str>, path: &Path, errors: &mut FieldErrors) {
    let name = text(container, "/name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        errors.invalid_each(&path.child("name"), name, names::dns1123_label(name));
    }
    let image = text(container, "/image");
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    } else if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
    required_one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(container, path, errors);
    environment(container, path, errors);
    mounts(container, volumes, path, errors);
    required_one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    validate::resources(&container["resources"], &path.child("resources"), errors);
    container_security(container, path, errors);
}

pub(super) fn ports(container: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (index, port) in items(container, "/ports").iter().enumerate() {
        let path = path.child("ports").index(index);
        let name = text(port, "/name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if !messages.is_empty() {
                errors.invalid_each(&path.child("name"), name, messages);
            } else if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        match int(port, "/containerPort") {
            0 => errors.required(&path.child("containerPort"), ""),
            number => {
                for message in names::port_number(number) {
                    errors.invalid(&path.child("containerPort"), number, message);
                }
            }
        }
        let host = int(port, "/hostPort");
        if host != 0 {
            for message in names::port_number(host) {
                errors.invalid(&path.child("hostPort"), host, message);
            }
        }
        required_one_of(port, "protocol", PROTOCOLS, &path, errors);
    }
}

pub(super) fn container_host_ports(container: &Value, path: &Path, taken: &mut BTreeSet<String>, errors: &mut FieldErrors) {
    for (index, port) in items(container, "/ports").iter().enumerate() {
        let number = int(port, "/hostPort");
        if number == 0 {
            continue;
        }
        let key = format!("{}/{}/{number}", text(port, "/protocol"), text(port, "/hostIP"));
        if !taken.insert(key.clone()) {
            errors.duplicate(&path.child("ports").index(index).child("hostPort"), key);
        }
    }
}

pub(super) fn mounts(container: &Value, volumes: &BTreeMap<&str, &str>, path: &Path, errors: &mut FieldErrors) {
    let mut points = BTreeSet::new();
    let list = path.child("volumeMounts");
    for (index, mount) in items(container, "/volumeMounts").iter().enumerate() {
        let path = list.index(index);
        let (name, point) = (text(mount, "/name"), text(mount, "/mountPath"));
        required(mount, "name", &path, errors);
        if !volumes.contains_key(name) {
            errors.push(machinery::field::FieldError::not_found(&path.child("name"), name));
        }
        required(mount, "mountPath", &path, errors);
        if !points.insert(point) {
            errors.invalid(&path.child("mountPath"), point, "must be unique");
        }
        local_path(text(mount, "/subPath"), &list.child("subPath"), errors);
        if !text(mount, "/subPathExpr").is_empty() {
            if !text(mount, "/subPath").is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&path.child("subPathExpr"), text(mount, "/subPathExpr"), detail);
            }
            local_path(text(mount, "/subPathExpr"), &list.child("subPathExpr"), errors);
        }
        match text(mount, "/mountPropagation") {
            "Bidirectional" if !truth(container, "/securityContext/privileged") => {
                let detail = "Bidirectional mount propagation is available only to privileged containers";
                errors.forbidden(&list.child("mountPropagation"), detail);
            }
            "" | "None" | "HostToContainer" | "Bidirectional" => {}
            other => {
                let allowed = ["Bidirectional", "HostToContainer", "None"];
                errors.not_supported(&list.child("mountPropagation"), other, &allowed);
            }
        }
    }
    for (index, device) in items(container, "/volumeDevices").iter().enumerate() {
        let path = path.child("volumeDevices").index(index);
        required(device, "name", &path, errors);
        required(device, "devicePath", &path, errors);
        let name = text(device, "/name");
        match volumes.get(name) {
            None => errors.push(machinery::field::FieldError::not_found(&path.child("name"), name)),
            Some(&("persistentVolumeClaim" | "ephemeral")) => {}
            Some(_) => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&path.child("name"), name, detail);
            }
        }
    }
}
