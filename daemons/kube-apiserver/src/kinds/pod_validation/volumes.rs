//! Volumes and their sources.

use std::collections::BTreeMap;

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use crate::kinds::validate::{one_of, required};
use crate::kinds::value::{items, number, text};

pub(super) const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Checks the volumes; their names, with the names of their sources.
pub(super) fn volumes<'a>(volumes: &'a [Value], path: &Path, errors: &mut FieldErrors) -> BTreeMap<&'a str, &'a str> {
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

pub(super) fn volume_source(kind: &str, source: &Value, path: &Path, errors: &mut FieldErrors) {
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
pub(super) fn key_paths(source: &Value, path: &Path, errors: &mut FieldErrors) {
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
pub(super) fn local_path(value: &str, path: &Path, errors: &mut FieldErrors) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}
