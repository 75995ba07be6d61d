//! The storage group: classes, drivers, attachments.

use machinery::field::{FieldErrors, Path};
use serde_json::{Value, json};

use super::Rules;
use super::table::{AGE, Column, NAME, boolean, column, integer};
use super::validate::{self, one_of, required};
use super::value::{has, items, object_in, text, texts, truth};

const IS_DEFAULT: &[&str] = &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) struct StorageClass;

impl Rules for StorageClass {
    fn validate(&self, class: &Value, errors: &mut FieldErrors) {
        let root = Path::root();
        required(class, "provisioner", &root, errors);
        one_of(class, "reclaimPolicy", &["Delete", "Retain"], &root, errors);
        one_of(class, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], &root, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        for field in ["parameters", "provisioner", "reclaimPolicy"] {
            if new.get(field) != old.get(field) {
                errors.forbidden(&Path::new(field), "updates to provisioner are forbidden.".replace("provisioner", field));
            }
        }
        validate::immutable(&new["volumeBindingMode"], &old["volumeBindingMode"], &Path::new("volumeBindingMode"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column { cell: |row| named(row.object, IS_DEFAULT).into(), ..NAME },
            column("Provisioner", |row| row.text("/provisioner")).of("api.storage.v1.StorageClass", "provisioner"),
            column("ReclaimPolicy", |row| row.text_or("/reclaimPolicy", "Delete"))
                .of("api.storage.v1.StorageClass", "reclaimPolicy"),
            column("VolumeBindingMode", |row| row.text_or("/volumeBindingMode", "Immediate"))
                .of("api.storage.v1.StorageClass", "volumeBindingMode"),
            column("AllowVolumeExpansion", |row| row.truth("/allowVolumeExpansion"))
                .of("api.storage.v1.StorageClass", "allowVolumeExpansion"),
            AGE,
        ];
        COLUMNS
    }
}

/// The name, marked when the class is the default one.
pub(super) fn named(class: &Value, annotations: &[&str]) -> String {
    let own = &class["metadata"]["annotations"];
    let is_default = annotations.iter().any(|annotation| own.get(annotation).is_some_and(|value| value == "true"));
    let name = text(class, "/metadata/name");
    if is_default { format!("{name} (default)") } else { name.to_owned() }
}

pub(super) struct CsiDriver;

impl Rules for CsiDriver {
    fn default(&self, driver: &mut Value) {
        object_in(driver, "spec");
    }

    fn validate(&self, driver: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        one_of(&driver["spec"], "fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"], &path, errors);
        for mode in texts(driver, "/spec/volumeLifecycleModes") {
            let modes = ["Ephemeral", "Persistent"];
            if !modes.contains(&mode) {
                errors.not_supported(&path.child("volumeLifecycleModes"), mode, &modes);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            boolean("AttachRequired", |row| {
                (!row.has("/spec/attachRequired") || truth(row.object, "/spec/attachRequired")).into()
            })
            .of("api.storage.v1.CSIDriverSpec", "attachRequired"),
            boolean("PodInfoOnMount", |row| row.truth("/spec/podInfoOnMount"))
                .of("api.storage.v1.CSIDriverSpec", "podInfoOnMount"),
            boolean("StorageCapacity", |row| row.truth("/spec/storageCapacity"))
                .of("api.storage.v1.CSIDriverSpec", "storageCapacity"),
            column("TokenRequests", |row| {
                if !row.has("/spec/tokenRequests") {
                    return "<unset>".into();
                }
                let audiences: Vec<&str> =
                    items(row.object, "/spec/tokenRequests").iter().map(|t| text(t, "/audience")).collect();
                audiences.join(",").into()
            })
            .of("api.storage.v1.CSIDriverSpec", "tokenRequests"),
            boolean("RequiresRepublish", |row| row.truth("/spec/requiresRepublish"))
                .of("api.storage.v1.CSIDriverSpec", "requiresRepublish"),
            column("Modes", |row| match texts(row.object, "/spec/volumeLifecycleModes").join(",") {
                modes if modes.is_empty() => "<none>".into(),
                modes => modes.into(),
            })
            .of("api.storage.v1.CSIDriverSpec", "volumeLifecycleModes"),
            AGE,
        ];
        COLUMNS
    }
}

pub(super) struct VolumeAttachment;

impl Rules for VolumeAttachment {
    fn prepare_for_create(&self, attachment: &mut Value) {
        super::value::set(attachment, "status", json!({"attached": false}));
    }

    fn validate(&self, attachment: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        required(&attachment["spec"], "attacher", &path, errors);
        required(&attachment["spec"], "nodeName", &path, errors);
        let sources = ["/spec/source/persistentVolumeName", "/spec/source/inlineVolumeSpec"];
        match sources.iter().filter(|source| has(attachment, source)).count() {
            0 => errors.required(&path.child("source"), "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
            1 => {}
            _ => errors.forbidden(&path.child("source"), "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        validate::immutable(&new["spec"], &old["spec"], &Path::new("spec"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            Column {
                format: "name",
                ..column("Attacher", |row| row.text("/spec/attacher")).of("api.storage.v1.VolumeAttachmentSpec", "attacher")
            },
            column("PV", |row| row.text("/spec/source/persistentVolumeName"))
                .of("api.storage.v1.VolumeAttachmentSource", "persistentVolumeName"),
            column("Node", |row| row.text("/spec/nodeName")).of("api.storage.v1.VolumeAttachmentSpec", "nodeName"),
            boolean("Attached", |row| row.truth("/status/attached")).of("api.storage.v1.VolumeAttachmentStatus", "attached"),
            AGE,
        ];
        COLUMNS
    }
}

pub(super) const CSI_NODE: &[Column] = &[
    NAME,
    integer("Drivers", |row| row.count("/spec/drivers"))
        .says("Drivers indicates the number of CSI drivers registered on the node"),
    AGE,
];

pub(super) const VOLUME_ATTRIBUTES_CLASS: &[Column] =
    &[NAME, column("DriverName", |row| row.text("/driverName")).of("api.storage.v1.VolumeAttributesClass", "driverName"), AGE];
