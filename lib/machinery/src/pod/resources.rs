//! What a pod asks for as a whole: its requests and limits, as the scheduler and quotas count them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::containers::is_sidecar;
use crate::quantity::Quantity;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Requests,
    Limits,
}

impl Bound {
    pub fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// A map of quantities as it stands in an object; what is no quantity is left out.
pub fn amounts(map: &Value) -> Amounts {
    let entries = map.as_object().into_iter().flatten();
    entries.filter_map(|(name, amount)| Some((name.clone(), Quantity::from_value(amount).ok()?))).collect()
}

/// Adds to `sum`.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        sum.entry(name.clone()).and_modify(|sum| sum.add(amount)).or_insert_with(|| amount.clone());
    }
}

/// The larger of each.
pub fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|have| amount > have) {
            to.insert(name.clone(), amount.clone());
        }
    }
}

/// Resources that a pod may ask for as a whole (KEP-2837).
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether the pod as a whole asks for something.
pub fn is_pod_level_set(spec: &Value) -> bool {
    ["requests", "limits"].iter().any(|bound| is_pod_level_bound_set(spec, bound))
}

fn is_pod_level_bound_set(spec: &Value, bound: &str) -> bool {
    spec["resources"][bound].as_object().is_some_and(|amounts| amounts.keys().any(|name| is_pod_level(name)))
}

/// What the pod takes: containers that run together are added, those that run one after another count by their largest
/// (KEP-753 for sidecars), what was given already counts while a resize is under way (KEP-1287), and overhead is added.
pub fn of_pod(pod: &Value, bound: Bound) -> Amounts {
    let spec = &pod["spec"];
    let mut sum = Amounts::new();
    for container in list(&spec["containers"]) {
        add(&mut sum, &effective(pod, container, "containerStatuses", bound));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in list(&spec["initContainers"]) {
        if is_sidecar(container) {
            let own = effective(pod, container, "initContainerStatuses", bound);
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut during = amounts(&container["resources"][bound.field()]);
            add(&mut during, &sidecars);
            raise(&mut starting, &during);
        }
    }
    raise(&mut sum, &starting);
    let decides = match bound {
        Bound::Requests => is_pod_level_bound_set(spec, "requests"),
        Bound::Limits => is_pod_level_set(spec),
    };
    if decides {
        sum.extend(amounts(&spec["resources"][bound.field()]).into_iter().filter(|(name, _)| is_pod_level(name)));
    }
    for (name, overhead) in amounts(&spec["overhead"]) {
        match (bound, sum.get_mut(&name)) {
            (Bound::Requests, None) => _ = sum.insert(name, overhead),
            (Bound::Requests, Some(sum)) => sum.add(&overhead),
            (Bound::Limits, Some(sum)) if !sum.is_zero() => sum.add(&overhead),
            (Bound::Limits, _) => {}
        }
    }
    sum
}

fn effective(pod: &Value, container: &Value, statuses: &str, bound: Bound) -> Amounts {
    let wanted = amounts(&container["resources"][bound.field()]);
    let status = list(&pod["status"][statuses]).iter().find(|status| status["name"] == container["name"]);
    let Some(status) = status.filter(|status| status["resources"].is_object()) else { return wanted };
    let infeasible = list(&pod["status"]["conditions"])
        .iter()
        .find(|condition| condition["type"] == "PodResizePending")
        .is_some_and(|condition| condition["reason"] == "Infeasible");
    let mut amounts_now = amounts(&status["resources"][bound.field()]);
    if bound == Bound::Requests {
        raise(&mut amounts_now, &amounts(&status["allocatedResources"]));
    }
    if !infeasible {
        raise(&mut amounts_now, &wanted);
    }
    amounts_now
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(pod: Value, bound: Bound, expected: &str) {
        let all: Vec<String> = of_pod(&pod, bound).iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        assert_eq!(all.join(","), expected, "{pod}");
    }

    fn container(cpu: &str) -> Value {
        json!({"name": cpu, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    #[test]
    fn sums_and_maxima() {
        let pod = json!({"spec": {"containers": [container("1"), container("2")], "initContainers": [container("2500m")]}});
        check(pod, Bound::Requests, "cpu=3");
        let pod = json!({"spec": {"containers": [container("1")], "initContainers": [container("2")]}});
        check(pod, Bound::Limits, "cpu=2");
        let mut sidecar = container("1");
        sidecar["restartPolicy"] = json!("Always");
        let pod = json!({"spec": {"containers": [container("1")], "initContainers": [sidecar, container("3")]}});
        check(pod, Bound::Requests, "cpu=4");
    }

    #[test]
    fn overhead_and_the_pod_as_a_whole() {
        let overhead = json!({"cpu": "100m", "memory": "1Mi"});
        let pod = json!({"spec": {"containers": [container("1")], "overhead": overhead}});
        check(pod.clone(), Bound::Requests, "cpu=1100m,memory=1Mi");
        check(pod, Bound::Limits, "cpu=1100m");
        let whole = json!({"requests": {"cpu": "5"}, "limits": {"memory": "1Gi"}});
        let pod = json!({"spec": {"containers": [container("1")], "resources": whole}});
        check(pod.clone(), Bound::Requests, "cpu=5");
        check(pod, Bound::Limits, "cpu=1,memory=1Gi");
    }

    #[test]
    fn a_resize_under_way_counts_the_larger() {
        let status = json!({"name": "1", "resources": {"requests": {"cpu": "2"}}, "allocatedResources": {"cpu": "1500m"}});
        let mut pod = json!({"spec": {"containers": [container("1")]}, "status": {"containerStatuses": [status]}});
        check(pod.clone(), Bound::Requests, "cpu=2");
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("3");
        check(pod.clone(), Bound::Requests, "cpu=3");
        pod["status"]["conditions"] = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        check(pod, Bound::Requests, "cpu=2");
    }
}
