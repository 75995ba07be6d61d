//! StorageObjectInUseProtection: what stores data waits for its last user before it goes.

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

pub(super) struct StorageObjectInUseProtection;

/// Group, resource, and the finalizer that a controller of its own takes away.
const PROTECTED: &[(&str, &str, &str)] = &[
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn mutate(
        &self,
        request: &Request<'_>,
        object: &mut Value,
        _old: Option<&Value>,
        _lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        if request.operation == Operation::Create
            && let Some((.., finalizer)) = PROTECTED.iter().find(|(group, resource, _)| request.is(group, resource))
        {
            protect(object, finalizer);
        }
        Ok(())
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers: Vec<Value> = meta::finalizers(object).map(Value::from).collect();
    if !finalizers.iter().any(|other| other == finalizer) {
        finalizers.push(json!(finalizer));
        meta::metadata_mut(object).insert("finalizers".to_owned(), Value::Array(finalizers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once() {
        let mut claim = json!({"metadata": {"finalizers": ["mine"]}});
        protect(&mut claim, "x/protection");
        protect(&mut claim, "x/protection");
        assert_eq!(claim["metadata"]["finalizers"], json!(["mine", "x/protection"]));
    }
}
