//! The storage contract: a key-value store with one global revision, optimistic writes and resumable watches.
//!
//! It is the small part of etcd that Kubernetes needs, and no more, so that it can be implemented twice and proven once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

pub type Result<T> = std::result::Result<T, StoreError>;

/// Endless unless it fails: reconnects by itself, and ends only with [`StoreError::Compacted`] or when dropped.
pub type WatchStream = BoxStream<'static, Result<WatchItem>>;

/// A key-value store with multi-version concurrency.
///
/// # Guarantees
/// * Every write has its own revision, higher than all before it; revisions are never reused.
/// * `get`, `list` without a revision, and `current_revision` see every write acknowledged before they were called.
/// * A watch delivers every change after its start exactly once, in revision order, across reconnects.
/// * A write that fails with [`StoreError::Unavailable`] may or may not have happened; any other error means it did not.
pub trait Storage: Send + Sync + 'static {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>>>;

    /// Writes a key that must not exist. The revision of the write is returned.
    fn create<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>>;

    /// Replaces a key that must still be at revision `expected`. Without a `ttl` an earlier one is lifted.
    fn update<'a>(&'a self, key: &'a str, value: Bytes, expected: u64, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>>;

    /// Removes a key that must still be at revision `expected`. The revision of the removal is returned.
    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> BoxFuture<'a, Result<u64>>;

    /// Keys under `prefix` in byte order.
    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page>>;

    /// Changes under `prefix` with a revision higher than `after`. An empty prefix watches the whole store.
    fn watch(&self, prefix: &str, after: u64) -> WatchStream;

    /// The store's revision now (a linearizable read).
    fn current_revision(&self) -> BoxFuture<'_, Result<u64>>;

    /// Whether the value is kept in a form that a write of the same value would change: by an older key.
    fn is_stale(&self, _key: &str) -> bool {
        false
    }

    /// Forgets history before `revision`. Reads and watches from before it fail with [`StoreError::Compacted`].
    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<()>>;
}

/// A value with the revision of the write that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub key: Arc<str>,
    pub value: Bytes,
    pub revision: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Only keys after this one (the last key of the page before).
    pub start_after: Option<String>,
    /// At most so many items; 0 is no limit.
    pub limit: usize,
    /// The state at this revision instead of the newest.
    pub revision: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<Stored>,
    /// The revision the page shows: the one asked for, else the store's.
    pub revision: u64,
    /// How many keys follow the page.
    pub remaining: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    Changes(Batch),
    /// Nothing more happened up to this revision.
    Progress(u64),
}

/// Changes in revision order. All changes of one revision are in one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub events: Vec<Event>,
    /// The revision of the last event.
    pub revision: u64,
    /// Keys that changed as well, to what cannot be told now.
    pub missed: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub key: Arc<str>,
    /// Empty for [`EventKind::Delete`].
    pub value: Bytes,
    pub revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Create,
    Update,
    Delete,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the key does not exist")]
    NotFound,
    #[error("the key already exists")]
    Exists,
    /// The key is not at the expected revision; here is what it is now.
    #[error("the key is at revision {}, not at the expected one", current.revision)]
    Conflict { current: Stored },
    /// History before `revision` is gone.
    #[error("the requested revision has been compacted; the oldest is {revision}")]
    Compacted { revision: u64 },
    #[error("the requested revision is newer than the store's, {current}")]
    Future { current: u64 },
    #[error("the value is larger than the store accepts")]
    TooLarge,
    /// The store did not answer. A write may have happened.
    #[error("the store is unavailable")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    pub(crate) fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(error.into()))
    }
}
