//! The shell: informers in, bindings, conditions and events out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::Kind;
use api::core::{Namespace, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service};
use api::{apps, policy, storage};
use client::events::{EventType, Recorder};
use client::lease::{LeaseConfig, lead};
use client::{Change, Client, Config, DeleteParams, Informer, InformerConfig, ObjectKey, Patch, PatchParams};
use daemon::endpoints;
use daemon::feature_gates::FeatureGates;
use daemon::health::Checks;
use daemon::metrics::{Counter, Gauge, Histogram, LATENCY_SECONDS};
use daemon::{Shutdown, chain};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::affinity::compile;
use crate::args::Args;
use crate::config::Configuration;
use crate::event::ClusterEvent;
use crate::inbox::{Inbox, What};
use crate::pod::{PodInfo, PodKey};
use crate::profile::Profile;
use crate::queue::{Moment, Queue};
use crate::random::Random;
use crate::scheduler::{Nominate, Outcome, Scheduler};
use crate::world::{Budget, Workload, WorkloadKind};

const SECURE_PORT: u16 = 10259;
/// Requests under way at once; scheduling waits when there are more.
const WRITES_MAX: usize = 128;
/// Pods tried between looks at what changed.
const BATCH: usize = 16;

static ATTEMPTS: Counter = Counter::new(
    "scheduler_schedule_attempts_total",
    "Number of attempts to schedule pods, by the result.",
    &["result", "profile"],
);
static ATTEMPT_SECONDS: Histogram = Histogram::new(
    "scheduler_scheduling_algorithm_duration_seconds",
    "Scheduling algorithm latency in seconds.",
    &[],
    &[0.00001, 0.0001, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0],
);
static POD_SECONDS: Histogram = Histogram::new(
    "scheduler_pod_scheduling_sli_duration_seconds",
    "E2e latency for a pod being scheduled, from the time it enters the queue.",
    &["attempts"],
    LATENCY_SECONDS,
);
static PENDING: Gauge = Gauge::new("scheduler_pending_pods", "Number of pending pods, by the queue type.", &["queue"]);
static VICTIMS: Counter = Counter::new("scheduler_preemption_victims_total", "Number of pods removed for others.", &[]);

/// Runs the daemon until it is told to end.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let gates = FeatureGates::parse(&args.feature_gates).map_err(|why| anyhow::anyhow!("--feature-gates: {why}"))?;
    if !gates.unknown().is_empty() {
        tracing::info!(gates = gates.unknown().join(","), "these feature gates do nothing here");
    }
    let config = match &args.config {
        Some(path) => Configuration::load(path).context("loading --config")?,
        None => Configuration::default(),
    };
    let kubeconfig = args.kubeconfig.as_ref().or(config.kubeconfig.as_ref());
    let server = Config::for_daemon(args.master.as_deref(), kubeconfig.map(PathBuf::as_path));
    let client = Client::new(server.with_context(|| match kubeconfig {
        Some(path) => format!("reading {}", path.display()),
        None => "no --kubeconfig, and not in a pod".to_owned(),
    })?);
    let access = args.serving.access()?;
    if let Some((listener, tls)) = args.serving.open(SECURE_PORT)? {
        tokio::spawn(endpoints::run(listener, Some(tls), Checks::new(), access, shutdown.clone()));
    }
    let work = {
        let (client, shutdown) = (client.clone(), shutdown.clone());
        let unschedulable_max = args.pod_max_in_unschedulable_pods_duration;
        async move {
            tokio::select! {
                () = schedule(client, config.profiles, unschedulable_max, Random::from_system()) => {}
                () = shutdown.requested() => {}
            }
        }
    };
    if !config.leader_elect.unwrap_or(args.leader_elect) {
        work.await;
        return Ok(());
    }
    let lease = LeaseConfig {
        lease_duration: args.leader_elect_lease_duration,
        renew_deadline: args.leader_elect_renew_deadline,
        retry_period: args.leader_elect_retry_period,
        ..LeaseConfig::new(&args.leader_elect_resource_namespace, &args.leader_elect_resource_name, identity())
    };
    tokio::select! {
        lost = lead(&client, &lease, work) => lost.context("leading")?,
        () = shutdown.requested() => {}
    }
    Ok(())
}

/// Unique for each process: the host's name and something random.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut random = Random::from_system();
    format!("{}_{:08x}{:08x}", host.trim(), random.below(1 << 32), random.below(1 << 32))
}

/// What the scheduler watches.
struct Informers {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    controllers: Informer<ReplicationController>,
    replica_sets: Informer<apps::ReplicaSet>,
    stateful_sets: Informer<apps::StatefulSet>,
    budgets: Informer<policy::PodDisruptionBudget>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<storage::StorageClass>,
}

fn watch<K: Kind>(client: &Client, inbox: &Inbox, what: What, fields: Option<&str>) -> Informer<K> {
    let config = InformerConfig { field_selector: fields.map(str::to_owned), ..Default::default() };
    let informer = Informer::start(client, config);
    let inbox = inbox.clone();
    informer.subscribe(move |change: &Change<K>| inbox.put(what, change.object().key()));
    informer
}

impl Informers {
    async fn start(client: &Client, inbox: &Inbox) -> Self {
        let informers = Self {
            nodes: watch(client, inbox, What::Node, None),
            pods: watch(client, inbox, What::Pod, Some("status.phase!=Succeeded,status.phase!=Failed")),
            namespaces: watch(client, inbox, What::Namespace, None),
            services: watch(client, inbox, What::Service, None),
            controllers: watch(client, inbox, What::ReplicationController, None),
            replica_sets: watch(client, inbox, What::ReplicaSet, None),
            stateful_sets: watch(client, inbox, What::StatefulSet, None),
            budgets: watch(client, inbox, What::Budget, None),
            claims: watch(client, inbox, What::Claim, None),
            volumes: watch(client, inbox, What::Volume, None),
            classes: watch(client, inbox, What::Class, None),
        };
        informers.nodes.synced().await;
        informers.pods.synced().await;
        informers.namespaces.synced().await;
        informers.services.synced().await;
        informers.controllers.synced().await;
        informers.replica_sets.synced().await;
        informers.stateful_sets.synced().await;
        informers.budgets.synced().await;
        informers.claims.synced().await;
        informers.volumes.synced().await;
        informers.classes.synced().await;
        informers
    }

    /// Brings the scheduler up to date with one object.
    fn apply(&self, scheduler: &mut Scheduler, what: What, key: &ObjectKey, now: Moment) {
        let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
        match what {
            What::Node => match parsed(&self.nodes, key) {
                Some(node) => scheduler.set_node(&node, now),
                None => scheduler.remove_node(name, now),
            },
            What::Pod => {
                let info = parsed(&self.pods, key).map(|pod| Arc::new(PodInfo::of(&pod)));
                scheduler.set_pod(&PodKey { namespace: namespace.to_owned(), name: name.to_owned() }, info, now);
            }
            What::Namespace => {
                let labels = self.namespaces.get_key(key).map(|cached| cached.labels.clone());
                scheduler.world.set_namespace(name, labels);
                scheduler.wake(&ClusterEvent::Namespace, now);
            }
            What::Service => match parsed(&self.services, key) {
                Some(service) => scheduler.world.set_service(&service, false),
                None => {
                    let mut gone = Service::default();
                    gone.metadata.name = Some(name.to_owned());
                    gone.metadata.namespace = Some(namespace.to_owned());
                    scheduler.world.set_service(&gone, true);
                }
            },
            What::ReplicationController => {
                let of = |rc: ReplicationController| {
                    let labels = rc.spec.as_ref()?.selector.clone();
                    let selector = compile(&api::metav1::LabelSelector { match_labels: labels, match_expressions: None })?;
                    Some(Workload { kind: WorkloadKind::ReplicationController, selector, uid: rc.uid().to_owned() })
                };
                let workload = parsed(&self.controllers, key).and_then(of);
                scheduler.world.set_workload(WorkloadKind::ReplicationController, namespace, name, workload);
            }
            What::ReplicaSet => {
                let of = |rs: apps::ReplicaSet| {
                    let selector = compile(&rs.spec.as_ref()?.selector)?;
                    Some(Workload { kind: WorkloadKind::ReplicaSet, selector, uid: rs.uid().to_owned() })
                };
                let workload = parsed(&self.replica_sets, key).and_then(of);
                scheduler.world.set_workload(WorkloadKind::ReplicaSet, namespace, name, workload);
            }
            What::StatefulSet => {
                let of = |set: apps::StatefulSet| {
                    let selector = compile(&set.spec.as_ref()?.selector)?;
                    Some(Workload { kind: WorkloadKind::StatefulSet, selector, uid: set.uid().to_owned() })
                };
                let workload = parsed(&self.stateful_sets, key).and_then(of);
                scheduler.world.set_workload(WorkloadKind::StatefulSet, namespace, name, workload);
            }
            What::Budget => {
                let of = |budget: policy::PodDisruptionBudget| {
                    let selector = compile(budget.spec.as_ref()?.selector.as_ref()?)?;
                    let status = budget.status.unwrap_or_default();
                    let already_disrupted = status.disrupted_pods.unwrap_or_default().into_keys().collect();
                    Some(Budget { selector, allowed: status.disruptions_allowed.unwrap_or(0), already_disrupted })
                };
                scheduler.world.set_budget(namespace, name, parsed(&self.budgets, key).and_then(of));
            }
            What::Claim => {
                match parsed(&self.claims, key) {
                    Some(claim) => scheduler.world.set_claim(&claim, false),
                    None => {
                        let mut gone = PersistentVolumeClaim::default();
                        gone.metadata.name = Some(name.to_owned());
                        gone.metadata.namespace = Some(namespace.to_owned());
                        scheduler.world.set_claim(&gone, true);
                    }
                }
                scheduler.wake(&ClusterEvent::Storage, now);
            }
            What::Volume => {
                match parsed(&self.volumes, key) {
                    Some(volume) => scheduler.world.set_volume(&volume, false),
                    None => {
                        let mut gone = PersistentVolume::default();
                        gone.metadata.name = Some(name.to_owned());
                        scheduler.world.set_volume(&gone, true);
                    }
                }
                scheduler.wake(&ClusterEvent::Storage, now);
            }
            What::Class => {
                let waits = |class: storage::StorageClass| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
                scheduler.world.set_class(name, parsed(&self.classes, key).map(waits));
                scheduler.wake(&ClusterEvent::Storage, now);
            }
        }
    }
}

fn parsed<K: Kind>(informer: &Informer<K>, key: &ObjectKey) -> Option<K> {
    client::informer::logged(&informer.get_key(key)?)
}

/// A binding that ended.
struct Bound {
    key: PodKey,
    uid: String,
    done: bool,
}

/// Schedules forever; what no node would do for is tried again after `unschedulable_max`. Also what simulations run, on a client
/// of an API server in the same process.
pub async fn schedule(client: Client, profiles: Vec<Profile>, unschedulable_max: Duration, random: Random) {
    let inbox = Inbox::default();
    let informers = Informers::start(&client, &inbox).await;
    let recorders = profiles.iter().map(|p| (p.name.clone(), Recorder::new(client.clone(), &p.name, None))).collect();
    let (ended, mut endings) = mpsc::channel(WRITES_MAX);
    let writer = Writer { client, recorders, ended, permits: Arc::new(Semaphore::new(WRITES_MAX)) };
    let started = Instant::now();
    let now = || started.elapsed();
    let mut scheduler = Scheduler::new(profiles, Queue::new(unschedulable_max), random);
    tracing::info!("scheduling");
    loop {
        for (what, key) in inbox.take() {
            informers.apply(&mut scheduler, what, &key, now());
        }
        while let Ok(bound) = endings.try_recv() {
            end(&mut scheduler, bound, now());
        }
        scheduler.tick(now());
        for _ in 0..BATCH {
            if !scheduler.has_work() {
                break;
            }
            // Also the brake: no faster than the API server takes bindings.
            let permit = Arc::clone(&writer.permits).acquire_owned().await;
            let begun = std::time::Instant::now();
            let Some(outcome) = scheduler.schedule_next(now()) else { break };
            ATTEMPT_SECONDS.observe(&[], begun.elapsed().as_secs_f64());
            let writer = writer.clone();
            let write = writer.prepare(outcome);
            tokio::spawn(async move {
                let _permit = permit;
                write.await;
            });
        }
        let pending = scheduler.pending();
        for (queue, count) in [
            ("active", pending.active),
            ("backoff", pending.backoff),
            ("unschedulable", pending.unschedulable),
            ("gated", pending.gated),
        ] {
            PENDING.set(&[queue], count as f64);
        }
        if scheduler.has_work() {
            tokio::task::yield_now().await;
            continue;
        }
        let tick = scheduler.next_tick().map(|at| started + at);
        tokio::select! {
            () = inbox.changed() => {}
            Some(bound) = endings.recv() => end(&mut scheduler, bound, now()),
            () = async { match tick { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {}
        }
    }
}

fn end(scheduler: &mut Scheduler, bound: Bound, now: Moment) {
    if bound.done {
        scheduler.bound(&bound.key, &bound.uid);
    } else {
        scheduler.unbound(&bound.key, &bound.uid, now);
    }
}

/// Carries out outcomes.
#[derive(Clone)]
struct Writer {
    client: Client,
    recorders: Vec<(String, Recorder)>,
    ended: mpsc::Sender<Bound>,
    permits: Arc<Semaphore>,
}

fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.key.namespace.clone()),
        name: Some(pod.key.name.clone()),
        uid: Some(pod.uid.clone()),
        ..Default::default()
    }
}

impl Writer {
    fn event(&self, pod: &PodInfo, scheduler: &str, kind: EventType, reason: &str, message: String) {
        if let Some((_, recorder)) = self.recorders.iter().find(|(name, _)| name == scheduler) {
            recorder.event_for(reference(pod), kind, reason, message);
        }
    }

    async fn prepare(self, outcome: Outcome) {
        match outcome {
            Outcome::Bind { pod, placement, attempts, waited } => {
                tracing::debug!(pod = %pod.key, node = placement.node, feasible = placement.feasible, scores = ?placement.scores, "binding");
                let done = self.bind(&pod, &placement.node).await;
                let result = if done { "scheduled" } else { "error" };
                ATTEMPTS.inc(&[result, &pod.wants.scheduler_name]);
                if done {
                    POD_SECONDS.observe(&[&attempts.to_string()], waited.as_secs_f64());
                }
                // Closed only when the scheduler is gone.
                let _ = self.ended.send(Bound { key: pod.key.clone(), uid: pod.uid.clone(), done }).await;
            }
            Outcome::Failed { pod, message, nominate, victims } => {
                ATTEMPTS.inc(&["unschedulable", &pod.wants.scheduler_name]);
                self.tell(&pod, "Unschedulable", &message, &nominate).await;
                if let Nominate::Set(node) = &nominate {
                    for victim in &victims {
                        self.evict(&pod, victim, node).await;
                    }
                }
            }
            Outcome::SelectNode { pod, node, claims } => {
                let patch = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
                for claim in claims {
                    let patch = Patch::Merge(patch.clone());
                    let (namespace, params) = (&pod.key.namespace, PatchParams::default());
                    if let Err(error) = self.client.patch::<PersistentVolumeClaim>(namespace, &claim, &patch, &params).await {
                        tracing::warn!(pod = %pod.key, claim, "selecting a node for a claim: {}", chain(&error));
                    }
                }
            }
        }
    }

    async fn bind(&self, pod: &PodInfo, node: &str) -> bool {
        let (namespace, name) = (pod.key.namespace.as_str(), pod.key.name.as_str());
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"namespace": namespace, "name": name, "uid": pod.uid},
            "target": {"kind": "Node", "name": node},
        });
        match self.client.create_sub::<Pod>(namespace, name, "binding", &binding).await {
            Ok(_) => {
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.event(pod, &pod.wants.scheduler_name, EventType::Normal, "Scheduled", message);
                true
            }
            Err(error) if error.is_not_found() => {
                tracing::debug!(pod = %pod.key, "gone before it was bound");
                false
            }
            Err(error) => {
                let message = format!("binding rejected: {}", chain(&error));
                tracing::warn!(pod = %pod.key, node, "{message}");
                self.tell(pod, "SchedulerError", &message, &Nominate::Keep).await;
                false
            }
        }
    }

    /// Says why a pod was not scheduled: an event, and its PodScheduled condition.
    async fn tell(&self, pod: &PodInfo, reason: &str, message: &str, nominate: &Nominate) {
        self.event(pod, &pod.wants.scheduler_name, EventType::Warning, "FailedScheduling", message.to_owned());
        let Some(status) = status_patch(pod, reason, message, nominate, Timestamp::now()) else { return };
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": status}));
        match self.client.patch::<Pod>(&pod.key.namespace, &pod.key.name, &patch, &PatchParams::status()).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => tracing::warn!(pod = %pod.key, "writing the PodScheduled condition: {}", chain(&error)),
        }
    }

    /// Removes a victim, marked so that others know why.
    async fn evict(&self, preemptor: &PodInfo, victim: &PodInfo, node: &str) {
        let message = format!("{}: preempting to accommodate a higher priority pod", preemptor.wants.scheduler_name);
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
            "lastTransitionTime": now_text(Timestamp::now())});
        let patch = Patch::Strategic(json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}));
        let (namespace, name) = (victim.key.namespace.as_str(), victim.key.name.as_str());
        let marked = self.client.patch::<Pod>(namespace, name, &patch, &PatchParams::status()).await;
        let removed = match marked {
            Ok(_) => self.client.delete::<Pod>(namespace, name, &DeleteParams::uid(&victim.uid)).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {
                VICTIMS.inc(&[]);
                let message = format!("Preempted by pod {} on node {node}", preemptor.uid);
                self.event(victim, &preemptor.wants.scheduler_name, EventType::Normal, "Preempted", message);
            }
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => tracing::warn!(pod = %victim.key, "preempting: {}", chain(&error)),
        }
    }
}

fn now_text(now: Timestamp) -> String {
    machinery::time::format(now)
}

/// The change of a pod's status, or nothing when it says so already.
fn status_patch(pod: &PodInfo, reason: &str, message: &str, nominate: &Nominate, now: Timestamp) -> Option<Value> {
    let mut status = json!({});
    let before = pod.state.scheduled_condition.as_ref();
    if before.is_none_or(|(s, r, m)| (s.as_str(), r.as_str(), m.as_str()) != ("False", reason, message)) {
        let mut condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": message});
        if before.is_none_or(|(s, ..)| s != "False") {
            condition["lastTransitionTime"] = now_text(now).into();
        }
        if pod.state.generation > 0 {
            condition["observedGeneration"] = pod.state.generation.into();
        }
        status["conditions"] = json!([condition]);
    }
    match nominate {
        Nominate::Set(node) if *node != pod.state.nominated_node => status["nominatedNodeName"] = node.as_str().into(),
        Nominate::Clear if !pod.state.nominated_node.is_empty() => status["nominatedNodeName"] = Value::Null,
        _ => {}
    }
    status.as_object().is_some_and(|s| !s.is_empty()).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[test]
    fn a_condition_is_written_when_it_says_something_new() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let patch =
            |pod: &PodInfo, message: &str, nominate: Nominate| status_patch(pod, "Unschedulable", message, &nominate, now);
        let mut p = pod("p").info();
        assert_eq!(
            patch(&p, "m", Nominate::Keep),
            Some(json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m",
                                        "lastTransitionTime": "2026-01-02T03:04:05Z"}]}))
        );
        p.state.scheduled_condition = Some(("False".into(), "Unschedulable".into(), "m".into()));
        assert_eq!(patch(&p, "m", Nominate::Keep), None);
        assert_eq!(patch(&p, "m", Nominate::Set("a".into())), Some(json!({"nominatedNodeName": "a"})));
        let changed = patch(&p, "other", Nominate::Keep).unwrap();
        assert_eq!(changed["conditions"][0].get("lastTransitionTime"), None);
    }
}
