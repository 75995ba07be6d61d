//! The loop around every controller: workers that take keys from a queue, call `reconcile`, and retry what failed.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::queue::Queue;

/// What a successful reconciliation asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing until something changes.
    #[default]
    Done,
    /// Look again after this time even if nothing changes.
    Again(Duration),
}

/// Runs until the queue is closed. `reconcile` is called for one key at a time by each of `workers` tasks; a panic in it
/// counts as a failure of that key.
pub async fn run<T, E, F, R>(name: &'static str, queue: Queue<T>, workers: usize, reconcile: R)
where
    T: Clone + Eq + Hash + Debug + Send + 'static,
    E: Display + Send + 'static,
    F: Future<Output = Result<Outcome, E>> + Send + 'static,
    R: Fn(T) -> F + Clone + Send + Sync + 'static,
{
    queue.name(name);
    let mut set = JoinSet::new();
    for _ in 0..workers.max(1) {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        set.spawn(async move {
            while let Some(key) = queue.next().await {
                work(name, &queue, key, &reconcile).await;
            }
        });
    }
    while set.join_next().await.is_some() {}
}

async fn work<T, E, F, R>(name: &'static str, queue: &Queue<T>, key: T, reconcile: &R)
where
    T: Clone + Eq + Hash + Debug + Send + 'static,
    E: Display + Send + 'static,
    F: Future<Output = Result<Outcome, E>> + Send + 'static,
    R: Fn(T) -> F,
{
    // A task of its own, so that a panic is contained.
    match tokio::spawn(reconcile(key.clone())).await {
        Ok(Ok(Outcome::Done)) => queue.forget(&key),
        Ok(Ok(Outcome::Again(delay))) => {
            queue.forget(&key);
            queue.add_after(key.clone(), delay);
        }
        Ok(Err(error)) => {
            tracing::info!(controller = name, ?key, tries = queue.failures(&key) + 1, "will be tried again: {error:#}");
            queue.add_failed(key.clone());
        }
        Err(panic) => {
            tracing::error!(controller = name, ?key, %panic, "reconciling panicked");
            queue.add_failed(key.clone());
        }
    }
    queue.done(&key);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_are_tried_again() {
        let queue = Queue::new();
        queue.add(1u8);
        let calls = Arc::new(AtomicU32::new(0));
        let (q, c) = (queue.clone(), calls.clone());
        run("test", queue, 2, move |_| {
            let (q, n) = (q.clone(), c.fetch_add(1, Ordering::SeqCst));
            async move {
                match n {
                    0 => Err("no"),
                    1 => panic!("a bug"),
                    2 => Ok(Outcome::Again(Duration::from_secs(60))),
                    _ => {
                        q.close();
                        Ok(Outcome::Done)
                    }
                }
            }
        })
        .await;
        assert_eq!(calls.load(Ordering::SeqCst), 4);
    }
}
