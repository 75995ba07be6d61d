//! Names of things to look at, each at most once: what the server's own controllers work through.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

/// Bounded by the names there are. Clones are the same queue.
#[derive(Clone, Default)]
pub struct Queue(Arc<(Mutex<BTreeSet<String>>, Notify)>);

impl Queue {
    pub fn add(&self, name: &str) {
        self.0.0.lock().unwrap_or_else(|e| e.into_inner()).insert(name.to_owned());
        self.0.1.notify_one();
    }

    /// Adds the name later.
    pub fn add_after(&self, name: &str, delay: std::time::Duration) {
        let (queue, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            queue.add(&name);
        });
    }

    /// Waits for a name. There is one worker.
    pub async fn next(&self) -> String {
        loop {
            let first = self.0.0.lock().unwrap_or_else(|e| e.into_inner()).pop_first();
            match first {
                Some(name) => return name,
                None => self.0.1.notified().await,
            }
        }
    }
}
