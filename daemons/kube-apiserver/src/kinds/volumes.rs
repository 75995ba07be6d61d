//! PersistentVolume and PersistentVolumeClaim.

use machinery::field::{FieldErrors, Path};
use serde_json::{Value, json};

use super::Rules;
use super::table::{AGE, Column, NAME, Row, column, wide};
use super::validate::{self, one_of, required};
use super::value::{entries, fill, has, object_in, restore, set, text, texts};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct PersistentVolume;

impl Rules for PersistentVolume {
    fn default(&self, volume: &mut Value) {
        fill(object_in(volume, "status"), "phase", "Pending");
    }

    fn prepare_for_create(&self, volume: &mut Value) {
        let created = volume["metadata"]["creationTimestamp"].clone();
        set(volume, "status", json!({"phase": "Pending", "lastPhaseTransitionTime": created}));
    }

    fn validate(&self, volume: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&volume["spec"], Path::new("spec"));
        access_modes(spec, "", &path, errors);
        if entries(spec, "/capacity").next().is_none() {
            errors.required(&path.child("capacity"), "");
            errors.not_supported(&path.child("capacity"), Value::Null, &["storage"]);
        }
        for (name, value) in entries(spec, "/capacity") {
            if name == "storage" {
                validate::quantity(value, &path.child("capacity").key(name), errors);
            } else {
                errors.not_supported(&path.child("capacity"), json!(spec["capacity"]), &["storage"]);
            }
        }
        one_of(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], &path, errors);
        one_of(spec, "volumeMode", &["Block", "Filesystem"], &path, errors);
        const PLAIN: &[&str] = &[
            "accessModes",
            "capacity",
            "claimRef",
            "mountOptions",
            "nodeAffinity",
            "persistentVolumeReclaimPolicy",
            "storageClassName",
            "volumeAttributesClassName",
            "volumeMode",
        ];
        let sources: Vec<&String> =
            spec.as_object().into_iter().flatten().map(|(field, _)| field).filter(|f| !PLAIN.contains(&f.as_str())).collect();
        match sources.as_slice() {
            [] => errors.required(&path, "must specify a volume type"),
            [_, more @ ..] => {
                for source in more {
                    errors.forbidden(&path.child(source), "may not specify more than 1 volume type");
                }
            }
        }
        if has(spec, "/hostPath") {
            required(&spec["hostPath"], "path", &path.child("hostPath"), errors);
        }
        if has(spec, "/local") && !has(spec, "/nodeAffinity") {
            errors.required(&Path::new("metadata").child("annotations"), "Local volume requires node affinity");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if !subresource.is_empty() {
            return;
        }
        const MUTABLE: &[&str] = &[
            "accessModes",
            "capacity",
            "claimRef",
            "mountOptions",
            "nodeAffinity",
            "persistentVolumeReclaimPolicy",
            "storageClassName",
            "volumeAttributesClassName",
            "volumeMode",
        ];
        let mut masked = new["spec"].clone();
        for field in MUTABLE {
            restore(&mut masked, &old["spec"], field);
        }
        let path = Path::new("spec");
        if masked != old["spec"] {
            errors.forbidden(&path.child("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation");
        }
        validate::immutable(&new["spec"]["volumeMode"], &old["spec"]["volumeMode"], &path.child("volumeMode"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Capacity", |row| row.text_or("/spec/capacity/storage", "0"))
                .of("api.core.v1.PersistentVolumeSpec", "capacity"),
            column("Access Modes", |row| short_modes(row.object, "/spec/accessModes").into())
                .of("api.core.v1.PersistentVolumeSpec", "accessModes"),
            column("Reclaim Policy", |row| row.text("/spec/persistentVolumeReclaimPolicy"))
                .of("api.core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy"),
            column("Status", phase).of("api.core.v1.PersistentVolumeStatus", "phase"),
            column("Claim", |row| {
                if !row.has("/spec/claimRef") {
                    return "".into();
                }
                format!("{}/{}", text(row.object, "/spec/claimRef/namespace"), text(row.object, "/spec/claimRef/name")).into()
            })
            .of("api.core.v1.PersistentVolumeSpec", "claimRef"),
            column("StorageClass", |row| class(row.object).into()).says("StorageClass of the pv"),
            column("VolumeAttributesClass", |row| row.text_or("/spec/volumeAttributesClassName", "<unset>"))
                .says("VolumeAttributesClass of the pv"),
            column("Reason", |row| row.text("/status/reason")).of("api.core.v1.PersistentVolumeStatus", "reason"),
            AGE,
            wide("VolumeMode", |row| row.text_or("/spec/volumeMode", "<unset>"))
                .of("api.core.v1.PersistentVolumeSpec", "volumeMode"),
        ];
        COLUMNS
    }
}

fn access_modes(spec: &Value, why: &str, path: &Path, errors: &mut FieldErrors) {
    let modes = texts(spec, "/accessModes");
    let path = path.child("accessModes");
    if modes.is_empty() {
        errors.required(&path, why);
    }
    for mode in &modes {
        if !MODES.contains(mode) {
            errors.not_supported(&path, *mode, MODES);
        }
    }
    if modes.len() > 1 && modes.contains(&"ReadWriteOncePod") {
        errors.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The modes by their short names, in a fixed order, each once.
fn short_modes(object: &Value, pointer: &str) -> String {
    let modes = texts(object, pointer);
    let short = [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let names: Vec<&str> = short.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| *short).collect();
    names.join(",")
}

fn class(object: &Value) -> &str {
    match object.pointer("/metadata/annotations").and_then(|a| a.get(OLD_CLASS)).and_then(Value::as_str) {
        Some(class) => class,
        None => text(object, "/spec/storageClassName"),
    }
}

fn phase(row: &Row<'_>) -> Value {
    if row.is_deleted() { "Terminating".into() } else { row.text("/status/phase") }
}

pub(super) struct PersistentVolumeClaim;

impl Rules for PersistentVolumeClaim {
    fn prepare_for_create(&self, claim: &mut Value) {
        set(claim, "status", json!({"phase": "Pending"}));
    }

    fn validate(&self, claim: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&claim["spec"], Path::new("spec"));
        access_modes(spec, "at least 1 access mode is required", &path, errors);
        one_of(spec, "volumeMode", &["Block", "Filesystem"], &path, errors);
        if let Some(selector) = spec.get("selector") {
            validate::label_selector(selector, &path.child("selector"), errors);
        }
        let requests = path.child("resources");
        match spec.pointer("/resources/requests/storage") {
            None => errors.required(&requests.key("storage"), ""),
            Some(value) => {
                let quantity = machinery::quantity::Quantity::from_value(value);
                if quantity.as_ref().is_ok_and(|q| q.is_zero() || q.is_negative()) {
                    errors.invalid(&requests.key("storage"), value.clone(), "must be greater than zero");
                }
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if !subresource.is_empty() {
            return;
        }
        let path = Path::new("spec");
        let mut masked = new["spec"].clone();
        // The volume is chosen once; a bound claim may grow.
        if text(old, "/spec/volumeName").is_empty() {
            restore(&mut masked, &old["spec"], "volumeName");
        }
        if text(old, "/status/phase") == "Bound" {
            restore(&mut masked, &old["spec"], "resources");
            let size = |claim: &Value| {
                claim.pointer("/spec/resources/requests/storage").and_then(|q| machinery::quantity::Quantity::from_value(q).ok())
            };
            let capacity =
                old.pointer("/status/capacity/storage").and_then(|q| machinery::quantity::Quantity::from_value(q).ok());
            if let (Some(after), Some(before)) = (size(new), size(old))
                && after < before
                && capacity.is_none_or(|capacity| after < capacity)
            {
                let path = path.child("resources").child("requests").child("storage");
                errors.forbidden(&path, "field can not be less than status.capacity");
            }
        }
        restore(&mut masked, &old["spec"], "volumeAttributesClassName");
        if !has(old, "/spec/storageClassName") {
            restore(&mut masked, &old["spec"], "storageClassName");
        }
        if masked != old["spec"] {
            let detail =
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
            errors.forbidden(&path, detail);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Status", phase).of("api.core.v1.PersistentVolumeClaimStatus", "phase"),
            column("Volume", |row| row.text("/spec/volumeName")).of("api.core.v1.PersistentVolumeClaimSpec", "volumeName"),
            column("Capacity", |row| if is_bound(row.object) { row.text_or("/status/capacity/storage", "0") } else { "".into() })
                .of("api.core.v1.PersistentVolumeClaimStatus", "capacity"),
            column("Access Modes", |row| {
                if is_bound(row.object) { short_modes(row.object, "/status/accessModes").into() } else { "".into() }
            })
            .of("api.core.v1.PersistentVolumeClaimStatus", "accessModes"),
            column("StorageClass", |row| class(row.object).into()).says("StorageClass of the pvc"),
            column("VolumeAttributesClass", |row| row.text_or("/spec/volumeAttributesClassName", "<unset>"))
                .says("VolumeAttributesClass of the pvc"),
            AGE,
            wide("VolumeMode", |row| row.text_or("/spec/volumeMode", "<unset>"))
                .of("api.core.v1.PersistentVolumeClaimSpec", "volumeMode"),
        ];
        COLUMNS
    }
}

fn is_bound(claim: &Value) -> bool {
    !text(claim, "/spec/volumeName").is_empty()
}
