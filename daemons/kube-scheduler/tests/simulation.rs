//! The scheduler against a real API server in one thread with paused time: nodes and pods come and go as a seed has it, the
//! scheduler is killed at any moment, and a failure names the seed that replays it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::core::{Node, Pod};
use client::{Client, DeleteParams, ListParams, Patch, PatchParams};
use kube_scheduler::config::Configuration;
use kube_scheduler::queue::UNSCHEDULABLE_MAX;
use kube_scheduler::random::Random;
use kube_scheduler::testing::{NodeBuilder, PodBuilder, node, pod};
use tokio::task::JoinHandle;

struct World {
    client: Client,
    shutdown: daemon::Shutdown,
    scheduler: JoinHandle<()>,
    random: Random,
}

impl World {
    async fn start(seed: u64) -> Self {
        let shutdown = daemon::Shutdown::new();
        let mut config = kube_apiserver::Config::for_tests(Arc::new(store::Memory::new()));
        // There is no controller here that makes accounts.
        config.disable_admission = vec!["ServiceAccount".to_owned()];
        let server = kube_apiserver::ApiServer::start(config, shutdown.clone()).await.expect("an API server in memory");
        server.ready().await;
        let client = server.client();
        let scheduler = tokio::spawn(run(client.clone(), seed));
        Self { client, shutdown, scheduler, random: Random::new(seed) }
    }

    fn restart_scheduler(&mut self) {
        self.scheduler.abort();
        let seed = self.random.below(1 << 30) as u64;
        self.scheduler = tokio::spawn(run(self.client.clone(), seed));
    }

    async fn add_node(&self, builder: NodeBuilder) {
        let node = builder.build();
        self.client.create(&node).await.expect("a node is created");
        let status = serde_json::json!({"status": serde_json::to_value(&node.status).expect("a status")});
        let name = node.name();
        self.client.patch::<Node>("", name, &Patch::Merge(status), &PatchParams::status()).await.expect("its status is written");
        // Admission marks a new node as not ready until its lifecycle controller looked at it; there is none here.
        let ready = serde_json::json!({"spec": {"taints": null}});
        self.client.patch::<Node>("", name, &Patch::Merge(ready), &PatchParams::default()).await.expect("its taint is taken off");
    }

    async fn add_pod(&self, builder: PodBuilder) {
        let mut pod = builder.build();
        pod.metadata.uid = None;
        pod.spec.get_or_insert_default().priority = None;
        self.client.create(&pod).await.expect("a pod is created");
    }

    async fn remove_pod(&self, name: &str) {
        let _ = self.client.delete::<Pod>("default", name, &DeleteParams::default().grace(0)).await;
    }

    async fn pods(&self) -> Vec<Pod> {
        self.client.list::<Pod>("default", &ListParams::default()).await.expect("pods are listed").items
    }

    async fn settle(&self) {
        // Longer than the longest back-off.
        tokio::time::sleep(Duration::from_secs(30)).await;
    }

    async fn placements(&self) -> BTreeMap<String, String> {
        self.pods().await.iter().map(|p| (p.name().to_owned(), node_of(p).to_owned())).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.scheduler.abort();
        self.shutdown.trigger();
    }
}

async fn run(client: Client, seed: u64) {
    kube_scheduler::schedule(client, Configuration::default().profiles, UNSCHEDULABLE_MAX, Random::new(seed)).await;
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

fn message(pod: &Pod) -> String {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.filter(|c| c.type_ == "PodScheduled").filter_map(|c| c.message.clone()).collect()
}

/// Milli-CPUs that a pod of these tests asks for.
fn cpu(pod: &Pod) -> i64 {
    let requests = pod.spec.as_ref().and_then(|s| s.containers[0].resources.as_ref()?.requests.as_ref());
    requests
        .and_then(|r| r.get("cpu"))
        .map_or(0, |q| q.0.parse::<machinery::quantity::Quantity>().expect("a quantity").milli_value())
}

#[tokio::test(start_paused = true)]
async fn of_4_12_and_16_cpus_a_pod_of_10_lands_on_the_16() {
    let world = World::start(1).await;
    for cpus in [4, 12, 16] {
        world.add_node(node(&format!("n{cpus}")).cpu(&cpus.to_string())).await;
    }
    world.add_pod(pod("big").cpu("10")).await;
    world.add_pod(pod("huge").cpu("20")).await;
    world.settle().await;
    let pods = world.pods().await;
    let find = |name: &str| pods.iter().find(|p| p.name() == name).expect("it is there");
    assert_eq!(node_of(find("big")), "n16");
    assert_eq!(node_of(find("huge")), "");
    let expected = "0/3 nodes are available: 3 Insufficient cpu.";
    assert!(message(find("huge")).starts_with(expected), "{}", message(find("huge")));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_pod_is_placed_when_room_comes() {
    let world = World::start(2).await;
    world.add_pod(pod("early").cpu("1")).await;
    world.settle().await;
    assert_eq!(message(&world.pods().await[0]), "no nodes available to schedule pods");
    world.add_node(node("a").cpu("1")).await;
    world.settle().await;
    assert_eq!(world.placements().await["early"], "a");
    world.add_pod(pod("next").cpu("1")).await;
    world.settle().await;
    assert_eq!(world.placements().await["next"], "");
    world.remove_pod("early").await;
    world.settle().await;
    assert_eq!(world.placements().await["next"], "a");
}

/// Whatever happens: no node holds more than it has, and in the end no pod waits that would fit.
#[tokio::test(start_paused = true)]
async fn nothing_is_overcommitted_and_nothing_forgotten() {
    for seed in 1..=12 {
        let mut world = World::start(seed).await;
        let mut capacity: BTreeMap<String, i64> = BTreeMap::new();
        for step in 0..60 {
            match world.random.below(10) {
                0 => {
                    let cpus = 2 + world.random.below(7);
                    let name = format!("n{step}");
                    world.add_node(node(&name).cpu(&cpus.to_string())).await;
                    capacity.insert(name, cpus as i64 * 1000);
                }
                1..=6 => {
                    let milli = 500 * (1 + world.random.below(6));
                    world.add_pod(pod(&format!("p{step}")).cpu(&format!("{milli}m"))).await;
                }
                7 | 8 => {
                    let pods = world.pods().await;
                    if !pods.is_empty() {
                        let name = pods[world.random.below(pods.len())].name().to_owned();
                        world.remove_pod(&name).await;
                    }
                }
                _ => world.restart_scheduler(),
            }
            let pause = world.random.below(1500) as u64;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            check_room(seed, &world.pods().await, &capacity);
        }
        // Longer than a pod waits without any event.
        tokio::time::sleep(Duration::from_secs(400)).await;
        let pods = world.pods().await;
        let free = check_room(seed, &pods, &capacity);
        for waiting in pods.iter().filter(|p| node_of(p).is_empty()) {
            let fits = free.iter().find(|(_, room)| **room >= cpu(waiting));
            assert!(fits.is_none(), "seed {seed}: {} waits ({}) and fits on {fits:?}", waiting.name(), message(waiting));
        }
    }
}

/// Asserts that no node is over-committed; returns what is free.
fn check_room(seed: u64, pods: &[Pod], capacity: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let mut free = capacity.clone();
    for pod in pods.iter().filter(|p| !node_of(p).is_empty()) {
        *free.get_mut(node_of(pod)).expect("a known node") -= cpu(pod);
    }
    for (node, room) in &free {
        assert!(*room >= 0, "seed {seed}: {node} holds {} milli-CPUs too many", -room);
    }
    free
}
