//! Who owns what: controller references, and the claims by which a controller adopts and releases its dependents.

use api::Kind;
use api::metav1::{ObjectMeta, OwnerReference};
use machinery::selector::LabelSelector;

/// The owner that manages the object, if it has one.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

pub(crate) fn is_controlled_by(meta: &ObjectMeta, owner_uid: &str) -> bool {
    controller_of(meta).is_some_and(|o| o.uid == owner_uid)
}

/// The reference by which `owner` manages an object.
pub(crate) fn controller_ref<K: Kind>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What is to happen between an owner and one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Owned, and it matches.
    Keep,
    /// Nobody's, and it matches: take it.
    Adopt,
    /// Owned, but it matches no more: let it go.
    Release,
    /// Somebody else's, or nothing to do with us.
    Ignore,
}

/// Decides about one candidate in the owner's namespace.
pub(crate) fn claim(owner: &ObjectMeta, selector: &LabelSelector, candidate: &ObjectMeta) -> Claim {
    let matches = selector.matches(&candidate.labels);
    let owner_deleting = owner.deletion_timestamp.is_some();
    match controller_of(candidate) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        // Released only by a living owner: a dying one's dependents are the garbage collector's.
        Some(_) if owner_deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_deleting || !matches || candidate.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The strategic merge patch that adds `reference` to the object with this uid, and to no later namesake.
pub(crate) fn adopt_patch(reference: &OwnerReference, uid: &str, finalizer: Option<&str>) -> serde_json::Value {
    let mut metadata = serde_json::json!({"ownerReferences": [reference], "uid": uid});
    if let Some(finalizer) = finalizer {
        metadata["finalizers"] = serde_json::json!([finalizer]);
    }
    serde_json::json!({ "metadata": metadata })
}

/// The strategic merge patch that removes the owner from the object.
pub(crate) fn release_patch(owner_uid: &str, uid: &str, finalizer: Option<&str>) -> serde_json::Value {
    let mut metadata = serde_json::json!({"ownerReferences": [{"$patch": "delete", "uid": owner_uid}], "uid": uid});
    if let Some(finalizer) = finalizer {
        metadata["$deleteFromPrimitiveList/finalizers"] = serde_json::json!([finalizer]);
    }
    serde_json::json!({ "metadata": metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims() {
        let selector = LabelSelector::parse("app=a").unwrap();
        let owner = |deleting: bool| ObjectMeta {
            uid: Some("me".into()),
            deletion_timestamp: deleting.then_some(api::metav1::Time(api::jiff::Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        };
        let candidate = |label: &str, controller: Option<&str>, deleting: bool| ObjectMeta {
            labels: Some([("app".to_owned(), label.to_owned())].into()),
            owner_references: controller
                .map(|uid| vec![OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() }]),
            deletion_timestamp: deleting.then_some(api::metav1::Time(api::jiff::Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        };
        for (owner_deleting, label, controller, deleting, want) in [
            (false, "a", Some("me"), false, Claim::Keep),
            (false, "a", Some("me"), true, Claim::Keep),
            (true, "a", Some("me"), false, Claim::Keep),
            (false, "b", Some("me"), false, Claim::Release),
            (true, "b", Some("me"), false, Claim::Ignore),
            (false, "a", Some("you"), false, Claim::Ignore),
            (false, "a", None, false, Claim::Adopt),
            (false, "a", None, true, Claim::Ignore),
            (true, "a", None, false, Claim::Ignore),
            (false, "b", None, false, Claim::Ignore),
        ] {
            let got = claim(&owner(owner_deleting), &selector, &candidate(label, controller, deleting));
            assert_eq!(got, want, "{owner_deleting} {label} {controller:?} {deleting}");
        }
    }
}
