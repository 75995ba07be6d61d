//! What is wrong with a CustomResourceDefinition: its names, versions, schemas and conversion. Pure.
//!
//! Upstream validates an internal form in which what all versions have in common (schema, subresources, columns, selectable
//! fields) stands once, at the top; its paths (`spec.validation.openAPIV3Schema`) say so, and so do these.

mod conversion;
mod defaults;
mod schema;
mod structural;
mod versions;

use machinery::field::{FieldErrors, Path};
use machinery::{meta, names};
use serde_json::Value;

pub use conversion::wrong_authorities;
pub use schema::unrecognized_formats;
pub use structural::non_structural;

/// Schemas nest no deeper than this; deeper ones are refused.
const DEPTH_MAX: usize = 64;
const APPROVED: &str = "api-approved.kubernetes.io";

/// Everything wrong with a definition, or with what it becomes.
pub fn validate(definition: &Value, old: Option<&Value>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (spec, path) = (&definition["spec"], Path::new("spec"));
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    if old.is_none() && meta::name(definition) != format!("{plural}.{group}") {
        let path = Path::new("metadata").child("name");
        errors.invalid(&path, meta::name(definition), "must be spec.names.plural+\".\"+spec.group");
    }
    check_group(group, &path, &mut errors);
    one_of(text(&spec["scope"]), &["Cluster", "Namespaced"], &path.child("scope"), &mut errors);
    versions::check(definition, &path, &mut errors);
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"][field]).is_empty() {
            errors.required(&path.child("names").child(field), "");
        }
    }
    check_names(&spec["names"], &path.child("names"), &mut errors);
    versions::check_common(definition, &path, &mut errors);
    conversion::check(&spec["conversion"], &path.child("conversion"), &mut errors);
    conversion::check_authorities(definition, old, &path.child("conversion"), &mut errors);
    if let Some(old) = old {
        check_update(definition, old, &path, &mut errors);
    }
    let accepted = &definition["status"]["acceptedNames"];
    check_names(accepted, &Path::new("status").child("acceptedNames"), &mut errors);
    check_stored_versions(definition, &mut errors);
    check_approval(definition, old, &mut errors);
    let preserves = |definition: &Value| definition["spec"]["preserveUnknownFields"] == true;
    if preserves(definition) && !old.is_some_and(preserves) {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&path.child("preserveUnknownFields"), true, detail);
    }
    errors
}

/// The same for an update of the status alone.
pub fn validate_status(definition: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("status").child("acceptedNames");
    check_names(&definition["status"]["acceptedNames"], &path, &mut errors);
    errors
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn check_group(group: &str, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("group");
    let wrong = names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.required(&path, "");
    } else if !wrong.is_empty() {
        errors.invalid(&path, group, wrong.join(","));
    } else if !group.contains('.') {
        errors.invalid(&path, group, "should be a domain with at least one dot");
    }
}

fn one_of(value: &str, accepted: &[&str], path: &Path, errors: &mut FieldErrors) {
    if value.is_empty() {
        errors.required(path, "");
    } else if !accepted.contains(&value) {
        errors.not_supported(path, value, accepted);
    }
}

fn check_names(given: &Value, path: &Path, errors: &mut FieldErrors) {
    for (field, prefix) in [
        ("plural", ""),
        ("singular", ""),
        ("kind", "may have mixed case, but should otherwise match: "),
        ("listKind", "may have mixed case, but should otherwise match: "),
    ] {
        let value = text(&given[field]);
        let lower = if prefix.is_empty() { value.to_owned() } else { value.to_lowercase() };
        let wrong = names::dns1035_label(&lower);
        if !value.is_empty() && !wrong.is_empty() {
            errors.invalid(&path.child(field), value, format!("{prefix}{}", wrong.join(",")));
        }
    }
    let check_list = |field: &str, errors: &mut FieldErrors| {
        for (index, name) in list(&given[field]).iter().map(text).enumerate() {
            let wrong = names::dns1035_label(name);
            if !wrong.is_empty() {
                errors.invalid(&path.child(field).index(index), name, wrong.join(","));
            }
        }
    };
    check_list("shortNames", errors);
    let kind = text(&given["kind"]);
    if !kind.is_empty() && kind == text(&given["listKind"]) {
        errors.invalid(&path.child("listKind"), kind, "kind and listKind may not be the same");
    }
    check_list("categories", errors);
}

fn check_update(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut immutable = |fields: &[&str]| {
        let at = |definition: &Value| meta::get_path(&definition["spec"], fields).cloned().unwrap_or_default();
        let (new, old) = (at(new), at(old));
        if new != old {
            let path = fields.iter().fold(path.clone(), |path, field| path.child(field));
            errors.invalid(&path, new, "field is immutable");
        }
    };
    if super::naming::is_true(old, "Established") {
        immutable(&["scope"]);
        immutable(&["names", "kind"]);
    }
    immutable(&["group"]);
    immutable(&["names", "plural"]);
}

fn check_stored_versions(definition: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status").child("storedVersions");
    let stored = &definition["status"]["storedVersions"];
    if list(stored).is_empty() {
        return errors.invalid(&path, stored.clone(), "must have at least one stored version");
    }
    let versions = list(&definition["spec"]["versions"]);
    for version in versions.iter().filter(|version| version["storage"] == true && !list(stored).contains(&version["name"])) {
        errors.invalid(&path, stored.clone(), format!("must have the storage version {}", text(&version["name"])));
    }
    for (index, name) in list(stored).iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *name) {
            let version = text(name);
            let detail = format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a \
                 storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
            );
            errors.invalid(&path.index(index), version, detail);
        }
    }
}

/// How far the use of a group of the project has been agreed to.
#[derive(PartialEq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn approval(definition: &Value) -> Approval {
    let annotation = meta::annotation(definition, APPROVED).unwrap_or_default();
    let host = annotation
        .split_once("://")
        .map(|(scheme, rest)| !scheme.is_empty() && !rest.split('/').next().unwrap_or_default().is_empty());
    match host {
        _ if annotation.is_empty() => Approval::Missing,
        _ if annotation.starts_with("unapproved") => Approval::Bypassed,
        Some(true) => Approval::Approved,
        _ => Approval::Invalid,
    }
}

/// The agreement to a definition in a protected group, as its condition says it: status, reason, message.
pub fn conformance(definition: &Value) -> (&'static str, &'static str, String) {
    let annotation = meta::annotation(definition, APPROVED).unwrap_or_default();
    match approval(definition) {
        Approval::Missing => ("False", "MissingAnnotation", missing_approval()),
        Approval::Bypassed => ("False", "UnapprovedAnnotation", format!("not approved: {annotation:?}")),
        Approval::Approved => ("True", "ApprovedAnnotation", format!("approved in {annotation}")),
        Approval::Invalid => ("False", "InvalidAnnotation", invalid_approval()),
    }
}

const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

fn missing_approval() -> String {
    format!("protected groups must have approval annotation {APPROVED:?}, {SEE}")
}

fn invalid_approval() -> String {
    format!(
        "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
    )
}

/// Whether the group belongs to the project itself, where definitions need an agreement (KEP-1111).
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn check_approval(definition: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if !is_protected(text(&definition["spec"]["group"])) {
        return;
    }
    let state = approval(definition);
    if old.is_some_and(|old| approval(old) == state) {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    match state {
        Approval::Missing => errors.required(&path, missing_approval()),
        Approval::Invalid => {
            errors.invalid(&path, meta::annotation(definition, APPROVED).unwrap_or_default(), invalid_approval());
        }
        Approval::Approved | Approval::Bypassed => {}
    }
}

#[cfg(test)]
mod tests;
