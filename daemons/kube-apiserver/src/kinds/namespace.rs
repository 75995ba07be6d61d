//! Namespace.

use machinery::field::{FieldErrors, Path};
use machinery::{meta, names};
use serde_json::{Value, json};

use super::table::{AGE, Column, NAME, column};
use super::value::{fill, items, object_in, restore, set, text};
use super::{Rules, Selectable};

const FINALIZER: &str = "kubernetes";

pub(super) struct Namespace;

impl Rules for Namespace {
    fn default(&self, namespace: &mut Value) {
        let name = meta::name(namespace).to_owned();
        if !name.is_empty() {
            let labels = object_in(object_in(namespace, "metadata"), "labels");
            set(labels, "kubernetes.io/metadata.name", name);
        }
        object_in(namespace, "spec");
        fill(object_in(namespace, "status"), "phase", "Active");
    }

    /// The content of a namespace goes before it: that is what the finalizer waits for.
    fn prepare_for_create(&self, namespace: &mut Value) {
        set(namespace, "status", json!({"phase": "Active"}));
        let spec = object_in(namespace, "spec");
        if !items(spec, "/finalizers").iter().any(|finalizer| finalizer == FINALIZER) {
            match spec.get_mut("finalizers").and_then(Value::as_array_mut) {
                Some(finalizers) => finalizers.push(json!(FINALIZER)),
                None => set(spec, "finalizers", json!([FINALIZER])),
            }
        }
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value, subresource: &str) {
        match subresource {
            "" => {
                let finalizers = old["spec"].clone();
                restore(object_in(new, "spec"), &finalizers, "finalizers");
            }
            "finalize" => restore(new, old, "status"),
            _ => {}
        }
    }

    fn validate(&self, namespace: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("finalizers");
        for finalizer in items(namespace, "/spec/finalizers").iter().filter_map(Value::as_str) {
            errors.invalid_each(&path, finalizer, names::qualified_name(finalizer));
            if !finalizer.contains('/') && finalizer != FINALIZER {
                errors.invalid(&path, finalizer, "name is neither a standard finalizer name nor is it fully qualified");
            }
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource == "status" {
            let phase = text(new, "/status/phase");
            let path = Path::new("status").child("Phase");
            match (meta::deletion_timestamp(new).is_some(), phase) {
                (false, "Active") | (true, "Terminating") => {}
                (false, _) => errors.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty"),
                (true, _) => errors.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"),
            }
        }
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[("status.phase", |namespace| text(namespace, "/status/phase").to_owned())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column("Status", |row| row.text("/status/phase")).says("The status of the namespace"), AGE];
        COLUMNS
    }
}
