//! PriorityClass and RuntimeClass.

use machinery::field::{FieldErrors, Path};
use machinery::{meta, names};
use serde_json::Value;

use super::Rules;
use super::table::{AGE, Column, NAME, boolean, column, integer};
use super::validate::{self, one_of};
use super::value::{int, text};

/// Higher priorities belong to the system's own classes.
const USER_PRIORITY_MAX: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";

pub(super) struct PriorityClass;

impl Rules for PriorityClass {
    fn validate(&self, class: &Value, errors: &mut FieldErrors) {
        let (name, value) = (meta::name(class), int(class, "/value"));
        let path = Path::new("metadata").child("name");
        if name.starts_with(SYSTEM_PREFIX) {
            let known = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
            if !known.contains(&(name, value)) {
                let detail = "priority class names with 'system-' prefix are reserved for system use only";
                errors.forbidden(&path, format!("{detail}. error: {name} is not a known system priority class"));
            }
        } else if value > USER_PRIORITY_MAX {
            let detail = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
            errors.forbidden(&Path::new("value"), detail);
        }
        one_of(class, "preemptionPolicy", &["PreemptLowerPriority", "Never"], &Path::root(), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        if int(new, "/value") != int(old, "/value") {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        let path = Path::new("preemptionPolicy");
        validate::immutable(&new["preemptionPolicy"], &old["preemptionPolicy"], &path, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Value", |row| row.int("/value")).of("api.scheduling.v1.PriorityClass", "value"),
            boolean("Global-Default", |row| row.truth("/globalDefault")).of("api.scheduling.v1.PriorityClass", "globalDefault"),
            AGE,
            column("PreemptionPolicy", |row| row.text("/preemptionPolicy"))
                .of("api.scheduling.v1.PriorityClass", "preemptionPolicy"),
        ];
        COLUMNS
    }
}

pub(super) struct RuntimeClass;

impl Rules for RuntimeClass {
    fn validate(&self, class: &Value, errors: &mut FieldErrors) {
        let handler = text(class, "/handler");
        errors.invalid_each(&Path::new("handler"), handler, names::dns1123_label(handler));
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        validate::immutable(&new["handler"], &old["handler"], &Path::new("handler"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Handler", |row| row.text("/handler")), AGE];
        COLUMNS
    }
}
