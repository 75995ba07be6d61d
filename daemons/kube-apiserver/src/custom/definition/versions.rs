//! The versions of a definition: their names, and what each of them or all in common declare.

use std::collections::BTreeSet;

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
use serde_json::{Value, json};

use super::{list, schema, text};

const SELECTABLE_FIELDS_MAX: usize = 8;
const WARNING_BYTES_MAX: usize = 256;

/// The value of a field that all versions have alike.
fn common<'d>(versions: &'d [Value], field: &str) -> Option<&'d Value> {
    let first = versions.first()?.get(field).filter(|value| is_set(value))?;
    versions.iter().all(|version| version.get(field) == Some(first)).then_some(first)
}

fn is_set(value: &Value) -> bool {
    !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty())
}

/// What each version says of itself.
pub(super) fn check(definition: &Value, path: &Path, errors: &mut FieldErrors) {
    let spec = &definition["spec"];
    let versions = list(&spec["versions"]);
    let at = path.child("versions");
    let has_schema = |version: &Value| version["schema"]["openAPIV3Schema"].is_object();
    for (index, _) in versions.iter().enumerate().filter(|(_, version)| !has_schema(version)) {
        errors.required(&at.index(index).child("schema").child("openAPIV3Schema"), "");
    }
    let preserves = spec["preserveUnknownFields"] == true;
    if preserves
        && versions.iter().any(|version| schema::any(&version["schema"]["openAPIV3Schema"], &|s| s.get("default").is_some()))
    {
        let detail = "must be false in order to use defaults in the schema";
        errors.invalid(&path.child("preserveUnknownFields"), true, detail);
    }
    let schema_is_common = common(versions, "schema").is_some();
    for (index, version) in versions.iter().enumerate() {
        let path = at.index(index);
        let name = text(&version["name"]);
        let wrong = names::dns1035_label(name);
        if !wrong.is_empty() {
            errors.invalid(&path.child("name"), name, wrong.join(","));
        }
        check_warning(version, &path.child("deprecationWarning"), errors);
        if !schema_is_common {
            let status = version["subresources"]["status"].is_object();
            schema::check(&version["schema"], status, &path.child("schema"), errors);
        }
        if common(versions, "subresources").is_none() {
            check_subresources(&version["subresources"], &path.child("subresources"), errors);
        }
        if common(versions, "additionalPrinterColumns").is_none() {
            check_columns(version, &path, errors);
        }
        if common(versions, "selectableFields").is_none() {
            check_selectable(&version["selectableFields"], &version["schema"], &path.child("selectableFields"), errors);
        }
    }
    let unique: BTreeSet<&str> = versions.iter().map(|version| text(&version["name"])).collect();
    if unique.len() != versions.len() {
        errors.invalid(&at, json!(versions), "must contain unique version names");
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        errors.invalid(&at, json!(versions), "must have exactly one version marked as storage version");
    }
}

/// What all versions have alike.
pub(super) fn check_common(definition: &Value, path: &Path, errors: &mut FieldErrors) {
    let versions = list(&definition["spec"]["versions"]);
    if let Some(schema) = common(versions, "schema") {
        let status = versions.iter().any(|version| version["subresources"]["status"].is_object());
        schema::check(schema, status, &path.child("validation"), errors);
    }
    if let Some(subresources) = common(versions, "subresources") {
        check_subresources(subresources, &path.child("subresources"), errors);
    }
    if common(versions, "additionalPrinterColumns").is_some()
        && let Some(version) = versions.first()
    {
        check_columns(version, path, errors);
    }
    if let (Some(fields), Some(version)) = (common(versions, "selectableFields"), versions.first()) {
        check_selectable(fields, &version["schema"], &path.child("selectableFields"), errors);
    }
}

fn check_warning(version: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    if version["deprecated"] != true {
        return errors.invalid(path, warning, "can only be set for deprecated versions");
    }
    if warning.len() > WARNING_BYTES_MAX {
        errors.invalid(path, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(path, warning, "must not be an empty string");
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let detail = format!("must only contain printable UTF-8 characters; non-printable character found at index {index}");
        errors.invalid(path, warning, detail);
    }
}

fn check_subresources(subresources: &Value, path: &Path, errors: &mut FieldErrors) {
    let scale = &subresources["scale"];
    if !scale.is_object() {
        return;
    }
    let paths: [(&str, &[&str], &str, bool); 3] = [
        ("specReplicasPath", &[".spec."], "should be a json path under .spec", true),
        ("statusReplicasPath", &[".status."], "should be a json path under .status", true),
        ("labelSelectorPath", &[".spec.", ".status."], "should be a json path under either .spec or .status", false),
    ];
    for (field, prefixes, detail, required) in paths {
        let (value, path) = (text(&scale[field]), path.child(&format!("scale.{field}")));
        match value {
            "" if required => errors.required(&path, ""),
            "" => {}
            value if !value.starts_with('.') => errors.invalid(&path, value, NOT_SIMPLE),
            value if !prefixes.iter().any(|prefix| value.starts_with(prefix)) => errors.invalid(&path, value, detail),
            _ => {}
        }
    }
}

const NOT_SIMPLE: &str = "must be a simple json path starting with .";

fn check_columns(version: &Value, path: &Path, errors: &mut FieldErrors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (index, column) in list(&version["additionalPrinterColumns"]).iter().enumerate() {
        let path = path.child("additionalPrinterColumns").index(index);
        if text(&column["name"]).is_empty() {
            errors.required(&path.child("name"), "");
        }
        let kind = text(&column["type"]);
        if kind.is_empty() {
            errors.required(&path.child("type"), format!("must be one of {}", TYPES.join(",")));
        } else if !TYPES.contains(&kind) {
            errors.invalid(&path.child("type"), kind, format!("must be one of {}", TYPES.join(",")));
        }
        let format = text(&column["format"]);
        if !format.is_empty() && !FORMATS.contains(&format) {
            errors.invalid(&path.child("format"), format, format!("must be one of {}", FORMATS.join(",")));
        }
        match text(&column["jsonPath"]) {
            "" => errors.required(&path.child("JSONPath"), ""),
            json_path if !json_path.starts_with('.') => errors.invalid(&path.child("JSONPath"), json_path, NOT_SIMPLE),
            _ => {}
        }
    }
}

fn check_selectable(fields: &Value, schema: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut unique = BTreeSet::new();
    for (index, field) in list(fields).iter().enumerate() {
        let (json_path, path) = (text(&field["jsonPath"]), path.index(index).child("jsonPath"));
        if json_path.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let found = match resolve(json_path, &schema["openAPIV3Schema"]) {
            Ok(found) => found,
            Err(why) => {
                errors.invalid(&path, json_path, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if json_path.starts_with(".metadata.") || json_path == ".metadata" {
            errors.invalid(&path, json_path, "must not point to fields in metadata");
        }
        if !matches!(text(&found["type"]), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.invalid(&path, json_path, detail);
        }
        if !unique.insert(json_path) {
            errors.push(FieldError::duplicate(&path, json_path));
        }
    }
    if unique.len() > SELECTABLE_FIELDS_MAX {
        errors.push(FieldError::too_many(path, unique.len(), SELECTABLE_FIELDS_MAX));
    }
}

/// The schema of the field at a path of names.
fn resolve<'s>(path: &str, schema: &'s Value) -> Result<&'s Value, &'static str> {
    if path.contains('[') {
        return Err("array notation is not allowed");
    }
    let Some(names) = path.strip_prefix('.') else { return Err("expected [ or . but got something else") };
    names.split('.').try_fold(schema, |schema, name| match name {
        "" => Err("unexpected end of JSON path"),
        name => schema["properties"].get(name).ok_or("does not refer to a valid field"),
    })
}
