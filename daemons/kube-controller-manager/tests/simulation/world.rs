//! A whole cluster in one thread.

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::Kind;
use api::core::Pod;
use api::jiff::Timestamp;
use client::{Change, Client, Informer, InformerConfig};
use daemon::Shutdown;
use daemon::feature_gates::FeatureGates;
use daemon::health::Checks;
use kube_apiserver::ApiServer;
use kube_controller_manager::{Clock, Identities, Settings, controllers};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::faults::{Dice, Faults, Wire};
use crate::kubelet::Kubelet;

thread_local! {
    static START: RefCell<Option<Instant>> = const { RefCell::new(None) };
}

/// The cluster's time: it begins in 2026, and passes as tokio's does.
pub fn now() -> Timestamp {
    let start = START.with(|s| *s.borrow_mut().get_or_insert_with(Instant::now));
    Timestamp::from_second(1_767_225_600).expect("a valid time") + start.elapsed()
}

/// Runs `scenario` with each seed, in a runtime of its own with paused time.
pub fn with_seeds<F: Future<Output = ()>>(seeds: std::ops::Range<u64>, scenario: impl Fn(u64) -> F) {
    let only: Option<u64> = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    for seed in only.map_or(seeds, |s| s..s + 1) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        START.with(|s| *s.borrow_mut() = None);
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(scenario(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("replay with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn new_token_key() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("simulated-sa-{}-{}.key", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, pki::Key::generate().expect("a key").pem()).expect("a file");
    path
}

pub struct World {
    pub api: ApiServer,
    /// An administrator's client, on which nothing goes wrong.
    pub client: Client,
    pub dice: Dice,
    pub pods: Informer<Pod>,
    pub pods_created: Arc<AtomicUsize>,
    shutdown: Shutdown,
    scheduler: JoinHandle<()>,
    kubelets: Vec<Kubelet>,
    manager: Option<Manager>,
    /// Of service account tokens; a file of this world alone.
    token_key: PathBuf,
    gates: FeatureGates,
}

/// A controller manager, as one process.
struct Manager {
    wire: Wire,
    task: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_manager();
        self.scheduler.abort();
        self.shutdown.trigger();
        let _ = std::fs::remove_file(&self.token_key);
    }
}

impl World {
    pub async fn start(seed: u64, nodes: usize) -> Self {
        Self::start_with(seed, nodes, FeatureGates::default(), |_| {}).await
    }

    /// With these feature gates everywhere, and an API server that is told more.
    pub async fn start_with(
        seed: u64,
        nodes: usize,
        gates: FeatureGates,
        change: impl FnOnce(&mut kube_apiserver::Config),
    ) -> Self {
        let shutdown = Shutdown::new();
        let mut config = kube_apiserver::Config::for_tests(Arc::new(store::Memory::new()));
        config.now = now;
        config.gates = gates.clone();
        change(&mut config);
        let api = ApiServer::start(config, shutdown.clone()).await.expect("an API server");
        api.ready().await;
        let client = api.client();
        let dice = Dice::new(seed);
        let profiles = kube_scheduler::config::Configuration::default().profiles;
        let random = kube_scheduler::random::Random::new(seed);
        let unschedulable_max = kube_scheduler::queue::UNSCHEDULABLE_MAX;
        let scheduler = tokio::spawn(kube_scheduler::schedule(client.clone(), profiles, unschedulable_max, random));
        let mut kubelets = Vec::new();
        for n in 0..nodes {
            let subnet = u8::try_from(n).expect("a few nodes");
            kubelets.push(Kubelet::start(&client, &format!("n{n}"), subnet, dice.clone()).await);
        }
        let pods = Informer::<Pod>::start(&client, InformerConfig::default());
        let pods_created = Arc::new(AtomicUsize::new(0));
        let count = pods_created.clone();
        pods.subscribe(move |change| {
            if let Change::Added(_) = change {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let token_key = new_token_key();
        Self { api, client, dice, pods, pods_created, shutdown, scheduler, kubelets, manager: None, token_key, gates }
    }

    /// Starts a controller manager; one that runs is killed.
    pub fn start_manager(&mut self, faults: Faults) {
        self.kill_manager();
        let wire = Wire::new(self.api.client(), self.dice.clone(), faults);
        let settings = Settings {
            allocate_node_cidrs: true,
            cluster_cidrs: vec!["10.244.0.0/16".into()],
            root_ca: Some("-----BEGIN CERTIFICATE-----".into()),
            service_account_key: Some(self.token_key.clone()),
            ..Settings::default()
        };
        let all = controllers::selected(&[], &self.gates).expect("all controllers");
        let identities = Identities::shared(wire.client());
        let (clock, shutdown) = (Clock::simulated(now()), self.shutdown.child());
        let task = tokio::spawn(async move {
            kube_controller_manager::start(identities, clock, settings, all, &Checks::new(), shutdown).await;
        });
        self.manager = Some(Manager { wire, task });
    }

    /// As `kill -9`: what it was about to do is not done.
    pub fn kill_manager(&mut self) {
        if let Some(manager) = self.manager.take() {
            manager.wire.kill();
            manager.task.abort();
        }
    }

    /// Returns when the manager has died of its faults, or after `max`. Whether it died.
    pub async fn manager_died(&self, max: Duration) -> bool {
        let Some(manager) = &self.manager else { return true };
        tokio::time::timeout(max, manager.wire.died()).await.is_ok()
    }

    /// Cuts a node's power.
    pub fn kill_kubelet(&mut self, index: usize) {
        drop(self.kubelets.remove(index));
    }

    /// Waits until `holds`, looking ten times a second. Panics after `max` of the cluster's time.
    pub async fn until(&self, what: &str, max: Duration, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self).await {
            assert!(start.elapsed() < max, "not within {max:?}: {what}\n{}", self.describe());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn get<K: Kind>(&self, name: &str) -> Option<K> {
        self.client.get::<K>(namespace_of::<K>(), name).await.ok()
    }

    pub async fn list<K: Kind>(&self) -> Vec<K> {
        self.client.list::<K>(namespace_of::<K>(), &client::ListParams::default()).await.expect("a list").items
    }

    /// Pods that are neither finished nor being deleted.
    pub fn active_pods(&self, app: &str) -> Vec<Pod> {
        let mut pods = self.pods.parsed();
        pods.retain(|p| {
            let of_app = p.metadata.labels.as_ref().and_then(|l| l.get("app")).is_some_and(|a| a == app);
            let phase = p.status.as_ref().and_then(|s| s.phase.as_deref());
            of_app && p.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
        });
        pods
    }

    pub fn ready_pods(&self, app: &str) -> Vec<Pod> {
        let mut pods = self.active_pods(app);
        pods.retain(is_ready);
        pods
    }

    pub fn created(&self) -> usize {
        self.pods_created.load(Ordering::Relaxed)
    }

    fn describe(&self) -> String {
        let line = |p: &Pod| {
            let status = p.status.clone().unwrap_or_default();
            let node = p.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
            format!(
                "{} {} on {node:?} deleting={}",
                p.name(),
                status.phase.unwrap_or_default(),
                p.metadata.deletion_timestamp.is_some()
            )
        };
        self.pods.parsed().iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn namespace_of<K: Kind>() -> &'static str {
    if K::NAMESPACED { "default" } else { "" }
}
