//! ResourceQuota and LimitRange.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::Rules;
use super::table::{AGE, Column, NAME, column};
use super::validate;
use super::value::{entries, items, text};

pub(super) struct ResourceQuota;

impl Rules for ResourceQuota {
    fn validate(&self, quota: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("hard");
        for (name, value) in entries(quota, "/spec/hard") {
            errors.invalid_each(&path.key(name), name, names::qualified_name(name));
            validate::quantity(value, &path.key(name), errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Request", |row| usage(row.object, false).into()),
            column("Limit", |row| usage(row.object, true).into()),
            AGE,
        ];
        COLUMNS
    }
}

/// `name: used/hard` of the resources that are limits, or of those that are not.
fn usage(quota: &Value, limits: bool) -> String {
    let used = |name: &str| match quota["status"]["used"].get(name).and_then(Value::as_str) {
        Some(used) => used.to_owned(),
        None => "0".to_owned(),
    };
    let all = entries(quota, "/status/hard").filter(|(name, _)| name.starts_with("limits.") == limits);
    let shown: Vec<String> =
        all.map(|(name, hard)| format!("{name}: {}/{}", used(name), hard.as_str().unwrap_or_default())).collect();
    shown.join(", ")
}

pub(super) struct LimitRange;

impl Rules for LimitRange {
    fn validate(&self, range: &Value, errors: &mut FieldErrors) {
        let mut kinds = Vec::new();
        for (index, limit) in items(range, "/spec/limits").iter().enumerate() {
            let path = Path::new("spec").child("limits").index(index);
            let kind = text(limit, "/type");
            errors.invalid_each(&path.child("type"), kind, names::qualified_name(kind));
            if kinds.contains(&kind) {
                errors.duplicate(&path.child("type"), kind);
            }
            kinds.push(kind);
            for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
                for (name, value) in entries(limit, &format!("/{field}")) {
                    validate::quantity(value, &path.child(field).key(name), errors);
                }
            }
            for (name, min) in entries(limit, "/min") {
                let parse = |value: &Value| machinery::quantity::Quantity::from_value(value).ok();
                let max = limit["max"].get(name).and_then(parse);
                if let (Some(min), Some(max)) = (parse(min), max)
                    && min > max
                {
                    let detail = format!("min value {} is greater than max value {}", min.canonical(), max.canonical());
                    errors.invalid(&path.child("min").key(name), min.canonical(), detail);
                }
            }
        }
    }
}
