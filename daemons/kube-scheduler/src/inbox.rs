//! What changed since the scheduler last looked: names only, each once, in order of arrival.
//!
//! The scheduler reads the present state of what is named from the informers, so that a burst of changes to one object costs one
//! look, and nothing here grows beyond the number of objects.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use client::ObjectKey;
use tokio::sync::Notify;

/// A kind of object whose changes matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Node,
    Pod,
    Namespace,
    Service,
    ReplicationController,
    ReplicaSet,
    StatefulSet,
    Budget,
    Claim,
    Volume,
    Class,
}

#[derive(Debug, Default)]
struct State {
    order: VecDeque<(What, ObjectKey)>,
    waiting: HashSet<(What, ObjectKey)>,
}

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbox {
    state: Arc<Mutex<State>>,
    notify: Arc<Notify>,
}

impl Inbox {
    pub(crate) fn put(&self, what: What, key: ObjectKey) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        if state.waiting.insert((what, key.clone())) {
            state.order.push_back((what, key));
            drop(state);
            self.notify.notify_one();
        }
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> VecDeque<(What, ObjectKey)> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.waiting.clear();
        std::mem::take(&mut state.order)
    }

    /// Returns when something was put since the last `take`.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}
