//! What disruption budgets say about an eviction. Pure.

use machinery::meta;
use machinery::selector::LabelSelector;
use machinery::status::{Cause, Status};
use serde_json::{Value, json};

/// How many evictions a budget remembers before its controller has seen them.
const DISRUPTED_MAX: usize = 2000;
const RETRY_SECONDS: u32 = 10;

/// How a pod may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Nothing is disrupted. A pod that only has not started yet must still be as it was looked at.
    Free { as_seen: bool },
    /// It does not count as healthy, and may go while that is so.
    Unhealthy { budget: String },
    /// The budget of that name must be charged.
    Charged { budget: String },
}

/// What must happen before the pod goes.
///
/// # Errors
/// More than one budget covers the pod.
pub(super) fn passage(pod: &Value, budgets: &[Value]) -> Result<Passage, Status> {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let over = matches!(phase, "Succeeded" | "Failed") || meta::deletion_timestamp(pod).is_some();
    if over || phase == "Pending" {
        return Ok(Passage::Free { as_seen: !over });
    }
    let mut covering = budgets.iter().filter(|budget| covers(budget, pod));
    let Some(budget) = covering.next() else { return Ok(Passage::Free { as_seen: false }) };
    if covering.next().is_some() {
        let mut status = Status::internal("");
        status.message =
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.".to_owned();
        return Err(status);
    }
    let name = meta::name(budget).to_owned();
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let (healthy, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    if !is_ready(pod) && (always || (desired > 0 && healthy >= desired)) {
        return Ok(Passage::Unhealthy { budget: name });
    }
    Ok(Passage::Charged { budget: name })
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// In `policy/v1` an empty selector covers all pods; no selector, none.
fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    !selector.is_null() && LabelSelector::from_label_selector(selector).is_ok_and(|selector| selector.matches_object(pod))
}

fn refusal(message: String, retry_seconds: u32) -> Status {
    let mut status =
        Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", retry_seconds);
    let cause = Cause { reason: "DisruptionBudget".to_owned(), message, ..Cause::default() };
    status.details.get_or_insert_default().causes.push(cause);
    status
}

/// The 429 while the budget's numbers, or the pod's health, are moving.
pub(super) fn still_processed(budget: &str) -> Status {
    refusal(format!("The disruption budget {budget} is still being processed by the server."), RETRY_SECONDS)
}

/// The budget with one disruption less.
///
/// # Errors
/// 429 when it has none to give, with the reason as its cause.
pub(super) fn charge(budget: &Value, pod: &str, now: &str) -> Result<Value, Status> {
    let name = meta::name(budget);
    let forbidden = |why: &str| Err(Status::forbidden("poddisruptionbudget.policy", name, why));
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    if number("observedGeneration") < meta::generation(budget) {
        return Err(still_processed(name));
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > DISRUPTED_MAX) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(refusal(why_none(name, status), 0));
    }
    let mut budget = budget.clone();
    meta::set_path(&mut budget, &["status", "disruptionsAllowed"], json!(allowed - 1));
    meta::set_path(&mut budget, &["status", "disruptedPods", pod], json!(now));
    if allowed == 1 {
        let generation = number("observedGeneration");
        let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": generation});
        set_condition(&mut budget, condition, now);
    }
    Ok(budget)
}

fn why_none(name: &str, status: &Value) -> String {
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let said = conditions.into_iter().find(|c| c["type"] == "DisruptionAllowed" && c["status"] == "False");
    let text = |field: &str| said.and_then(|condition| condition[field].as_str()).unwrap_or_default();
    let (reason, message) = (text("reason"), text("message"));
    let (desired, healthy) = (number("desiredHealthy"), number("currentHealthy"));
    match message {
        // Numbers of a sync that failed mean nothing.
        "" if healthy > desired => format!("The disruption budget {name} does not allow evicting pods currently"),
        message if reason == "SyncFailed" && !message.is_empty() => {
            format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}")
        }
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        message => format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}"),
    }
}

/// Sets a condition of the object's status; the time is that of its last transition.
fn set_condition(object: &mut Value, mut condition: Value, now: &str) {
    let status = meta::as_object_mut(meta::as_object_mut(object).entry("status").or_insert(Value::Null));
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    let before = conditions.iter().position(|other| other["type"] == condition["type"]);
    let unmoved = before.map(|at| &conditions[at]).filter(|other| other["status"] == condition["status"]);
    condition["lastTransitionTime"] = unmoved.map_or(json!(now), |other| other["lastTransitionTime"].clone());
    match before {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// The pod with the mark that says why it goes (KEP-3329).
pub(super) fn mark(pod: &Value, now: &str) -> Value {
    let mut pod = pod.clone();
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null});
    set_condition(&mut pod, condition, now);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(name: &str, status: Value) -> Value {
        json!({"metadata": {"name": name, "generation": 1}, "spec": {"selector": {"matchLabels": {"app": "a"}}}, "status": status})
    }

    fn pod(phase: &str, ready: &str) -> Value {
        json!({"metadata": {"name": "p", "labels": {"app": "a"}},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn ways_to_go() {
        let healthy = budget("b", json!({"currentHealthy": 3, "desiredHealthy": 2}));
        let short = budget("b", json!({"currentHealthy": 1, "desiredHealthy": 2}));
        let mut always = short.clone();
        always["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        let named = || "b".to_owned();
        for (pod, budgets, expected) in [
            (pod("Succeeded", "False"), vec![&short], Passage::Free { as_seen: false }),
            (pod("Pending", "False"), vec![&short], Passage::Free { as_seen: true }),
            (pod("Running", "True"), vec![], Passage::Free { as_seen: false }),
            (pod("Running", "True"), vec![&healthy], Passage::Charged { budget: named() }),
            (pod("Running", "False"), vec![&healthy], Passage::Unhealthy { budget: named() }),
            (pod("Running", "False"), vec![&short], Passage::Charged { budget: named() }),
            (pod("Running", "False"), vec![&always], Passage::Unhealthy { budget: named() }),
        ] {
            let budgets: Vec<Value> = budgets.into_iter().cloned().collect();
            assert_eq!(passage(&pod, &budgets).unwrap(), expected, "{pod}");
        }
        assert_eq!(passage(&pod("Running", "True"), &[healthy, short]).unwrap_err().code(), 500);
        let mut silent = budget("b", json!({}));
        silent["spec"] = json!({});
        assert_eq!(passage(&pod("Running", "True"), &[silent]).unwrap(), Passage::Free { as_seen: false });
    }

    #[test]
    fn charges() {
        let after = charge(&budget("b", json!({"disruptionsAllowed": 2, "observedGeneration": 1})), "p", "t").unwrap();
        let expected = json!({"disruptionsAllowed": 1, "observedGeneration": 1, "disruptedPods": {"p": "t"}});
        assert_eq!(after["status"], expected);
        let last = charge(&budget("b", json!({"disruptionsAllowed": 1, "observedGeneration": 1})), "p", "t").unwrap();
        assert_eq!(last["status"]["conditions"][0]["reason"], "InsufficientPods");
    }

    #[test]
    fn refusals() {
        let check = |mut status: Value, code: u16, retry: u32, cause: &str| {
            status["observedGeneration"] = status.get("observedGeneration").cloned().unwrap_or(json!(1));
            let refused = charge(&budget("b", status), "p", "t").unwrap_err();
            assert_eq!(refused.code(), code);
            let details = refused.details.unwrap_or_default();
            let causes: Vec<&str> = details.causes.iter().map(|cause| cause.message.as_str()).collect();
            assert_eq!(causes.join(""), cause);
            assert_eq!(details.retry_after_seconds, retry);
        };
        check(json!({"observedGeneration": 0}), 429, 10, "The disruption budget b is still being processed by the server.");
        let numbers = json!({"currentHealthy": 1, "desiredHealthy": 2});
        check(numbers, 429, 0, "The disruption budget b needs 2 healthy pods and has 1 currently");
        let failed = json!([{"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "oops"}]);
        let why = "The disruption budget b does not allow evicting pods currently because it failed sync: oops";
        check(json!({ "conditions": failed }), 429, 0, why);
        let enough = json!({"currentHealthy": 3, "desiredHealthy": 2});
        check(enough, 429, 0, "The disruption budget b does not allow evicting pods currently");
        check(json!({"disruptionsAllowed": -1}), 403, 0, "");
    }

    #[test]
    fn the_mark_keeps_its_time() {
        let marked = mark(&mark(&pod("Running", "True"), "1"), "2");
        let conditions = marked["status"]["conditions"].as_array().unwrap();
        assert_eq!((conditions.len(), &conditions[1]["lastTransitionTime"]), (2, &json!("1")));
    }
}
