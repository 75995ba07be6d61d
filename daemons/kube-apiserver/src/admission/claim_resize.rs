//! PersistentVolumeClaimResize: a claim grows when it is bound and its class allows it.

use machinery::quantity::Quantity;
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

pub(super) struct PersistentVolumeClaimResize;

impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validate(&self, request: &Request<'_>, claim: &Value, old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        match old {
            Some(old) if request.operation == Operation::Update && request.is("", "persistentvolumeclaims") => {
                check(claim, old, lookup).map_err(|why| request.forbidden(why))
            }
            _ => Ok(()),
        }
    }
}

fn check(claim: &Value, old: &Value, lookup: &dyn Lookup) -> Result<(), &'static str> {
    let size = |claim: &Value| Quantity::from_value(&claim["spec"]["resources"]["requests"]["storage"]).unwrap_or_default();
    if size(claim) <= size(old) {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err("Only bound persistent volume claims can be expanded");
    }
    let class = |claim: &Value| {
        let annotated = machinery::meta::annotation(claim, "volume.beta.kubernetes.io/storage-class");
        annotated.or_else(|| claim["spec"]["storageClassName"].as_str()).unwrap_or_default().to_owned()
    };
    let name = class(claim);
    let allowed = !name.is_empty()
        && name == class(old)
        && lookup
            .object("storage.k8s.io", "storageclasses", "", &name)
            .is_some_and(|class| class["allowVolumeExpansion"] == true);
    if allowed {
        return Ok(());
    }
    Err("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lookup::Fixed;

    #[test]
    fn who_may_grow() {
        let lookup = Fixed(vec![
            ("storageclasses", json!({"metadata": {"name": "grows"}, "allowVolumeExpansion": true})),
            ("storageclasses", json!({"metadata": {"name": "fixed"}})),
        ]);
        let claim = |class: &str, size: &str, phase: &str| json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}});
        for (class, from, to, phase, allowed) in [
            ("grows", "1Gi", "2Gi", "Bound", true),
            ("grows", "1Gi", "2Gi", "Pending", false),
            ("fixed", "1Gi", "2Gi", "Bound", false),
            ("gone", "1Gi", "2Gi", "Bound", false),
            ("", "1Gi", "2Gi", "Bound", false),
            ("fixed", "2Gi", "2Gi", "Pending", true),
        ] {
            let result = check(&claim(class, to, phase), &claim(class, from, phase), &lookup);
            assert_eq!(result.is_ok(), allowed, "{class} {from} {to} {phase}");
        }
    }
}
