//! The watch cache over both back-ends: what readers and watchers may rely on.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use serde_json::{Value, json};
use store::{
    Cache, ChangeKind, Config, Etcd, EtcdConfig, Feed, IndexRecord, ListOptions, Memory, Page, Storage, StoreError, Stored,
    WatchStream,
    testing::{EtcdProcess, Random},
};

const PREFIX: &str = "/registry/pods/";

fn config() -> Config {
    Config::new(|bytes| {
        let value: Value = serde_json::from_slice(bytes).unwrap();
        let labels = value["metadata"]["labels"].as_object().into_iter().flatten();
        IndexRecord {
            labels: labels.map(|(name, value)| (name, value.as_str().unwrap())).collect(),
            fields: value["node"].as_str().map(|node| ("spec.nodeName", node)).into_iter().collect(),
        }
    })
    .with_index("spec.nodeName")
}

fn pod(name: &str, node: &str, text: &str) -> Bytes {
    json!({"metadata": {"name": name, "labels": {"app": "x"}}, "node": node, "text": text}).to_string().into()
}

fn key(name: &str) -> String {
    format!("{PREFIX}default/{name}")
}

async fn etcd(process: &EtcdProcess) -> Arc<dyn Storage> {
    Arc::new(Etcd::new(EtcdConfig { endpoints: vec![process.endpoint()], tls: None }).await.unwrap())
}

#[tokio::test]
async fn objects_carry_their_revision_and_are_found_by_index() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let before = storage.create(&key("a"), pod("a", "n1", ""), None).await.unwrap();
    let feed = Feed::start(Arc::clone(&storage));
    let cache = Cache::new(&feed, PREFIX, config());
    let b = storage.create(&key("b"), pod("b", "n2", ""), None).await.unwrap();
    let snapshot = cache.consistent().await.unwrap();
    assert_eq!((snapshot.len(), snapshot.revision()), (2, b));
    let bytes = |name: &str| snapshot.get(&key(name)).unwrap().bytes().len();
    assert_eq!((cache.size().objects, cache.size().object_bytes), (2, bytes("a") + bytes("b")));
    let a: Value = serde_json::from_slice(snapshot.get(&key("a")).unwrap().bytes()).unwrap();
    assert_eq!(a["metadata"]["resourceVersion"], before.to_string());

    let names = |snapshot: &store::Snapshot, node: &str| {
        snapshot.indexed("spec.nodeName", node).unwrap().map(|entry| entry.key().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((names(&snapshot, "n1"), names(&snapshot, "n")), (vec![key("a")], vec![]));
    storage.update(&key("a"), pod("a", "n2", "longer"), before, None).await.unwrap();
    let moved = cache.consistent().await.unwrap();
    assert_eq!(cache.size().object_bytes, bytes("b") + moved.get(&key("a")).unwrap().bytes().len());
    assert_eq!((names(&moved, "n1"), names(&moved, "n2")), (vec![], vec![key("a"), key("b")]));
    assert_eq!(names(&snapshot, "n1"), [key("a")], "an old snapshot does not change");
    assert!(moved.indexed("spec.other", "x").is_none());

    // Writes elsewhere move the revision that lists and bookmarks carry.
    let mut watcher = cache.watch(moved.revision()).await.unwrap();
    let other = storage.create("/registry/configmaps/default/x", Bytes::from_static(b"{}"), None).await.unwrap();
    assert_eq!(cache.consistent().await.unwrap().revision(), other);
    assert!(watcher.try_next().unwrap().is_none());
    assert_eq!(watcher.progress(), other);
}

#[tokio::test]
async fn watchers_see_before_and_after() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let feed = Feed::start(Arc::clone(&storage));
    let cache = Cache::start(&feed, PREFIX, config());
    let start = cache.consistent().await.unwrap().revision();
    let mut watcher = cache.watch(start).await.unwrap();
    let one = storage.create(&key("a"), pod("a", "n1", "1"), None).await.unwrap();
    let two = storage.update(&key("a"), pod("a", "n2", "2"), one, None).await.unwrap();
    let three = storage.delete(&key("a"), two).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let change = watcher.next().await.unwrap();
        let object: Value = serde_json::from_slice(change.entry.bytes()).unwrap();
        assert_eq!(object["metadata"]["resourceVersion"], change.revision.to_string());
        let previous = change
            .previous
            .as_ref()
            .map(|entry| (entry.revision(), entry.record().fields.get("spec.nodeName").unwrap().to_owned()));
        seen.push((change.kind, change.revision, object["text"].as_str().unwrap().to_owned(), previous));
    }
    assert_eq!(
        seen,
        [
            (ChangeKind::Added, one, "1".into(), None),
            (ChangeKind::Modified, two, "2".into(), Some((one, "n1".into()))),
            (ChangeKind::Deleted, three, "2".into(), Some((two, "n2".into()))),
        ]
    );
}

#[tokio::test]
async fn slow_watchers_fall_out_and_old_states_come_from_the_store() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let feed = Feed::start(Arc::clone(&storage));
    let mut config = config();
    config.ring.events_max = 10;
    let cache = Cache::start(&feed, PREFIX, config);
    let start = cache.consistent().await.unwrap().revision();
    let mut slow = cache.watch(start).await.unwrap();
    let mut revision = storage.create(&key("a"), pod("a", "n1", "0"), None).await.unwrap();
    let first = revision;
    for n in 1..=20 {
        revision = storage.update(&key("a"), pod("a", "n1", &n.to_string()), revision, None).await.unwrap();
    }
    cache.wait_fresh(revision).await;
    assert!(matches!(slow.next().await, Err(StoreError::Compacted { revision: floor }) if floor == revision - 10));
    assert!(matches!(cache.watch(first).await, Err(StoreError::Compacted { .. })));
    assert_eq!(cache.watch(revision - 10).await.unwrap().next().await.unwrap().revision, revision - 9);
    let text = |snapshot: store::Snapshot| {
        let object: Value = serde_json::from_slice(snapshot.get(&key("a")).unwrap().bytes()).unwrap();
        object["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(text(cache.at(revision).await.unwrap()), "20");
    assert_eq!(text(cache.at(revision - 10).await.unwrap()), "10");
    assert_eq!(text(cache.at(first + 3).await.unwrap()), "3");
    assert!(cache.at(start).await.unwrap().is_empty());
    assert!(matches!(cache.at(revision + 1).await, Err(StoreError::Future { current }) if current == revision));
    storage.compact(first + 5).await.unwrap();
    assert!(matches!(cache.at(first + 4).await, Err(StoreError::Compacted { .. })));
    assert_eq!(text(cache.at(first + 5).await.unwrap()), "5");
}

#[tokio::test]
async fn pages_count_what_remains() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    for namespace in ["a", "b"] {
        for n in 0..100 {
            storage.create(&format!("{PREFIX}{namespace}/{n:03}"), pod("x", "n", ""), None).await.unwrap();
        }
    }
    let feed = Feed::start(storage);
    let snapshot = Cache::new(&feed, PREFIX, config()).consistent().await.unwrap();
    let prefix = format!("{PREFIX}a/");
    let mut after: Option<String> = None;
    let mut all = Vec::new();
    loop {
        let page: Vec<_> = snapshot.scan(&prefix, after.as_deref()).take(7).map(|entry| entry.key().to_owned()).collect();
        after = page.last().cloned();
        all.extend(page);
        assert_eq!(snapshot.count(&prefix, after.as_deref()), 100 - all.len());
        if all.len() == 100 {
            break;
        }
    }
    assert!(all.iter().all(|key| key.starts_with(&prefix)) && all.is_sorted());
    assert_eq!(snapshot.count(PREFIX, None), 200);
}

/// Load, consistent reads and watchers at the same time, replayed from seeds.
async fn agrees_under_load(storage: Arc<dyn Storage>, seed: u64) {
    let feed = Feed::start(Arc::clone(&storage));
    let cache = Cache::new(&feed, PREFIX, config());
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (storage, cache) = (Arc::clone(&storage), cache.clone());
            tokio::spawn(async move {
                let mut random = Random::new(seed * 100 + writer);
                for _ in 0..80 {
                    let name = format!("{}-{}", writer, random.below(5));
                    let (key, node) = (key(&name), format!("n{}", random.below(3)));
                    let revision = match (storage.get(&key).await.unwrap(), random.below(4)) {
                        (None, _) => storage.create(&key, pod(&name, &node, "new"), None).await,
                        (Some(old), 0) => storage.delete(&key, old.revision).await,
                        (Some(old), _) => storage.update(&key, pod(&name, &node, "more"), old.revision, None).await,
                    }
                    .unwrap();
                    // Nobody else writes this key: a consistent read shows exactly this write.
                    let snapshot = cache.consistent().await.unwrap();
                    assert!(snapshot.revision() >= revision);
                    let stored = storage.get(&key).await.unwrap().map(|stored| stored.revision);
                    assert_eq!(snapshot.get(&key).map(store::Entry::revision), stored, "seed {seed}");
                }
            })
        })
        .collect();
    // A client that lists and then watches arrives at the same state as one that lists at the end.
    let first = cache.recent().await;
    let mut replica: BTreeMap<String, Bytes> =
        first.scan(PREFIX, None).map(|entry| (entry.key().to_owned(), entry.bytes().clone())).collect();
    let mut watcher = cache.watch(first.revision()).await.unwrap();
    let mut history = Vec::new();
    for writer in writers {
        writer.await.unwrap();
    }
    let last = cache.consistent().await.unwrap();
    while watcher.progress() < last.revision() {
        let change = watcher.next().await.unwrap();
        history.push((change.revision, replica.clone()));
        assert_eq!(change.previous.as_ref().map(store::Entry::bytes), replica.get(change.entry.key()));
        match change.kind {
            ChangeKind::Deleted => drop(replica.remove(change.entry.key())),
            _ => drop(replica.insert(change.entry.key().to_owned(), change.entry.bytes().clone())),
        }
    }
    assert!(last.scan(PREFIX, None).map(|entry| (entry.key(), entry.bytes())).eq(replica.iter().map(|(k, v)| (k.as_str(), v))));
    assert!(history.windows(2).all(|pair| pair[0].0 < pair[1].0));
    // Any state in between can be had again.
    for (revision, state) in history.iter().step_by(37) {
        let then = cache.at(revision - 1).await.unwrap();
        assert!(then.scan(PREFIX, None).map(|entry| (entry.key(), entry.bytes())).eq(state.iter().map(|(k, v)| (k.as_str(), v))));
        let by_node: usize = (0..3).map(|n| then.indexed("spec.nodeName", &format!("n{n}")).unwrap().count()).sum();
        assert_eq!(by_node, state.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agrees_under_load_in_memory() {
    for seed in 0..10 {
        agrees_under_load(Arc::new(Memory::new()), seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agrees_under_load_on_etcd() {
    let process = EtcdProcess::start().unwrap();
    let storage = etcd(&process).await;
    while storage.current_revision().await.is_err() {}
    agrees_under_load(storage, 1).await;
}

/// The store comes late and dies once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_the_loss_of_etcd() {
    let mut process = EtcdProcess::start().unwrap();
    let storage = etcd(&process).await;
    let feed = Feed::start(Arc::clone(&storage));
    let cache = Cache::start(&feed, PREFIX, config());
    cache.ready().await; // waits for etcd to come up
    let one = storage.create(&key("a"), pod("a", "n1", "1"), None).await.unwrap();
    assert_eq!(cache.fresh(one).await.unwrap().len(), 1);

    process.kill().unwrap();
    assert_eq!(cache.recent().await.len(), 1, "what is known is served");
    process.restart().unwrap();
    while storage.current_revision().await.is_err() {}
    let two = storage.update(&key("a"), pod("a", "n1", "2"), one, None).await.unwrap();
    let mut watcher = cache.watch(one).await.unwrap();
    assert_eq!(watcher.next().await.unwrap().revision, two, "the same watch goes on");
    assert_eq!(cache.consistent().await.unwrap().get(&key("a")).unwrap().revision(), two);
}

/// A store whose watches all fail when they are cut, as after a compaction during a long absence.
struct Cut {
    memory: Memory,
    cut: Arc<tokio::sync::Notify>,
}

impl Storage for Cut {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        self.memory.get(key)
    }
    fn create<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.memory.create(key, value, ttl)
    }
    fn update<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        at: u64,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.memory.update(key, value, at, ttl)
    }
    fn delete<'a>(&'a self, key: &'a str, at: u64) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.memory.delete(key, at)
    }
    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.memory.list(prefix, options)
    }
    fn watch(&self, prefix: &str, after: u64) -> WatchStream {
        let cut = Arc::clone(&self.cut);
        let until = async move { cut.notified().await };
        let end = futures::stream::iter([Err(StoreError::Compacted { revision: after + 1 })]);
        self.memory.watch(prefix, after).take_until(until).chain(end).boxed()
    }
    fn current_revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.memory.current_revision()
    }
    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.memory.compact(revision)
    }
}

#[tokio::test]
async fn lost_history_is_read_again_and_watchers_are_told() {
    let cut = Arc::new(tokio::sync::Notify::new());
    let storage: Arc<dyn Storage> = Arc::new(Cut { memory: Memory::new(), cut: Arc::clone(&cut) });
    let feed = Feed::start(Arc::clone(&storage));
    let cache = Cache::start(&feed, PREFIX, config());
    let one = storage.create(&key("a"), pod("a", "n1", "1"), None).await.unwrap();
    cache.fresh(one).await.unwrap();
    let mut watcher = cache.watch(one).await.unwrap();
    for round in 0..5 {
        cut.notify_waiters();
        tokio::task::yield_now().await;
        // The feed does not see these.
        let lost = storage.create(&key(&format!("b{round}")), pod("b", "n1", ""), None).await.unwrap();
        let snapshot = cache.consistent().await.unwrap();
        assert!(snapshot.revision() >= lost);
        assert_eq!(snapshot.len(), 2 + round);
        assert!(matches!(watcher.next().await, Err(StoreError::Compacted { .. })), "round {round}");
        watcher = cache.watch(snapshot.revision()).await.unwrap();
        let seen = storage.create(&key(&format!("c{round}")), pod("c", "n1", ""), None).await.unwrap();
        let change = watcher.next().await.unwrap();
        assert_eq!(change.revision, seen);
        storage.delete(&key(&format!("c{round}")), seen).await.unwrap();
    }
}

/// Many readers at once cost the store few requests.
#[tokio::test]
async fn consistency_checks_are_shared() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let feed = Feed::start(storage);
    let cache = Cache::start(&feed, PREFIX, config());
    cache.ready().await;
    let started = Instant::now();
    let reads = (0..2000).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.consistent().await.unwrap().revision() })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}
