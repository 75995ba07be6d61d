//! Fences: a controller that has written does not act on a view older than its own writes.
//!
//! Upstream counts expected creations and deletions and gives up after five minutes. Here the server's revision is the
//! measure: a write answers with its revision, and the informer says up to which revision its copy is complete.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use api::Kind;
use client::{Informer, ObjectKey};

use crate::error::Error;

/// How long a worker waits for its own writes to come back. Then the key goes back into the queue.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What one owner's controller wrote among the objects of one informer, and has not seen yet.
#[derive(Clone, Debug, Default)]
struct Unseen {
    revision: u64,
    deleted: Vec<(ObjectKey, String)>,
}

/// The writes to objects of kind `K`, by the owner on whose behalf they were made.
pub(crate) struct Fence<K> {
    informer: Informer<K>,
    unseen: Mutex<HashMap<ObjectKey, Unseen>>,
}

impl<K: Kind> Fence<K> {
    pub(crate) fn new(informer: Informer<K>) -> Self {
        Self { informer, unseen: Mutex::default() }
    }

    /// `written` is the server's answer to a create, an update or a patch.
    pub(crate) fn wrote(&self, owner: &ObjectKey, written: &K) {
        let mut unseen = self.lock();
        let unseen = unseen.entry(owner.clone()).or_default();
        unseen.revision = unseen.revision.max(written.resource_version());
    }

    pub(crate) fn deleted(&self, owner: &ObjectKey, object: ObjectKey, uid: &str) {
        self.lock().entry(owner.clone()).or_default().deleted.push((object, uid.to_owned()));
    }

    /// Returns once the informer shows all that was written for `owner`.
    ///
    /// # Errors
    /// [`Error::Behind`] when that takes too long: the watch is broken, or the server slow.
    pub(crate) async fn caught_up(&self, owner: &ObjectKey) -> Result<(), Error> {
        let Some(unseen) = self.lock().get(owner).cloned() else { return Ok(()) };
        let mut revisions = self.informer.revisions();
        let seen = |revision: u64| {
            revision >= unseen.revision
                && unseen.deleted.iter().all(|(key, uid)| self.informer.get_key(key).is_none_or(|o| o.uid != *uid || o.deleting))
        };
        match tokio::time::timeout(WAIT_MAX, revisions.wait_for(|r| seen(*r))).await {
            Ok(_) => {
                // This owner's key is with this worker: nobody wrote for it in between.
                self.lock().remove(owner);
                Ok(())
            }
            Err(_) => Err(Error::Behind(owner.clone())),
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &ObjectKey) {
        self.lock().remove(owner);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Unseen>> {
        self.unseen.lock().unwrap_or_else(|e| e.into_inner())
    }
}
