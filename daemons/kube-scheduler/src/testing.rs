//! Builders of nodes and pods, for tests and benchmarks.

use std::sync::Arc;

use api::core::{Node, Pod};
use serde_json::{Value, json};

use crate::affinity::compile;
use crate::cycle::{Nominated, Placement, place};
use crate::diagnosis::Diagnosis;
use crate::nodes::NodeTable;
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::random::Random;
use crate::world::{Budget, World};

/// A node under construction.
#[derive(Clone, Debug)]
pub struct NodeBuilder(Value);

/// A pod under construction.
#[derive(Clone, Debug)]
pub struct PodBuilder(Value);

/// A node with room for 110 pods and 64 GiB of memory.
pub fn node(name: &str) -> NodeBuilder {
    NodeBuilder(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"taints": []},
        "status": {"allocatable": {"cpu": "0", "memory": "64Gi", "pods": "110"}, "images": []},
    }))
}

/// A pod of the namespace `default` with one container.
pub fn pod(name: &str) -> PodBuilder {
    PodBuilder(json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {}},
        "spec": {"containers": [{"name": "c", "image": "image", "ports": [], "resources": {"requests": {}}}],
                 "tolerations": [], "schedulingGates": [], "nodeSelector": {}, "topologySpreadConstraints": []},
    }))
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("the builder made a list").push(item);
}

fn labels(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect::<serde_json::Map<_, _>>().into()
}

impl NodeBuilder {
    pub fn cpu(mut self, amount: &str) -> Self {
        self.0["status"]["allocatable"]["cpu"] = amount.into();
        self
    }
    pub fn pods(mut self, count: u32) -> Self {
        self.0["status"]["allocatable"]["pods"] = count.to_string().into();
        self
    }
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }
    pub fn taint(mut self, key: &str, effect: &str) -> Self {
        push(&mut self.0["spec"]["taints"], json!({"key": key, "effect": effect}));
        self
    }
    pub fn unschedulable(mut self) -> Self {
        self.0["spec"]["unschedulable"] = true.into();
        self
    }
    pub fn image(mut self, name: &str, size: i64) -> Self {
        push(&mut self.0["status"]["images"], json!({"names": [name], "sizeBytes": size}));
        self
    }
    pub fn build(&self) -> Node {
        serde_json::from_value(self.0.clone()).expect("the builder makes nodes")
    }
}

impl PodBuilder {
    pub fn cpu(mut self, amount: &str) -> Self {
        self.0["spec"]["containers"][0]["resources"]["requests"]["cpu"] = amount.into();
        self
    }
    pub fn memory(mut self, amount: &str) -> Self {
        self.0["spec"]["containers"][0]["resources"]["requests"]["memory"] = amount.into();
        self
    }
    pub fn image(mut self, name: &str) -> Self {
        self.0["spec"]["containers"][0]["image"] = name.into();
        self
    }
    pub fn host_port(mut self, port: u16) -> Self {
        push(&mut self.0["spec"]["containers"][0]["ports"], json!({"containerPort": port, "hostPort": port}));
        self
    }
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }
    pub fn selector(mut self, key: &str, value: &str) -> Self {
        self.0["spec"]["nodeSelector"][key] = value.into();
        self
    }
    pub fn toleration(mut self, key: &str) -> Self {
        push(&mut self.0["spec"]["tolerations"], json!({"key": key, "operator": "Exists"}));
        self
    }
    pub fn priority(mut self, priority: i32) -> Self {
        self.0["spec"]["priority"] = priority.into();
        self
    }
    pub fn never_preempts(mut self) -> Self {
        self.0["spec"]["preemptionPolicy"] = "Never".into();
        self
    }
    pub fn scheduler(mut self, name: &str) -> Self {
        self.0["spec"]["schedulerName"] = name.into();
        self
    }
    pub fn gate(mut self, name: &str) -> Self {
        push(&mut self.0["spec"]["schedulingGates"], json!({"name": name}));
        self
    }
    pub fn deleting(mut self) -> Self {
        self.0["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        self
    }
    pub fn on(mut self, node: &str) -> Self {
        self.0["spec"]["nodeName"] = node.into();
        self
    }
    /// Node affinity to one name, as daemon pods have it.
    pub fn pinned(mut self, node: &str) -> Self {
        self.0["spec"]["affinity"]["nodeAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}});
        self
    }
    pub fn affinity(mut self, key: &str, selector: &[(&str, &str)]) -> Self {
        self.0["spec"]["affinity"]["podAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": key, "labelSelector": {"matchLabels": labels(selector)}}]});
        self
    }
    pub fn anti_affinity(mut self, key: &str, selector: &[(&str, &str)]) -> Self {
        self.0["spec"]["affinity"]["podAntiAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": key, "labelSelector": {"matchLabels": labels(selector)}}]});
        self
    }
    pub fn spread(mut self, key: &str, max_skew: i32, selector: &[(&str, &str)]) -> Self {
        push(
            &mut self.0["spec"]["topologySpreadConstraints"],
            json!({"topologyKey": key, "maxSkew": max_skew, "whenUnsatisfiable": "DoNotSchedule",
                   "labelSelector": {"matchLabels": labels(selector)}}),
        );
        self
    }
    pub fn build(&self) -> Pod {
        serde_json::from_value(self.0.clone()).expect("the builder makes pods")
    }
    pub fn info(&self) -> PodInfo {
        PodInfo::of(&self.build())
    }
}

/// Nodes, pods on them, and the standard profile.
#[derive(Debug)]
pub struct Lab {
    pub profile: Profile,
    pub nodes: NodeTable,
    pub world: World,
}

impl Lab {
    pub fn new(nodes: impl IntoIterator<Item = NodeBuilder>) -> Self {
        let mut table = NodeTable::default();
        nodes.into_iter().for_each(|n| {
            table.set_node(&n.build());
        });
        Self { profile: Profile::standard(), nodes: table, world: World::default() }
    }

    pub fn put(&mut self, pod: PodBuilder, node: &str) {
        self.nodes.add_pod(&Arc::new(pod.on(node).info()), node);
    }

    pub fn service(&mut self, name: &str, selector: &[(&str, &str)]) {
        let service = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"selector": labels(selector)}});
        self.world.set_service(&serde_json::from_value(service).expect("a service"), false);
    }

    pub fn budget(&mut self, name: &str, selector: &[(&str, &str)], allowed: i32) {
        let selector = serde_json::from_value(json!({"matchLabels": labels(selector)})).expect("a selector");
        let selector = compile(&selector).expect("a valid selector");
        self.world.set_budget("default", name, Some(Budget { selector, allowed, already_disrupted: Default::default() }));
    }

    pub fn place(&mut self, pod: &PodInfo) -> Result<Placement, Box<Diagnosis>> {
        place(&self.profile, pod, &mut self.nodes, &self.world, &Nominated::new(), &mut Random::new(1))
    }
}
