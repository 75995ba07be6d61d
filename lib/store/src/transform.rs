//! Values that are changed on their way to and from the store: encryption at rest.
//!
//! The store below keeps what [`Transformer::seal`] made; everything above sees plain values. A value that can
//! never be read back is an error of that key, not of the whole store. One that cannot be read just now, for somebody else has the
//! key and does not answer, fails the list that it is in; a watch says that it missed a change.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};

use crate::storage::{Batch, Event, EventKind, ListOptions, Page, Result, Storage, StoreError, Stored, WatchItem, WatchStream};

/// Changes values by key. Both directions must be able to run at the same time as a change of the configuration.
pub trait Transformer: Send + Sync + 'static {
    /// What is kept of `value`.
    ///
    /// # Errors
    /// Why it cannot be: the write does not happen.
    fn seal(&self, key: &str, value: Bytes) -> std::result::Result<Bytes, TransformError>;

    /// The value of what was kept.
    ///
    /// # Errors
    /// When no key that is configured can read it.
    fn open(&self, key: &str, kept: Bytes) -> std::result::Result<Bytes, TransformError>;

    /// Gets what sealing, or opening what is `kept`, said has to be asked for first.
    ///
    /// # Errors
    /// Why it was not got.
    fn ask<'a>(&'a self, _key: &'a str, _kept: Option<&'a [u8]>) -> BoxFuture<'a, std::result::Result<(), TransformError>> {
        futures::future::ready(Ok(())).boxed()
    }

    /// Names the form that a value is kept in; none where there is but one.
    fn form(&self, key: &str, kept: &[u8]) -> Option<u64>;

    /// The form that the next write has.
    fn next_form(&self, key: &str) -> Option<u64>;
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{key}: {why}")]
pub struct TransformError {
    pub key: String,
    pub why: Cow<'static, str>,
    /// [`Transformer::ask`] may help.
    asks: bool,
}

impl TransformError {
    pub fn new(key: &str, why: impl Into<Cow<'static, str>>) -> Self {
        Self { key: key.to_owned(), why: why.into(), asks: false }
    }

    /// Somebody who has the key has to be asked for it.
    pub fn ask_first(key: &str) -> Self {
        Self { asks: true, ..Self::new(key, "its key is not known yet") }
    }
}

/// A store whose values go through a transformer.
pub struct Transformed {
    inner: Arc<dyn Storage>,
    transformer: Arc<dyn Transformer>,
    /// In which form values are kept, of those that could be in another.
    forms: Arc<Forms>,
}

type Forms = Mutex<HashMap<Arc<str>, u64>>;

fn note(forms: &Forms, key: &Arc<str>, form: Option<u64>) {
    let mut forms = forms.lock().unwrap_or_else(PoisonError::into_inner);
    match form {
        Some(form) => forms.insert(key.clone(), form),
        None => forms.remove(key),
    };
}

impl Transformed {
    pub fn new(inner: Arc<dyn Storage>, transformer: Arc<dyn Transformer>) -> Self {
        Self { inner, transformer, forms: Arc::default() }
    }

    async fn store(&self, key: &str, value: Bytes) -> Result<Bytes> {
        match self.transformer.seal(key, value.clone()) {
            Err(error) if error.asks => {
                self.transformer.ask(key, None).await.map_err(StoreError::unavailable)?;
                self.transformer.seal(key, value)
            }
            done => done,
        }
        .map_err(StoreError::unavailable)
    }

    async fn load(&self, stored: Stored) -> Result<Stored> {
        let value = match open(&*self.transformer, &stored.key, stored.value).await {
            Opened::Value(value) => value,
            Opened::Never(error) | Opened::NotNow(error) => return Err(StoreError::unavailable(error)),
        };
        Ok(Stored { value, ..stored })
    }

    /// The same error, with the value that it carries readable.
    async fn readable(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Conflict { current } => match self.load(current).await {
                Ok(current) => StoreError::Conflict { current },
                Err(error) => error,
            },
            other => other,
        }
    }
}

/// What became of a stored value.
enum Opened {
    Value(Bytes),
    Never(TransformError),
    /// Whoever has the key did not give it.
    NotNow(TransformError),
}

async fn open(transformer: &dyn Transformer, key: &str, kept: Bytes) -> Opened {
    let first = transformer.open(key, kept.clone());
    let result = match first {
        Err(error) if error.asks => {
            if let Err(error) = transformer.ask(key, Some(&kept)).await {
                return Opened::NotNow(error);
            }
            transformer.open(key, kept)
        }
        done => done,
    };
    result.map_or_else(Opened::Never, Opened::Value)
}

/// The same changes with readable values.
async fn readable(transformer: &dyn Transformer, forms: &Forms, batch: Batch) -> Batch {
    let Batch { events, revision, mut missed } = batch;
    let mut read = Vec::with_capacity(events.len());
    for event in events {
        if event.kind == EventKind::Delete {
            note(forms, &event.key, None);
            read.push(event);
            continue;
        }
        note(forms, &event.key, transformer.form(&event.key, &event.value));
        match open(transformer, &event.key, event.value).await {
            Opened::Value(value) => read.push(Event { value, ..event }),
            Opened::Never(error) => note_unreadable(&error),
            Opened::NotNow(error) => {
                tracing::warn!(%error, "a change cannot be read now; its resource is read again");
                missed.push(event.key);
            }
        }
    }
    Batch { events: read, revision, missed }
}

/// One object that can never be read must not hide all others.
fn note_unreadable(error: &TransformError) {
    tracing::error!(error = error as &dyn std::error::Error, "a stored value cannot be read; it is not served");
}

impl Storage for Transformed {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>>> {
        async move {
            match self.inner.get(key).await? {
                Some(stored) => self.load(stored).await.map(Some),
                None => Ok(None),
            }
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>> {
        async move {
            match self.inner.create(key, self.store(key, value).await?, ttl).await {
                Err(error) => Err(self.readable(error).await),
                done => done,
            }
        }
        .boxed()
    }

    fn update<'a>(&'a self, key: &'a str, value: Bytes, expected: u64, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>> {
        async move {
            match self.inner.update(key, self.store(key, value).await?, expected, ttl).await {
                Err(error) => Err(self.readable(error).await),
                done => done,
            }
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> BoxFuture<'a, Result<u64>> {
        async move {
            match self.inner.delete(key, expected).await {
                Err(error) => Err(self.readable(error).await),
                done => done,
            }
        }
        .boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page>> {
        async move {
            let page = self.inner.list(prefix, options).await?;
            let mut items = Vec::with_capacity(page.items.len());
            for stored in page.items {
                note(&self.forms, &stored.key, self.transformer.form(&stored.key, &stored.value));
                match open(&*self.transformer, &stored.key, stored.value).await {
                    Opened::Value(value) => items.push(Stored { value, ..stored }),
                    Opened::Never(error) => note_unreadable(&error),
                    Opened::NotNow(error) => return Err(StoreError::unavailable(error)),
                }
            }
            Ok(Page { items, ..page })
        }
        .boxed()
    }

    fn watch(&self, prefix: &str, after: u64) -> WatchStream {
        let (transformer, forms) = (Arc::clone(&self.transformer), Arc::clone(&self.forms));
        let changed = move |item: Result<WatchItem>| {
            let (transformer, forms) = (Arc::clone(&transformer), Arc::clone(&forms));
            async move {
                match item {
                    Ok(WatchItem::Changes(batch)) => Ok(WatchItem::Changes(readable(&*transformer, &forms, batch).await)),
                    other => other,
                }
            }
        };
        self.inner.watch(prefix, after).then(changed).boxed()
    }

    fn current_revision(&self) -> BoxFuture<'_, Result<u64>> {
        self.inner.current_revision()
    }

    fn is_stale(&self, key: &str) -> bool {
        let next = self.transformer.next_form(key);
        next.is_some() && self.forms.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied() != next
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<()>> {
        self.inner.compact(revision)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::Memory;

    /// Keeps values backwards; knows none that begin with `!`, and has to ask for those that begin with `?`.
    #[derive(Default)]
    struct Backwards {
        answers: AtomicBool,
        asked: AtomicBool,
    }

    impl Transformer for Backwards {
        fn seal(&self, _key: &str, value: Bytes) -> std::result::Result<Bytes, TransformError> {
            Ok(value.iter().rev().copied().collect::<Vec<_>>().into())
        }

        fn open(&self, key: &str, kept: Bytes) -> std::result::Result<Bytes, TransformError> {
            if kept.starts_with(b"!") {
                return Err(TransformError::new(key, "no key"));
            }
            if kept.starts_with(b"?") && !self.asked.load(Ordering::Relaxed) {
                return Err(TransformError::ask_first(key));
            }
            self.seal(key, kept)
        }

        fn ask<'a>(&'a self, key: &'a str, _: Option<&'a [u8]>) -> BoxFuture<'a, std::result::Result<(), TransformError>> {
            let answers = self.answers.load(Ordering::Relaxed);
            self.asked.store(answers, Ordering::Relaxed);
            futures::future::ready(if answers { Ok(()) } else { Err(TransformError::new(key, "no answer")) }).boxed()
        }

        fn form(&self, _key: &str, kept: &[u8]) -> Option<u64> {
            Some(u64::from(kept.starts_with(b"old")))
        }

        fn next_form(&self, _key: &str) -> Option<u64> {
            Some(0)
        }
    }

    #[tokio::test]
    async fn values_are_changed_on_every_way() {
        let inner: Arc<dyn Storage> = Arc::new(Memory::new());
        let store = Transformed::new(inner.clone(), Arc::new(Backwards::default()));
        let revision = store.create("/a", "abc".into(), None).await.unwrap();
        assert_eq!(inner.get("/a").await.unwrap().unwrap().value, "cba");
        assert_eq!(store.get("/a").await.unwrap().unwrap().value, "abc");
        let mut changes = store.watch("/", revision);
        let error = store.update("/a", "x".into(), revision + 9, None).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { current } if current.value == "abc"));
        store.update("/a", "def".into(), revision, None).await.unwrap();
        loop {
            if let WatchItem::Changes(batch) = changes.next().await.unwrap().unwrap() {
                assert_eq!(batch.events[0].value, "def");
                break;
            }
        }
        assert!(!store.is_stale("/a"));
        inner.create("/c", "old".into(), None).await.unwrap();
        assert!(store.is_stale("/c"), "it was not seen yet");
        store.list("/c", ListOptions::default()).await.unwrap();
        assert!(store.is_stale("/c"));
        inner.create("/b", "!x".into(), None).await.unwrap();
        assert!(store.get("/b").await.is_err());
        let page = store.list("/", ListOptions::default()).await.unwrap();
        assert_eq!(page.items.iter().map(|stored| &*stored.key).collect::<Vec<_>>(), ["/a", "/c"]);
    }

    #[tokio::test]
    async fn a_key_that_is_not_given_is_not_a_value_that_is_not_there() {
        let inner: Arc<dyn Storage> = Arc::new(Memory::new());
        let transformer = Arc::new(Backwards::default());
        let store = Transformed::new(inner.clone(), transformer.clone());
        let mut changes = store.watch("/", inner.current_revision().await.unwrap());
        inner.create("/a", "?cba".into(), None).await.unwrap();
        assert!(store.get("/a").await.is_err());
        assert!(store.list("/", ListOptions::default()).await.is_err(), "an empty list would be a lie");
        loop {
            if let WatchItem::Changes(batch) = changes.next().await.unwrap().unwrap() {
                assert_eq!((batch.events.len(), &*batch.missed[0]), (0, "/a"));
                break;
            }
        }
        transformer.answers.store(true, Ordering::Relaxed);
        assert_eq!(store.list("/", ListOptions::default()).await.unwrap().items[0].value, "abc?");
    }
}
