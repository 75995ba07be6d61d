//! CustomResourceDefinition and APIService.

use machinery::field::{FieldErrors, Path};
use machinery::{meta, names};
use serde_json::{Value, json};

use super::Rules;
use super::table::{AGE, Column, GENERIC, NAME, column};
use super::validate::{self, required_one_of};
use super::value::{fill, has, int, items, object_in, set, text, texts, truth};

pub(super) struct CustomResourceDefinition;

impl Rules for CustomResourceDefinition {
    fn default(&self, definition: &mut Value) {
        let names = object_in(object_in(definition, "spec"), "names");
        let kind = text(names, "/kind").to_owned();
        fill(names, "singular", kind.to_lowercase());
        if !kind.is_empty() {
            fill(names, "listKind", format!("{kind}List"));
        }
    }

    /// Names are accepted at once: two definitions of one resource have one name, and cannot both be stored.
    fn prepare_for_create(&self, definition: &mut Value) {
        let stored: Vec<&str> = items(definition, "/spec/versions")
            .iter()
            .filter(|version| truth(version, "/storage"))
            .map(|version| text(version, "/name"))
            .collect();
        let created = &definition["metadata"]["creationTimestamp"];
        let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": created});
        let status = json!({
            "acceptedNames": definition["spec"]["names"],
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
            "storedVersions": stored,
        });
        set(definition, "status", status);
    }

    fn prepare_for_update(&self, new: &mut Value, _old: &Value, subresource: &str) {
        if !subresource.is_empty() {
            return;
        }
        // A version that is stored from now on may have left objects behind for ever.
        let storage: Vec<String> = items(new, "/spec/versions")
            .iter()
            .filter(|version| truth(version, "/storage"))
            .map(|version| text(version, "/name").to_owned())
            .collect();
        let mut stored: Vec<String> = texts(new, "/status/storedVersions").into_iter().map(str::to_owned).collect();
        for version in storage {
            if !stored.contains(&version) {
                stored.push(version);
            }
        }
        let names = new["spec"]["names"].clone();
        let status = object_in(new, "status");
        set(status, "storedVersions", stored);
        set(status, "acceptedNames", names);
    }

    fn validate(&self, definition: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&definition["spec"], Path::new("spec"));
        let (group, plural) = (text(spec, "/group"), text(spec, "/names/plural"));
        let full = format!("{plural}.{group}");
        if meta::name(definition) != full {
            let detail = "must be spec.names.plural+\".\"+spec.group";
            errors.invalid(&Path::new("metadata").child("name"), meta::name(definition), detail);
        }
        if group.is_empty() {
            errors.required(&path.child("group"), "");
        } else {
            errors.invalid_each(&path.child("group"), group, names::dns1123_subdomain(group));
            if group.split('.').count() < 2 {
                errors.invalid(&path.child("group"), group, "should be a domain with at least one dot");
            }
        }
        required_one_of(spec, "scope", &["Cluster", "Namespaced"], &path, errors);
        for field in ["plural", "singular"] {
            let value = text(spec, &format!("/names/{field}"));
            let path = path.child("names").child(field);
            if value.is_empty() {
                errors.required(&path, "");
            } else {
                errors.invalid_each(&path, value, names::dns1035_label(value));
            }
        }
        for field in ["kind", "listKind"] {
            let value = text(spec, &format!("/names/{field}"));
            let path = path.child("names").child(field);
            if value.is_empty() {
                errors.required(&path, "");
            } else {
                errors.invalid_each(&path, value, names::dns1035_label(&value.to_lowercase()));
            }
        }
        for (index, name) in texts(spec, "/names/shortNames").into_iter().enumerate() {
            errors.invalid_each(&path.child("names").child("shortNames").index(index), name, names::dns1035_label(name));
        }
        versions(spec, &path, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if !subresource.is_empty() {
            return;
        }
        let path = Path::new("spec");
        for field in ["group", "scope"] {
            validate::immutable(&new["spec"][field], &old["spec"][field], &path.child(field), errors);
        }
        for field in ["kind", "plural"] {
            let path = path.child("names").child(field);
            validate::immutable(&new["spec"]["names"][field], &old["spec"]["names"][field], &path, errors);
        }
        let present: Vec<&str> = items(new, "/spec/versions").iter().map(|version| text(version, "/name")).collect();
        for (index, stored) in texts(old, "/status/storedVersions").into_iter().enumerate() {
            if !present.contains(&stored) {
                let path = Path::new("status").child("storedVersions").index(index);
                errors.invalid(&path, stored, "missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions".replace("v1", stored));
            }
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        GENERIC
    }
}

fn versions(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let versions = items(spec, "/versions");
    let path = path.child("versions");
    if versions.iter().filter(|version| truth(version, "/storage")).count() != 1 {
        errors.invalid(&path, json!(versions), "must have exactly one version marked as storage version");
    }
    let mut seen = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        let name = text(version, "/name");
        errors.invalid_each(&path.child("name"), name, names::dns1035_label(name));
        if seen.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        seen.push(name);
        let schema = path.child("schema").child("openAPIV3Schema");
        if !has(version, "/schema/openAPIV3Schema") {
            errors.required(&schema, "");
        } else if text(version, "/schema/openAPIV3Schema/type") != "object" {
            let kind = text(version, "/schema/openAPIV3Schema/type");
            // One schema for all versions counts as that of the definition.
            let same = versions.iter().all(|other| other["schema"] == version["schema"]);
            let schema = if same { Path::new("spec").child("validation").child("openAPIV3Schema") } else { schema };
            if kind.is_empty() {
                errors.required(&schema.child("type"), "must not be empty at the root");
            } else {
                errors.invalid(&schema.child("type"), kind, "must be object at the root");
            }
        }
        for (index, column) in items(version, "/additionalPrinterColumns").iter().enumerate() {
            let path = path.child("additionalPrinterColumns").index(index);
            validate::required(column, "name", &path, errors);
            let kinds = ["boolean", "date", "integer", "number", "string"];
            required_one_of(column, "type", &kinds, &path, errors);
            if !text(column, "/jsonPath").starts_with('.') {
                let detail = "must be a simple json path starting with .";
                errors.invalid(&path.child("jsonPath"), text(column, "/jsonPath"), detail);
            }
        }
    }
}

pub(super) struct ApiService;

impl Rules for ApiService {
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
            }),
            column("Available", |row| {
                let conditions = items(row.object, "/status/conditions");
                let Some(condition) = conditions.iter().find(|c| text(c, "/type") == "Available") else {
                    return "Unknown".into();
                };
                match (text(condition, "/status"), text(condition, "/reason")) {
                    (status @ "True", _) | (status, "") => status.into(),
                    (status, reason) => format!("{status} ({reason})").into(),
                }
            }),
            AGE,
        ];
        COLUMNS
    }
}
