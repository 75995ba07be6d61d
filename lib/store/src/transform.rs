//! Values that are changed on their way to and from the store: encryption at rest.
//!
//! The store below keeps what [`Transformer::seal`] made; everything above sees plain values. A value that cannot be
//! read back is an error of that key, not of the whole store, except in a watch, which would otherwise miss a change.

use std::{
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

    /// Names the form that a value is kept in; none where there is but one.
    fn form(&self, key: &str, kept: &[u8]) -> Option<u64>;

    /// The form that the next write has.
    fn next_form(&self, key: &str) -> Option<u64>;
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{key}: {why}")]
pub struct TransformError {
    pub key: String,
    pub why: &'static str,
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

    fn store(&self, key: &str, value: Bytes) -> Result<Bytes> {
        self.transformer.seal(key, value).map_err(StoreError::unavailable)
    }

    fn load(&self, stored: Stored) -> Result<Stored> {
        let value = self.transformer.open(&stored.key, stored.value).map_err(StoreError::unavailable)?;
        Ok(Stored { value, ..stored })
    }

    /// The same error, with the value that it carries readable.
    fn readable(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Conflict { current } => match self.load(current) {
                Ok(current) => StoreError::Conflict { current },
                Err(error) => error,
            },
            other => other,
        }
    }
}

impl Storage for Transformed {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>>> {
        async move { self.inner.get(key).await?.map(|stored| self.load(stored)).transpose() }.boxed()
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>> {
        async move { self.inner.create(key, self.store(key, value)?, ttl).await.map_err(|error| self.readable(error)) }.boxed()
    }

    fn update<'a>(&'a self, key: &'a str, value: Bytes, expected: u64, ttl: Option<Duration>) -> BoxFuture<'a, Result<u64>> {
        async move { self.inner.update(key, self.store(key, value)?, expected, ttl).await.map_err(|error| self.readable(error)) }
            .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, expected: u64) -> BoxFuture<'a, Result<u64>> {
        async move { self.inner.delete(key, expected).await.map_err(|error| self.readable(error)) }.boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page>> {
        async move {
            let page = self.inner.list(prefix, options).await?;
            let items = page.items.into_iter().filter_map(|stored| {
                note(&self.forms, &stored.key, self.transformer.form(&stored.key, &stored.value));
                match self.load(stored) {
                    Ok(stored) => Some(stored),
                    Err(error) => {
                        // One object that cannot be read must not hide all others.
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "a stored value cannot be read; it is not served"
                        );
                        None
                    }
                }
            });
            Ok(Page { items: items.collect(), ..page })
        }
        .boxed()
    }

    fn watch(&self, prefix: &str, after: u64) -> WatchStream {
        let (transformer, forms) = (Arc::clone(&self.transformer), Arc::clone(&self.forms));
        let load = move |event: Event| {
            if event.kind == EventKind::Delete {
                note(&forms, &event.key, None);
                return Some(event);
            }
            note(&forms, &event.key, transformer.form(&event.key, &event.value));
            match transformer.open(&event.key, event.value.clone()) {
                Ok(value) => Some(Event { value, ..event }),
                Err(error) => {
                    tracing::error!(%error, "a stored value cannot be read; it is not served");
                    None
                }
            }
        };
        let changed = move |item: Result<WatchItem>| match item {
            Ok(WatchItem::Changes(batch)) => {
                let revision = batch.revision;
                Ok(WatchItem::Changes(Batch { events: batch.events.into_iter().filter_map(&load).collect(), revision }))
            }
            other => other,
        };
        self.inner.watch(prefix, after).map(changed).boxed()
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
    use super::*;
    use crate::Memory;

    /// Keeps values backwards; knows none that begin with `!`.
    struct Backwards;

    impl Transformer for Backwards {
        fn seal(&self, _key: &str, value: Bytes) -> std::result::Result<Bytes, TransformError> {
            Ok(value.iter().rev().copied().collect::<Vec<_>>().into())
        }

        fn open(&self, key: &str, kept: Bytes) -> std::result::Result<Bytes, TransformError> {
            if kept.starts_with(b"!") {
                return Err(TransformError { key: key.to_owned(), why: "no key" });
            }
            self.seal(key, kept)
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
        let store = Transformed::new(inner.clone(), Arc::new(Backwards));
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
}
