//! How fast a number of replicas may change: stabilization windows and scaling policies. Pure.

use std::time::Duration;

use api::autoscaling::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use api::jiff::Timestamp;

use crate::clock::{minus, plus_seconds};

/// No window and no period of a behavior is longer: validation sees to it.
const HISTORY_MAX: Duration = Duration::from_secs(3600);
/// An hour's worth, looked at each second.
const HISTORY_LENGTH_MAX: usize = 4096;
const UP_FACTOR: f64 = 2.0;
const UP_AT_LEAST: f64 = 4.0;

/// What was recommended, and what was done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    recommendations: Vec<(Timestamp, i32)>,
    /// By how many replicas it grew, and shrank.
    up: Vec<(Timestamp, i32)>,
    down: Vec<(Timestamp, i32)>,
}

impl History {
    /// The first look at a target: it is as large as it should be.
    pub(super) fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    pub(super) fn scaled(&mut self, from: i32, to: i32, now: Timestamp) {
        let (events, by) = if to > from { (&mut self.up, to - from) } else { (&mut self.down, from - to) };
        push(events, now, by, HISTORY_MAX);
    }

    /// By how many replicas it changed within the last so many seconds.
    fn changed(events: &[(Timestamp, i32)], period_seconds: i32, now: Timestamp) -> i32 {
        let from = plus_seconds(now, -i64::from(period_seconds));
        events.iter().filter(|(at, _)| *at > from).map(|(_, n)| n).sum()
    }

    /// How many there were that many seconds ago.
    fn at_start(&self, current: i32, period_seconds: i32, now: Timestamp) -> i32 {
        current - Self::changed(&self.up, period_seconds, now) + Self::changed(&self.down, period_seconds, now)
    }
}

/// Remembers the value, and forgets those that are older than `kept`.
fn push(events: &mut Vec<(Timestamp, i32)>, now: Timestamp, value: i32, kept: Duration) {
    let from = minus(now, kept);
    events.retain(|(at, _)| *at > from);
    if events.len() >= HISTORY_LENGTH_MAX {
        events.remove(0);
    }
    events.push((now, value));
}

/// A reason and its message, as conditions have them.
pub(super) type Why = (&'static str, &'static str);

/// What comes of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) replicas: i32,
    pub(super) able: Why,
    pub(super) limited: bool,
    pub(super) limit: Why,
}

/// The bounds of an autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: i32,
    pub(super) max: i32,
}

/// What limits the changes of an autoscaler's target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) behavior: Option<&'a HorizontalPodAutoscalerBehavior>,
    pub(super) bounds: Bounds,
    /// The window for shrinking where the behavior names none.
    pub(super) downscale_stabilization: Duration,
}

/// Remembers the proposal, and says what comes of it.
pub(super) fn decide(history: &mut History, rules: &Rules<'_>, current: i32, proposed: i32, now: Timestamp) -> Decision {
    let (steady, why) = stabilize(history, rules, current, proposed, now);
    let able = if steady == proposed { ("ReadyForNewScale", "recommended size matches current size") } else { why };
    push(&mut history.recommendations, now, proposed, HISTORY_MAX.max(rules.downscale_stabilization));
    let (replicas, limit) = match rules.behavior {
        None => by_default_rules(rules.bounds, current, steady),
        Some(behavior) => by_policies(history, behavior, rules.bounds, current, steady, now),
    };
    Decision { replicas, able, limited: replicas != steady, limit }
}

const DOWN_STABILIZED: Why =
    ("ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation");
const UP_STABILIZED: Why =
    ("ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation");

/// The recommendation that holds over the window: no larger than the least for growing, no smaller than the most for
/// shrinking.
fn stabilize(history: &History, rules: &Rules<'_>, current: i32, proposed: i32, now: Timestamp) -> (i32, Why) {
    let recent = |window: Duration| {
        let from = minus(now, window);
        history.recommendations.iter().filter(move |(at, _)| *at > from).map(|(_, n)| *n)
    };
    let window = |rules: Option<&HPAScalingRules>, default| {
        let seconds = rules.and_then(|r| r.stabilization_window_seconds).and_then(|s| u64::try_from(s).ok());
        seconds.map_or(default, Duration::from_secs)
    };
    let Some(behavior) = rules.behavior else {
        return (recent(rules.downscale_stabilization).fold(proposed, i32::max), DOWN_STABILIZED);
    };
    let up = recent(window(behavior.scale_up.as_ref(), Duration::ZERO)).fold(proposed, i32::min);
    let down = recent(window(behavior.scale_down.as_ref(), rules.downscale_stabilization)).fold(proposed, i32::max);
    (current.max(up).min(down), if proposed >= current { UP_STABILIZED } else { DOWN_STABILIZED })
}

const TOO_FEW: Why = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Why = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Why = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Why = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");

fn by_default_rules(bounds: Bounds, current: i32, wanted: i32) -> (i32, Why) {
    let rate = (UP_FACTOR * f64::from(current)).max(UP_AT_LEAST) as i32;
    if wanted < bounds.min {
        (bounds.min, TOO_FEW)
    } else if wanted > bounds.max.min(rate) {
        (bounds.max.min(rate), if bounds.max > rate { UP_LIMIT } else { TOO_MANY })
    } else {
        (wanted, WITHIN)
    }
}

fn by_policies(
    history: &History,
    behavior: &HorizontalPodAutoscalerBehavior,
    bounds: Bounds,
    current: i32,
    wanted: i32,
    now: Timestamp,
) -> (i32, Why) {
    if wanted > current {
        let rate = up_limit(history, behavior.scale_up.as_ref(), current, now).max(current);
        let (most, why) = if bounds.max > rate { (rate, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
        if wanted > most { (most, why) } else { (wanted, WITHIN) }
    } else if wanted < current {
        let rate = down_limit(history, behavior.scale_down.as_ref(), current, now).min(current);
        let (least, why) = if bounds.min < rate { (rate, DOWN_LIMIT) } else { (bounds.min, TOO_FEW) };
        if wanted < least { (least, why) } else { (wanted, WITHIN) }
    } else {
        (wanted, WITHIN)
    }
}

/// Policies as kind, value and period.
type Policies = Vec<(String, i32, i32)>;

fn policies(rules: Option<&HPAScalingRules>, default: &[(&str, i32, i32)]) -> (Policies, String) {
    let given = rules.and_then(|r| r.policies.as_ref()).filter(|p| !p.is_empty());
    let all = match given {
        Some(given) => given.iter().map(|p| (p.type_.clone(), p.value, p.period_seconds)).collect(),
        None => default.iter().map(|(kind, value, period)| ((*kind).to_owned(), *value, *period)).collect(),
    };
    (all, rules.and_then(|r| r.select_policy.clone()).unwrap_or_else(|| "Max".into()))
}

fn up_limit(history: &History, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
    let (policies, select) = policies(rules, &[("Pods", 4, 15), ("Percent", 100, 15)]);
    let limits = policies.iter().map(|(kind, value, period)| {
        let before = history.at_start(current, *period, now);
        match kind.as_str() {
            "Pods" => before.saturating_add(*value),
            _ => (f64::from(before) * (1.0 + f64::from(*value) / 100.0)).ceil() as i32,
        }
    });
    match select.as_str() {
        "Disabled" => current,
        "Min" => limits.min().unwrap_or(current),
        _ => limits.max().unwrap_or(current),
    }
}

fn down_limit(history: &History, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
    let (policies, select) = policies(rules, &[("Percent", 100, 15)]);
    let limits = policies.iter().map(|(kind, value, period)| {
        let before = history.at_start(current, *period, now);
        match kind.as_str() {
            "Pods" => before.saturating_sub(*value),
            _ => (f64::from(before) * (1.0 - f64::from(*value) / 100.0)) as i32,
        }
    });
    match select.as_str() {
        "Disabled" => current,
        "Min" => limits.max().unwrap_or(current),
        _ => limits.min().unwrap_or(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::at;
    use serde_json::{Value, json};

    const BOUNDS: Bounds = Bounds { min: 2, max: 50 };

    fn behavior(value: Value) -> HorizontalPodAutoscalerBehavior {
        serde_json::from_value(value).unwrap()
    }

    fn rules(behavior: Option<&HorizontalPodAutoscalerBehavior>) -> Rules<'_> {
        Rules { behavior, bounds: BOUNDS, downscale_stabilization: Duration::from_secs(300) }
    }

    #[test]
    fn without_a_behavior() {
        for (current, proposed, want, reason) in [
            (5, 7, 7, "DesiredWithinRange"),
            (5, 20, 10, "ScaleUpLimit"),
            (1, 9, 4, "ScaleUpLimit"),
            (30, 70, 50, "TooManyReplicas"),
            (5, 1, 2, "TooFewReplicas"),
        ] {
            let got = decide(&mut History::default(), &rules(None), current, proposed, at(1000));
            assert_eq!((got.replicas, got.limit.0), (want, reason), "{current} to {proposed}");
        }
    }

    #[test]
    fn shrinking_waits_for_five_minutes() {
        let mut history = History::default();
        history.begin(10, at(1000));
        let got = decide(&mut history, &rules(None), 10, 3, at(1100));
        assert_eq!((got.replicas, got.able.0), (10, "ScaleDownStabilized"));
        assert_eq!(decide(&mut history, &rules(None), 10, 3, at(1301)).replicas, 3);
    }

    #[test]
    fn shrinking_waits_as_long_as_the_flag_says() {
        let named = behavior(json!({"scaleDown": {"selectPolicy": "Max"}}));
        for behavior in [None, Some(&named)] {
            for (seconds, after, want) in [(0, 1, 3), (60, 59, 10), (60, 61, 3), (7200, 7000, 10), (7200, 7201, 3)] {
                let rules = Rules { downscale_stabilization: Duration::from_secs(seconds), ..rules(behavior) };
                let mut history = History::default();
                history.begin(10, at(1000));
                decide(&mut history, &rules, 10, 10, at(1000));
                decide(&mut history, &rules, 10, 3, at(1000 + after / 2));
                let got = decide(&mut history, &rules, 10, 3, at(1000 + after));
                assert_eq!(got.replicas, want, "{seconds} {after}");
            }
        }
    }

    #[test]
    fn windows_for_both_ways() {
        let b = behavior(json!({"scaleUp": {"stabilizationWindowSeconds": 60}, "scaleDown": {"stabilizationWindowSeconds": 0}}));
        let mut history = History::default();
        history.begin(5, at(1000));
        let got = decide(&mut history, &rules(Some(&b)), 5, 8, at(1030));
        assert_eq!((got.replicas, got.able.0), (5, "ScaleUpStabilized"));
        assert_eq!(decide(&mut history, &rules(Some(&b)), 5, 8, at(1061)).replicas, 8);
        assert_eq!(decide(&mut history, &rules(Some(&b)), 8, 3, at(1062)).replicas, 3);
    }

    #[test]
    fn policies_limit_the_rate() {
        let b = behavior(json!({
            "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [
                {"type": "Percent", "value": 50, "periodSeconds": 60}, {"type": "Pods", "value": 3, "periodSeconds": 60}]},
        }));
        let mut history = History::default();
        let got = decide(&mut history, &rules(Some(&b)), 10, 20, at(1000));
        assert_eq!((got.replicas, got.limit.0, got.limited), (12, "ScaleUpLimit", true));
        history.scaled(10, 12, at(1000));
        assert_eq!(decide(&mut history, &rules(Some(&b)), 12, 20, at(1030)).replicas, 12, "two a minute");
        assert_eq!(decide(&mut history, &rules(Some(&b)), 12, 20, at(1061)).replicas, 14);
        let got = decide(&mut history, &rules(Some(&b)), 12, 2, at(2000));
        assert_eq!((got.replicas, got.limit.0), (9, "ScaleDownLimit"));
        let never = behavior(json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"}}));
        assert_eq!(decide(&mut history, &rules(Some(&never)), 12, 2, at(3000)).replicas, 12);
    }
}
