//! A cursor into a cache's ring of changes.
//!
//! A watcher owns no queue: a slow one falls behind, costs nothing, and fails only when the ring has dropped a change it
//! has not seen.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use crate::{
    cache::{Change, Shared},
    storage::{Result, StoreError},
};

/// Changes taken from the ring at once.
const REFILL: usize = 128;

pub struct Watcher {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    /// All changes up to here were taken from the ring.
    cursor: u64,
    taken: VecDeque<Arc<Change>>,
    /// Of the last change handed out.
    delivered: u64,
}

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, after: u64) -> Result<Self> {
        let changed = shared.changed.subscribe();
        let mut watcher = Self { shared, changed, cursor: after, taken: VecDeque::new(), delivered: after };
        watcher.refill()?;
        Ok(watcher)
    }

    /// The next change; waits for one. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the watcher fell out of the ring or the cache had to be read anew. It is over then.
    pub async fn next(&mut self) -> Result<Arc<Change>> {
        loop {
            if let Some(change) = self.try_next()? {
                return Ok(change);
            }
            let _ = self.changed.changed().await; // the sender lives as long as `self`
        }
    }

    /// The next change, if there is one now.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Change>>> {
        if self.taken.is_empty() {
            self.refill()?;
        }
        let change = self.taken.pop_front();
        if let Some(change) = &change {
            self.delivered = change.revision;
        }
        Ok(change)
    }

    /// Everything up to this revision has been handed out: what a bookmark may say.
    pub fn progress(&mut self) -> u64 {
        // The position first: changes up to it are in the ring by now.
        let position = self.shared.feed.position();
        let state = self.shared.state.load();
        let behind = self.cursor < state.floor || state.ring.seek(|at| *at <= self.cursor).next().is_some();
        if !self.taken.is_empty() || behind || state.stale {
            return self.delivered;
        }
        self.cursor = self.cursor.max(position);
        self.delivered = self.delivered.max(position);
        self.delivered
    }

    fn refill(&mut self) -> Result<()> {
        self.changed.mark_unchanged();
        let state = self.shared.state.load();
        if self.cursor < state.floor {
            return Err(StoreError::Compacted { revision: state.floor });
        }
        self.taken.extend(state.ring.seek(|at| *at <= self.cursor).take(REFILL).map(|(_, change)| Arc::clone(change)));
        if let Some(last) = self.taken.back() {
            self.cursor = last.revision;
        }
        Ok(())
    }
}
