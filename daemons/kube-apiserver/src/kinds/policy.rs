//! PodDisruptionBudget.

use machinery::field::{FieldErrors, Path};
use serde_json::{Value, json};

use super::Rules;
use super::table::{AGE, Column, NAME, Row, column, integer};
use super::validate::{self, one_of};
use super::value::{has, set};

pub(super) struct PodDisruptionBudget;

impl Rules for PodDisruptionBudget {
    fn prepare_for_create(&self, budget: &mut Value) {
        let status = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
        set(budget, "status", status);
    }

    fn validate(&self, budget: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&budget["spec"], Path::new("spec"));
        if has(spec, "/minAvailable") && has(spec, "/maxUnavailable") {
            errors.invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
        }
        for field in ["minAvailable", "maxUnavailable"] {
            if let Some(value) = spec.get(field) {
                validate::int_or_percent(value, &path.child(field), errors);
                validate::at_most_all(value, &path.child(field), errors);
            }
        }
        if let Some(selector) = spec.get("selector") {
            validate::label_selector(selector, &path.child("selector"), errors);
        }
        one_of(spec, "unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"], &path, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Min Available", |row| amount(row, "/spec/minAvailable"))
                .says("The minimum number of pods that must be available."),
            column("Max Unavailable", |row| amount(row, "/spec/maxUnavailable"))
                .says("The maximum number of pods that may be unavailable."),
            integer("Allowed Disruptions", |row| row.int("/status/disruptionsAllowed"))
                .says("Calculated number of pods that may be disrupted at this time."),
            AGE,
        ];
        COLUMNS
    }
}

fn amount(row: &Row<'_>, pointer: &str) -> Value {
    match row.object.pointer(pointer) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Number(number)) => number.to_string().into(),
        _ => "N/A".into(),
    }
}
