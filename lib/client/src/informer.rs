//! Informers: a watched copy of a resource, held as bytes beside small index records, shared by all who ask.
//!
//! *Guarantees:* handlers see each object's changes in order, one at a time; after [`Informer::synced`] the copy has been
//! complete at least once; a copy never goes back to an older revision of an object.
//! *Caveats:* the copy lags behind the server. A controller that just wrote must not act on an older view.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use api::{DecodeError, Kind, Meta, ResourceId};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::Error;
use crate::queue::Backoff;
use crate::request::{Client, ListParams, Scope};
use crate::watch::{WatchEvent, WatchParams, WatchStream};

/// Namespace and name; the namespace is empty for cluster-scoped objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of<K: Kind>(object: &K) -> Self {
        Self::new(object.namespace(), object.name())
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// The keys of an object in a secondary index.
pub type IndexFn = fn(&Meta, &[u8]) -> Vec<String>;

/// What an informer watches, and by what it can be asked.
#[derive(Clone, Debug, Default)]
pub struct InformerConfig {
    /// Empty: all namespaces.
    pub namespace: String,
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub indexes: Vec<(&'static str, IndexFn)>,
    /// Only metadata is fetched (`PartialObjectMetadata`), for resources whose content does not matter.
    pub metadata_only: bool,
}

struct Entry {
    meta: Meta,
    bytes: Bytes,
}

/// One object of an informer. Clones share it; [`Meta`] is reached through it.
pub struct Cached<K> {
    entry: Arc<Entry>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Cached<K> {
    fn clone(&self) -> Self {
        Self::from(self.entry.clone())
    }
}

impl<K> From<Arc<Entry>> for Cached<K> {
    fn from(entry: Arc<Entry>) -> Self {
        Self { entry, kind: PhantomData }
    }
}

impl<K> Deref for Cached<K> {
    type Target = Meta;
    fn deref(&self) -> &Meta {
        &self.entry.meta
    }
}

impl<K> std::fmt::Debug for Cached<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.key(), self.entry.meta.resource_version)
    }
}

impl<K> Cached<K> {
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.entry.meta.namespace, &self.entry.meta.name)
    }
    pub fn bytes(&self) -> &Bytes {
        &self.entry.bytes
    }
}

impl<K: Kind> Cached<K> {
    /// The typed object, decoded now.
    pub fn parse(&self) -> Result<K, DecodeError> {
        K::decode(&self.entry.bytes)
    }
}

/// What happened to an object.
pub enum Change<K> {
    Added(Cached<K>),
    Updated { old: Cached<K>, new: Cached<K> },
    Deleted(Cached<K>),
}

impl<K> Change<K> {
    /// The object as it is, or as it was last.
    pub fn object(&self) -> &Cached<K> {
        match self {
            Self::Added(o) | Self::Deleted(o) | Self::Updated { new: o, .. } => o,
        }
    }
}

enum RawChange {
    Added(Arc<Entry>),
    Updated(Arc<Entry>, Arc<Entry>),
    Deleted(Arc<Entry>),
}

type Handler = Box<dyn Fn(&RawChange) + Send + Sync>;

#[derive(Default)]
struct Objects {
    all: BTreeMap<ObjectKey, Arc<Entry>>,
    indexes: HashMap<&'static str, HashMap<String, BTreeSet<ObjectKey>>>,
}

struct Shared {
    resource: ResourceId,
    config: InformerConfig,
    objects: RwLock<Objects>,
    /// Held while handlers run, so that each sees changes in order.
    handlers: Mutex<Vec<Handler>>,
    synced: watch::Sender<bool>,
    revision: watch::Sender<u64>,
    task: Mutex<Option<AbortHandle>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(|e| e.into_inner()).take() {
            task.abort();
        }
    }
}

/// A watched copy. Clones share it; it ends when the last one is dropped.
pub struct Informer<K> {
    shared: Arc<Shared>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), kind: PhantomData }
    }
}

impl<K: Kind> Informer<K> {
    pub fn start(client: &Client, config: InformerConfig) -> Self {
        Self::of_resource(client, ResourceId::of::<K>(), config)
    }

    /// All objects, decoded; one that can't be is left out and logged.
    pub fn parsed(&self) -> Vec<K> {
        self.list().iter().filter_map(logged).collect()
    }
}

/// The typed object, or `None` and a line in the log.
pub fn logged<K: Kind>(cached: &Cached<K>) -> Option<K> {
    cached.parse().inspect_err(|error| tracing::warn!(object = %cached.key(), %error, "a cached object can't be decoded")).ok()
}

impl<K: 'static> Informer<K> {
    /// For resources known only at run time; `K` may be `()`.
    pub fn of_resource(client: &Client, resource: ResourceId, config: InformerConfig) -> Self {
        let shared = Arc::new(Shared {
            resource,
            config,
            objects: RwLock::default(),
            handlers: Mutex::default(),
            synced: watch::Sender::new(false),
            revision: watch::Sender::new(0),
            task: Mutex::default(),
        });
        let task = tokio::spawn(run(Arc::downgrade(&shared), client.clone())).abort_handle();
        *shared.task.lock().unwrap_or_else(|e| e.into_inner()) = Some(task);
        Self { shared, kind: PhantomData }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Cached<K>> {
        self.get_key(&ObjectKey::new(namespace, name))
    }

    pub fn get_key(&self, key: &ObjectKey) -> Option<Cached<K>> {
        self.read(|o| o.all.get(key).cloned()).map(Cached::from)
    }

    /// All objects in order of namespace and name.
    pub fn list(&self) -> Vec<Cached<K>> {
        self.read(|o| o.all.values().cloned().map(Cached::from).collect())
    }

    pub fn list_namespace(&self, namespace: &str) -> Vec<Cached<K>> {
        let start = ObjectKey::new(namespace, "");
        self.read(|o| {
            o.all.range(start..).take_while(|(k, _)| k.namespace == namespace).map(|(_, e)| Cached::from(e.clone())).collect()
        })
    }

    pub fn len(&self) -> usize {
        self.read(|o| o.all.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects under a key of one of the configured indexes.
    pub fn by_index(&self, index: &str, key: &str) -> Vec<Cached<K>> {
        self.read(|o| {
            let Some(keys) = o.indexes.get(index).and_then(|i| i.get(key)) else { return Vec::new() };
            keys.iter().filter_map(|k| o.all.get(k)).map(|e| Cached::from(e.clone())).collect()
        })
    }

    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Returns once the copy is complete.
    pub async fn synced(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.synced.subscribe().wait_for(|s| *s).await;
    }

    /// The newest revision seen.
    pub fn revision(&self) -> u64 {
        *self.shared.revision.borrow()
    }

    /// Tells of each new revision.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Calls `handler` for every object that is there now, as added, and then for every change. It must not block, nor
    /// subscribe again.
    pub fn subscribe(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let raw: Handler = Box::new(move |change| {
            handler(&match change {
                RawChange::Added(e) => Change::Added(e.clone().into()),
                RawChange::Updated(old, new) => Change::Updated { old: old.clone().into(), new: new.clone().into() },
                RawChange::Deleted(e) => Change::Deleted(e.clone().into()),
            });
        });
        let mut handlers = self.shared.handlers.lock().unwrap_or_else(|e| e.into_inner());
        let present: Vec<Arc<Entry>> = self.read(|o| o.all.values().cloned().collect());
        present.into_iter().for_each(|entry| raw(&RawChange::Added(entry)));
        handlers.push(raw);
    }

    fn read<T>(&self, f: impl FnOnce(&Objects) -> T) -> T {
        f(&self.shared.objects.read().unwrap_or_else(|e| e.into_inner()))
    }
}

impl Objects {
    fn put(&mut self, config: &InformerConfig, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let key = ObjectKey::new(&entry.meta.namespace, &entry.meta.name);
        let old = self.remove(config, &key);
        for (name, index) in &config.indexes {
            for value in index(&entry.meta, &entry.bytes) {
                self.indexes.entry(name).or_default().entry(value).or_default().insert(key.clone());
            }
        }
        self.all.insert(key, entry);
        old
    }

    fn remove(&mut self, config: &InformerConfig, key: &ObjectKey) -> Option<Arc<Entry>> {
        let old = self.all.remove(key)?;
        for (name, index) in &config.indexes {
            let Some(map) = self.indexes.get_mut(name) else { continue };
            for value in index(&old.meta, &old.bytes) {
                if let Some(keys) = map.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        map.remove(&value);
                    }
                }
            }
        }
        Some(old)
    }
}

impl Shared {
    fn apply(&self, entry: Option<Arc<Entry>>, deleted: Option<ObjectKey>) {
        let handlers = self.handlers.lock().unwrap_or_else(|e| e.into_inner());
        let change = {
            let mut objects = self.objects.write().unwrap_or_else(|e| e.into_inner());
            match (entry, deleted) {
                (Some(entry), _) => match objects.put(&self.config, entry.clone()) {
                    None => RawChange::Added(entry),
                    Some(old) if old.bytes == entry.bytes => return,
                    Some(old) if old.meta.uid != entry.meta.uid => {
                        drop(objects);
                        handlers.iter().for_each(|h| h(&RawChange::Deleted(old.clone())));
                        RawChange::Added(entry)
                    }
                    Some(old) => RawChange::Updated(old, entry),
                },
                (None, Some(key)) => match objects.remove(&self.config, &key) {
                    Some(old) => RawChange::Deleted(old),
                    None => return,
                },
                (None, None) => return,
            }
        };
        handlers.iter().for_each(|h| h(&change));
    }

    /// Makes the copy equal to a complete state.
    fn replace(&self, entries: Vec<Arc<Entry>>) {
        let keys: BTreeSet<ObjectKey> = entries.iter().map(|e| ObjectKey::new(&e.meta.namespace, &e.meta.name)).collect();
        let gone: Vec<ObjectKey> = {
            let objects = self.objects.read().unwrap_or_else(|e| e.into_inner());
            objects.all.keys().filter(|k| !keys.contains(k)).cloned().collect()
        };
        gone.into_iter().for_each(|key| self.apply(None, Some(key)));
        entries.into_iter().for_each(|entry| self.apply(Some(entry), None));
    }

    fn seen(&self, revision: u64) {
        self.revision.send_if_modified(|r| {
            let newer = revision > *r;
            *r = (*r).max(revision);
            newer
        });
    }
}

fn decode(bytes: &Bytes) -> Result<Arc<Entry>, Error> {
    let meta = Meta::decode(bytes).map_err(|source| Error::Answer { what: "a watch".to_owned(), source })?;
    // A copy of its own: a slice would keep the whole buffer that it was read from.
    Ok(Arc::new(Entry { meta, bytes: Bytes::copy_from_slice(bytes) }))
}

/// How the copy is filled at first, or again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// KEP-3157, one stream for both.
    WatchList,
    /// For servers that refuse it, or can't do it: upstream on etcd 3.4 answers 500.
    List,
    /// The copy is complete up to this revision.
    Resume(u64),
}

/// Watches until the informer is dropped.
async fn run(shared: std::sync::Weak<Shared>, client: Client) {
    let mut start = Start::WatchList;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let ended = follow(&shared, &client, &mut start, &mut backoff).await;
        let Some(s) = shared.upgrade() else { return };
        match ended {
            // The server ends watches from time to time.
            Ok(()) => {}
            Err(error) if error.is_gone() => start = Start::WatchList,
            Err(error) if start == Start::WatchList && error.status().is_some_and(|s| matches!(s.code, 400 | 422 | 500)) => {
                start = Start::List;
                continue;
            }
            Err(error) => {
                tracing::debug!(resource = %s.resource.plural, "watching: {}", chain(&error));
            }
        }
        drop(s);
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// One watch from `start` to its end; `start` becomes what comes next.
async fn follow(
    shared: &std::sync::Weak<Shared>,
    client: &Client,
    start: &mut Start,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let Some(s) = shared.upgrade() else { return Ok(()) };
    let list = ListParams {
        label_selector: s.config.label_selector.clone(),
        field_selector: s.config.field_selector.clone(),
        resource_version: None,
    };
    let scope = Scope { resource: &s.resource, namespace: &s.config.namespace };
    if *start == Start::List {
        let listed = client.list_bytes(scope.clone(), &list).await?;
        s.replace(listed.items.iter().map(decode).collect::<Result<_, _>>()?);
        s.seen(listed.resource_version);
        s.synced.send_replace(true);
        *start = Start::Resume(listed.resource_version);
    }
    let params = match *start {
        Start::Resume(rv) => WatchParams { list, resource_version: Some(rv), initial_events: false },
        _ => WatchParams { list, resource_version: None, initial_events: true },
    };
    let accept = s.config.metadata_only.then_some(METADATA_ONLY);
    let mut stream = client.watch_as(scope, &params, accept).await?;
    drop(s);
    let mut initial = params.initial_events.then(BTreeMap::new);
    consume(shared, &mut stream, &mut initial, start, backoff).await
}

async fn consume(
    shared: &std::sync::Weak<Shared>,
    stream: &mut WatchStream,
    initial: &mut Option<BTreeMap<ObjectKey, Arc<Entry>>>,
    start: &mut Start,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    while let Some(event) = stream.next().await {
        let event = event?;
        let Some(s) = shared.upgrade() else { return Ok(()) };
        backoff.reset();
        match event {
            WatchEvent::Bookmark { resource_version, initial_events_end } => {
                if initial_events_end && let Some(all) = initial.take() {
                    s.replace(all.into_values().collect());
                    s.synced.send_replace(true);
                }
                if initial.is_none() {
                    *start = Start::Resume(resource_version);
                    s.seen(resource_version);
                }
            }
            WatchEvent::Added(bytes) | WatchEvent::Modified(bytes) => {
                let entry = decode(&bytes)?;
                let revision = entry.meta.resource_version;
                if let Some(all) = initial {
                    all.insert(ObjectKey::new(&entry.meta.namespace, &entry.meta.name), entry);
                } else {
                    s.apply(Some(entry), None);
                    *start = Start::Resume(revision);
                    s.seen(revision);
                }
            }
            WatchEvent::Deleted(bytes) => {
                let meta = Meta::decode(&bytes).map_err(|source| Error::Answer { what: "a watch".to_owned(), source })?;
                let key = ObjectKey::new(&meta.namespace, &meta.name);
                if let Some(all) = initial {
                    all.remove(&key);
                } else {
                    s.apply(None, Some(key));
                    *start = Start::Resume(meta.resource_version);
                    s.seen(meta.resource_version);
                }
            }
        }
    }
    Ok(())
}
