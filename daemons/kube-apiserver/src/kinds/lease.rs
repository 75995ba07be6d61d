//! Lease.

use machinery::field::{FieldErrors, Path};
use serde_json::Value;

use super::Rules;
use super::table::{AGE, Column, NAME, column};
use super::value::number;

pub(super) struct Lease;

impl Rules for Lease {
    fn validate(&self, lease: &Value, errors: &mut FieldErrors) {
        let spec = Path::new("spec");
        for (field, min, detail) in
            [("leaseDurationSeconds", 1, "must be greater than 0"), ("leaseTransitions", 0, "must be greater than or equal to 0")]
        {
            if let Some(value) = number(lease, &format!("/spec/{field}")).filter(|value| *value < min) {
                errors.invalid(&spec.child(field), value, detail);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Holder", |row| row.text("/spec/holderIdentity")).of("api.coordination.v1.LeaseSpec", "holderIdentity"),
            AGE,
        ];
        COLUMNS
    }
}
