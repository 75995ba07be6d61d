//! What containers find in their environment.

use machinery::field::{FieldErrors, Path};
use serde_json::Value;

use crate::kinds::validate::{one_of, required};
use crate::kinds::value::{has, items, text};

pub(super) fn environment(container: &Value, path: &Path, errors: &mut FieldErrors) {
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
pub(super) fn field_reference(source: &Value, path: &Path, errors: &mut FieldErrors) {
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
pub(super) fn resource_reference(source: &Value, path: &Path, errors: &mut FieldErrors) {
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
