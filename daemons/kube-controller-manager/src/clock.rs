//! The time that controllers see: the wall clock, or one that runs with tokio's (paused) time in tests.

use std::time::Duration;

use api::jiff::{SignedDuration, Timestamp};
use api::metav1::Time;
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Wall,
    Tokio { base: Timestamp, start: Instant },
}

impl Clock {
    pub fn wall() -> Self {
        Self(Source::Wall)
    }

    /// Starts at `base` and advances as `tokio::time` does.
    pub fn simulated(base: Timestamp) -> Self {
        Self(Source::Tokio { base, start: Instant::now() })
    }

    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Wall => Timestamp::now(),
            Source::Tokio { base, start } => *base + start.elapsed(),
        }
    }
}

/// A timestamp for the wire, which has whole seconds.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(machinery::time::truncate_to_seconds(at))
}

/// How long until `at`; zero when it has passed.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// How long since `then`; zero when it lies ahead.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> Duration {
    until(now, then)
}

/// `at` plus `duration`, at the end of time when out of range.
pub(crate) fn plus(at: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `at` less `duration`, at the beginning of time when out of range.
pub(crate) fn minus(at: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    at.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// `at` plus whole seconds, at the end of time when out of range.
pub(crate) fn plus_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
