//! How fast nodes may be given up. Pure.
//!
//! When many nodes of a zone are silent at once, the fault is more likely in between than in each of them: evictions slow
//! down, and stop when no node of any zone is heard of.

use std::collections::BTreeMap;
use std::time::Duration;

use api::jiff::Timestamp;

use super::facts::Facts;
use crate::clock::since;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZoneState {
    Normal,
    /// Many nodes are not ready.
    Partial,
    /// None is ready.
    Full,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Nodes per second.
    pub(super) rate: f32,
    pub(super) secondary_rate: f32,
    pub(super) large_zone_nodes: usize,
    pub(super) unhealthy_share: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    ready: usize,
    not_ready: usize,
}

/// The state and size of each zone.
pub(super) fn assess<'a>(nodes: impl IntoIterator<Item = &'a Facts>, limits: &Limits) -> BTreeMap<String, (ZoneState, usize)> {
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for node in nodes {
        let count = counts.entry(&node.zone).or_default();
        if node.is_ready() { count.ready += 1 } else { count.not_ready += 1 }
    }
    let assessed =
        counts.into_iter().map(|(zone, count)| (zone.to_owned(), (state(count, limits), count.ready + count.not_ready)));
    assessed.collect()
}

fn state(count: Count, limits: &Limits) -> ZoneState {
    let total = count.ready + count.not_ready;
    if count.ready == 0 && count.not_ready > 0 {
        ZoneState::Full
    } else if count.not_ready > 2 && count.not_ready as f32 / total as f32 >= limits.unhealthy_share {
        ZoneState::Partial
    } else {
        ZoneState::Normal
    }
}

/// No zone has a ready node: it is we who are cut off.
pub(super) fn all_down(zones: &BTreeMap<String, (ZoneState, usize)>) -> bool {
    !zones.is_empty() && zones.values().all(|(state, _)| *state == ZoneState::Full)
}

/// Nodes per second that a zone may lose.
pub(super) fn rate(state: ZoneState, nodes: usize, limits: &Limits) -> f32 {
    match state {
        ZoneState::Normal | ZoneState::Full => limits.rate,
        ZoneState::Partial if nodes > limits.large_zone_nodes => limits.secondary_rate,
        ZoneState::Partial => 0.0,
    }
}

/// Lets one node through at a time, at the zone's rate.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    last: Option<Timestamp>,
}

impl Gate {
    /// Passes now, or says when to ask again.
    pub(super) fn pass(&mut self, rate: f32, now: Timestamp) -> Result<(), Duration> {
        const LATER: Duration = Duration::from_secs(30);
        if rate <= 0.0 {
            return Err(LATER);
        }
        let interval = Duration::try_from_secs_f32(1.0 / rate).unwrap_or(LATER);
        let waited = self.last.map(|last| since(last, now));
        match waited.and_then(|w| interval.checked_sub(w)).filter(|left| !left.is_zero()) {
            Some(left) => Err(left),
            None => {
                self.last = Some(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { rate: 0.1, secondary_rate: 0.01, large_zone_nodes: 50, unhealthy_share: 0.55 };

    #[test]
    fn zones() {
        for (ready, not_ready, want, want_rate) in [
            (1, 0, ZoneState::Normal, 0.1),
            (0, 1, ZoneState::Full, 0.1),
            (0, 0, ZoneState::Normal, 0.1),
            (1, 2, ZoneState::Normal, 0.1),
            (2, 3, ZoneState::Partial, 0.0),
            (30, 30, ZoneState::Normal, 0.1),
            (20, 40, ZoneState::Partial, 0.01),
        ] {
            let got = state(Count { ready, not_ready }, &LIMITS);
            assert_eq!((got, rate(got, ready + not_ready, &LIMITS)), (want, want_rate), "{ready} ready, {not_ready} not");
        }
    }

    #[test]
    fn being_cut_off_is_all_zones_down() {
        let node = |zone: &str, ready: &str| Facts {
            zone: zone.into(),
            conditions: [("Ready".to_owned(), ready.to_owned())].into(),
            ..Facts::default()
        };
        let check = |nodes: &[Facts], want| assert_eq!(all_down(&assess(nodes, &LIMITS)), want, "{nodes:?}");
        check(&[], false);
        check(&[node("a", "Unknown")], true);
        check(&[node("a", "Unknown"), node("b", "False")], true);
        check(&[node("a", "Unknown"), node("b", "True")], false);
    }

    #[test]
    fn one_node_in_ten_seconds() {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        let mut gate = Gate::default();
        assert_eq!(gate.pass(0.1, at(0)), Ok(()));
        assert_eq!(gate.pass(0.1, at(4_000)), Err(Duration::from_secs(6)));
        assert_eq!(gate.pass(0.1, at(10_000)), Ok(()));
        assert!(gate.pass(0.0, at(90_000)).is_err());
    }
}
