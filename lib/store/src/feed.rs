//! Follows the store through one watch of all keys, and brings every change to the cache of its resource.
//!
//! **Why one watch:** every revision of the store then passes through here, so that "the caches have seen everything up
//! to revision R" is one number, [`Feed::position`]. A consistent read asks the store for its revision and waits for
//! that number; no cache needs progress notifications of its own, which etcd before 3.4.25 cannot give reliably.
//!
//! **Invariant:** the feed moves its position only after all caches have published the changes up to it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

use crate::storage::{Batch, Event, Result, Storage, StoreError, WatchItem};

/// Consistency checks that may wait for the one under way.
const CHECKS_MAX: usize = 1024;
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// The receiving end for the keys under one prefix.
pub(crate) trait Subscriber: Send + Sync {
    /// A change, in revision order. May be kept back until [`Subscriber::publish`].
    fn change(&self, event: &Event);
    /// The end of a batch: readers may see its changes now.
    fn publish(&self);
    /// History was lost, or a change of it; everything must be read again.
    fn restart(self: Arc<Self>);
}

/// One per store. Clones are the same feed; it stops with the last of them.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
    checks: mpsc::Sender<oneshot::Sender<Result<u64>>>,
    _tasks: Arc<Tasks>,
}

struct Shared {
    storage: Arc<dyn Storage>,
    position: watch::Sender<u64>,
    forgotten: AtomicU64,
    subscribers: Mutex<HashMap<Arc<str>, Weak<dyn Subscriber>>>,
}

struct Tasks([AbortHandle; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Feed {
    /// Starts to follow the store; retries for as long as it is away. Must be called inside a runtime.
    pub fn start(storage: Arc<dyn Storage>) -> Self {
        let shared = Arc::new(Shared {
            storage,
            position: watch::Sender::new(0),
            forgotten: AtomicU64::new(0),
            subscribers: Mutex::default(),
        });
        let (checks, requests) = mpsc::channel(CHECKS_MAX);
        let follow = tokio::spawn(follow(Arc::clone(&shared)));
        let check = tokio::spawn(check(Arc::clone(&shared.storage), requests));
        Self { shared, checks, _tasks: Arc::new(Tasks([follow.abort_handle(), check.abort_handle()])) }
    }

    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.shared.storage
    }

    /// The revision up to which all caches are complete; 0 until the store has answered once.
    pub fn position(&self) -> u64 {
        *self.shared.position.borrow()
    }

    /// States before `revision` are no longer to be shown, though a cache may still have them: what a client can read must not
    /// depend on what happens to be in memory.
    pub fn forget_before(&self, revision: u64) {
        self.shared.forgotten.fetch_max(revision, Ordering::Relaxed);
    }

    /// The oldest revision whose state may be shown.
    pub fn oldest(&self) -> u64 {
        self.shared.forgotten.load(Ordering::Relaxed)
    }

    /// Waits until all caches are complete up to `revision`. The caller sets the time limit.
    pub async fn wait(&self, revision: u64) {
        let mut position = self.shared.position.subscribe();
        // The sender lives as long as `self`.
        let _ = position.wait_for(|position| *position >= revision).await;
    }

    /// The store's revision at some moment after the call. Concurrent calls share one request to the store.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn store_revision(&self) -> Result<u64> {
        let closed = || StoreError::unavailable("the feed has stopped");
        let (answer, revision) = oneshot::channel();
        self.checks.send(answer).await.map_err(|_| closed())?;
        revision.await.map_err(|_| closed())?
    }

    /// Sends what happens under `prefix` (which ends in `/`) to `subscriber` until that is dropped.
    pub(crate) fn subscribe(&self, prefix: Arc<str>, subscriber: Weak<dyn Subscriber>) {
        self.shared.subscribers().insert(prefix, subscriber);
    }
}

impl Shared {
    fn subscribers(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<dyn Subscriber>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The subscriber of the longest prefix of `key`.
    fn subscriber(&self, key: &str) -> Option<Arc<dyn Subscriber>> {
        let mut subscribers = self.subscribers();
        let (prefix, found) = key
            .rmatch_indices('/')
            .map(|(slash, _)| &key[..=slash])
            .find_map(|prefix| Some((prefix, subscribers.get(prefix)?.upgrade())))?;
        if found.is_none() {
            subscribers.remove(prefix);
        }
        found
    }

    fn deliver(&self, batch: &Batch) {
        let mut touched: Vec<Arc<dyn Subscriber>> = Vec::new();
        for event in &batch.events {
            let Some(subscriber) = self.subscriber(&event.key) else { continue };
            subscriber.change(event);
            if !touched.iter().any(|other| Arc::ptr_eq(other, &subscriber)) {
                touched.push(subscriber);
            }
        }
        for subscriber in touched {
            subscriber.publish();
        }
        for key in &batch.missed {
            if let Some(subscriber) = self.subscriber(key) {
                subscriber.restart();
            }
        }
        self.advance(batch.revision);
    }

    fn advance(&self, revision: u64) {
        self.position.send_if_modified(|position| {
            let moved = revision > *position;
            *position = revision.max(*position);
            moved
        });
    }
}

/// The only writer of the caches.
async fn follow(shared: Arc<Shared>) {
    let mut first = true;
    loop {
        let start = loop {
            match shared.storage.current_revision().await {
                Ok(revision) => break revision,
                Err(error) => tracing::debug!(%error, "waiting for the store"),
            }
            tokio::time::sleep(RETRY_DELAY).await;
        };
        if !first {
            let subscribers: Vec<_> = shared.subscribers().values().filter_map(Weak::upgrade).collect();
            subscribers.into_iter().for_each(Subscriber::restart);
        }
        // A store restored from a backup starts below where we were; what waits for more must not be told it is there.
        shared.position.send_replace(start);
        let mut changes = shared.storage.watch("", start);
        while let Some(item) = changes.next().await {
            match item {
                Ok(WatchItem::Changes(batch)) => shared.deliver(&batch),
                Ok(WatchItem::Progress(revision)) => tracing::trace!(revision, "the store is quiet"),
                Err(error) => {
                    tracing::warn!(%error, position = *shared.position.borrow(), "reading the whole store again");
                    break;
                }
            }
        }
        first = false;
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Answers all checks that came in while the one before was under way with one request.
async fn check(storage: Arc<dyn Storage>, mut requests: mpsc::Receiver<oneshot::Sender<Result<u64>>>) {
    let mut waiting = Vec::new();
    while requests.recv_many(&mut waiting, CHECKS_MAX).await > 0 {
        let revision = storage.current_revision().await;
        for request in waiting.drain(..) {
            let _ = request.send(revision.clone()); // whoever asked may be gone
        }
    }
}
