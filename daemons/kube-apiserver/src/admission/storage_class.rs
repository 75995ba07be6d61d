//! DefaultStorageClass: a claim that names no class gets the cluster's default one.

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

const DEFAULT: [&str; 2] = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) struct DefaultStorageClass;

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn mutate(&self, request: &Request<'_>, claim: &mut Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let named = claim["spec"]["storageClassName"].is_string()
            || meta::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some();
        if named {
            return Ok(());
        }
        let is_default = |class: &Value| DEFAULT.iter().any(|annotation| meta::annotation(class, annotation) == Some("true"));
        let mut classes: Vec<Value> =
            lookup.objects("storage.k8s.io", "storageclasses", "").into_iter().filter(is_default).collect();
        // Of several the newest counts; of equally new ones the first by name.
        let created = |class: &Value| meta::text(class, &["metadata", "creationTimestamp"]).to_owned();
        classes.sort_by(|a, b| created(b).cmp(&created(a)).then_with(|| meta::name(a).cmp(meta::name(b))));
        if let Some(class) = classes.first() {
            meta::set_path(claim, &["spec", "storageClassName"], json!(meta::name(class)));
        }
        Ok(())
    }
}
