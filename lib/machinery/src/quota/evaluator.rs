//! What an object takes, by the kind of object.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::scope::{Selector, attributes_classes, is_terminating};
use crate::pod::resources::{self, Amounts, Bound};
use crate::quantity::{Format, Quantity};

/// Resources that no quota counts: answers, not objects; events come and go; the last two are not namespaced.
pub const IGNORED: &[(&str, &str)] = &[
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("apiregistration.k8s.io", "apiservices"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
];

/// The rules of one kind of object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluator {
    Pods,
    Services,
    Claims,
    ResourceClaims,
    /// Objects of which only the number counts, and the names it has in quotas.
    Count(Vec<String>),
}

const POD: &[&str] = &[
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
const SERVICE: &[&str] = &["count/services", "services", "services.nodeports", "services.loadbalancers"];
const CLAIM: &[&str] = &["persistentvolumeclaims", "requests.storage"];
const CLAIM_COUNT: &str = "count/persistentvolumeclaims";
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const RESOURCE_CLAIM_COUNT: &str = "count/resourceclaims.resource.k8s.io";
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
const DEVICE_CLASS_REQUEST: &str = "deviceclass.resource.kubernetes.io/";
/// As many devices as one allocation may have: what a claim for all devices of a class counts as.
const DEVICES_MAX: i64 = 32;
/// Amounts that every container must state when a quota has them.
const STATED: &[&str] = &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

impl Evaluator {
    /// None for what no quota counts.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        if IGNORED.contains(&(group, resource)) {
            return None;
        }
        Some(match (group, resource) {
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::Claims,
            ("resource.k8s.io", "resourceclaims") => Self::ResourceClaims,
            ("", "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets") => {
                Self::Count(vec![format!("count/{resource}"), resource.to_owned()])
            }
            ("", _) => Self::Count(vec![format!("count/{resource}")]),
            _ => Self::Count(vec![format!("count/{resource}.{group}")]),
        })
    }

    /// Whether the name in a quota is an amount of this kind.
    pub fn tracks(&self, name: &str) -> bool {
        match self {
            Self::Pods => {
                POD.contains(&name)
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || is_extended_request(name)
            }
            Self::Services => SERVICE.contains(&name),
            Self::Claims => {
                let of_class = || CLAIM.iter().any(|n| name.strip_suffix(n).is_some_and(|rest| rest.ends_with(STORAGE_CLASS)));
                name == CLAIM_COUNT || CLAIM.contains(&name) || of_class()
            }
            Self::ResourceClaims => name == RESOURCE_CLAIM_COUNT || name.ends_with(DEVICE_CLASS),
            Self::Count(names) => names.iter().any(|n| n == name),
        }
    }

    /// Whether counting takes more than to know that the object is there.
    pub fn needs_content(&self) -> bool {
        !matches!(self, Self::Count(_))
    }

    /// Whether an object is within all of a quota's scopes. Only pods and claims have any.
    pub fn in_scopes(&self, selectors: &[Selector], object: &Value) -> bool {
        selectors.iter().all(|selector| match self {
            Self::Pods => selector.matches_pod(object),
            Self::Claims => selector.matches_claim(object),
            _ => false,
        })
    }

    /// Whether a write may change what the object takes. `old` is none for a creation.
    pub fn handles(&self, subresource: &str, new: &Value, old: Option<&Value>) -> bool {
        match (self, subresource, old) {
            (_, "", None) | (Self::Pods, "resize", Some(_)) => true,
            (Self::Pods, "", Some(old)) => is_terminating(old) != is_terminating(new),
            (Self::Services | Self::Claims | Self::ResourceClaims, "", Some(_)) => true,
            (Self::Claims, "status", Some(old)) => {
                let classes = |claim| attributes_classes(claim).map(str::to_owned).collect::<BTreeSet<_>>();
                old["status"]["allocatedResources"]["storage"] != new["status"]["allocatedResources"]["storage"]
                    || classes(old) != classes(new)
            }
            _ => false,
        }
    }

    /// What the object takes at that time.
    pub fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        match self {
            Self::Pods => pod(object, now),
            Self::Services => service(object),
            Self::Claims => claim(object),
            Self::ResourceClaims => resource_claim(object),
            Self::Count(names) => names.iter().map(|name| (name.clone(), number(1))).collect(),
        }
    }

    /// Why the object may not be without amounts that a quota has; those quotas predate qualities of service.
    ///
    /// # Errors
    /// `must specify cpu for: a,b; memory for: c`
    pub fn constraints(&self, required: &BTreeSet<String>, object: &Value) -> Result<(), String> {
        if *self != Self::Pods || resources::is_pod_level_set(&object["spec"]) {
            return Ok(());
        }
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for list in ["containers", "initContainers"] {
            for container in object["spec"][list].as_array().into_iter().flatten() {
                let amounts = |bound: Bound| resources::amounts(&container["resources"][bound.field()]);
                let stated = compute(&amounts(Bound::Requests), &amounts(Bound::Limits));
                for name in STATED.iter().filter(|name| required.contains(**name) && !stated.contains_key(**name)) {
                    missing.entry(name).or_default().insert(container["name"].as_str().unwrap_or_default());
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let parts: Vec<String> = missing
            .into_iter()
            .map(|(name, containers)| format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(",")))
            .collect();
        Err(format!("must specify {}", parts.join("; ")))
    }
}

fn number(value: i64) -> Quantity {
    Quantity::new(value, Format::DecimalSi)
}

/// `requests.example.com/gpu`: only requests of resources that others define can be limited.
fn is_extended_request(name: &str) -> bool {
    let Some(resource) = name.strip_prefix("requests.") else { return false };
    resource.starts_with(DEVICE_CLASS_REQUEST) || (name.contains('/') && !name.contains("kubernetes.io/"))
}

fn is_extended(resource: &str) -> bool {
    resource.starts_with(DEVICE_CLASS_REQUEST)
        || (resource.contains('/') && !resource.contains("kubernetes.io/") && !resource.starts_with("requests."))
}

fn pod(pod: &Value, now: Timestamp) -> Amounts {
    // What is stored counts as an object; what is over, or should long be gone, takes nothing else.
    let mut usage = Amounts::from([("count/pods".to_owned(), number(1))]);
    if is_live(pod, now) {
        resources::add(&mut usage, &compute(&resources::of_pod(pod, Bound::Requests), &resources::of_pod(pod, Bound::Limits)));
    }
    usage
}

fn is_live(pod: &Value, now: Timestamp) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        return false;
    }
    let deleted = crate::meta::deletion_timestamp(pod).and_then(|text| text.parse::<Timestamp>().ok());
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
    match (deleted, grace) {
        (Some(at), Some(seconds)) => at.checked_add(SignedDuration::from_secs(seconds)).is_ok_and(|end| now <= end),
        _ => true,
    }
}

/// Requests and limits under the names that quotas use.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".to_owned(), number(1))]);
    for (name, amount) in requests {
        let native = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if native {
            usage.insert(name.clone(), amount.clone());
        }
        if native || is_extended(name) {
            usage.insert(format!("requests.{name}"), amount.clone());
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")) {
        usage.insert(format!("limits.{name}"), amount.clone());
    }
    usage
}

fn service(service: &Value) -> Amounts {
    let ports = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let all = i64::try_from(ports.len()).unwrap_or(i64::MAX);
    let (node_ports, balancers) = match service["spec"]["type"].as_str() {
        Some("NodePort") => (all, 0),
        // Ports are not given yet: what counts is what will be.
        Some("LoadBalancer") if service["spec"]["allocateLoadBalancerNodePorts"] == false => {
            let chosen = ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count();
            (i64::try_from(chosen).unwrap_or(i64::MAX), 1)
        }
        Some("LoadBalancer") => (all, 1),
        _ => (0, 0),
    };
    SERVICE.iter().map(|name| (*name).to_owned()).zip([1, 1, node_ports, balancers].map(number)).collect()
}

fn claim(claim: &Value) -> Amounts {
    let legacy = crate::meta::annotation(claim, "volume.beta.kubernetes.io/storage-class");
    let class = legacy.or_else(|| claim["spec"]["storageClassName"].as_str()).unwrap_or_default();
    let mut usage = Amounts::from([(CLAIM[0].to_owned(), number(1)), (CLAIM_COUNT.to_owned(), number(1))]);
    let parse = |value: &Value| Quantity::from_value(value).ok().filter(|_| !value.is_null());
    if let Some(asked) = parse(&claim["spec"]["resources"]["requests"]["storage"]) {
        let allocated = parse(&claim["status"]["allocatedResources"]["storage"]);
        let storage = allocated.filter(|allocated| *allocated > asked).unwrap_or(asked);
        // Quotas count whole bytes.
        let storage = if storage.is_integer() { storage } else { Quantity::new(storage.value(), storage.format()) };
        usage.insert(CLAIM[1].to_owned(), storage);
    }
    if !class.is_empty() {
        for name in CLAIM {
            if let Some(amount) = usage.get(*name).cloned() {
                usage.insert(format!("{class}{STORAGE_CLASS}{name}"), amount);
            }
        }
    }
    usage
}

fn resource_claim(claim: &Value) -> Amounts {
    let mut usage = Amounts::from([(RESOURCE_CLAIM_COUNT.to_owned(), number(1))]);
    let devices = |request: &Value| match request["allocationMode"].as_str() {
        None | Some("" | "ExactCount") => request["count"].as_i64().unwrap_or(1),
        Some("All") => DEVICES_MAX,
        Some(_) => 0,
    };
    let of_class = |request: &Value| format!("{}{DEVICE_CLASS}", request["deviceClassName"].as_str().unwrap_or_default());
    for request in claim["spec"]["devices"]["requests"].as_array().into_iter().flatten() {
        let mut most = Amounts::new();
        // Of alternatives the worst of each class counts.
        let alternatives = request["firstAvailable"].as_array().into_iter().flatten();
        for wanted in alternatives.chain(Some(&request["exactly"]).filter(|exactly| exactly.is_object())) {
            resources::raise(&mut most, &Amounts::from([(of_class(wanted), number(devices(wanted)))]));
        }
        resources::add(&mut usage, &most);
    }
    usage
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::pretty;
    use super::*;

    fn check(group: &str, resource: &str, object: Value, expected: &str) {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let evaluator = Evaluator::of(group, resource).unwrap();
        let usage = evaluator.usage(&object, now);
        assert_eq!(pretty(&usage), expected, "{object}");
        for name in usage.keys() {
            assert!(evaluator.tracks(name), "{name}");
        }
    }

    #[test]
    fn pods() {
        let spec = json!({"containers": [{"name": "a", "resources": {
            "requests": {"cpu": "1", "example.com/gpu": "2", "hugepages-2Mi": "4Mi"}, "limits": {"memory": "1Gi"}}}]});
        let full = "count/pods=1,cpu=1,hugepages-2Mi=4Mi,limits.memory=1Gi,pods=1,requests.cpu=1,requests.example.com/gpu=2,\
                    requests.hugepages-2Mi=4Mi";
        check("", "pods", json!({"spec": spec}), full);
        check("", "pods", json!({"spec": spec, "status": {"phase": "Succeeded"}}), "count/pods=1");
        let deleted = |grace: i64| json!({"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": grace});
        check("", "pods", json!({"metadata": deleted(30), "spec": spec}), full);
        check("", "pods", json!({"metadata": deleted(29), "spec": spec}), "count/pods=1");
    }

    #[test]
    fn services() {
        let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30000}]);
        for (spec, ports_and_balancers) in [
            (json!({"ports": ports}), (0, 0)),
            (json!({"type": "NodePort", "ports": ports}), (2, 0)),
            (json!({"type": "LoadBalancer", "ports": ports}), (2, 1)),
            (json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}), (1, 1)),
        ] {
            let (nodes, balancers) = ports_and_balancers;
            let expected = format!("count/services=1,services=1,services.loadbalancers={balancers},services.nodeports={nodes}");
            check("", "services", json!({ "spec": spec }), &expected);
        }
    }

    #[test]
    fn claims() {
        let plain = json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}});
        check(
            "",
            "persistentvolumeclaims",
            plain,
            "count/persistentvolumeclaims=1,persistentvolumeclaims=1,requests.storage=1Gi",
        );
        let gold = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}},
            "status": {"allocatedResources": {"storage": "1"}}});
        let expected = "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
                        gold.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2";
        check("", "persistentvolumeclaims", gold, expected);
    }

    #[test]
    fn devices() {
        let requests = json!([{"exactly": {"deviceClassName": "a", "count": 2}},
            {"firstAvailable": [{"deviceClassName": "a", "count": 1}, {"deviceClassName": "b", "allocationMode": "All"}]}]);
        check(
            "resource.k8s.io",
            "resourceclaims",
            json!({"spec": {"devices": {"requests": requests}}}),
            "a.deviceclass.resource.k8s.io/devices=3,b.deviceclass.resource.k8s.io/devices=32,count/resourceclaims.resource.k8s.io=1",
        );
    }

    #[test]
    fn numbers_of_objects() {
        check("", "secrets", json!({}), "count/secrets=1,secrets=1");
        check("apps", "deployments", json!({}), "count/deployments.apps=1");
        check("example.com", "foos", json!({}), "count/foos.example.com=1");
        assert_eq!(Evaluator::of("", "events"), None);
    }

    #[test]
    fn containers_that_say_nothing() {
        let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"limits": {"cpu": "1"}}}],
            "initContainers": [{"name": "i", "resources": {"requests": {"memory": "1"}}}]}});
        let required: BTreeSet<String> = ["limits.cpu", "memory", "pods", "requests.ephemeral-storage"].map(String::from).into();
        let message = Evaluator::Pods.constraints(&required, &pod).unwrap_err();
        assert_eq!(message, "must specify limits.cpu for: b,i; memory for: a,b");
        let mut whole = pod.clone();
        whole["spec"]["resources"] = json!({"requests": {"cpu": "1"}});
        assert_eq!(Evaluator::Pods.constraints(&required, &whole), Ok(()));
    }

    #[test]
    fn writes_that_count() {
        let pods = Evaluator::Pods;
        let (plain, timed) = (json!({}), json!({"spec": {"activeDeadlineSeconds": 1}}));
        assert!(pods.handles("", &plain, None) && pods.handles("", &timed, Some(&plain)));
        assert!(!pods.handles("", &plain, Some(&plain)) && !pods.handles("status", &plain, Some(&plain)));
        let claims = Evaluator::Claims;
        let grown = json!({"status": {"allocatedResources": {"storage": "2"}}});
        assert!(claims.handles("status", &grown, Some(&plain)) && !claims.handles("status", &plain, Some(&plain)));
        assert!(!Evaluator::of("", "secrets").unwrap().handles("", &plain, Some(&plain)));
    }
}
