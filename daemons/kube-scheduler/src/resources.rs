//! What a pod asks for and what a node offers, as integers: milli-CPU, bytes, counts.

use std::collections::BTreeMap;

use api::Quantity;
use api::core::{Container, Pod};

type Quantities = BTreeMap<String, Quantity>;

/// What scoring assumes for a container that names no CPU request.
const UNNAMED_MILLI_CPU: i64 = 100;
/// What scoring assumes for a container that names no memory request.
const UNNAMED_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of each resource. CPU is in thousandths, everything else in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, by name.
    pub scalar: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a resource list; `pods` is not an amount a pod can ask for and is left out.
    pub fn from_list(list: &Quantities) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => resources.milli_cpu = milli_value(quantity),
                "memory" => resources.memory = value(quantity),
                "ephemeral-storage" => resources.ephemeral_storage = value(quantity),
                "pods" => {}
                _ => {
                    resources.scalar.insert(name.clone(), value(quantity));
                }
            }
        }
        resources
    }

    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0 && self.memory == 0 && self.ephemeral_storage == 0 && self.scalar.values().all(|v| *v == 0)
    }

    pub fn add(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_add(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let sum = self.scalar.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    pub fn raise_to(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.max(other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let most = self.scalar.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }
}

/// A pod's requests: as they are compared with a node's allocatable, and as scoring sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub exact: Resources,
    /// CPU and memory with a default in place of what a container does not name, so that pods without requests spread too.
    pub scored_milli_cpu: i64,
    pub scored_memory: i64,
}

/// The requests of a pod: its containers together, or its hungriest moment while starting; then its overhead.
pub(crate) fn request_of(pod: &Pod) -> Request {
    let exact = aggregate(pod, Resources::from_list);
    let scored = aggregate(pod, |list| {
        let mut resources = Resources::from_list(list);
        if !list.contains_key("cpu") {
            resources.milli_cpu = UNNAMED_MILLI_CPU;
        }
        if !list.contains_key("memory") {
            resources.memory = UNNAMED_MEMORY;
        }
        resources
    });
    Request { exact, scored_milli_cpu: scored.milli_cpu, scored_memory: scored.memory }
}

/// KEP-753: init containers run one after another beside the sidecars started before them; containers run all at once.
fn aggregate(pod: &Pod, read: impl Fn(&Quantities) -> Resources) -> Resources {
    let none = Quantities::new();
    let Some(spec) = &pod.spec else { return Resources::default() };
    let statuses = pod.status.as_ref();
    let ask = |container: &Container, statuses: Option<&Vec<api::core::ContainerStatus>>| {
        let mut asked = read(container.resources.as_ref().and_then(|r| r.requests.as_ref()).unwrap_or(&none));
        // A resize in flight: the larger of what is asked, what is running and what was admitted still occupies the node.
        if let Some(status) = statuses.and_then(|s| s.iter().find(|s| s.name == container.name))
            && let Some(actual) = status.resources.as_ref().and_then(|r| r.requests.as_ref())
        {
            asked.raise_to(&read(actual));
            if let Some(allocated) = &status.allocated_resources {
                asked.raise_to(&read(allocated));
            }
        }
        asked
    };

    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&ask(container, statuses.and_then(|s| s.container_statuses.as_ref())));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let asked = ask(container, statuses.and_then(|s| s.init_container_statuses.as_ref()));
        if container.restart_policy.as_deref() == Some("Always") {
            total.add(&asked);
            sidecars.add(&asked);
            peak.raise_to(&sidecars);
        } else {
            let mut moment = sidecars.clone();
            moment.add(&asked);
            peak.raise_to(&moment);
        }
    }
    total.raise_to(&peak);

    // Requests of the pod as a whole replace the sum of its containers'.
    for (name, quantity) in spec.resources.iter().flat_map(|r| r.requests.iter().flatten()) {
        match name.as_str() {
            "cpu" => total.milli_cpu = milli_value(quantity),
            "memory" => total.memory = value(quantity),
            name if name.starts_with("hugepages-") => {
                total.scalar.insert(name.to_owned(), value(quantity));
            }
            _ => {}
        }
    }
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::from_list(overhead));
    }
    total
}

/// Whole units, rounded up; what cannot be read counts as nothing, as the API server refuses it.
pub(crate) fn value(quantity: &Quantity) -> i64 {
    quantity.0.parse::<machinery::quantity::Quantity>().map(|q| q.value()).unwrap_or(0)
}

fn milli_value(quantity: &Quantity) -> i64 {
    quantity.0.parse::<machinery::quantity::Quantity>().map(|q| q.milli_value()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(spec: serde_json::Value) -> Request {
        request_of(&serde_json::from_value(serde_json::json!({"metadata": {}, "spec": spec})).unwrap())
    }

    fn container(cpu: &str, memory: &str) -> serde_json::Value {
        serde_json::json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn containers_add_up_and_an_init_container_sets_a_floor() {
        let r = request(serde_json::json!({
            "containers": [container("100m", "1Gi"), container("1", "1Gi")],
            "initContainers": [container("3", "1Mi")],
        }));
        assert_eq!((r.exact.milli_cpu, r.exact.memory), (3000, 2 << 30));
    }

    #[test]
    fn a_sidecar_runs_beside_everything_after_it() {
        let mut sidecar = container("500m", "1Mi");
        sidecar["restartPolicy"] = "Always".into();
        let r = request(
            serde_json::json!({"containers": [container("1", "1Mi")], "initContainers": [sidecar, container("2", "1Mi")]}),
        );
        assert_eq!(r.exact.milli_cpu, 2500);
    }

    #[test]
    fn scoring_assumes_something_for_containers_without_requests() {
        let r = request(serde_json::json!({"containers": [{"name": "a"}, container("1", "1Gi")]}));
        assert_eq!((r.exact.milli_cpu, r.scored_milli_cpu), (1000, 1100));
        assert_eq!(r.scored_memory, (1 << 30) + UNNAMED_MEMORY);
    }

    #[test]
    fn overhead_extended_resources_and_pod_level_requests() {
        let r = request(serde_json::json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "example.com/gpu": "2"}}}],
            "overhead": {"cpu": "250m"},
            "resources": {"requests": {"cpu": "4"}},
        }));
        assert_eq!((r.exact.milli_cpu, r.exact.scalar["example.com/gpu"]), (4250, 2));
    }
}
