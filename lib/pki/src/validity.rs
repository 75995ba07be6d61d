//! From when until when a certificate holds.

use jiff::{SignedDuration, Timestamp};

/// How far the clocks of two machines may differ before a new certificate is refused, as upstream's signer assumes.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Validity {
    /// From a little before `now` until `duration` after it.
    pub fn starting(now: Timestamp, duration: SignedDuration) -> Self {
        Self { not_before: now - CLOCK_SKEW, not_after: now + duration }
    }

    pub fn holds(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// A certificate is renewed when two thirds of its life are over: early enough to survive weeks of being switched off.
    pub fn renewal_due(&self, now: Timestamp) -> bool {
        let life = self.not_after.duration_since(self.not_before);
        self.not_after.duration_since(now) < life / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_after_two_thirds() {
        let start = Timestamp::from_second(1_000_000_000).unwrap();
        let validity = Validity { not_before: start, not_after: start + SignedDuration::from_hours(300) };
        for (hours, due) in [(0, false), (199, false), (201, true), (299, true), (400, true)] {
            assert_eq!(validity.renewal_due(start + SignedDuration::from_hours(hours)), due, "after {hours} h");
        }
    }
}
