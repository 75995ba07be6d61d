//! The sources that a plugin has opened, so that it is not asked for each value.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::envelope::{Source, SourceName};

/// One for each key of the plugin and each start of an API server, as long as values of it are stored.
const SOURCES_MAX: usize = 4096;
/// The plugin is asked again then: it may have been told to give a key out no longer.
const KEPT: Duration = Duration::from_secs(24 * 3600);

type Entries = HashMap<SourceName, (Arc<Source>, Instant)>;

#[derive(Default)]
pub struct Keys(Mutex<Entries>);

impl Keys {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, name: &SourceName, now: Instant) -> Option<Arc<Source>> {
        self.entries().get(name).filter(|(_, until)| now < *until).map(|(source, _)| source.clone())
    }

    pub fn insert(&self, name: SourceName, source: Arc<Source>, now: Instant) {
        let mut entries = self.entries();
        if entries.len() >= SOURCES_MAX {
            entries.retain(|_, (_, until)| now < *until);
        }
        while entries.len() >= SOURCES_MAX {
            let Some(oldest) = entries.iter().min_by_key(|(_, (_, until))| *until).map(|(name, _)| *name) else { break };
            entries.remove(&oldest);
        }
        entries.insert(name, (source, now + KEPT));
    }
}

#[cfg(test)]
mod tests {
    use kms::v2::EncryptedDekSourceType;

    use super::*;

    #[test]
    fn kept_for_a_day_and_not_without_end() {
        let source = Arc::new(Source::new(EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed, &[7; 32]).unwrap());
        let (keys, begin) = (Keys::default(), Instant::now());
        let name = |n: usize| {
            let mut name = SourceName::default();
            name[..8].copy_from_slice(&n.to_be_bytes());
            name
        };
        for n in 0..=SOURCES_MAX {
            keys.insert(name(n), source.clone(), begin + Duration::from_millis(n as u64));
        }
        assert_eq!(keys.entries().len(), SOURCES_MAX);
        assert!(keys.get(&name(0), begin).is_none(), "the oldest had to go");
        assert!(keys.get(&name(1), begin).is_some());
        assert!(keys.get(&name(1), begin + KEPT + Duration::from_secs(1)).is_none());
    }
}
