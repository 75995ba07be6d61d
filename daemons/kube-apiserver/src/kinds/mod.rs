//! What is particular to a kind: defaults, preparation, validation, table columns, selectable fields.
//!
//! The registry (see `registry`) serves every kind alike and asks a [`Strategy`] for the differences. A kind says only what is
//! its own by implementing [`Rules`]; hooks it does not need have defaults, so that a kind without rules stores, lists,
//! watches and patches like any other. Nothing here does I/O or reads a clock.

use jiff::Timestamp;
use machinery::field::FieldErrors;
use schema::Resource;
use serde_json::Value;

/// One column of the table that `kubectl get` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`…
    pub kind: &'static str,
    /// `name` for the column that identifies the object, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// What a kind does differently from the generic one. Objects arrive in the version they were sent in, with known
/// fields of the right types only.
pub trait Rules: Send + Sync + 'static {
    /// Fills in what the sender left out.
    fn default(&self, _object: &mut Value) {}
    /// Removes what a creator may not set and adds what the server decides.
    fn prepare_for_create(&self, _object: &mut Value) {}
    /// The same for an update of the object (`subresource` is empty) or of a subresource.
    fn prepare_for_update(&self, _new: &mut Value, _old: &Value, _subresource: &str) {}
    /// Everything that is wrong with the object beyond its metadata.
    fn validate(&self, _object: &Value, _errors: &mut FieldErrors) {}
    /// Everything that is wrong with the change beyond what `validate` says of the new object.
    fn validate_update(&self, _new: &Value, _old: &Value, _subresource: &str, _errors: &mut FieldErrors) {}
    fn columns(&self) -> &'static [Column] {
        GENERIC_COLUMNS
    }
    /// The cells, one for each column.
    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value>;
}

const GENERIC_COLUMNS: &[Column] = &[];

/// The rules of one resource with what all kinds have in common. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Strategy {
    rules: &'static dyn Rules,
    namespaced: bool,
    has_status: bool,
}

/// The strategy of a built-in resource.
pub fn strategy(resource: &Resource) -> Strategy {
    Strategy { rules: &Generic, namespaced: resource.namespaced, has_status: resource.subresource("status").is_some() }
}

impl Strategy {
    /// The strategy of a kind without rules of its own, such as one that a CustomResourceDefinition defines.
    pub fn generic(namespaced: bool, has_status: bool) -> Self {
        Self { rules: &Generic, namespaced, has_status }
    }

    /// Fills in what the sender left out. Idempotent.
    pub fn default(&self, object: &mut Value) {
        self.rules.default(object);
    }

    /// Removes what a creator may not set (status) and sets the first generation.
    pub fn prepare_for_create(&self, object: &mut Value) {
        self.rules.prepare_for_create(object);
    }

    /// Keeps the parts that this request may not change as they were and counts the generation up. `subresource` is empty
    /// for the object itself.
    pub fn prepare_for_update(&self, new: &mut Value, old: &Value, subresource: &str) {
        self.rules.prepare_for_update(new, old, subresource);
    }

    pub fn validate_create(&self, object: &Value) -> FieldErrors {
        let mut errors = FieldErrors::default();
        self.rules.validate(object, &mut errors);
        errors
    }

    pub fn validate_update(&self, new: &Value, old: &Value, subresource: &str) -> FieldErrors {
        let mut errors = FieldErrors::default();
        self.rules.validate_update(new, old, subresource, &mut errors);
        errors
    }

    pub fn columns(&self) -> &'static [Column] {
        self.rules.columns()
    }

    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.rules.row(object, now)
    }

    /// The fields a field selector may name, with their values; `metadata.name` and `metadata.namespace` always.
    pub fn selectable_fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// A kind without rules.
struct Generic;

impl Rules for Generic {
    fn row(&self, _object: &Value, _now: Timestamp) -> Vec<Value> {
        Vec::new()
    }
}
