//! Whether a write fits into the quotas of its namespace, and what they are charged (upstream's `CheckRequest`).

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::evaluator::Evaluator;
use super::scope::Selector;
use super::{mask, pretty};
use crate::meta;
use crate::pod::resources::{Amounts, add, amounts};

/// The write.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub subresource: &'a str,
    pub new: &'a Value,
    /// None for a creation.
    pub old: Option<&'a Value>,
    pub now: Timestamp,
}

/// What one quota is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Index in the list of quotas.
    pub quota: usize,
    /// `status.used` afterwards.
    pub used: Amounts,
}

/// Why the write is refused, worded as upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("failed quota: {quota}: {why}")]
    Unstated { quota: String, why: String },
    #[error("status unknown for quota: {quota}, resources: {resources}")]
    Unknown { quota: String, resources: String },
    #[error("quota usage is negative for resource(s): {0}")]
    Negative(String),
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded { quota: String, requested: String, used: String, limited: String },
}

/// Charges every quota that covers the object with what the write adds. Empty when it adds nothing.
///
/// # Errors
/// The first quota that the write does not fit into.
pub fn charge(quotas: &[Value], evaluator: &Evaluator, subject: Subject<'_>) -> Result<Vec<Charge>, Denied> {
    let mut covering = Vec::new();
    for (index, quota) in quotas.iter().enumerate() {
        let hard = amounts(&quota["status"]["hard"]);
        let tracked: BTreeSet<String> = hard.keys().filter(|name| evaluator.tracks(name)).cloned().collect();
        let selectors = Selector::of_quota(quota);
        if tracked.is_empty() || !evaluator.in_scopes(&selectors, subject.new) {
            continue;
        }
        let name = meta::name(quota).to_owned();
        evaluator.constraints(&tracked, subject.new).map_err(|why| Denied::Unstated { quota: name.clone(), why })?;
        let used = amounts(&quota["status"]["used"]);
        if tracked.iter().any(|name| !used.contains_key(name)) {
            let resources = tracked.into_iter().collect::<Vec<_>>().join(",");
            return Err(Denied::Unknown { quota: name, resources });
        }
        covering.push(Covering { index, name, hard, used, selectors });
    }
    if covering.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = evaluator.usage(subject.new, subject.now);
    let negative: Vec<&str> = wanted.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(Denied::Negative(negative.join(",")));
    }
    let before = subject.old.map(|old| (old, evaluator.usage(old, subject.now)));
    let mut charges = Vec::new();
    for quota in covering {
        // What the quota counted already is not charged again.
        let counted = before.as_ref().filter(|(old, _)| evaluator.in_scopes(&quota.selectors, old)).map(|(_, usage)| usage);
        let more = growth(&wanted, counted);
        charges.extend(quota.charge(&more, subject.subresource != "status")?);
    }
    Ok(charges)
}

struct Covering {
    index: usize,
    name: String,
    hard: Amounts,
    used: Amounts,
    selectors: Vec<Selector>,
}

impl Covering {
    fn charge(self, more: &Amounts, enforced: bool) -> Result<Option<Charge>, Denied> {
        let requested = mask(more, self.hard.keys());
        if requested.is_empty() {
            return Ok(None);
        }
        let mut used = self.used.clone();
        add(&mut used, &requested);
        let exceeded: Vec<&String> = requested.keys().filter(|name| enforced && used.get(*name) > self.hard.get(*name)).collect();
        if exceeded.is_empty() {
            return Ok(Some(Charge { quota: self.index, used }));
        }
        let show = |amounts: &Amounts| pretty(&mask(amounts, exceeded.iter().copied()));
        Err(Denied::Exceeded { quota: self.name, requested: show(&requested), used: show(&self.used), limited: show(&self.hard) })
    }
}

/// What is wanted beyond what was counted; nothing is given back here: the controller does that.
pub(super) fn growth(wanted: &Amounts, counted: Option<&Amounts>) -> Amounts {
    let mut more = wanted.clone();
    for (name, amount) in &mut more {
        if let Some(had) = counted.and_then(|counted| counted.get(name)) {
            amount.sub(had);
        }
    }
    more.retain(|_, amount| !amount.is_zero() && !amount.is_negative());
    more
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quota(hard: Value, used: Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
    }

    fn pod(cpu: &str) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn check(quota: &Value, group: &str, resource: &str, new: &Value, old: Option<&Value>, expected: Result<&str, &str>) {
        let subject = Subject { subresource: "", new, old, now: Timestamp::UNIX_EPOCH };
        let evaluator = Evaluator::of(group, resource).unwrap();
        let result = charge(std::slice::from_ref(quota), &evaluator, subject);
        let shown = result.map(|charges| charges.iter().map(|c| pretty(&c.used)).collect::<Vec<_>>().join(";"));
        assert_eq!(shown.map_err(|denied| denied.to_string()), expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn creations() {
        let q = quota(json!({"cpu": "2", "pods": "2"}), json!({"cpu": "500m", "pods": "1"}));
        check(&q, "", "pods", &pod("1"), None, Ok("cpu=1500m,pods=2"));
        let why = "exceeded quota: q, requested: cpu=1600m, used: cpu=500m, limited: cpu=2";
        check(&q, "", "pods", &pod("1600m"), None, Err(why));
        let silent = json!({"spec": {"containers": [{"name": "c"}]}});
        check(&q, "", "pods", &silent, None, Err("failed quota: q: must specify cpu for: c"));
        check(&q, "", "secrets", &json!({}), None, Ok(""));
        let full = quota(json!({"count/deployments.apps": "1"}), json!({"count/deployments.apps": "1"}));
        let why = "exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1";
        check(&full, "apps", "deployments", &json!({}), None, Err(why));
    }

    #[test]
    fn a_quota_that_was_never_counted_refuses() {
        let q = quota(json!({"secrets": "2", "count/secrets": "3"}), json!({"secrets": "0"}));
        check(&q, "", "secrets", &json!({}), None, Err("status unknown for quota: q, resources: count/secrets,secrets"));
        check(&quota(json!({}), json!({})), "", "secrets", &json!({}), None, Ok(""));
    }

    #[test]
    fn updates_are_charged_what_they_add() {
        let q = quota(json!({"services": "1", "services.nodeports": "1"}), json!({"services": "1", "services.nodeports": "0"}));
        let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 1}]}});
        check(&q, "", "services", &service("NodePort"), Some(&service("ClusterIP")), Ok("services=1,services.nodeports=1"));
        check(&q, "", "services", &service("ClusterIP"), Some(&service("NodePort")), Ok(""));
        let why = "exceeded quota: q, requested: services=1, used: services=1, limited: services=1";
        check(&q, "", "services", &service("ClusterIP"), None, Err(why));
    }

    #[test]
    fn scopes_decide() {
        let mut q = quota(json!({"pods": "1"}), json!({"pods": "1"}));
        q["spec"]["scopes"] = json!(["Terminating"]);
        check(&q, "", "pods", &pod("1"), None, Ok(""));
        let mut timed = pod("1");
        timed["spec"]["activeDeadlineSeconds"] = json!(1);
        let why = "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
        check(&q, "", "pods", &timed, Some(&pod("1")), Err(why));
        check(&q, "", "pods", &timed, Some(&timed), Ok(""));
        // No quota with scopes counts what has none.
        q["status"] = json!({"hard": {"secrets": "0"}, "used": {"secrets": "0"}});
        check(&q, "", "secrets", &json!({}), None, Ok(""));
    }
}
