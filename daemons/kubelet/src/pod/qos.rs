//! The quality of service of a pod, and what the kernel is told because of it.

use std::collections::BTreeMap;

use api::Quantity;
use api::core::{Container, Pod, ResourceRequirements};

use super::spec;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// CPU in thousandths, memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu: Option<i64>,
    pub memory: Option<i64>,
}

pub fn milli(q: &Quantity) -> i64 {
    q.0.parse::<machinery::quantity::Quantity>().map_or(0, |q| q.milli_value())
}

pub fn whole(q: &Quantity) -> i64 {
    q.0.parse::<machinery::quantity::Quantity>().map_or(0, |q| q.value())
}

fn amounts(list: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let get = |name: &str| list.and_then(|l| l.get(name));
    Amounts { cpu: get("cpu").map(milli), memory: get("memory").map(whole) }
}

pub fn limits(r: Option<&ResourceRequirements>) -> Amounts {
    amounts(r.and_then(|r| r.limits.as_ref()))
}

/// A request that is not there is the limit.
pub fn requests(r: Option<&ResourceRequirements>) -> Amounts {
    let (requests, limits) = (amounts(r.and_then(|r| r.requests.as_ref())), limits(r));
    Amounts { cpu: requests.cpu.or(limits.cpu), memory: requests.memory.or(limits.memory) }
}

/// The class that the API server stored, or the computed one.
pub fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => compute(pod),
    }
}

fn compute(pod: &Pod) -> Qos {
    let all = || spec::init_containers(pod).iter().chain(&spec::spec(pod).containers).map(|c| c.resources.as_ref());
    let all = || all().chain(spec::spec(pod).resources.as_ref().map(Some));
    let positive = |v: Option<i64>| v.filter(|v| *v > 0);
    let set = |a: Amounts| positive(a.cpu).is_some() || positive(a.memory).is_some();
    if !all().any(|r| set(requests(r)) || set(limits(r))) {
        return Qos::BestEffort;
    }
    let containers = || spec::init_containers(pod).iter().chain(&spec::spec(pod).containers);
    let guaranteed = |r: Option<&ResourceRequirements>| {
        let (requests, limits) = (requests(r), limits(r));
        positive(limits.cpu).is_some() && positive(limits.memory).is_some() && requests == limits
    };
    let whole_pod = spec::spec(pod).resources.as_ref().is_some_and(|r| guaranteed(Some(r)));
    if whole_pod || containers().all(|c| guaranteed(c.resources.as_ref())) { Qos::Guaranteed } else { Qos::Burstable }
}

/// What a pod takes in all: main containers and sidecars together, or the largest init container if that is more.
pub fn pod_amounts(pod: &Pod, of: fn(Option<&ResourceRequirements>) -> Amounts) -> Amounts {
    let add = |a: Option<i64>, b: Option<i64>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    let sum = |a: Amounts, b: Amounts| Amounts { cpu: add(a.cpu, b.cpu), memory: add(a.memory, b.memory) };
    let of = |c: &Container| of(c.resources.as_ref());
    let mut main = spec::spec(pod).containers.iter().map(of).fold(Amounts::default(), sum);
    let mut sidecars = Amounts::default();
    let mut largest = Amounts::default();
    for init in spec::init_containers(pod) {
        if spec::is_sidecar(init) {
            sidecars = sum(sidecars, of(init));
            largest = Amounts { cpu: largest.cpu.max(sidecars.cpu), memory: largest.memory.max(sidecars.memory) };
        } else {
            let with = sum(of(init), sidecars);
            largest = Amounts { cpu: largest.cpu.max(with.cpu), memory: largest.memory.max(with.memory) };
        }
    }
    main = sum(main, sidecars);
    let overhead = amounts(spec::spec(pod).overhead.as_ref());
    sum(Amounts { cpu: main.cpu.max(largest.cpu), memory: main.memory.max(largest.memory) }, overhead)
}

/// The limit of the whole pod: only when every container has one.
pub fn pod_limits(pod: &Pod) -> Amounts {
    if let Some(own) = &spec::spec(pod).resources {
        let own = limits(Some(own));
        if own.cpu.is_some() || own.memory.is_some() {
            return own;
        }
    }
    let counted = || spec::init_containers(pod).iter().chain(&spec::spec(pod).containers).map(|c| limits(c.resources.as_ref()));
    let total = pod_amounts(pod, limits);
    Amounts {
        cpu: total.cpu.filter(|_| counted().all(|l| l.cpu.is_some_and(|v| v > 0))),
        memory: total.memory.filter(|_| counted().all(|l| l.memory.is_some_and(|v| v > 0))),
    }
}

pub fn cpu_shares(milli: i64) -> i64 {
    if milli == 0 { 2 } else { (milli * 1024 / 1000).clamp(2, 262_144) }
}

pub const CPU_PERIOD: i64 = 100_000;

/// Microseconds in each period; `None` without a limit.
pub fn cpu_quota(milli: Option<i64>) -> Option<i64> {
    milli.filter(|m| *m > 0).map(|m| (m * CPU_PERIOD / 1000).max(1000))
}

/// cgroup v2's weight for v1's shares.
pub fn cpu_weight(shares: i64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    // The curve of runc 1.3 and systemd: 2 -> 1, 1024 -> 100, 262144 -> 10000.
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

/// The lower, the later the kernel kills it when memory runs out.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    const GUARANTEED: i64 = -997;
    const BEST_EFFORT: i64 = 1000;
    if spec::is_critical(pod) && spec::spec(pod).priority.is_none_or(|p| p >= 2_000_000_000) && spec::is_static(pod)
        || spec::spec(pod).priority.is_some_and(|p| p >= 2_000_001_000)
    {
        return GUARANTEED;
    }
    match qos(pod) {
        Qos::Guaranteed => GUARANTEED,
        Qos::BestEffort => BEST_EFFORT,
        Qos::Burstable => {
            let request = requests(container.resources.as_ref()).memory.unwrap_or(0);
            let score = 1000 - (1000 * request) / memory_capacity.max(1);
            // Between the two others, whatever was asked for.
            if score < 1000 + GUARANTEED {
                1000 + GUARANTEED
            } else if score == BEST_EFFORT {
                score - 1
            } else {
                score
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Kind as _;
    use serde_json::{Value, json};

    fn pod(resources: &[Value]) -> Pod {
        let containers: Vec<Value> =
            resources.iter().enumerate().map(|(i, r)| json!({"name": format!("c{i}"), "resources": r})).collect();
        Pod::decode_value(json!({"metadata": {}, "spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        for (resources, want) in [
            (vec![json!({})], Qos::BestEffort),
            (vec![full.clone()], Qos::Guaranteed),
            (vec![full.clone(), json!({})], Qos::Burstable),
            (vec![json!({"requests": {"cpu": "100m"}})], Qos::Burstable),
            (vec![json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})], Qos::Burstable),
            (vec![json!({"requests": {"cpu": "0"}})], Qos::BestEffort),
        ] {
            assert_eq!(qos(&pod(&resources)), want, "{resources:?}");
        }
    }

    #[test]
    fn kernel_values() {
        assert_eq!([cpu_shares(0), cpu_shares(1000), cpu_shares(100)], [2, 1024, 102]);
        assert_eq!([cpu_quota(None), cpu_quota(Some(5)), cpu_quota(Some(500))], [None, Some(1000), Some(50_000)]);
        assert_eq!([cpu_weight(2), cpu_weight(1024), cpu_weight(262_144)], [1, 100, 10_000]);
    }

    #[test]
    fn oom_scores() {
        let score = |r: Value| {
            let p = pod(&[r]);
            oom_score_adj(&p, &p.spec.as_ref().unwrap().containers[0], 10 << 30)
        };
        assert_eq!(score(json!({})), 1000);
        assert_eq!(score(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), -997);
        assert_eq!(score(json!({"requests": {"memory": "1Gi"}})), 900);
        assert_eq!(score(json!({"requests": {"memory": "10Gi"}})), 3);
        assert_eq!(score(json!({"requests": {"cpu": "1"}})), 999);
    }

    #[test]
    fn the_largest_init_container_counts() {
        let p = Pod::decode_value(json!({"metadata": {}, "spec": {
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "2"}}}, {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}}],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Ki"}}}]}}))
        .unwrap();
        assert_eq!(pod_amounts(&p, requests), Amounts { cpu: Some(2000), memory: Some(1024) });
    }
}
