//! Keeps the store's history short: every so often it forgets what is older than the interval.

use std::{sync::Arc, time::Duration};

use crate::storage::{Storage, StoreError};

/// As upstream's `--etcd-compaction-interval`.
pub const INTERVAL: Duration = Duration::from_secs(300);

/// Compacts until dropped. History stays between one and two intervals; an idle store is not written to. Several API
/// servers may do this to one store: each forgets only what is old.
pub async fn run(storage: Arc<dyn Storage>, interval: Duration) {
    let mut previous = None;
    let mut compacted = None;
    loop {
        tokio::time::sleep(interval).await;
        if let Some(revision) = previous.take().filter(|revision| compacted != Some(*revision)) {
            match storage.compact(revision).await {
                Ok(()) | Err(StoreError::Compacted { .. }) => compacted = Some(revision),
                Err(error) => tracing::warn!(revision, %error, "the store's history was not compacted"),
            }
        }
        previous = storage.current_revision().await.ok();
    }
}
