//! `evictionPressureTransitionPeriod`: pressure that comes and goes is told as pressure all the while. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// When a resource was short last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure(Option<Instant>);

impl Pressure {
    /// Whether the node's status tells of pressure: while it is there, and for `period` after it was seen.
    pub fn tell(&mut self, seen: bool, now: Instant, period: Duration) -> bool {
        if seen {
            self.0 = Some(now);
        }
        self.0.is_some_and(|last| seen || now.duration_since(last) < period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_outlasts_its_cause() {
        let (start, period) = (Instant::now(), Duration::from_secs(10));
        let mut pressure = Pressure::default();
        for (second, seen, want) in [
            (0, false, false),
            (1, true, true),
            (2, false, true),
            (10, false, true),
            (11, false, false),
            (12, true, true),
            (25, false, false),
        ] {
            assert_eq!(pressure.tell(seen, start + Duration::from_secs(second), period), want, "second {second}");
        }
        assert!(Pressure::default().tell(true, start, Duration::ZERO));
    }
}
