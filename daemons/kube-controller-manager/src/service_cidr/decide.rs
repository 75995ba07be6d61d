//! What a ServiceCIDR needs: its finalizer and its readiness, or leave to go. Pure.

use std::net::IpAddr;

use api::jiff::{SignedDuration, Timestamp};
use machinery::{meta, time};
use serde_json::{Value, json};

use crate::node_ipam::Cidr;

/// Keeps a range for as long as addresses of it are in use.
pub(super) const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// Allocators may still believe in a range that is going: so long nobody trusts that it is free.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// What to do about a ServiceCIDR.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plan {
    Nothing,
    Finalizers(Vec<String>),
    /// The new conditions.
    Conditions(Value),
    /// Nothing stands against its end, a little later.
    Wait(SignedDuration),
}

/// `others` are all other ServiceCIDRs, `addresses` those that Services have.
pub(super) fn decide(cidr: &Value, others: &[Value], addresses: &[IpAddr], now: Timestamp) -> Plan {
    let finalizers: Vec<String> = meta::finalizers(cidr).map(str::to_owned).collect();
    let held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let Some(deleted) = meta::deletion_timestamp(cidr) else {
        if !held {
            return Plan::Finalizers([finalizers, vec![FINALIZER.to_owned()]].concat());
        }
        return condition(cidr, "True", "", "Kubernetes Service CIDR is ready", now);
    };
    if !held {
        return Plan::Nothing;
    }
    if is_needed(cidr, others, addresses) {
        let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return condition(cidr, "False", "Terminating", why, now);
    }
    let left = deleted.parse::<Timestamp>().map_or(SignedDuration::ZERO, |at| GRACE - now.duration_since(at));
    if left > SignedDuration::ZERO {
        return Plan::Wait(left);
    }
    Plan::Finalizers(finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect())
}

fn condition(cidr: &Value, status: &str, reason: &str, message: &str, now: Timestamp) -> Plan {
    let mut conditions = cidr["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let before = conditions.iter().position(|condition| condition["type"] == "Ready");
    if before.is_some_and(|at| conditions[at]["status"] == status && conditions[at]["reason"].as_str().unwrap_or("") == reason) {
        return Plan::Nothing;
    }
    let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": time::format(now)});
    match before {
        Some(at) => conditions[at] = ready,
        None => conditions.push(ready),
    }
    Plan::Conditions(Value::Array(conditions))
}

fn ranges(cidr: &Value) -> Vec<Cidr> {
    let texts = cidr["spec"]["cidrs"].as_array().into_iter().flatten();
    texts.filter_map(|text| text.as_str()?.parse().ok()).collect()
}

/// Whether some address would belong to no range without this one.
fn is_needed(cidr: &Value, others: &[Value], addresses: &[IpAddr]) -> bool {
    let others: Vec<Cidr> = others.iter().flat_map(ranges).collect();
    ranges(cidr).iter().any(|range| {
        let within = others.iter().any(|other| other.covers(range));
        !within
            && addresses.iter().any(|address| range.contains(*address) && !others.iter().any(|other| other.contains(*address)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(range: &str, metadata: Value, status: &str) -> Value {
        json!({"metadata": metadata, "spec": {"cidrs": [range]},
            "status": {"conditions": [{"type": "Ready", "status": status, "reason": ""}]}})
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:20Z".parse().unwrap()
    }

    #[test]
    fn a_new_range_gets_its_finalizer_and_is_ready() {
        let new = cidr("10.0.0.0/24", json!({"finalizers": ["mine"]}), "True");
        assert_eq!(decide(&new, &[], &[], now()), Plan::Finalizers(vec!["mine".into(), FINALIZER.into()]));
        let held = json!({"finalizers": [FINALIZER]});
        assert_eq!(decide(&cidr("10.0.0.0/24", held.clone(), "True"), &[], &[], now()), Plan::Nothing);
        let Plan::Conditions(conditions) = decide(&cidr("10.0.0.0/24", held, "False"), &[], &[], now()) else { panic!() };
        assert_eq!(conditions[0]["status"], "True");
    }

    #[test]
    fn a_range_goes_when_nobody_needs_it() {
        let going = |at: &str| cidr("10.0.0.0/24", json!({"finalizers": [FINALIZER], "deletionTimestamp": at}), "True");
        let (early, late) = (going("2026-01-01T00:00:00Z"), going("2026-01-01T00:00:15Z"));
        let used: IpAddr = "10.0.0.9".parse().unwrap();
        assert_eq!(decide(&early, &[], &[], now()), Plan::Finalizers(vec![]));
        assert_eq!(decide(&late, &[], &[], now()), Plan::Wait(SignedDuration::from_secs(5)));
        let Plan::Conditions(conditions) = decide(&early, &[], &[used], now()) else { panic!("it is in use") };
        assert_eq!((&conditions[0]["status"], &conditions[0]["reason"]), (&json!("False"), &json!("Terminating")));
        let wider = cidr("10.0.0.0/16", json!({}), "True");
        assert_eq!(decide(&early, &[wider], &[used], now()), Plan::Finalizers(vec![]));
        let elsewhere: IpAddr = "10.1.0.9".parse().unwrap();
        assert_eq!(decide(&early, &[], &[elsewhere], now()), Plan::Finalizers(vec![]));
    }
}
