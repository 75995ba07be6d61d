//! `metadata`: what the server fills in, what clients may not change, and what is wrong with it. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::meta;
use machinery::names;
use machinery::status::Status;
use serde_json::{Value, json};

use super::traits::NameRule;

const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
pub const ORPHAN: &str = "orphan";
pub const FOREGROUND: &str = "foregroundDeletion";
const KUBERNETES: &str = "kubernetes";

/// Puts the object in the request's namespace, or says that it is in another. `namespace` is empty for cluster-scoped
/// resources.
pub fn set_namespace(object: &mut Value, namespace: &str) -> Result<(), Status> {
    let own = meta::namespace(object);
    if own == namespace {
        return Ok(());
    }
    if namespace.is_empty() {
        meta::metadata_mut(object).remove("namespace");
        return Ok(());
    }
    if !own.is_empty() {
        return Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    meta::metadata_mut(object).insert("namespace".to_owned(), json!(namespace));
    Ok(())
}

/// The name in the path must be the object's; an object without one gets it.
pub fn set_name(object: &mut Value, name: &str) -> Result<(), Status> {
    let own = meta::name(object);
    if own == name {
        return Ok(());
    }
    if !own.is_empty() {
        return Err(Status::bad_request(format!("the name of the object ({own}) does not match the name on the URL ({name})")));
    }
    meta::metadata_mut(object).insert("name".to_owned(), json!(name));
    Ok(())
}

/// What a new object gets from the server.
pub fn fill(object: &mut Value, uid: String, now: Timestamp, random: u64) {
    if meta::name(object).is_empty() && !meta::generate_name(object).is_empty() {
        let name = names::generate_name(meta::generate_name(object), random);
        meta::metadata_mut(object).insert("name".to_owned(), json!(name));
    }
    let metadata = meta::metadata_mut(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation", "resourceVersion"] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), json!(uid));
    metadata.insert("creationTimestamp".to_owned(), json!(machinery::time::format(now)));
}

/// Restores what an update may not change. What the client left out counts as unchanged.
pub fn keep(new: &mut Value, old: &Value) {
    let old_metadata = meta::metadata(old);
    let old_field = |field: &str| old_metadata.and_then(|m| m.get(field)).cloned();
    let metadata = meta::metadata_mut(new);
    metadata.remove("selfLink");
    for field in ["creationTimestamp", "deletionTimestamp", "generation"] {
        match old_field(field) {
            Some(value) => metadata.insert(field.to_owned(), value),
            None => metadata.remove(field),
        };
    }
    for field in ["uid", "deletionGracePeriodSeconds", "name"] {
        if metadata.get(field).is_none_or(|value| value.is_null() || value == "")
            && let Some(value) = old_field(field)
        {
            metadata.insert(field.to_owned(), value);
        }
    }
}

/// Everything wrong with the metadata of any object.
pub fn validate(object: &Value, namespaced: bool, rule: NameRule) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("metadata");
    let generate_name = meta::generate_name(object);
    if !generate_name.is_empty() {
        let messages = rule.check(&names::mask_trailing_dash(generate_name));
        errors.invalid_each(&path.child("generateName"), generate_name, messages);
    }
    let name = meta::name(object);
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        let mut messages = rule.check(name);
        messages.extend(names::path_segment(name).into_iter().filter(|m| !messages.contains(m)).collect::<Vec<_>>());
        errors.invalid_each(&path.child("name"), name, messages);
    }
    let namespace = meta::namespace(object);
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.required(&path.child("namespace"), ""),
        (true, false) => errors.invalid_each(&path.child("namespace"), namespace, names::dns1123_label(namespace)),
        (false, false) => errors.forbidden(&path.child("namespace"), "not allowed on this type"),
        (false, true) => {}
    }
    validate_labels(object, &path.child("labels"), &mut errors);
    validate_annotations(object, &path.child("annotations"), &mut errors);
    validate_owners(object, &path.child("ownerReferences"), &mut errors);
    validate_finalizers(object, &path.child("finalizers"), &mut errors);
    errors
}

/// Everything wrong with an object's labels.
pub fn validate_labels(object: &Value, path: &Path, errors: &mut FieldErrors) {
    for (key, value) in meta::labels(object).into_iter().flatten() {
        errors.invalid_each(path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(path, value, names::label_value(value));
    }
}

/// Everything wrong with an object's annotations.
pub fn validate_annotations(object: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut bytes = 0;
    for (key, value) in meta::annotations(object).into_iter().flatten() {
        errors.invalid_each(path, key, names::qualified_name(&key.to_lowercase()));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
}

fn validate_owners(object: &Value, path: &Path, errors: &mut FieldErrors) {
    let owners = object["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let mut controller: Option<String> = None;
    for owner in owners {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        if text("apiVersion").is_empty() || text("apiVersion").ends_with('/') {
            errors.invalid(&path.child("apiVersion"), text("apiVersion"), "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(field).is_empty() {
                errors.invalid(&path.child(field), "", "must not be empty");
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            errors.invalid(path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", text("kind"), text("name"));
            if let Some(first) = &controller {
                errors.invalid(
                    path,
                    Value::Array(owners.to_vec()),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                );
            } else {
                controller = Some(this);
            }
        }
    }
}

/// The finalizers of an object.
pub fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let metadata = meta::metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
}

fn validate_finalizers(object: &Value, path: &Path, errors: &mut FieldErrors) {
    let finalizers = finalizers(object);
    for finalizer in &finalizers {
        errors.invalid_each(path, finalizer, names::qualified_name(finalizer));
    }
    if finalizers.contains(&ORPHAN) && finalizers.contains(&FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.invalid(path, json!(finalizers), detail);
    }
}

/// Built-in kinds take a finalizer without a domain only where Kubernetes itself defines it.
pub fn validate_standard_finalizers(object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("metadata").child("finalizers");
    for (i, finalizer) in finalizers(object).into_iter().enumerate() {
        if !finalizer.contains('/') && ![ORPHAN, FOREGROUND, KUBERNETES].contains(&finalizer) {
            errors.invalid(&path.index(i), finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
    errors
}

/// Everything wrong with a change of metadata.
pub fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("metadata");
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (new, old) = (&new["metadata"][field], &old["metadata"][field]);
        if new != old {
            errors.invalid(&path.child(field), new.clone(), "field is immutable");
        }
    }
    if meta::deletion_timestamp(old).is_some() {
        let before: BTreeSet<&str> = finalizers(old).into_iter().collect();
        let added: Vec<&str> = finalizers(new).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
            errors.forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    list.join(", ")
                ),
            );
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u", "creationTimestamp": "t", "labels": {"a": "b"}}})
    }

    fn check(change: impl Fn(&mut Value), expected: &[&str]) {
        let mut object = pod();
        change(&mut object);
        let errors: Vec<String> = validate(&object, true, NameRule::Subdomain).iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), expected.len(), "{errors:?}");
        for (error, start) in errors.iter().zip(expected) {
            assert!(error.starts_with(start), "{error}");
        }
    }

    #[test]
    fn objects() {
        check(|_| {}, &[]);
        check(|o| o["metadata"]["name"] = json!(""), &["metadata.name: Required value: name or generateName is required"]);
        check(|o| o["metadata"]["name"] = json!("A"), &["metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain"]);
        check(|o| o["metadata"]["name"] = json!("a/b"), &["metadata.name: Invalid value", "metadata.name: Invalid value"]);
        check(|o| o["metadata"]["labels"] = json!({"a b": "x"}), &["metadata.labels: Invalid value: \"a b\": name part"]);
        check(|o| o["metadata"]["finalizers"] = json!(["orphan", "foregroundDeletion"]), &["metadata.finalizers: Invalid value"]);
        check(
            |o| o["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "x"}]),
            &["metadata.ownerReferences.uid"],
        );
    }

    #[test]
    fn finalizers_of_built_in_kinds() {
        let object = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
        assert!(validate_standard_finalizers(&object(json!(["orphan", "kubernetes", "a.b/c"]))).is_empty());
        let errors = validate_standard_finalizers(&object(json!(["a.b/c", "mine"])));
        let want = "metadata.finalizers[1]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified";
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
    }

    #[test]
    fn updates() {
        let mut new = pod();
        meta::remove_path(&mut new, &["metadata", "uid"]);
        new["metadata"]["creationTimestamp"] = json!("other");
        keep(&mut new, &pod());
        assert_eq!(new, pod());
        new["metadata"]["uid"] = json!("x");
        assert_eq!(validate_update(&new, &pod()).len(), 1);
        let mut old = pod();
        old["metadata"]["deletionTimestamp"] = json!("t");
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["a.b/c"]);
        let errors = validate_update(&new, &old);
        assert!(errors.to_string().ends_with(r#"found new finalizers []string{"a.b/c"}"#), "{errors}");
    }

    #[test]
    fn namespaces() {
        let mut object = pod();
        assert!(set_namespace(&mut object, "ns").is_ok());
        assert_eq!(set_namespace(&mut object, "other").unwrap_err().code(), 400);
        set_namespace(&mut object, "").unwrap();
        assert!(object["metadata"].get("namespace").is_none());
    }
}
