//! Values read from files, and read again after the files changed: certificates, authorities, configurations.
//!
//! Whoever asks for the value looks at the files, at most every few seconds: what nobody uses costs nothing.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

/// Files are looked at again at most this often.
pub const RECHECK: Duration = Duration::from_secs(5);

type Load<T> = Box<dyn Fn() -> Result<T, Box<dyn Error + Send + Sync>> + Send + Sync>;
type Stamps = Vec<Option<(SystemTime, u64)>>;

/// The newest good value of some files.
pub struct Reloading<T> {
    files: Vec<PathBuf>,
    load: Load<T>,
    value: ArcSwap<T>,
    since: Instant,
    /// Milliseconds after `since`.
    next_look: AtomicU64,
    recheck: Duration,
    stamps: Mutex<Stamps>,
}

impl<T> Reloading<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// What `load` says. Later failures are logged, and leave the last good value in place.
    pub fn new<E>(
        files: Vec<PathBuf>,
        recheck: Duration,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E>
    where
        E: Error + Send + Sync + 'static,
    {
        // Before reading: a change in between is seen with the next look.
        let stamps = stamps(&files);
        let value = ArcSwap::from_pointee(load()?);
        Ok(Self {
            next_look: AtomicU64::new(if files.is_empty() { u64::MAX } else { millis(recheck) }),
            files,
            load: Box::new(move || load().map_err(Into::into)),
            value,
            since: Instant::now(),
            recheck,
            stamps: Mutex::new(stamps),
        })
    }

    /// A value that has no files.
    pub fn fixed(value: T) -> Self {
        Self {
            files: Vec::new(),
            load: Box::new(|| Err("a fixed value".into())),
            value: ArcSwap::from_pointee(value),
            since: Instant::now(),
            next_look: AtomicU64::new(u64::MAX),
            recheck: RECHECK,
            stamps: Mutex::default(),
        }
    }

    /// The value, read again first if it is time to look and the files changed.
    pub fn current(&self) -> Arc<T> {
        let now = millis(self.since.elapsed());
        if now >= self.next_look.load(Ordering::Relaxed) {
            self.look(now);
        }
        self.value.load_full()
    }

    fn look(&self, now: u64) {
        let mut seen = self.stamps.lock().unwrap_or_else(|e| e.into_inner());
        if now < self.next_look.swap(now + millis(self.recheck), Ordering::Relaxed) {
            return; // another request has looked meanwhile
        }
        let stamps = stamps(&self.files);
        if stamps == *seen {
            return;
        }
        match (self.load)() {
            Ok(value) => {
                tracing::info!(files = ?self.files, "read again");
                self.value.store(Arc::new(value));
                *seen = stamps;
            }
            Err(error) => tracing::warn!(files = ?self.files, "{}: the last good content stays", crate::chain(error.as_ref())),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |path: &PathBuf| std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_counts_and_a_broken_one_does_not() {
        let path = std::env::temp_dir().join(format!("reloading-{}", std::process::id()));
        std::fs::write(&path, "1").unwrap();
        let file = path.clone();
        let read = move || {
            std::fs::read_to_string(&file)
                .map(|text| text.len())
                .and_then(|length| if length == 3 { Err(std::io::ErrorKind::InvalidData.into()) } else { Ok(length) })
        };
        let value = Reloading::new(vec![path.clone()], Duration::ZERO, read).unwrap();
        assert_eq!(*value.current(), 1);
        for (text, expected) in [("22", 2), ("333", 2), ("4444", 4)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(*value.current(), expected, "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*value.current(), 4);
    }
}
