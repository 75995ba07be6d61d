//! What watchers of one version were shown last: an event is converted once for all of them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ::store::Entry;
use machinery::status::Status;
use tokio::time::Instant;

const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Watchers that wait behind one whose conversion failed share its failure for so long.
const FAILURE_SHARED: Duration = Duration::from_secs(1);

/// Key and revision of an entry.
type Id = (String, u64);

#[derive(Default)]
pub(super) struct Recent {
    entries: HashMap<Id, Entry>,
    /// Oldest first.
    order: VecDeque<Id>,
    bytes: usize,
    failure: Option<(Instant, Status)>,
}

impl Recent {
    pub fn get(&self, entry: &Entry) -> Option<&Entry> {
        self.entries.get(&id(entry))
    }

    pub fn put(&mut self, entry: Entry) {
        let id = id(&entry);
        self.bytes += entry.bytes().len();
        if let Some(before) = self.entries.insert(id.clone(), entry) {
            self.bytes -= before.bytes().len();
        } else {
            self.order.push_back(id);
        }
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(gone) = self.entries.remove(&oldest) {
                self.bytes -= gone.bytes().len();
            }
        }
    }

    pub fn fail(&mut self, status: Status, now: Instant) {
        self.failure = Some((now, status));
    }

    /// # Errors
    /// The failure of a moment ago.
    pub fn failure(&self, now: Instant) -> Result<(), Status> {
        match &self.failure {
            Some((at, status)) if now.duration_since(*at) < FAILURE_SHARED => Err(status.clone()),
            _ => Ok(()),
        }
    }
}

fn id(entry: &Entry) -> Id {
    (entry.key().to_owned(), entry.revision())
}

#[cfg(test)]
mod tests {
    use ::store::IndexRecord;

    use super::*;

    fn entry(key: &str, revision: u64, bytes: usize) -> Entry {
        let json = format!(r#"{{"metadata":{{"name":"x"}},"data":"{}"}}"#, "x".repeat(bytes));
        Entry::new(key.into(), json.as_bytes(), revision, &|_| IndexRecord::default()).expect("an object")
    }

    #[test]
    fn the_oldest_go_first() {
        let mut recent = Recent::default();
        recent.put(entry("a", 1, BYTES_MAX / 2));
        recent.put(entry("b", 2, 10));
        assert!(recent.get(&entry("a", 1, 0)).is_some() && recent.get(&entry("a", 2, 0)).is_none());
        recent.put(entry("c", 3, BYTES_MAX / 2));
        let there = |key: &str, revision| recent.get(&entry(key, revision, 0)).is_some();
        assert!(!there("a", 1) && there("b", 2) && there("c", 3));
        assert_eq!(recent.entries.len(), recent.order.len());
    }

    #[test]
    fn a_failure_is_shared_for_a_moment() {
        let mut recent = Recent::default();
        let now = Instant::now();
        recent.fail(Status::internal("x"), now);
        assert!(recent.failure(now + FAILURE_SHARED / 2).is_err());
        assert!(recent.failure(now + FAILURE_SHARED).is_ok());
    }
}
