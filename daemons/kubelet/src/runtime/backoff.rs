//! How long a container or an image that failed has to wait: 10 s, doubled each time, up to 5 minutes.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

#[derive(Clone, Debug)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

/// Delays by key. A key that was quiet for twice the maximum starts anew.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: SignedDuration,
    max: SignedDuration,
    entries: HashMap<String, Entry>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(SignedDuration::from_secs(10), SignedDuration::from_secs(300))
    }
}

impl Backoff {
    pub fn new(initial: SignedDuration, max: SignedDuration) -> Self {
        Self { initial, max, entries: HashMap::new() }
    }

    /// When `key`, which ended at `since`, may be tried again; `None`: now.
    pub fn until(&self, key: &str, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(key)?;
        if self.is_stale(entry, since) {
            return None;
        }
        let until = since.checked_add(entry.delay).ok()?;
        (until > now).then_some(until)
    }

    /// The delay that holds for `key` now.
    pub fn delay(&self, key: &str) -> SignedDuration {
        self.entries.get(key).map_or(SignedDuration::ZERO, |e| e.delay)
    }

    /// `key` is tried again after it ended at `since`: the next failure waits longer.
    pub fn next(&mut self, key: &str, since: Timestamp, now: Timestamp) {
        let (initial, max) = (self.initial, self.max);
        self.entries.retain(|_, e| now.duration_since(e.updated) <= max * 4);
        let stale = self.entries.get(key).is_none_or(|e| self.is_stale(e, since));
        let entry = self.entries.entry(key.to_owned()).or_insert(Entry { delay: initial, updated: now });
        entry.delay = if stale { initial } else { (entry.delay * 2).min(max) };
        entry.updated = now;
    }

    fn is_stale(&self, entry: &Entry, since: Timestamp) -> bool {
        since.duration_since(entry.updated) > self.max * 2
    }
}

/// A delay as upstream prints it: `10s`, `1m20s`, `5m0s`.
pub fn print(delay: SignedDuration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn doubles_to_the_maximum_and_starts_anew_after_quiet() {
        let mut b = Backoff::default();
        assert_eq!(b.until("a", at(0), at(0)), None);
        let mut now = 0;
        for want in [10, 20, 40, 80, 160, 300, 300] {
            b.next("a", at(now), at(now));
            assert_eq!(b.until("a", at(now), at(now)), Some(at(now + want)), "at {now}");
            assert_eq!(b.until("a", at(now), at(now + want)), None);
            now += want;
        }
        assert_eq!(b.until("a", at(now + 700), at(now + 700)), None);
        b.next("a", at(now + 700), at(now + 700));
        assert_eq!(b.delay("a").as_secs(), 10);
    }

    #[test]
    fn printed_as_go_prints_durations() {
        for (seconds, want) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (60, "1m0s")] {
            assert_eq!(print(SignedDuration::from_secs(seconds)), want);
        }
    }
}
