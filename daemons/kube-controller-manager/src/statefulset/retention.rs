//! What becomes of a pod's claims: `persistentVolumeClaimRetentionPolicy` (KEP-1847). Pure.
//!
//! The policy is carried out by the garbage collector: a claim that is to go has the set or its pod as owner.

use api::apps::StatefulSet;
use api::core::{PersistentVolumeClaim, Pod};
use api::metav1::OwnerReference;

use crate::owner;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    deleted_with_set: bool,
    deleted_when_scaled: bool,
}

fn policy(set: &StatefulSet) -> Policy {
    let policy = set.spec.as_ref().and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |word: Option<&String>| word.is_some_and(|w| w == "Delete");
    Policy {
        deleted_with_set: deletes(policy.and_then(|p| p.when_deleted.as_ref())),
        deleted_when_scaled: deletes(policy.and_then(|p| p.when_scaled.as_ref())),
    }
}

/// Whether the owners of a claim are as the policy has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Owners {
    Right,
    Change(Vec<OwnerReference>),
    /// Somebody else manages the claim: it has no owner of ours.
    Conflict(Vec<OwnerReference>),
}

/// `condemned`: the pod is beyond the replicas that are asked for.
pub(super) fn owners(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod, condemned: bool) -> Owners {
    let refs = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let (to_set, to_pod) = (owner::controller_ref(set), owner::controller_ref(pod));
    // Left by a namesake that is gone: not to be touched.
    if refs.iter().any(|r| is_namesake(r, &to_set) || is_namesake(r, &to_pod)) {
        return Owners::Right;
    }
    let ours = |r: &&OwnerReference| r.uid == to_set.uid || r.uid == to_pod.uid;
    let others: Vec<OwnerReference> = refs.iter().filter(|r| !ours(r)).cloned().collect();
    let policy = policy(set);
    let keeps = !policy.deleted_with_set && !policy.deleted_when_scaled;
    if !keeps && others.iter().any(|r| r.controller == Some(true)) {
        return if others.len() == refs.len() { Owners::Right } else { Owners::Conflict(others) };
    }
    let by_pod = policy.deleted_when_scaled && condemned;
    let by_set = policy.deleted_with_set && !by_pod;
    let wanted: Vec<OwnerReference> =
        by_set.then_some(to_set.clone()).into_iter().chain(by_pod.then_some(to_pod.clone())).collect();
    let has = |r: &OwnerReference| refs.iter().any(|h| h.uid == r.uid && h.controller == Some(true));
    let right = wanted.iter().all(has) && refs.len() == others.len() + wanted.len();
    if right { Owners::Right } else { Owners::Change(others.into_iter().chain(wanted).collect()) }
}

fn is_namesake(reference: &OwnerReference, of: &OwnerReference) -> bool {
    reference.api_version == of.api_version && reference.kind == of.kind && reference.name == of.name && reference.uid != of.uid
}

/// Whether the claim still goes with an earlier pod of that name, so that the pod is not to be made yet.
pub(super) fn is_stale(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    let to_pod = owner::controller_ref(pod);
    let refs = claim.metadata.owner_references.as_deref().unwrap_or_default();
    policy(set).deleted_when_scaled && refs.iter().any(|r| is_namesake(r, &to_pod))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::running;
    use api::Kind;
    use serde_json::json;

    fn set(deleted: &str, scaled: &str) -> StatefulSet {
        StatefulSet::decode_value(json!({
            "metadata": {"name": "db", "uid": "set"},
            "spec": {"selector": {}, "template": {}, "serviceName": "",
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}},
        }))
        .unwrap()
    }

    fn claim(owners: &[(&str, &str, &str)]) -> PersistentVolumeClaim {
        let reference = |(kind, name, uid): &(&str, &str, &str)| {
            let version = if *kind == "StatefulSet" { "apps/v1" } else { "v1" };
            json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true})
        };
        let owners: Vec<_> = owners.iter().map(reference).collect();
        PersistentVolumeClaim::decode_value(json!({"metadata": {"name": "data-db-0", "ownerReferences": owners}})).unwrap()
    }

    const SET: (&str, &str, &str) = ("StatefulSet", "db", "set");
    const POD: (&str, &str, &str) = ("Pod", "db-0", "uid-db-0");

    #[test]
    fn who_owns_a_claim() {
        let pod = running("db-0");
        for (deleted, scaled, condemned, has, want) in [
            ("Retain", "Retain", false, &[][..], None),
            ("Retain", "Retain", true, &[SET], Some(&[][..])),
            ("Delete", "Retain", false, &[], Some(&["set"])),
            ("Delete", "Retain", true, &[SET], None),
            ("Retain", "Delete", false, &[], None),
            ("Retain", "Delete", true, &[], Some(&["uid-db-0"])),
            ("Retain", "Delete", false, &[POD], Some(&[])),
            ("Delete", "Delete", false, &[], Some(&["set"])),
            ("Delete", "Delete", true, &[SET], Some(&["uid-db-0"])),
            ("Delete", "Delete", false, &[("StatefulSet", "db", "earlier")], None),
        ] {
            let got = match owners(&claim(has), &set(deleted, scaled), &pod, condemned) {
                Owners::Right => None,
                Owners::Change(refs) => Some(refs.into_iter().map(|r| r.uid).collect::<Vec<_>>()),
                conflict => panic!("{conflict:?}"),
            };
            let want = want.map(|w| w.iter().map(|s| (*s).to_owned()).collect());
            assert_eq!(got, want, "{deleted} {scaled} condemned={condemned} {has:?}");
        }
    }

    #[test]
    fn what_another_manages_is_left_to_it() {
        let other = ("Backup", "nightly", "b");
        let pod = running("db-0");
        assert_eq!(owners(&claim(&[other]), &set("Delete", "Retain"), &pod, false), Owners::Right);
        let Owners::Conflict(left) = owners(&claim(&[other, SET]), &set("Delete", "Retain"), &pod, false) else { panic!() };
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn a_claim_of_an_earlier_pod_holds_up_the_next() {
        let next =
            Pod { metadata: api::metav1::ObjectMeta { name: Some("db-0".into()), ..Default::default() }, ..Pod::default() };
        assert!(is_stale(&claim(&[POD]), &set("Retain", "Delete"), &next));
        assert!(!is_stale(&claim(&[POD]), &set("Retain", "Retain"), &next));
        assert!(!is_stale(&claim(&[]), &set("Retain", "Delete"), &next));
    }
}
