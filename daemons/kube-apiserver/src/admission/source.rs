//! Configurations that follow the store: compiled once when they change, read without a lock by every request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde_json::Value;
use tokio::sync::Notify;

use crate::follow;
use crate::server::Server;

/// How long a request waits for the configurations after the start.
const LOADED_WAIT: Duration = Duration::from_secs(10);

/// All objects of one kind, compiled, in the order of their names.
pub struct Source<T> {
    /// None until they were read for the first time.
    current: ArcSwapOption<Vec<Arc<T>>>,
    by_name: Mutex<BTreeMap<String, Arc<T>>>,
    loaded: Notify,
}

impl<T> Default for Source<T> {
    fn default() -> Self {
        Self { current: ArcSwapOption::empty(), by_name: Mutex::default(), loaded: Notify::new() }
    }
}

impl<T: Send + Sync + 'static> Source<T> {
    /// Begins to follow a resource of admissionregistration.k8s.io.
    pub fn follow(self: &Arc<Self>, server: &Arc<Server>, plural: &str, compile: fn(&Value) -> T) {
        let (this, loaded) = (self.clone(), self.clone());
        follow::spawn_loaded(
            server,
            super::GROUP,
            plural,
            move |_namespace, name, object| this.apply(name, object.map(compile)),
            move || loaded.publish(),
        );
    }

    fn apply(&self, name: &str, compiled: Option<T>) {
        let mut by_name = self.by_name.lock().unwrap_or_else(|e| e.into_inner());
        match compiled {
            Some(compiled) => by_name.insert(name.to_owned(), Arc::new(compiled)),
            None => by_name.remove(name),
        };
        // Before everything was read once, half of it must not pass for all.
        if self.current.load().is_some() {
            self.current.store(Some(Arc::new(by_name.values().cloned().collect())));
        }
    }

    fn publish(&self) {
        let by_name = self.by_name.lock().unwrap_or_else(|e| e.into_inner());
        self.current.store(Some(Arc::new(by_name.values().cloned().collect())));
        self.loaded.notify_waiters();
    }

    /// Whether there is certainly nothing configured.
    pub fn is_empty(&self) -> bool {
        self.current.load().as_ref().is_some_and(|current| current.is_empty())
    }

    /// Everything, as soon as it was read; none when that takes too long.
    pub async fn get(&self) -> Option<Arc<Vec<Arc<T>>>> {
        let wait = async {
            loop {
                let notified = self.loaded.notified();
                if let Some(current) = self.current.load_full() {
                    return current;
                }
                notified.await;
            }
        };
        match self.current.load_full() {
            Some(current) => Some(current),
            None => tokio::time::timeout(LOADED_WAIT, wait).await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_counts_before_everything_was_read() {
        let source: Source<u8> = Source::default();
        source.apply("b", Some(2));
        assert!(!source.is_empty() && source.current.load().is_none());
        source.publish();
        source.apply("a", Some(1));
        let all: Vec<u8> = source.get().await.expect("published").iter().map(|item| **item).collect();
        assert_eq!(all, [1, 2]);
        source.apply("a", None);
        source.apply("b", None);
        assert!(source.is_empty());
    }
}
