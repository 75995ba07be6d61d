//! A change of a dependent is a reason to look at its owner, or at all that might adopt it.

use api::Kind;
use client::queue::Queue;
use client::{Cached, Change, Informer, ObjectKey};
use machinery::selector::LabelSelector;

/// Puts into `queue` the owners, of kind `O`, of dependents that change, the owner that one had before included.
pub(crate) fn follow_owned<D: Kind, O: Kind>(
    dependents: &Informer<D>,
    owners: &Informer<O>,
    queue: &Queue<ObjectKey>,
    selector: fn(&O) -> Option<LabelSelector>,
) {
    let (queue, owners) = (queue.clone(), owners.clone());
    dependents.subscribe(move |change| {
        let enqueue = |dependent: &Cached<D>| {
            if let Some(owner) = dependent.controller() {
                if owner.kind == O::KIND {
                    queue.add(ObjectKey::new(&dependent.namespace, &owner.name));
                }
            } else if !matches!(change, Change::Deleted(_)) {
                for candidate in owners.list_namespace(&dependent.namespace) {
                    let selector = client::informer::logged(&candidate).and_then(|o| selector(&o));
                    if selector.is_some_and(|s| s.matches(&dependent.labels)) {
                        queue.add(candidate.key());
                    }
                }
            }
        };
        enqueue(change.object());
        if let Change::Updated { old, new } = change
            && old.controller().map(|o| &o.uid) != new.controller().map(|o| &o.uid)
        {
            enqueue(old);
        }
    });
}
