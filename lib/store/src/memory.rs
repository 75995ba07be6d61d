//! The store in memory: for tests, simulations and clusters that may be forgotten. Full history until compacted.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::storage::{Batch, Event, EventKind, ListOptions, Page, Result, Storage, StoreError, Stored, WatchItem, WatchStream};

/// Most events in one watch batch.
const BATCH_EVENTS_MAX: usize = 1000;

/// A store in memory. Clones are the same store.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// The newest revision, for watches.
    revision: watch::Sender<u64>,
    /// A deadline came in that is earlier than the others.
    expiry: Notify,
}

struct State {
    revision: u64,
    /// Oldest revision whose state is still known.
    compacted: u64,
    keys: BTreeMap<Arc<str>, Vec<Version>>,
    /// One event for each revision from `compacted` on (the store starts at revision 1, which has none).
    log: VecDeque<Event>,
    /// Keys with a time to live, with the revision it was given for.
    deadlines: BTreeSet<(Instant, Arc<str>, u64)>,
    expiring: bool,
}

/// A key's value from `revision` on; `None` when it was deleted.
struct Version {
    revision: u64,
    value: Option<Bytes>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    pub fn new() -> Self {
        let state = State {
            revision: 1,
            compacted: 1,
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            deadlines: BTreeSet::new(),
            expiring: false,
        };
        Self(Arc::new(Inner { state: Mutex::new(state), revision: watch::Sender::new(1), expiry: Notify::new() }))
    }

    fn write(&self, key: &str, value: Option<Bytes>, expect: Expect, ttl: Option<Duration>) -> Result<u64> {
        let mut state = self.0.lock();
        let revision = state.write(key, value, expect)?;
        if let Some(ttl) = ttl {
            state.deadlines.insert((Instant::now() + ttl, Arc::from(key), revision));
            if !std::mem::replace(&mut state.expiring, true) {
                tokio::spawn(expire(Arc::downgrade(&self.0)));
            }
            self.0.expiry.notify_one();
        }
        drop(state);
        self.0.revision.send_replace(revision);
        Ok(revision)
    }
}

/// What must hold of a key for a write to happen.
#[derive(Clone, Copy)]
enum Expect {
    Absent,
    Revision(u64),
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn current(&self, key: &str) -> Option<Stored> {
        let (key, versions) = self.keys.get_key_value(key)?;
        at(key, versions, self.revision)
    }

    fn write(&mut self, key: &str, value: Option<Bytes>, expect: Expect) -> Result<u64> {
        let current = self.current(key);
        match (expect, &current) {
            (Expect::Absent, Some(_)) => return Err(StoreError::Exists),
            (Expect::Revision(_), None) => return Err(StoreError::NotFound),
            (Expect::Revision(expected), Some(current)) if current.revision != expected => {
                return Err(StoreError::Conflict { current: current.clone() });
            }
            _ => {}
        }
        let kind = match (&value, &current) {
            (None, _) => EventKind::Delete,
            (Some(_), None) => EventKind::Create,
            (Some(_), Some(_)) => EventKind::Update,
        };
        self.revision += 1;
        let revision = self.revision;
        let key = current.map_or_else(|| Arc::from(key), |current| current.key);
        let event = Event { kind, key: Arc::clone(&key), value: value.clone().unwrap_or_default(), revision };
        self.log.push_back(event);
        self.keys.entry(key).or_default().push(Version { revision, value });
        Ok(revision)
    }

    fn check_revision(&self, revision: u64) -> Result<()> {
        if revision > self.revision {
            return Err(StoreError::Future { current: self.revision });
        }
        if revision < self.compacted {
            return Err(StoreError::Compacted { revision: self.compacted });
        }
        Ok(())
    }

    fn list(&self, prefix: &str, options: &ListOptions) -> Result<Page> {
        let revision = options.revision.unwrap_or(self.revision);
        self.check_revision(revision)?;
        let start = match &options.start_after {
            Some(key) if key.as_str() >= prefix => Bound::Excluded(key.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut found = self
            .keys
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, versions)| at(key, versions, revision));
        let limit = if options.limit == 0 { usize::MAX } else { options.limit };
        let items: Vec<_> = found.by_ref().take(limit).collect();
        let remaining = found.count() as u64;
        Ok(Page { items, revision, remaining })
    }

    fn compact(&mut self, revision: u64) -> Result<()> {
        self.check_revision(revision)?;
        if revision == self.compacted {
            return Err(StoreError::Compacted { revision });
        }
        self.compacted = revision;
        self.log.retain(|event| event.revision >= revision);
        self.keys.retain(|_, versions| {
            let visible = versions.partition_point(|version| version.revision <= revision).saturating_sub(1);
            versions.drain(..visible);
            versions.len() > 1 || versions[0].value.is_some() || versions[0].revision > revision
        });
        Ok(())
    }

    /// Events after `after`, oldest first.
    fn events(&self, after: u64) -> impl Iterator<Item = &Event> {
        self.log.range(self.log.partition_point(|event| event.revision <= after)..)
    }
}

fn at(key: &Arc<str>, versions: &[Version], revision: u64) -> Option<Stored> {
    let version = versions[..versions.partition_point(|version| version.revision <= revision)].last()?;
    let value = version.value.clone()?;
    Some(Stored { key: Arc::clone(key), value, revision: version.revision })
}

/// Deletes keys when their time is over; ends with the store.
async fn expire(inner: Weak<Inner>) {
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let mut last = None;
        let next = {
            let mut state = strong.lock();
            let now = Instant::now();
            while state.deadlines.first().is_some_and(|(deadline, ..)| *deadline <= now) {
                let Some((_, key, revision)) = state.deadlines.pop_first() else { break };
                // A later write has another revision and its own deadline, or none.
                last = state.write(&key, None, Expect::Revision(revision)).ok().or(last);
            }
            let next = state.deadlines.first().map(|(deadline, ..)| *deadline);
            state.expiring = next.is_some();
            next
        };
        if let Some(revision) = last {
            strong.revision.send_replace(revision);
        }
        let Some(next) = next else { return };
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = strong.expiry.notified() => {}
        }
    }
}

impl Storage for Memory {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>>> {
        async { Ok(self.0.lock().current(key)) }.boxed()
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>> {
        async move { self.write(key, Some(value), Expect::Absent, ttl) }.boxed()
    }

    fn update<'a>(&'a self, key: &'a str, value: Bytes, expected: u64, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>> {
        async move { self.write(key, Some(value), Expect::Revision(expected), ttl) }.boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> BoxFuture<'a, Result<u64>> {
        async move { self.write(key, None, Expect::Revision(expected), None) }.boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page>> {
        async move { self.0.lock().list(prefix, &options) }.boxed()
    }

    fn watch(&self, prefix: &str, after: u64) -> WatchStream {
        struct Follow {
            inner: Arc<Inner>,
            revision: watch::Receiver<u64>,
            prefix: String,
            after: u64,
        }
        let follow =
            Follow { inner: Arc::clone(&self.0), revision: self.0.revision.subscribe(), prefix: prefix.to_owned(), after };
        futures::stream::unfold(Some(follow), |follow| async move {
            let mut follow = follow?;
            loop {
                let events: Vec<Event> = {
                    let state = follow.inner.lock();
                    if follow.after + 1 < state.compacted {
                        return Some((Err(StoreError::Compacted { revision: state.compacted }), None));
                    }
                    follow.revision.mark_unchanged();
                    let events: Vec<_> = state
                        .events(follow.after)
                        .filter(|event| event.key.starts_with(&follow.prefix))
                        .take(BATCH_EVENTS_MAX)
                        .cloned()
                        .collect();
                    follow.after = match events.last() {
                        Some(last) if events.len() == BATCH_EVENTS_MAX => last.revision,
                        _ => follow.after.max(state.revision),
                    };
                    events
                };
                if let Some(last) = events.last() {
                    let revision = last.revision;
                    return Some((Ok(WatchItem::Changes(Batch { events, revision, missed: Vec::new() })), Some(follow)));
                }
                // `follow` holds the sender through `inner`.
                let _ = follow.revision.changed().await;
            }
        })
        .boxed()
    }

    fn current_revision(&self) -> BoxFuture<'_, Result<u64>> {
        async { Ok(self.0.lock().revision) }.boxed()
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<()>> {
        async move { self.0.lock().compact(revision) }.boxed()
    }
}
