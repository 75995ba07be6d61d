//! What can be wrong with pods and pod templates.

use std::collections::{BTreeMap, BTreeSet};

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::containers::{self, Role, is_sidecar};
use super::validate::{self, PROTOCOLS, none_negative, one_of, required, required_one_of};
use super::value::{has, int, items, number, restore, text, texts, truth};

const NAMESERVERS_MAX: usize = 3;
const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const NAMED_PROBES: &[&str] = &["livenessProbe", "readinessProbe", "startupProbe"];

pub(super) fn pod(pod: &Value, errors: &mut FieldErrors) {
    spec(&pod["spec"], &Path::new("spec"), errors);
    // Mirror pods come from a kubelet's own files, and lie on its node.
    let mirror = pod.pointer("/metadata/annotations").and_then(|a| a.get("kubernetes.io/config.mirror"));
    if mirror.is_some() && text(pod, "/spec/nodeName").is_empty() {
        let path = Path::new("metadata").child("annotations").key("kubernetes.io/config.mirror");
        errors.invalid(&path, "", "must set spec.nodeName if mirror pod annotation is set");
    }
}

/// A template: its labels and its pod's spec.
pub(super) fn template(template: &Value, path: &Path, errors: &mut FieldErrors) {
    let metadata = path.child("metadata");
    if let Some(labels) = template.pointer("/metadata/labels") {
        validate::labels(labels, &path.child("labels"), errors);
    }
    for (key, _) in super::value::entries(template, "/metadata/annotations") {
        errors.invalid_each(&metadata.child("annotations"), key, names::qualified_name(&key.to_lowercase()));
    }
    spec(&template["spec"], &path.child("spec"), errors);
    if !items(template, "/spec/ephemeralContainers").is_empty() {
        errors.forbidden(&path.child("spec").child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// The template of a workload whose pods always run.
pub(super) fn endless_template(owner: &str, value: &Value, path: &Path, errors: &mut FieldErrors) {
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

pub(super) fn spec(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let volumes = self::volumes(items(spec, "/volumes"), &path.child("volumes"), errors);
    if items(spec, "/containers").is_empty() {
        errors.required(&path.child("containers"), "");
    }
    all_containers(spec, &volumes, path, errors);
    for field in ["limits", "requests"] {
        for (name, value) in super::value::entries(spec, &format!("/resources/{field}")) {
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

/// Checks the volumes; their names, with the names of their sources.
fn volumes<'a>(volumes: &'a [Value], path: &Path, errors: &mut FieldErrors) -> BTreeMap<&'a str, &'a str> {
    let mut known = BTreeMap::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let before = errors.len();
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(field, source)| *field != "name" && !source.is_null())
            .map(|(field, _)| field)
            .collect();
        match sources.as_slice() {
            [] => errors.required(&path, "must specify a volume type"),
            [source, more @ ..] => {
                for other in more {
                    errors.forbidden(&path.child(other), "may not specify more than 1 volume type");
                }
                volume_source(source, &volume[source.as_str()], &path.child(source), errors);
            }
        }
        let name = text(volume, "/name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.invalid_each(&path.child("name"), name, names::dns1123_label(name));
        }
        if known.contains_key(name) {
            errors.duplicate(&path.child("name"), name);
        }
        if errors.len() == before {
            known.insert(name, sources.first().map_or("", |source| source.as_str()));
        }
    }
    known
}

fn volume_source(kind: &str, source: &Value, path: &Path, errors: &mut FieldErrors) {
    let mode = |field: &str, errors: &mut FieldErrors| {
        if let Some(mode) = number(source, &format!("/{field}"))
            && !(0..=0o777).contains(&mode)
        {
            errors.invalid(&path.child(field), mode, FILE_MODE);
        }
    };
    match kind {
        "emptyDir" => {
            if let Some(limit) = source.get("sizeLimit")
                && machinery::quantity::Quantity::from_value(limit).is_ok_and(|limit| limit.is_negative())
            {
                errors.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => {
            required(source, "path", path, errors);
            if text(source, "/path").split('/').any(|part| part == "..") {
                errors.invalid(&path.child("path"), text(source, "/path"), "must not contain '..'");
            }
            let kinds = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
            one_of(source, "type", &kinds, path, errors);
        }
        "secret" => {
            required(source, "secretName", path, errors);
            mode("defaultMode", errors);
            key_paths(source, path, errors);
        }
        "configMap" => {
            required(source, "name", path, errors);
            mode("defaultMode", errors);
            key_paths(source, path, errors);
        }
        "persistentVolumeClaim" => required(source, "claimName", path, errors),
        "nfs" => {
            required(source, "server", path, errors);
            required(source, "path", path, errors);
            if !text(source, "/path").starts_with('/') {
                errors.invalid(&path.child("path"), text(source, "/path"), "must be an absolute path");
            }
        }
        "downwardAPI" => mode("defaultMode", errors),
        "projected" => {
            mode("defaultMode", errors);
            for (index, part) in items(source, "/sources").iter().enumerate() {
                let path = path.child("sources").index(index);
                let parts = part.as_object().map_or(0, |part| part.values().filter(|value| !value.is_null()).count());
                if parts > 1 {
                    errors.forbidden(&path, "may not specify more than 1 volume type");
                }
                for (field, name) in [("secret", "name"), ("configMap", "name"), ("serviceAccountToken", "path")] {
                    if let Some(inner) = part.get(field) {
                        required(inner, name, &path.child(field), errors);
                        key_paths(inner, &path.child(field), errors);
                    }
                }
                if let Some(seconds) = number(part, "/serviceAccountToken/expirationSeconds") {
                    let path = path.child("serviceAccountToken").child("expirationSeconds");
                    if seconds < 600 {
                        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
                    } else if seconds > 1 << 32 {
                        errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
                    }
                }
            }
        }
        "image" => {}
        "csi" => required(source, "driver", path, errors),
        _ => {}
    }
}

/// Keys and the relative paths they are put at.
fn key_paths(source: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, item) in items(source, "/items").iter().enumerate() {
        let path = path.child("items").index(index);
        required(item, "key", &path, errors);
        required(item, "path", &path, errors);
        local_path(text(item, "/path"), &path.child("path"), errors);
        if let Some(mode) = number(item, "/mode")
            && !(0..=0o777).contains(&mode)
        {
            errors.invalid(&path.child("mode"), mode, FILE_MODE);
        }
    }
}

/// A path that stays below where it starts.
fn local_path(value: &str, path: &Path, errors: &mut FieldErrors) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}

fn all_containers(spec: &Value, volumes: &BTreeMap<&str, &str>, path: &Path, errors: &mut FieldErrors) {
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

fn container_common(container: &Value, volumes: &BTreeMap<&str, &str>, path: &Path, errors: &mut FieldErrors) {
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

fn ports(container: &Value, path: &Path, errors: &mut FieldErrors) {
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

fn container_host_ports(container: &Value, path: &Path, taken: &mut BTreeSet<String>, errors: &mut FieldErrors) {
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

fn environment(container: &Value, path: &Path, errors: &mut FieldErrors) {
    const SOURCES: &[&str] = &["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    for (index, variable) in items(container, "/env").iter().enumerate() {
        let path = path.child("env").index(index);
        let name = text(variable, "/name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if name.contains('=') || !name.chars().all(|c| matches!(c, ' '..='~')) {
            let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.invalid(&path.child("name"), name, detail);
        }
        let Some(from) = variable.get("valueFrom").filter(|from| !from.is_null()) else { continue };
        let path = path.child("valueFrom");
        let sources = SOURCES.iter().filter(|source| has(from, &format!("/{source}"))).count();
        if sources == 0 {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            errors.invalid(&path, "", detail);
        } else if !text(variable, "/value").is_empty() {
            errors.invalid(&path, "", "may not be specified when `value` is not empty");
        } else if sources > 1 {
            errors.invalid(&path, "", "may not have more than one field specified at a time");
        }
        for reference in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(source) = from.get(reference) {
                required(source, "name", &path.child(reference), errors);
                required(source, "key", &path.child(reference), errors);
            }
        }
        if let Some(source) = from.get("fieldRef") {
            field_reference(source, &path.child("fieldRef"), errors);
        }
        if let Some(source) = from.get("resourceFieldRef") {
            resource_reference(source, &path.child("resourceFieldRef"), errors);
        }
    }
    for (index, source) in items(container, "/envFrom").iter().enumerate() {
        let list = path.child("envFrom");
        let path = list.index(index);
        let mut sources = 0;
        for reference in ["configMapRef", "secretRef"] {
            if let Some(source) = source.get(reference).filter(|source| !source.is_null()) {
                sources += 1;
                required(source, "name", &path.child(reference), errors);
            }
        }
        match sources {
            0 => errors.invalid(&list, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(&list, "", "may not have more than one field specified at a time"),
        }
    }
}

/// The fields of a pod that its environment may hold.
fn field_reference(source: &Value, path: &Path, errors: &mut FieldErrors) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    required(source, "fieldPath", path, errors);
    let field = text(source, "/fieldPath");
    let subscript = ["metadata.annotations['", "metadata.labels['"].iter().any(|prefix| field.starts_with(prefix));
    let known = FIELDS.contains(&field) || (subscript && field.ends_with("']"));
    if !field.is_empty() && !known {
        let detail = format!("error converting fieldPath: field label not supported: {field}");
        errors.invalid(&path.child("fieldPath"), field, detail);
    }
}

/// The requests and limits of a container that its environment may hold.
fn resource_reference(source: &Value, path: &Path, errors: &mut FieldErrors) {
    const RESOURCES: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    required(source, "resource", path, errors);
    let resource = text(source, "/resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.starts_with(prefix));
    if !huge {
        one_of(source, "resource", RESOURCES, path, errors);
    }
}

fn mounts(container: &Value, volumes: &BTreeMap<&str, &str>, path: &Path, errors: &mut FieldErrors) {
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

fn lifecycle(container: &Value, path: &Path, errors: &mut FieldErrors) {
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = container.pointer(&format!("/lifecycle/{hook}")).filter(|handler| !handler.is_null()) {
            self::handler(handler, &["exec", "httpGet", "tcpSocket", "sleep"], &path.child("lifecycle").child(hook), errors);
        }
    }
    for name in NAMED_PROBES {
        let Some(probe) = container.get(name).filter(|probe| !probe.is_null()) else { continue };
        let path = path.child(name);
        handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], &path, errors);
        let numbers = ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
        none_negative(probe, &numbers, &path, errors);
        if let Some(seconds) = number(probe, "/terminationGracePeriodSeconds") {
            let path = path.child("terminationGracePeriodSeconds");
            if *name == "readinessProbe" {
                errors.invalid(&path, seconds, "must not be set for readinessProbes");
            } else if seconds <= 0 {
                errors.invalid(&path, seconds, "must be greater than 0");
            }
        }
        let successes = int(probe, "/successThreshold");
        if *name != "readinessProbe" && successes != 1 {
            errors.invalid(&path.child("successThreshold"), successes, "must be 1");
        }
    }
}

fn handler(handler: &Value, kinds: &[&str], path: &Path, errors: &mut FieldErrors) {
    let mut found = 0;
    for kind in kinds {
        let Some(action) = handler.get(kind).filter(|action| !action.is_null()) else { continue };
        let path = path.child(kind);
        found += 1;
        if found > 1 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" if items(action, "/command").is_empty() => errors.required(&path.child("command"), ""),
            "httpGet" => {
                required(action, "path", &path, errors);
                validate::port(&action["port"], &path.child("port"), errors);
                one_of(action, "scheme", &["HTTP", "HTTPS"], &path, errors);
                for header in items(action, "/httpHeaders") {
                    let name = text(header, "/name");
                    errors.invalid_each(&path.child("httpHeaders"), name, names::http_header_name(name));
                }
            }
            "tcpSocket" | "grpc" => validate::port(&action["port"], &path.child("port"), errors),
            "sleep" => none_negative(action, &["seconds"], &path, errors),
            _ => {}
        }
    }
    if found == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn container_security(container: &Value, path: &Path, errors: &mut FieldErrors) {
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

fn security_context(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(context) = spec.get("securityContext") else { return };
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

fn user_ids(context: &Value, fields: &[&str], path: &Path, errors: &mut FieldErrors) {
    for field in fields {
        if let Some(id) = number(context, &format!("/{field}")) {
            for message in names::user_id(id) {
                errors.invalid(&path.child(field), id, message);
            }
        }
    }
}

fn seccomp(context: &Value, path: &Path, errors: &mut FieldErrors) {
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

fn dns_config(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("dnsConfig");
    let servers = texts(spec, "/dnsConfig/nameservers");
    if text(spec, "/dnsPolicy") == "None" {
        if !has(spec, "/dnsConfig") {
            errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.child("nameservers"), detail);
        }
    }
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&path.child("nameservers"), Value::from(servers.clone()), detail);
    }
    for (index, server) in servers.into_iter().enumerate() {
        validate::ip(server, &path.child("nameservers").index(index), errors);
    }
}

fn host_aliases(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, alias) in items(spec, "/hostAliases").iter().enumerate() {
        let path = path.child("hostAliases").index(index);
        validate::ip(text(alias, "/ip"), &path.child("ip"), errors);
        for (index, name) in texts(alias, "/hostnames").into_iter().enumerate() {
            errors.invalid_each(&path.child("hostnames").index(index), name, names::dns1123_subdomain(name));
        }
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("affinity");
    let node = path.child("nodeAffinity");
    if let Some(required) = spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution") {
        let path = node.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        let terms = items(required, "/nodeSelectorTerms");
        if terms.is_empty() {
            errors.required(&path, "must have at least one node selector term");
        }
        for (index, term) in terms.iter().enumerate() {
            node_selector_term(term, &path.index(index), errors);
        }
    }
    let preferred = items(spec, "/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution");
    for (index, preference) in preferred.iter().enumerate() {
        let path = node.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
        weight(preference, &path, errors);
        node_selector_term(&preference["preference"], &path.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let base = path.child(kind);
        let required = items(spec, &format!("/affinity/{kind}/requiredDuringSchedulingIgnoredDuringExecution"));
        for (index, term) in required.iter().enumerate() {
            pod_affinity_term(term, &base.child("requiredDuringSchedulingIgnoredDuringExecution").index(index), errors);
        }
        let preferred = items(spec, &format!("/affinity/{kind}/preferredDuringSchedulingIgnoredDuringExecution"));
        for (index, term) in preferred.iter().enumerate() {
            let path = base.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
            weight(term, &path, errors);
            pod_affinity_term(&term["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path, errors: &mut FieldErrors) {
    let weight = int(term, "/weight");
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_selector_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, expression) in items(term, "/matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = items(expression, "/values");
        match text(expression, "/operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.forbidden(&path.child("values"), detail);
                }
            }
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    errors.required(&path.child("values"), detail);
                }
            }
            operator => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
        let key = text(expression, "/key");
        errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    }
}

fn pod_affinity_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.get(field) {
            validate::label_selector(selector, &path.child(field), errors);
        }
    }
    for namespace in texts(term, "/namespaces") {
        errors.invalid_each(&path.child("namespace"), namespace, names::dns1123_label(namespace));
    }
    let key = text(term, "/topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    errors.invalid_each(&path.child("topologyKey"), key, names::qualified_name(key));
}

fn topology_spread(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, constraint) in items(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let skew = int(constraint, "/maxSkew");
        if skew <= 0 {
            errors.invalid(&path.child("maxSkew"), skew, "must be greater than zero");
        }
        let key = text(constraint, "/topologyKey");
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        } else {
            errors.invalid_each(&path.child("topologyKey"), key, names::qualified_name(key));
        }
        let action = text(constraint, "/whenUnsatisfiable");
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.not_supported(&path.child("whenUnsatisfiable"), action, &actions);
        }
        if let Some(min) = number(constraint, "/minDomains") {
            if min <= 0 {
                errors.invalid(&path.child("minDomains"), min, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
                errors.invalid(&path.child("minDomains"), min, detail);
            }
        }
        if let Some(selector) = constraint.get("labelSelector") {
            validate::label_selector(selector, &path.child("labelSelector"), errors);
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of(constraint, policy, &["Honor", "Ignore"], &path, errors);
        }
    }
}

/// Of a pod's spec only images, tolerations (more of them), deadlines (shorter ones) and gates (fewer) may change.
pub(super) fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
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
        for (container, old) in super::value::items_mut(&mut masked, &format!("/{list}")).zip(&before) {
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
        let narrowed = super::value::entries(before, "").all(|(key, value)| masked["nodeSelector"].get(key) == Some(value));
        if !narrowed {
            let detail = "field is immutable when `podIsGated`: only additions are allowed";
            errors.invalid(&path.child("nodeSelector"), masked["nodeSelector"].clone(), detail);
        }
        restore(&mut masked, &old["spec"], "nodeSelector");
        restore(&mut masked, &old["spec"], "affinity");
    }
    if masked != old["spec"] {
        let changed = changed_fields(&masked, &old["spec"]);
        errors.forbidden(
            &path,
            format!(
                "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                 `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                 `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\nchanged: {changed}"
            ),
        );
    }
}

fn texts_of(gates: &[Value]) -> BTreeSet<&str> {
    gates.iter().map(|gate| text(gate, "/name")).collect()
}

/// The names of the fields that differ.
fn changed_fields(new: &Value, old: &Value) -> String {
    let names: BTreeSet<&String> = [new, old].into_iter().filter_map(Value::as_object).flat_map(|o| o.keys()).collect();
    names.into_iter().filter(|name| new.get(name) != old.get(name)).cloned().collect::<Vec<_>>().join(", ")
}

/// Ephemeral containers are added and never changed or removed.
pub(super) fn ephemeral_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
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
pub(super) fn status_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
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
