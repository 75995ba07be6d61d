//! Facts about volumes, claims and classes that several of these controllers ask for. Pure.

use api::core::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use api::storage::StorageClass;
use api::{Kind, Quantity};
use machinery::quantity::Quantity as Amount;

pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub(super) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub(super) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
pub(super) const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const DEFAULT_CLASS_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

pub(super) fn annotation<'a, K: Kind>(object: &'a K, key: &str) -> Option<&'a str> {
    object.meta().annotations.as_ref()?.get(key).map(String::as_str)
}

pub(super) fn annotate<K: Kind>(object: &mut K, key: &str, value: &str) {
    object.meta_mut().annotations.get_or_insert_default().insert(key.into(), value.into());
}

/// The class that a claim asks for; empty when it asks for none.
pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let spec = || claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotation(claim, CLASS_BETA).or_else(spec).unwrap_or_default()
}

/// Whether nobody has said anything about the class.
pub(super) fn has_no_class(claim: &PersistentVolumeClaim) -> bool {
    annotation(claim, CLASS_BETA).is_none() && claim.spec.as_ref().is_none_or(|s| s.storage_class_name.is_none())
}

pub(super) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let spec = || volume.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotation(volume, CLASS_BETA).or_else(spec).unwrap_or_default()
}

/// The class for claims that name none: of several the youngest.
pub(super) fn default_class(classes: &[StorageClass]) -> Option<&StorageClass> {
    let is_default =
        |c: &&StorageClass| [DEFAULT_CLASS, DEFAULT_CLASS_BETA].iter().any(|key| annotation(*c, key) == Some("true"));
    let age = |c: &&StorageClass| (c.metadata.creation_timestamp.as_ref().map(|t| t.0), std::cmp::Reverse(c.name().to_owned()));
    classes.iter().filter(is_default).max_by_key(age)
}

pub(super) fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Bytes; 0 when nothing is said, or nothing that can be read.
pub(super) fn storage(amounts: Option<&std::collections::BTreeMap<String, Quantity>>) -> i64 {
    let amount = amounts.and_then(|a| a.get("storage")).and_then(|q| Amount::parse(&q.0).ok());
    amount.map_or(0, |a| a.value())
}

pub(super) fn volume_mode(mode: Option<&String>) -> &str {
    mode.map_or("Filesystem", String::as_str)
}

/// The claim of a pod's volume: named, or the one that is made for the pod.
pub(super) fn claim_name(pod: &str, volume: &Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.clone());
    named.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name)))
}

/// The claims that a pod's volumes name.
pub(super) fn claims_of(pod: &Pod) -> impl Iterator<Item = (&Volume, String)> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(|v| Some((v, claim_name(pod.name(), v)?)))
}

/// The index of pods by the claims that they name, as `namespace/claim`.
pub(crate) fn index_claims(meta: &api::Meta, bytes: &[u8]) -> Vec<String> {
    // Few pods have a claim: the others are not decoded.
    let names = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
    if !names(b"\"persistentVolumeClaim\"") && !names(b"\"ephemeral\"") {
        return Vec::new();
    }
    let Ok(pod) = Pod::decode(bytes) else { return Vec::new() };
    claims_of(&pod).map(|(_, claim)| format!("{}/{claim}", meta.namespace)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let claim = |spec, annotations| {
            PersistentVolumeClaim::decode_value(json!({"metadata": {"name": "c", "annotations": annotations}, "spec": spec}))
                .unwrap()
        };
        for (spec, annotations, class, none) in [
            (json!({}), json!({}), "", true),
            (json!({"storageClassName": ""}), json!({}), "", false),
            (json!({"storageClassName": "a"}), json!({}), "a", false),
            (json!({"storageClassName": "a"}), json!({CLASS_BETA: "b"}), "b", false),
        ] {
            let c = claim(spec, annotations);
            assert_eq!((class_of_claim(&c), has_no_class(&c)), (class, none));
        }
        let class = |name: &str, created: &str, default: &str| {
            let meta = json!({"name": name, "creationTimestamp": created, "annotations": {DEFAULT_CLASS: default}});
            StorageClass::decode_value(json!({"metadata": meta, "provisioner": "p"})).unwrap()
        };
        let all = [
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("young", "2026-01-02T00:00:00Z", "true"),
            class("plain", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(default_class(&all).map(Kind::name), Some("young"));
        assert!(default_class(&all[2..]).is_none());
    }

    #[test]
    fn pods_by_claim() {
        let pod = br#"{"metadata":{"name":"p","namespace":"n"},"spec":{"containers":[],"volumes":[{"name":"a",
            "persistentVolumeClaim":{"claimName":"c"}},{"name":"b","ephemeral":{}},{"name":"d","emptyDir":{}}]}}"#;
        let meta = api::Meta::decode(pod).unwrap();
        assert_eq!(index_claims(&meta, pod), ["n/c", "n/p-b"]);
        assert!(index_claims(&meta, br#"{"metadata":{"name":"p"}}"#).is_empty());
    }
}
