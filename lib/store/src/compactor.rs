//! Keeps the store's history short: every so often it forgets what is older than the interval.

use std::time::Duration;

use crate::feed::Feed;
use crate::storage::StoreError;

/// As upstream's `--etcd-compaction-interval`.
pub const INTERVAL: Duration = Duration::from_secs(300);

/// Compacts until dropped. History stays between one and two intervals; an idle store is not written to. Several API
/// servers may do this to one store: each forgets only what is old.
pub async fn run(feed: Feed, interval: Duration) {
    let storage = feed.storage().clone();
    let mut previous = None;
    let mut compacted = None;
    loop {
        tokio::time::sleep(interval).await;
        if let Some(revision) = previous.take().filter(|revision| compacted != Some(*revision)) {
            match storage.compact(revision).await {
                Ok(()) | Err(StoreError::Compacted { .. }) => {
                    feed.forget_before(revision);
                    compacted = Some(revision);
                }
                Err(error) => tracing::warn!(revision, %error, "the store's history was not compacted"),
            }
        }
        previous = storage.current_revision().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::Storage;
    use crate::{Cache, Config, IndexRecord, Memory};

    /// Paused time: a state from before the last interval but one is gone, also from memory.
    #[tokio::test(start_paused = true)]
    async fn what_is_compacted_is_not_shown() {
        let storage = Arc::new(Memory::new());
        let feed = Feed::start(storage.clone());
        let cache = Cache::start(&feed, "/a/", Config::new(|_| IndexRecord::default()));
        let mut revisions = Vec::new();
        for name in ["x", "y"] {
            let value = format!("{{\"metadata\":{{\"name\":\"{name}\"}}}}");
            revisions.push(storage.create(&format!("/a/{name}"), value.into(), None).await.unwrap());
        }
        cache.wait_fresh(revisions[1]).await;
        assert_eq!(cache.at(revisions[0]).await.unwrap().len(), 1);
        let compactor = tokio::spawn(run(feed, INTERVAL));
        tokio::time::sleep(INTERVAL * 2 + Duration::from_secs(1)).await;
        assert!(matches!(cache.at(revisions[0]).await, Err(StoreError::Compacted { revision }) if revision == revisions[1]));
        assert_eq!(cache.at(revisions[1]).await.unwrap().len(), 2);
        compactor.abort();
    }
}
