//! What a quota's status should say. Pure.

use std::collections::BTreeMap;

use api::jiff::Timestamp;
use machinery::pod::resources::{Amounts, add, amounts};
use machinery::quantity::Quantity;
use machinery::quota::{self, Evaluator, Selector};
use serde_json::{Value, json};

/// The objects of one resource in the quota's namespace.
pub(super) enum Objects {
    /// Only how many there are.
    Number(usize),
    Content(Vec<Value>),
}

/// One resource that the quota counts.
pub(super) struct Observed {
    pub evaluator: Evaluator,
    pub objects: Objects,
}

/// Whether the quota limits something of that resource.
pub(super) fn counts(quota: &Value, evaluator: &Evaluator) -> bool {
    let names = |of: &'static str| quota[of]["hard"].as_object().into_iter().flat_map(|hard| hard.keys());
    names("spec").chain(names("status")).any(|name| evaluator.tracks(name))
}

/// The status to write; none when the stored one is right. What was not observed keeps the amount it had.
pub(super) fn decide(quota: &Value, observed: &[Observed], now: Timestamp) -> Option<Value> {
    let (spec, status) = (&quota["spec"], &quota["status"]);
    let hard = amounts(&spec["hard"]);
    let selectors = Selector::of_quota(quota);
    let mut used = amounts(&status["used"]);
    for observed in observed {
        used.append(&mut count(&hard, &selectors, observed, now));
    }
    used.retain(|name, _| hard.contains_key(name));
    let right = status["hard"].is_object()
        && status["used"].is_object()
        && amounts(&status["hard"]) == hard
        && amounts(&status["used"]) == used;
    (!right).then(|| json!({"hard": quota::to_value(&hard), "used": quota::to_value(&used)}))
}

/// The amounts of one resource, of every name that the quota limits.
fn count(hard: &Amounts, selectors: &[Selector], observed: &Observed, now: Timestamp) -> Amounts {
    let Observed { evaluator, objects } = observed;
    let mut sum: Amounts = hard.keys().filter(|name| evaluator.tracks(name)).map(|n| (n.clone(), Quantity::ZERO)).collect();
    match objects {
        // Scopes are about what objects hold: a quota that has some counts no mere objects.
        Objects::Number(_) if !selectors.is_empty() => {}
        Objects::Number(number) => {
            let number = Quantity::new(i64::try_from(*number).unwrap_or(i64::MAX), Default::default());
            sum.values_mut().for_each(|amount| *amount = number.clone());
        }
        Objects::Content(all) => {
            for object in all.iter().filter(|object| evaluator.in_scopes(selectors, object)) {
                let usage: BTreeMap<_, _> =
                    evaluator.usage(object, now).into_iter().filter(|(name, _)| sum.contains_key(name)).collect();
                add(&mut sum, &usage);
            }
        }
    }
    sum
}

/// Whether a change of an object gives a quota something back, or takes more without the API server charging it.
pub(super) fn changes_usage(evaluator: &Evaluator, old: &Value, new: &Value, now: Timestamp) -> bool {
    let timed = |object: &Value| object["spec"]["activeDeadlineSeconds"].is_null();
    evaluator.usage(old, now) != evaluator.usage(new, now) || timed(old) != timed(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(spec: Value, status: Value) -> Value {
        json!({"spec": spec, "status": status})
    }

    fn pod(cpu: &str, phase: &str) -> Value {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        json!({"spec": {"containers": [container]}, "status": {"phase": phase}})
    }

    fn observed(group: &str, resource: &str, objects: Objects) -> Vec<Observed> {
        // Every resource of these cases is counted.
        vec![Observed { evaluator: Evaluator::of(group, resource).expect("a resource that is counted"), objects }]
    }

    fn check(quota: Value, observed: &[Observed], used: Option<Value>) {
        let status = decide(&quota, observed, Timestamp::UNIX_EPOCH);
        assert_eq!(status.as_ref().map(|status| &status["used"]), used.as_ref(), "{quota}");
        assert!(status.is_none_or(|status| status["hard"] == quota["spec"]["hard"]));
    }

    #[test]
    fn a_new_quota_is_counted() {
        let hard = json!({"cpu": "5", "pods": "3", "count/pods": "9"});
        let pods = || observed("", "pods", Objects::Content(vec![pod("1500m", "Running"), pod("1", "Succeeded")]));
        check(quota(json!({"hard": hard}), json!({})), &pods(), Some(json!({"count/pods": "2", "cpu": "1500m", "pods": "1"})));
        let right = json!({"hard": hard, "used": {"cpu": "1.5", "pods": "1", "count/pods": "2"}});
        check(quota(json!({"hard": hard}), right), &pods(), None);
    }

    #[test]
    fn nothing_is_used_of_what_is_not_there() {
        let hard = json!({"secrets": "5", "count/foos.example.com": "1"});
        let secrets = observed("", "secrets", Objects::Number(0));
        check(quota(json!({"hard": hard}), json!({})), &secrets, Some(json!({"secrets": "0"})));
        // What cannot be counted now keeps its amount; what is limited no more is forgotten.
        let before = json!({"hard": hard, "used": {"secrets": "1", "count/foos.example.com": "4", "old": "3"}});
        let after = json!({"secrets": "0", "count/foos.example.com": "4"});
        check(quota(json!({"hard": hard}), before), &secrets, Some(after));
    }

    #[test]
    fn scopes() {
        let hard = json!({"pods": "3", "secrets": "2"});
        let spec = json!({"hard": hard, "scopes": ["NotTerminating"]});
        let mut timed = pod("1", "Running");
        timed["spec"]["activeDeadlineSeconds"] = json!(4);
        let mut all = observed("", "pods", Objects::Content(vec![timed, pod("1", "Running")]));
        all.extend(observed("", "secrets", Objects::Number(7)));
        check(quota(spec, json!({})), &all, Some(json!({"pods": "1", "secrets": "0"})));
    }

    #[test]
    fn changes_that_matter() {
        let pods = Evaluator::Pods;
        let now = Timestamp::UNIX_EPOCH;
        assert!(changes_usage(&pods, &pod("1", "Running"), &pod("1", "Failed"), now));
        assert!(!changes_usage(&pods, &pod("1", "Pending"), &pod("1", "Running"), now));
    }
}
