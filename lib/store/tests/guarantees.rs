//! The promises of [`store::Storage`], one test each, held against both back-ends.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use store::{
    Etcd, EtcdConfig, EtcdTls, Event, EventKind, ListOptions, Memory, Storage, StoreError, Stored, WatchItem, WatchStream,
    testing::{EtcdProcess, Random},
};

const LIMIT: Duration = Duration::from_secs(30);

fn run<F: Future<Output = ()>>(test: impl Fn(Arc<dyn Storage>) -> F, storage: impl AsyncFnOnce() -> Arc<dyn Storage>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let storage = storage().await;
        tokio::time::timeout(LIMIT, test(storage)).await.expect("the test took too long");
    });
}

/// Runs each function as a test against the memory back-end and against an etcd of its own.
macro_rules! against_both {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::run(super::$name, async || std::sync::Arc::new(super::Memory::new()) as _); })*
        }
        mod etcd {
            $(#[test] fn $name() {
                let etcd = super::EtcdProcess::start().unwrap();
                super::run(super::$name, async || super::connect(&etcd).await);
            })*
        }
    };
}

against_both!(
    writes_are_conditional,
    lists_are_ordered_paged_and_repeatable,
    watches_are_ordered_unique_and_resumable,
    compaction_is_told,
    keys_expire,
    large_values,
    concurrent_load,
);

async fn connect(etcd: &EtcdProcess) -> Arc<dyn Storage> {
    let storage = Etcd::new(EtcdConfig { endpoints: vec![etcd.endpoint()], tls: None }).await.unwrap();
    // Starting takes a moment; reads are retried.
    while storage.current_revision().await.is_err() {}
    Arc::new(storage)
}

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn next(stream: &mut WatchStream) -> Result<Vec<Event>, StoreError> {
    loop {
        match stream.next().await.expect("a watch does not end without an error")? {
            WatchItem::Changes(batch) => {
                assert_eq!(batch.events.last().unwrap().revision, batch.revision);
                return Ok(batch.events);
            }
            WatchItem::Progress(_) => {}
        }
    }
}

async fn take(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(next(stream).await.unwrap());
    }
    assert_eq!(events.len(), count);
    events
}

async fn writes_are_conditional(storage: Arc<dyn Storage>) {
    let first = storage.create("/a", value("1"), None).await.unwrap();
    assert!(matches!(storage.create("/a", value("2"), None).await, Err(StoreError::Exists)));
    assert!(matches!(storage.update("/b", value("2"), first, None).await, Err(StoreError::NotFound)));
    assert!(matches!(storage.update("/b", value("2"), 0, None).await, Err(StoreError::NotFound)));
    assert!(matches!(storage.delete("/b", first).await, Err(StoreError::NotFound)));
    let second = storage.update("/a", value("2"), first, None).await.unwrap();
    assert_eq!(second, first + 1);
    let now = Stored { key: "/a".into(), value: value("2"), revision: second };
    for outcome in [storage.update("/a", value("3"), first, None).await, storage.delete("/a", first).await] {
        match outcome {
            Err(StoreError::Conflict { current }) => assert_eq!(current, now),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(storage.get("/a").await.unwrap(), Some(now));
    assert_eq!(storage.current_revision().await.unwrap(), second);
    let third = storage.delete("/a", second).await.unwrap();
    assert_eq!((third, storage.get("/a").await.unwrap()), (second + 1, None));
    assert_eq!(storage.current_revision().await.unwrap(), third);
    assert_eq!(storage.create("/a", value("4"), None).await.unwrap(), third + 1);
}

async fn lists_are_ordered_paged_and_repeatable(storage: Arc<dyn Storage>) {
    let names = |page: &store::Page| page.items.iter().map(|item| item.key.to_string()).collect::<Vec<_>>();
    for key in ["/p/c", "/p/a", "/pa", "/o/z", "/p/b", "/p/a/x", "/q/a"] {
        storage.create(key, value(key), None).await.unwrap();
    }
    let all = storage.list("/p/", ListOptions::default()).await.unwrap();
    assert_eq!((names(&all), all.remaining), (vec!["/p/a".into(), "/p/a/x".into(), "/p/b".into(), "/p/c".into()], 0));
    assert_eq!(storage.list("", ListOptions::default()).await.unwrap().items.len(), 7);

    let first = storage.list("/p/", ListOptions { limit: 2, ..Default::default() }).await.unwrap();
    assert_eq!((names(&first), first.remaining), (vec!["/p/a".into(), "/p/a/x".into()], 2));
    // Later writes do not show in the pages that follow.
    storage.create("/p/bb", value("new"), None).await.unwrap();
    let b = first.revision;
    let second = ListOptions { limit: 3, start_after: Some("/p/a/x".into()), revision: Some(b) };
    let second = storage.list("/p/", second).await.unwrap();
    assert_eq!((names(&second), second.remaining, second.revision), (vec!["/p/b".into(), "/p/c".into()], 0, b));
    assert_eq!(storage.list("/p/", ListOptions::default()).await.unwrap().items.len(), 5);
    let current = storage.current_revision().await.unwrap();
    let future = storage.list("/p/", ListOptions { revision: Some(current + 10), ..Default::default() }).await;
    assert!(matches!(future, Err(StoreError::Future { current: c }) if c == current), "{future:?}");
}

async fn watches_are_ordered_unique_and_resumable(storage: Arc<dyn Storage>) {
    let start = storage.current_revision().await.unwrap();
    let mut live = storage.watch("/w/", start);
    let one = storage.create("/w/a", value("1"), None).await.unwrap();
    storage.create("/x", value("other"), None).await.unwrap();
    let two = storage.update("/w/a", value("2"), one, None).await.unwrap();
    let three = storage.delete("/w/a", two).await.unwrap();
    let four = storage.create("/w/a", value("3"), None).await.unwrap();
    let event = |kind, text: &str, revision| Event { kind, key: "/w/a".into(), value: value(text), revision };
    let expected = [
        event(EventKind::Create, "1", one),
        event(EventKind::Update, "2", two),
        event(EventKind::Delete, "", three),
        event(EventKind::Create, "3", four),
    ];
    assert_eq!(take(&mut live, 4).await, expected);
    for (skip, after) in [start, one, two, three].into_iter().enumerate() {
        assert_eq!(take(&mut storage.watch("/w/", after), 4 - skip).await, expected[skip..]);
    }
    let mut all = storage.watch("", start);
    assert_eq!(take(&mut all, 5).await.iter().map(|e| e.revision).collect::<Vec<_>>(), (one..=four).collect::<Vec<_>>());
    // Nothing is left over.
    let five = storage.create("/w/b", value("4"), None).await.unwrap();
    assert_eq!(take(&mut live, 1).await[0].revision, five);
}

async fn compaction_is_told(storage: Arc<dyn Storage>) {
    let mut revisions = vec![storage.create("/c", value("0"), None).await.unwrap()];
    for n in 1..10 {
        let last = *revisions.last().unwrap();
        revisions.push(storage.update("/c", value(&n.to_string()), last, None).await.unwrap());
    }
    storage.compact(revisions[5]).await.unwrap();
    assert!(matches!(storage.compact(revisions[5]).await, Err(StoreError::Compacted { .. })));
    let at = |revision| storage.list("/c", ListOptions { revision: Some(revision), ..Default::default() });
    assert!(matches!(at(revisions[4]).await, Err(StoreError::Compacted { .. })));
    assert_eq!(at(revisions[5]).await.unwrap().items[0].value, value("5"));
    assert_eq!(at(revisions[9]).await.unwrap().items[0].value, value("9"));
    let compacted = next(&mut storage.watch("/c", revisions[2])).await;
    assert!(matches!(compacted, Err(StoreError::Compacted { revision }) if revision == revisions[5]), "{compacted:?}");
    assert_eq!(take(&mut storage.watch("/c", revisions[5]), 4).await[0].revision, revisions[6]);
}

async fn keys_expire(storage: Arc<dyn Storage>) {
    let start = storage.current_revision().await.unwrap();
    let second = Some(Duration::from_secs(1));
    let kept = storage.create("/e/kept", value("x"), second).await.unwrap();
    storage.create("/e/gone", value("x"), second).await.unwrap();
    storage.update("/e/kept", value("y"), kept, None).await.unwrap();
    let events = take(&mut storage.watch("/e/", start), 4).await;
    assert_eq!((events[3].kind, &*events[3].key), (EventKind::Delete, "/e/gone"));
    assert_eq!(storage.list("/e/", ListOptions::default()).await.unwrap().items.len(), 1);
}

async fn large_values(storage: Arc<dyn Storage>) {
    let start = storage.current_revision().await.unwrap();
    let megabyte = Bytes::from(vec![b'x'; 1 << 20]);
    for n in 0..8 {
        storage.create(&format!("/l/{n}"), megabyte.clone(), None).await.unwrap();
    }
    assert_eq!(storage.list("/l/", ListOptions::default()).await.unwrap().items.len(), 8);
    assert_eq!(take(&mut storage.watch("/l/", start), 8).await.len(), 8);
}

/// Writers race for the same keys; every watcher must see one history, the one the writers were told of.
async fn concurrent_load(storage: Arc<dyn Storage>) {
    const WRITERS: u64 = 8;
    const WRITES: usize = 60;
    let start = storage.current_revision().await.unwrap();
    let watchers: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = storage.watch("/r/", start);
            tokio::spawn(async move { take(&mut stream, WRITERS as usize * WRITES).await })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS).map(|seed| tokio::spawn(write_at_random(Arc::clone(&storage), seed, WRITES))).collect();
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        for (revision, key) in writer.await.unwrap() {
            assert!(acknowledged.insert(revision, key).is_none(), "revision {revision} was given twice");
        }
    }
    let mut model: BTreeMap<String, (u64, Bytes)> = BTreeMap::new();
    let mut history = None;
    for watcher in watchers {
        let events = watcher.await.unwrap();
        assert!(events.windows(2).all(|pair| pair[0].revision < pair[1].revision));
        assert!(events.iter().map(|e| (e.revision, e.key.to_string())).eq(acknowledged.clone()));
        assert!(history.get_or_insert_with(|| events.clone()) == &events);
    }
    for event in history.unwrap() {
        let key = event.key.to_string();
        assert_eq!(event.kind == EventKind::Create, !model.contains_key(&key), "revision {}", event.revision);
        match event.kind {
            EventKind::Delete => drop(model.remove(&key)),
            _ => drop(model.insert(key, (event.revision, event.value))),
        }
    }
    let page = storage.list("/r/", ListOptions::default()).await.unwrap();
    assert!(page.items.into_iter().map(|item| (item.key.to_string(), (item.revision, item.value))).eq(model));
}

async fn write_at_random(storage: Arc<dyn Storage>, seed: u64, writes: usize) -> Vec<(u64, String)> {
    let mut random = Random::new(seed);
    let mut done = Vec::new();
    while done.len() < writes {
        let key = format!("/r/{}", random.below(6));
        let text = value(&format!("{seed}-{}", done.len()));
        let current = storage.get(&key).await.unwrap();
        let outcome = match (current, random.below(3)) {
            (None, _) => storage.create(&key, text, None).await,
            (Some(current), 0) => storage.delete(&key, current.revision).await,
            (Some(current), _) => storage.update(&key, text, current.revision, None).await,
        };
        match outcome {
            Ok(revision) => done.push((revision, key)),
            Err(StoreError::Exists | StoreError::NotFound | StoreError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    done
}

/// kill -9 of etcd in the middle: what was acknowledged stays, and the watch continues without loss or repetition.
#[test]
fn etcd_killed_and_restarted() {
    let mut etcd = EtcdProcess::start().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let storage = connect(&etcd).await;
        let start = storage.current_revision().await.unwrap();
        let mut watch = storage.watch("/k/", start);
        let watcher = tokio::spawn(async move { take(&mut watch, 60).await });
        let mut acknowledged = Vec::new();
        for round in 0..3 {
            for n in 0..20 {
                let key = format!("/k/{round}-{n}");
                acknowledged.push((storage.create(&key, value("x"), None).await.unwrap(), key));
            }
            etcd.kill().unwrap();
            let failed = storage.create("/k/refused", value("x"), None).await;
            assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
            etcd.restart().unwrap();
            while storage.current_revision().await.is_err() {}
        }
        let seen = tokio::time::timeout(LIMIT, watcher).await.unwrap().unwrap();
        assert!(seen.iter().map(|e| (e.revision, e.key.to_string())).eq(acknowledged.clone()));
        let all = storage.list("/k/", ListOptions::default()).await.unwrap();
        assert_eq!(all.items.len(), acknowledged.len());
        let events = take(&mut storage.watch("/k/", start), acknowledged.len()).await;
        assert_eq!(events, seen);
    });
}

/// etcd as it runs in a cluster: nobody talks to it without a certificate.
#[test]
fn etcd_over_tls() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    let directory = std::env::temp_dir().join(format!("kctl-store-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let params = |names: &[&str], name: &str| {
        let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let mut ca = params(&[], "etcd-ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params(&["127.0.0.1"], "etcd").signed_by(&key, &ca).unwrap();
    let file = |name: &str, pem: String| {
        let file = directory.join(name);
        std::fs::write(&file, pem).unwrap();
        file
    };
    let tls = EtcdTls {
        ca: file("ca.crt", ca.pem()),
        certificate: file("etcd.crt", certificate.pem()),
        key: file("etcd.key", key.serialize_pem()),
    };
    let etcd = EtcdProcess::start_with(Some(tls.clone())).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let storage = Etcd::new(EtcdConfig { endpoints: vec![etcd.endpoint()], tls: Some(tls) }).await.unwrap();
        while storage.current_revision().await.is_err() {}
        let revision = storage.create("/t", value("x"), None).await.unwrap();
        assert_eq!(take(&mut storage.watch("/", revision - 1), 1).await[0].revision, revision);
        let stranger = Etcd::new(EtcdConfig { endpoints: vec![etcd.endpoint()], tls: None }).await.unwrap();
        assert!(matches!(stranger.create("/s", value("x"), None).await, Err(StoreError::Unavailable(_))));
    });
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Time stands still in simulations: expiry follows the runtime's clock.
#[tokio::test(start_paused = true)]
async fn memory_expires_by_the_runtimes_clock() {
    let storage = Memory::new();
    storage.create("/a", value("x"), Some(Duration::from_secs(3600))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3599)).await;
    assert!(storage.get("/a").await.unwrap().is_some());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(storage.get("/a").await.unwrap().is_none());
}
