//! CustomResourceDefinition and APIService.

use machinery::field::{FieldErrors, Path};
use machinery::{meta, names};
use serde_json::{Value, json};

use super::Rules;
use super::table::{AGE, Column, GENERIC, NAME, column};
use super::value::{fill, has, int, items, object_in, set, text, texts, truth};
use crate::custom::definition;

pub(super) struct CustomResourceDefinition;

impl Rules for CustomResourceDefinition {
    fn default(&self, definition: &mut Value) {
        let names = object_in(object_in(definition, "spec"), "names");
        let kind = text(names, "/kind").to_owned();
        fill(names, "singular", kind.to_lowercase());
        if !kind.is_empty() {
            fill(names, "listKind", format!("{kind}List"));
        }
        let conversion = object_in(object_in(definition, "spec"), "conversion");
        fill(conversion, "strategy", "None");
        let service = conversion.pointer_mut("/webhook/clientConfig/service").filter(|service| service.is_object());
        if let Some(service) = service {
            fill(service, "port", 443);
        }
    }

    /// Names are given out when all other definitions are known: see the registry's hooks and `custom::naming`.
    fn prepare_for_create(&self, definition: &mut Value) {
        let stored: Vec<&str> = items(definition, "/spec/versions")
            .iter()
            .filter(|version| truth(version, "/storage"))
            .map(|version| text(version, "/name"))
            .take(1)
            .collect();
        let status = json!({"acceptedNames": {"plural": "", "kind": ""}, "conditions": [], "storedVersions": stored});
        set(definition, "status", status);
    }

    fn prepare_for_update(&self, new: &mut Value, _old: &Value, subresource: &str) {
        if !subresource.is_empty() {
            return;
        }
        // A version that is stored from now on may leave objects behind for ever.
        let storage: Vec<String> = items(new, "/spec/versions")
            .iter()
            .filter(|version| truth(version, "/storage"))
            .map(|version| text(version, "/name").to_owned())
            .take(1)
            .collect();
        let mut stored: Vec<String> = texts(new, "/status/storedVersions").into_iter().map(str::to_owned).collect();
        for version in storage {
            if !stored.contains(&version) {
                stored.push(version);
            }
        }
        set(object_in(new, "status"), "storedVersions", stored);
    }

    fn validate_new(&self, definition: &Value, errors: &mut FieldErrors) {
        errors.extend(definition::validate(definition, None));
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        errors.extend(match subresource {
            "" => definition::validate(new, Some(old)),
            _ => definition::validate_status(new),
        });
    }

    fn warnings(&self, definition: &Value) -> Vec<String> {
        let formats = definition::unrecognized_formats(definition);
        formats.into_iter().map(|format| format!("unrecognized format {format:?}")).collect()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        GENERIC
    }
}

pub(super) struct ApiService;

impl Rules for ApiService {
    fn default(&self, service: &mut Value) {
        if let Some(reference) = service.pointer_mut("/spec/service").filter(|reference| reference.is_object()) {
            fill(reference, "port", 443);
        }
    }

    /// What this server serves itself is there.
    fn prepare_for_create(&self, service: &mut Value) {
        if !has(service, "/spec/service") {
            let created = service["metadata"]["creationTimestamp"].clone();
            let condition = json!({"type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available", "lastTransitionTime": created});
            set(service, "status", json!({"conditions": [condition]}));
        }
    }

    fn validate(&self, service: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&service["spec"], Path::new("spec"));
        let full = format!("{}.{}", text(spec, "/version"), text(spec, "/group"));
        if meta::name(service) != full {
            let detail = format!("must be `spec.version+\".\"+spec.group`: {full:?}");
            errors.invalid(&Path::new("metadata").child("name"), meta::name(service), detail);
        }
        for (field, max) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
            let value = int(spec, &format!("/{field}"));
            if !(1..=max).contains(&value) {
                errors.invalid(&path.child(field), value, format!("must be positive and less than {max}"));
            }
        }
        let (group, version) = (text(spec, "/group"), text(spec, "/version"));
        if group.is_empty() && version != "v1" {
            errors.required(&path.child("group"), "only v1 may have an empty group and it better be legacy kube");
        } else if !group.is_empty() {
            errors.invalid_each(&path.child("group"), group, names::dns1123_subdomain(group));
        }
        errors.invalid_each(&path.child("version"), version, names::dns1035_label(version));
        if !has(spec, "/service") {
            if has(spec, "/caBundle") {
                errors.invalid(&path.child("caBundle"), text(spec, "/caBundle"), "local APIServices may not have a caBundle");
            }
            if truth(spec, "/insecureSkipTLSVerify") {
                let detail = "local APIServices may not have insecureSkipTLSVerify";
                errors.invalid(&path.child("insecureSkipTLSVerify"), true, detail);
            }
            return;
        }
        let at = path.child("service");
        for field in ["namespace", "name"] {
            if text(&spec["service"], &format!("/{field}")).is_empty() {
                errors.required(&at.child(field), "");
            }
        }
        let port = int(spec, "/service/port");
        let wrong = names::port_number(port);
        if !wrong.is_empty() {
            errors.invalid(&at.child("port"), port, format!("port is not valid: {}", wrong.join(", ")));
        }
        if truth(spec, "/insecureSkipTLSVerify") && has(spec, "/caBundle") {
            let detail = "may not be true if caBundle is present";
            errors.invalid(&path.child("insecureSkipTLSVerify"), true, detail);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Service", |row| {
                if !row.has("/spec/service") {
                    return "Local".into();
                }
                let service = &row.object["spec"]["service"];
                format!("{}/{}", text(service, "/namespace"), text(service, "/name")).into()
            })
            .says("The reference to the service that hosts this API endpoint."),
            column("Available", |row| {
                let conditions = items(row.object, "/status/conditions");
                let Some(condition) = conditions.iter().find(|c| text(c, "/type") == "Available") else {
                    return "Unknown".into();
                };
                match (text(condition, "/status"), text(condition, "/reason")) {
                    (status @ "True", _) | (status, "") => status.into(),
                    (status, reason) => format!("{status} ({reason})").into(),
                }
            })
            .says("Whether this service is available."),
            AGE,
        ];
        COLUMNS
    }
}
