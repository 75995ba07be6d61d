//! Which volume fits a claim. Pure; behaviour follows upstream's `FindMatchingVolume`.

use api::Kind;
use api::core::{Node, PersistentVolume, PersistentVolumeClaim};

use crate::volume::facts::{class_of_claim, class_of_volume, storage, volume_mode};
use crate::{node, selector};

/// When a claim may be bound to a volume that is not reserved for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Where<'a> {
    Anywhere,
    /// The pod that uses the claim is to run there.
    On(&'a Node),
    /// Nobody uses it yet: only a volume that is reserved for it.
    NotYet,
}

/// Whether the volume names this claim, before or after they are bound.
pub(super) fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return false };
    let named = reference.name == claim.metadata.name && reference.namespace == claim.metadata.namespace;
    let uid = reference.uid.as_deref().unwrap_or_default();
    named && (uid.is_empty() || uid == claim.uid())
}

/// The best volume: one that is reserved for the claim, or else of those that fit the one with the fewest access modes,
/// and of these the smallest.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [PersistentVolume],
    place: Where<'_>,
) -> Option<&'a PersistentVolume> {
    let open = |v: &&PersistentVolume| v.metadata.deletion_timestamp.is_none();
    let reserved = volumes.iter().filter(open).find(|v| is_for(v, claim) && misfit(v, claim).is_none());
    let key = |v: &&PersistentVolume| {
        let spec = v.spec.as_ref();
        let modes = spec.and_then(|s| s.access_modes.as_ref()).map_or(0, Vec::len);
        (modes, storage(spec.and_then(|s| s.capacity.as_ref())), v.name().to_owned())
    };
    reserved.or_else(|| volumes.iter().filter(open).filter(|v| is_free(v) && fits(v, claim, place)).min_by_key(key))
}

fn is_free(volume: &PersistentVolume) -> bool {
    let available = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Available");
    available && volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_none())
}

fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim, place: Where<'_>) -> bool {
    let spec = claim.spec.as_ref();
    let reachable = match place {
        Where::NotYet => return false,
        Where::Anywhere => true,
        Where::On(node) => is_reachable(volume, node),
    };
    let wanted = spec.and_then(|s| s.selector.as_ref());
    let selected = wanted.is_none_or(|s| selector::compile(s).is_ok_and(|s| s.matches(&volume.metadata.labels)));
    reachable && selected && misfit(volume, claim).is_none()
}

fn is_reachable(volume: &PersistentVolume, from: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    affinity.and_then(|a| a.required.as_ref()).is_none_or(|required| node::matches_selector(from, required))
}

/// Why the volume can't be the claim's, in upstream's words.
pub(super) fn misfit(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let (have, want) = (volume.spec.clone().unwrap_or_default(), claim.spec.clone().unwrap_or_default());
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(format!("the volume is marked for deletion {:?}", volume.name()));
    }
    let asked = storage(want.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let attributes = |name: Option<String>| name.unwrap_or_default();
    let modes = have.access_modes.unwrap_or_default();
    let checks = [
        (storage(have.capacity.as_ref()) < asked, "requested PV is too small"),
        (class_of_volume(volume) != class_of_claim(claim), "storageClassName does not match"),
        (
            attributes(have.volume_attributes_class_name) != attributes(want.volume_attributes_class_name),
            "volumeAttributesClassName does not match",
        ),
        (volume_mode(have.volume_mode.as_ref()) != volume_mode(want.volume_mode.as_ref()), "incompatible volumeMode"),
        (want.access_modes.iter().flatten().any(|m| !modes.contains(m)), "incompatible accessMode"),
    ];
    checks.into_iter().find(|(wrong, _)| *wrong).map(|(_, why)| why.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(in crate::volume::binder) fn claim(spec: Value) -> PersistentVolumeClaim {
        let mut whole =
            json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "5Gi"}}});
        spec.as_object().unwrap().iter().for_each(|(k, v)| whole[k] = v.clone());
        PersistentVolumeClaim::decode_value(json!({"metadata": {"name": "data", "namespace": "n", "uid": "c"}, "spec": whole}))
            .unwrap()
    }

    pub(in crate::volume::binder) fn volume(name: &str, size: &str, spec: Value) -> PersistentVolume {
        let mut whole = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "storageClassName": ""});
        spec.as_object().unwrap().iter().for_each(|(k, v)| whole[k] = v.clone());
        let meta = json!({"name": name, "uid": format!("uid-{name}"), "labels": {"name": name}});
        PersistentVolume::decode_value(json!({"metadata": meta, "spec": whole, "status": {"phase": "Available"}})).unwrap()
    }

    #[test]
    fn the_best_volume() {
        let many = json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]});
        let volumes = [
            volume("small", "1Gi", json!({})),
            volume("large", "20Gi", json!({})),
            volume("right", "6Gi", json!({})),
            volume("many", "5Gi", many),
            volume("fast", "5Gi", json!({"storageClassName": "fast"})),
            volume("block", "5Gi", json!({"volumeMode": "Block"})),
            volume("taken", "5Gi", json!({"claimRef": {"name": "other", "namespace": "n"}})),
        ];
        for (spec, want) in [
            (json!({}), Some("right")),
            (json!({"resources": {"requests": {"storage": "7Gi"}}}), Some("large")),
            (json!({"resources": {"requests": {"storage": "70Gi"}}}), None),
            (json!({"accessModes": ["ReadOnlyMany"]}), Some("many")),
            (json!({"accessModes": ["ReadWriteMany"]}), None),
            (json!({"storageClassName": "fast"}), Some("fast")),
            (json!({"storageClassName": "slow"}), None),
            (json!({"volumeMode": "Block"}), Some("block")),
            (json!({"selector": {"matchLabels": {"name": "large"}}}), Some("large")),
        ] {
            assert_eq!(best(&claim(spec.clone()), &volumes, Where::Anywhere).map(Kind::name), want, "{spec}");
        }
        assert!(best(&claim(json!({})), &volumes, Where::NotYet).is_none());
    }

    #[test]
    fn a_reserved_volume_comes_first() {
        let reserved = volume("mine", "9Gi", json!({"claimRef": {"name": "data", "namespace": "n"}}));
        let volumes = [volume("right", "5Gi", json!({})), reserved];
        for place in [Where::Anywhere, Where::NotYet] {
            assert_eq!(best(&claim(json!({})), &volumes, place).map(Kind::name), Some("mine"));
        }
        let earlier = volume("mine", "9Gi", json!({"claimRef": {"name": "data", "namespace": "n", "uid": "gone"}}));
        assert!(best(&claim(json!({})), &[earlier], Where::Anywhere).is_none());
    }

    #[test]
    fn a_local_volume_is_where_it_is() {
        let term = json!({"matchExpressions": [{"key": "host", "operator": "In", "values": ["a"]}]});
        let local = [volume("local", "5Gi", json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}))];
        let node = |host: &str| Node::decode_value(json!({"metadata": {"name": host, "labels": {"host": host}}})).unwrap();
        assert!(best(&claim(json!({})), &local, Where::On(&node("a"))).is_some());
        assert!(best(&claim(json!({})), &local, Where::On(&node("b"))).is_none());
    }
}
