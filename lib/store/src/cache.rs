//! One resource in memory: every object as the bytes that are sent, and the recent changes in revision order.
//!
//! The whole state is one immutable value behind one pointer. The feed, its only writer, makes the next value (sharing
//! nearly all of the last one) and swaps the pointer; readers take the pointer and are never in anyone's way. So a
//! snapshot costs nothing, a list and the watch that follows it cannot disagree, and an older revision is the newest
//! state with the changes since then taken back.
//!
//! **Invariant:** no reader blocks the writer; no memory is bounded by the number of readers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time::Instant};

use crate::{
    entry::{Entry, IndexRecord},
    feed::{Feed, Subscriber},
    ordmap::OrdMap,
    storage::{Event, EventKind, ListOptions, Result, StoreError},
    watcher::Watcher,
};

/// Items per request of the first load.
const LOAD_PAGE: usize = 2000;
const LOAD_RETRY_DELAY: Duration = Duration::from_millis(300);
/// Bytes of changes kept while a load is under way; beyond, it starts anew.
const LOAD_BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Snapshots older than the ring, kept for the next page of the same list.
const OLD_SNAPSHOTS_MAX: usize = 4;

/// Extracts the index record of a stored value.
pub type IndexFn = Arc<dyn Fn(&[u8]) -> IndexRecord + Send + Sync>;

/// What a resource needs of its cache.
#[derive(Clone)]
pub struct Config {
    /// Extracts what selectors and indexes need from a stored value.
    pub index: IndexFn,
    /// Fields of the record by which objects can be found ([`Snapshot::indexed`]).
    pub indexes: Vec<String>,
    pub ring: RingLimits,
}

/// How much history watches can resume from. The first limit reached drops the oldest change.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    pub events_max: usize,
    pub bytes_max: usize,
    pub age_max: Duration,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { events_max: 65_536, bytes_max: 64 << 20, age_max: Duration::from_secs(180) }
    }
}

impl Config {
    pub fn new(index: impl Fn(&[u8]) -> IndexRecord + Send + Sync + 'static) -> Self {
        Self { index: Arc::new(index), indexes: Vec::new(), ring: RingLimits::default() }
    }

    pub fn with_index(mut self, field: impl Into<String>) -> Self {
        self.indexes.push(field.into());
        self
    }
}

/// One resource's objects and changes. Clones are the same cache. It reads the store when it is first used.
#[derive(Clone)]
pub struct Cache(pub(crate) Arc<Shared>);

/// All objects of a resource at one revision. Cheap to clone, never changes.
#[derive(Clone, Debug)]
pub struct Snapshot {
    tables: Tables,
    revision: u64,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    /// The object after the change; of a deletion, the last state under the revision of the deletion.
    pub entry: Entry,
    /// The object before the change.
    pub previous: Option<Entry>,
    pub revision: u64,
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

impl Cache {
    /// A cache of the keys under `prefix`, which ends in `/`. Nothing is read yet.
    pub fn new(feed: &Feed, prefix: impl Into<Arc<str>>, config: Config) -> Self {
        let tables = Tables {
            entries: OrdMap::default(),
            bytes: 0,
            indexes: vec![OrdMap::default(); config.indexes.len()],
            names: config.indexes.clone().into(),
        };
        let state = State { tables, ring: OrdMap::default(), ring_bytes: 0, floor: 0, revision: 0, stale: true };
        Self(Arc::new(Shared {
            feed: feed.clone(),
            prefix: prefix.into(),
            config,
            state: ArcSwap::from_pointee(state.clone()),
            changed: watch::Sender::new(()),
            ready: watch::Sender::new(false),
            writer: Mutex::new(Writer { mode: Mode::Idle, state, dirty: false }),
            old: Mutex::default(),
        }))
    }

    /// Like [`Cache::new`], and starts to load at once.
    pub fn start(feed: &Feed, prefix: impl Into<Arc<str>>, config: Config) -> Self {
        let cache = Self::new(feed, prefix, config);
        cache.0.start();
        cache
    }

    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// Waits until the first load is done. The caller sets the time limit.
    pub async fn ready(&self) {
        self.0.start();
        let mut ready = self.0.ready.subscribe();
        let _ = ready.wait_for(|ready| *ready).await; // the sender lives as long as `self`
    }

    /// The state as it is here, which may be a moment behind the store (`resourceVersion=0`).
    pub async fn recent(&self) -> Snapshot {
        loop {
            self.ready().await;
            if let Some(snapshot) = self.0.snapshot() {
                return snapshot;
            }
            tokio::task::yield_now().await; // a reload began in between
        }
    }

    /// A state that contains every write acknowledged before the call, by whomever.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store does not say which revision it is at.
    pub async fn consistent(&self) -> Result<Snapshot> {
        self.0.start();
        let revision = self.0.feed.store_revision().await?;
        self.fresh(revision).await
    }

    /// A state at `revision` or later (`resourceVersionMatch=NotOlderThan`). Waits; the caller sets the time limit.
    pub async fn fresh(&self, revision: u64) -> Result<Snapshot> {
        self.wait_fresh(revision).await;
        Ok(self.recent().await)
    }

    /// Waits until changes up to `revision` are visible here. The caller sets the time limit.
    pub async fn wait_fresh(&self, revision: u64) {
        self.0.start();
        self.0.feed.wait(revision).await;
    }

    /// The state at exactly `revision`: from memory as far back as the ring goes, else from the store.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when it is forgotten, [`StoreError::Future`] when it is not here yet.
    pub async fn at(&self, revision: u64) -> Result<Snapshot> {
        let current = self.recent().await;
        if revision > current.revision {
            return Err(StoreError::Future { current: current.revision });
        }
        let oldest = self.0.feed.oldest();
        if revision < oldest {
            return Err(StoreError::Compacted { revision: oldest });
        }
        if let Some(snapshot) = self.0.state.load().rewind(revision) {
            return Ok(snapshot);
        }
        if let Some(snapshot) = self.0.old().iter().find(|snapshot| snapshot.revision == revision) {
            return Ok(snapshot.clone());
        }
        let snapshot = self.0.read(Some(revision)).await?;
        let mut old = self.0.old();
        if old.len() == OLD_SNAPSHOTS_MAX {
            old.pop_front();
        }
        old.push_back(snapshot.clone());
        Ok(snapshot)
    }

    /// Follows the changes after `revision`.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when changes after `revision` have left the ring already.
    pub async fn watch(&self, revision: u64) -> Result<Watcher> {
        self.ready().await;
        Watcher::new(Arc::clone(&self.0), revision)
    }

    /// What it holds now, without waiting.
    pub fn size(&self) -> Size {
        let state = self.0.state.load();
        Size {
            objects: state.tables.entries.len(),
            object_bytes: state.tables.bytes,
            changes: state.ring.len(),
            change_bytes: state.ring_bytes,
        }
    }
}

/// How much a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub objects: usize,
    /// Of the objects' JSON.
    pub object_bytes: usize,
    pub changes: usize,
    pub change_bytes: usize,
}

impl Snapshot {
    /// The store's revision that this shows: lists carry it, and watches continue from it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.tables.entries.get(key)
    }

    pub fn len(&self) -> usize {
        self.tables.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tables.entries.is_empty()
    }

    /// Objects under `prefix` in key order, after the key `after`.
    pub fn scan<'a>(&'a self, prefix: &'a str, after: Option<&str>) -> impl Iterator<Item = &'a Entry> {
        scan(&self.tables.entries, prefix, after)
    }

    /// How many objects are under `prefix` after the key `after`, without visiting them.
    pub fn count(&self, prefix: &str, after: Option<&str>) -> usize {
        let entries = &self.tables.entries;
        let end = entries.rank(|key| &**key < prefix || key.starts_with(prefix));
        let start = entries.rank(|key| &**key < prefix || after.is_some_and(|after| &**key <= after));
        end.saturating_sub(start)
    }

    /// Objects whose field has this value, in key order. `None` when the resource has no such index.
    pub fn indexed<'a>(&'a self, field: &str, value: &str) -> Option<impl Iterator<Item = &'a Entry> + use<'a>> {
        let index = &self.tables.indexes[self.tables.names.iter().position(|name| name == field)?];
        let prefix = format!("{value}\0");
        let found = index.seek(|key| **key < *prefix);
        Some(found.take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, entry)| entry))
    }
}

fn scan<'a>(map: &'a OrdMap<Arc<str>, Entry>, prefix: &'a str, after: Option<&str>) -> impl Iterator<Item = &'a Entry> + use<'a> {
    map.seek(|key| &**key < prefix || after.is_some_and(|after| &**key <= after))
        .take_while(move |(key, _)| key.starts_with(prefix))
        .map(|(_, entry)| entry)
}

/// Objects by key, and by the value of each indexed field.
#[derive(Clone, Debug)]
struct Tables {
    entries: OrdMap<Arc<str>, Entry>,
    /// Of all objects' JSON.
    bytes: usize,
    /// One map for each of `names`; its keys are the value, a zero byte and the object's key.
    indexes: Vec<OrdMap<Arc<str>, Entry>>,
    names: Arc<[String]>,
}

impl Tables {
    fn put(&mut self, entry: &Entry) {
        let previous = self.entries.insert(entry.shared_key(), entry.clone());
        self.bytes += entry.bytes().len();
        if let Some(previous) = previous {
            self.forget(&previous);
        }
        for (index, name) in self.indexes.iter_mut().zip(&*self.names) {
            for value in entry.record().fields.all(name) {
                index.insert(index_key(value, entry), entry.clone());
            }
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(previous) = self.entries.remove(key) {
            self.forget(&previous);
        }
    }

    fn forget(&mut self, entry: &Entry) {
        self.bytes -= entry.bytes().len();
        for (index, name) in self.indexes.iter_mut().zip(&*self.names) {
            for value in entry.record().fields.all(name) {
                index.remove(&index_key(value, entry));
            }
        }
    }
}

fn index_key(value: &str, entry: &Entry) -> Arc<str> {
    format!("{value}\0{}", entry.key()).into()
}

/// Everything about a resource at one moment. Cloning copies a handful of pointers.
#[derive(Clone)]
pub(crate) struct State {
    tables: Tables,
    /// Changes by revision.
    pub(crate) ring: OrdMap<u64, Arc<Change>>,
    ring_bytes: usize,
    /// All changes after this revision are in the ring.
    pub(crate) floor: u64,
    /// Of the last change, or of the list the cache was loaded from.
    revision: u64,
    /// A load is due: this is not what the feed's position says.
    pub(crate) stale: bool,
}

impl State {
    fn apply(&mut self, event: &Event, config: &Config) {
        if event.revision <= self.revision {
            return; // the load had it already
        }
        self.revision = event.revision;
        let previous = self.tables.entries.get(&*event.key).cloned();
        let entry = match event.kind {
            EventKind::Delete => None,
            EventKind::Create | EventKind::Update => {
                let entry = Entry::new(Arc::clone(&event.key), &event.value, event.revision, &*config.index);
                if entry.is_none() {
                    tracing::error!(key = &*event.key, "the stored value is no JSON object with metadata; it is not served");
                }
                entry
            }
        };
        let (kind, entry) = match (entry, &previous) {
            (Some(entry), previous) => {
                self.tables.put(&entry);
                (if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added }, entry)
            }
            (None, Some(previous)) => {
                self.tables.remove(&event.key);
                (ChangeKind::Deleted, previous.at_revision(event.revision))
            }
            (None, None) => return,
        };
        let change = Change { kind, entry, previous, revision: event.revision, at: Instant::now() };
        self.ring_bytes += change.cost();
        self.ring.insert(event.revision, Arc::new(change));
        self.trim(&config.ring);
    }

    fn trim(&mut self, limits: &RingLimits) {
        let now = Instant::now();
        while let Some((&revision, oldest)) = self.ring.first() {
            let old = now.duration_since(oldest.at) > limits.age_max;
            if !old && self.ring.len() <= limits.events_max && self.ring_bytes <= limits.bytes_max {
                return;
            }
            self.ring_bytes -= oldest.cost();
            self.floor = revision;
            self.ring.remove(&revision);
        }
    }

    /// The state at an earlier revision, if the ring reaches back to it.
    fn rewind(&self, revision: u64) -> Option<Snapshot> {
        if self.stale || revision < self.floor {
            return None;
        }
        let mut tables = self.tables.clone();
        let later: Vec<_> = self.ring.seek(|at| *at <= revision).map(|(_, change)| change).collect();
        for change in later.into_iter().rev() {
            match &change.previous {
                Some(previous) => tables.put(previous),
                None => tables.remove(change.entry.key()),
            }
        }
        Some(Snapshot { tables, revision })
    }
}

impl Change {
    /// Bytes that only the ring holds: the current state of the object belongs to the table.
    fn cost(&self) -> usize {
        let previous = self.previous.as_ref().map_or(0, Entry::cost);
        128 + previous + if self.kind == ChangeKind::Deleted { self.entry.cost() } else { 0 }
    }
}

pub(crate) struct Shared {
    pub(crate) feed: Feed,
    prefix: Arc<str>,
    config: Config,
    pub(crate) state: ArcSwap<State>,
    /// Wakes watchers.
    pub(crate) changed: watch::Sender<()>,
    ready: watch::Sender<bool>,
    writer: Mutex<Writer>,
    old: Mutex<VecDeque<Snapshot>>,
}

/// The writer's side: the next state, not yet published.
struct Writer {
    mode: Mode,
    state: State,
    dirty: bool,
}

enum Mode {
    /// Nobody has asked for this resource yet.
    Idle,
    /// The store is being read; what changes meanwhile waits here.
    Loading(Backlog),
    Live,
}

#[derive(Default)]
struct Backlog {
    events: Vec<Event>,
    bytes: usize,
    /// Events were dropped or the feed started anew: what is being read is of no use.
    void: bool,
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn old(&self) -> MutexGuard<'_, VecDeque<Snapshot>> {
        self.old.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>) {
        if *self.ready.borrow() {
            return;
        }
        let mut writer = self.writer();
        if matches!(writer.mode, Mode::Idle) {
            writer.mode = Mode::Loading(Backlog::default());
            drop(writer);
            let subscriber: Arc<dyn Subscriber> = Arc::<Self>::clone(self);
            self.feed.subscribe(Arc::clone(&self.prefix), Arc::downgrade(&subscriber));
            tokio::spawn(load(Arc::downgrade(self)));
        }
    }

    /// The current state, unless it must be read anew. The position is taken first: the state may be newer than it says,
    /// never older.
    fn snapshot(&self) -> Option<Snapshot> {
        let position = self.feed.position();
        let state = self.state.load();
        (!state.stale).then(|| Snapshot { tables: state.tables.clone(), revision: position.max(state.revision) })
    }

    /// Reads all objects from the store at one revision.
    async fn read(&self, revision: Option<u64>) -> Result<Snapshot> {
        let indexes = vec![OrdMap::default(); self.config.indexes.len()];
        let mut tables = Tables { entries: OrdMap::default(), bytes: 0, indexes, names: self.config.indexes.clone().into() };
        let mut options = ListOptions { limit: LOAD_PAGE, revision, start_after: None };
        loop {
            let page = self.feed.storage().list(&self.prefix, options.clone()).await?;
            for item in &page.items {
                match Entry::new(Arc::clone(&item.key), &item.value, item.revision, &*self.config.index) {
                    Some(entry) => tables.put(&entry),
                    None => {
                        tracing::error!(key = &*item.key, "the stored value is no JSON object with metadata; it is not served")
                    }
                }
            }
            options.revision = Some(page.revision);
            options.start_after = page.items.last().map(|item| item.key.as_ref().to_owned());
            if page.remaining == 0 || page.items.is_empty() {
                return Ok(Snapshot { tables, revision: page.revision });
            }
            tokio::task::yield_now().await;
        }
    }

    /// Continues from a list of the store with what happened since; false when it must be read again.
    fn go_live(&self, Snapshot { tables, revision }: Snapshot) -> bool {
        let mut writer = self.writer();
        let Mode::Loading(backlog) = &mut writer.mode else { return true };
        let backlog = std::mem::take(backlog);
        if backlog.void {
            return false;
        }
        let mut state = State { tables, ring: OrdMap::default(), ring_bytes: 0, floor: revision, revision, stale: false };
        for event in &backlog.events {
            state.apply(event, &self.config);
        }
        self.state.store(Arc::new(state.clone()));
        *writer = Writer { mode: Mode::Live, state, dirty: false };
        drop(writer);
        self.ready.send_replace(true);
        self.changed.send_replace(());
        true
    }
}

/// Reads the resource from the store until it succeeds. Ends with the cache.
async fn load(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        // The feed must be under way: what it delivers then joins what is read now without a gap.
        shared.feed.wait(1).await;
        match shared.read(None).await {
            Ok(snapshot) => {
                if shared.go_live(snapshot) {
                    return;
                }
            }
            Err(error) => tracing::debug!(prefix = &*shared.prefix, %error, "loading again"),
        }
        drop(shared);
        tokio::time::sleep(LOAD_RETRY_DELAY).await;
    }
}

impl Subscriber for Shared {
    fn change(&self, event: &Event) {
        let mut writer = self.writer();
        let Writer { mode, state, dirty } = &mut *writer;
        match mode {
            Mode::Idle => {}
            Mode::Loading(backlog) => {
                backlog.bytes += event.value.len() + event.key.len();
                if backlog.bytes > LOAD_BACKLOG_BYTES_MAX {
                    *backlog = Backlog { void: true, ..Backlog::default() };
                } else {
                    backlog.events.push(event.clone());
                }
            }
            Mode::Live => {
                state.apply(event, &self.config);
                *dirty = true;
            }
        }
    }

    fn publish(&self) {
        let mut writer = self.writer();
        if std::mem::take(&mut writer.dirty) {
            self.state.store(Arc::new(writer.state.clone()));
            self.changed.send_replace(());
        }
    }

    fn restart(self: Arc<Self>) {
        let mut writer = self.writer();
        match &mut writer.mode {
            Mode::Idle => return,
            Mode::Loading(backlog) => {
                *backlog = Backlog { void: true, ..Backlog::default() };
                return;
            }
            Mode::Live => {}
        }
        writer.mode = Mode::Loading(Backlog::default());
        writer.state.stale = true;
        self.state.store(Arc::new(writer.state.clone()));
        drop(writer);
        self.ready.send_replace(false);
        self.old().clear();
        tokio::spawn(load(Arc::downgrade(&self)));
    }
}
