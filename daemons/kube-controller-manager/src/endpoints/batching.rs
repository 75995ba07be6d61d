//! Changes that are looked at together: `--…-updates-batch-period`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::ObjectKey;
use client::queue::Queue;
use tokio::time::Instant;

/// A queue whose keys wait for the period that began with their first change. Clones share it.
#[derive(Clone)]
pub(super) struct Batching {
    queue: Queue<ObjectKey>,
    period: Duration,
    /// When the periods end that have begun.
    ends: Arc<Mutex<HashMap<ObjectKey, Instant>>>,
}

impl Batching {
    pub(super) fn new(queue: &Queue<ObjectKey>, period: Duration) -> Self {
        Self { queue: queue.clone(), period, ends: Arc::default() }
    }

    pub(super) fn add(&self, key: ObjectKey) {
        if self.period.is_zero() {
            self.queue.add(key);
        } else if self.begins(&key, Instant::now()) {
            self.queue.add_after(key, self.period);
        }
    }

    /// Whether a period begins with this change. If not, it belongs to one that has begun.
    fn begins(&self, key: &ObjectKey, now: Instant) -> bool {
        let mut ends = self.ends.lock().unwrap_or_else(|e| e.into_inner());
        if ends.get(key).is_some_and(|end| *end > now) {
            return false;
        }
        ends.retain(|_, end| *end > now);
        ends.insert(key.clone(), now + self.period);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_begins_a_period() {
        let batching = Batching::new(&Queue::new(), Duration::from_millis(500));
        let start = Instant::now();
        for (ms, name, want) in [
            (0, "a", true),
            (100, "a", false),
            (200, "b", true),
            (499, "a", false),
            (500, "a", true),
            (699, "b", false),
            (1000, "b", true),
        ] {
            let at = start + Duration::from_millis(ms);
            assert_eq!(batching.begins(&ObjectKey::new("d", name), at), want, "{name} at {ms}");
        }
        assert_eq!(batching.ends.lock().unwrap().len(), 1, "what has ended is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_a_period_are_one() {
        let queue = Queue::new();
        let batching = Batching::new(&queue, Duration::from_secs(1));
        let key = ObjectKey::new("d", "a");
        let start = Instant::now();
        batching.add(key.clone());
        tokio::time::advance(Duration::from_millis(900)).await;
        batching.add(key.clone());
        assert_eq!(queue.next().await, Some(key.clone()));
        assert_eq!(start.elapsed().as_secs(), 1);
        queue.done(&key);
        assert!(tokio::time::timeout(Duration::from_secs(10), queue.next()).await.is_err());
        Batching::new(&queue, Duration::ZERO).add(key.clone());
        assert_eq!(queue.next().await, Some(key));
    }
}
