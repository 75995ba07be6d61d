//! node-lifecycle-controller: notices silent nodes, and taints nodes by their conditions.

mod facts;
mod health;
mod taint;
mod zone;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::coordination::Lease;
use api::core::{Node, ObjectReference, Pod};
use api::jiff::Timestamp;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Cached, Change, Client, ListParams, Patch, PatchParams};
use serde_json::json;

use self::facts::Facts;
use self::health::{Grace, Lost, Seen, Signs};
use self::taint::Eviction;
use self::zone::{Gate, Limits};
use crate::clock::time;
use crate::context::{BY_NODE, Context, Events};
use crate::error::{During, Error};
use crate::event::Note;
use crate::{node, pod};

pub(crate) const NAME: &str = "node-lifecycle-controller";
const COMPONENT: &str = "node-controller";
pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";
const WORKERS: usize = 8;

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<String> = Queue::new();
    let informers = &ctx.informers;
    informers.nodes.synced().await;
    informers.node_leases.synced().await;
    informers.pods.synced().await;
    let settings = &ctx.settings;
    let controller = Arc::new(Controller {
        client: ctx.client(node::IDENTITY),
        events: ctx.events(node::IDENTITY, COMPONENT),
        limits: Limits {
            rate: settings.node_eviction_rate,
            secondary_rate: settings.secondary_node_eviction_rate,
            large_zone_nodes: settings.large_cluster_size_threshold,
            unhealthy_share: settings.unhealthy_zone_threshold,
        },
        grace: Grace { running: settings.node_monitor_grace_period, starting: settings.node_startup_grace_period },
        state: Mutex::default(),
        queue: queue.clone(),
        ctx: ctx.clone(),
    });
    controller.subscribe();
    let monitor = {
        let (controller, period) = (controller.clone(), settings.node_monitor_period);
        async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                controller.monitor().await;
            }
        }
    };
    let taints = client::controller::run(NAME, queue, WORKERS, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile_taints(&name).await }
    });
    tokio::select! {
        () = monitor => {}
        () = taints => {}
    }
}

#[derive(Default)]
struct State {
    nodes: HashMap<String, Facts>,
    renewed: HashMap<String, Timestamp>,
    seen: HashMap<String, Seen>,
    gates: HashMap<String, Gate>,
    /// No zone has a ready node.
    all_down: bool,
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    limits: Limits,
    grace: Grace,
    state: Mutex<State>,
    queue: Queue<String>,
}

impl Controller {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn subscribe(self: &Arc<Self>) {
        let this = self.clone();
        self.ctx.informers.nodes.subscribe(move |change| this.note_node(change));
        let this = self.clone();
        self.ctx.informers.node_leases.subscribe(move |change| {
            let lease = change.object();
            let renewed = match change {
                Change::Deleted(_) => None,
                _ => client::informer::logged(lease).and_then(|l| renew_time(&l)),
            };
            match renewed {
                Some(at) => this.state().renewed.insert(lease.name.clone(), at),
                None => this.state().renewed.remove(&lease.name),
            };
        });
    }

    fn note_node(&self, change: &Change<Node>) {
        let object = change.object();
        let name = &object.name;
        match change {
            Change::Deleted(_) => {
                {
                    let mut state = self.state();
                    state.nodes.remove(name);
                    state.seen.remove(name);
                }
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                self.events.note_for(node_reference(object), &Note::normal("RemovingNode", message));
            }
            Change::Added(_) | Change::Updated { .. } => {
                let Some(node) = client::informer::logged(object) else { return };
                let facts = Facts::of(&node);
                let is_new = self.state().nodes.insert(name.clone(), facts).is_none();
                if is_new {
                    let message = format!("Node {name} event: Registered Node {name} in Controller");
                    self.events.note_for(node_reference(object), &Note::normal("RegisteredNode", message));
                }
                self.queue.add(name.clone());
            }
        }
    }

    /// One look at all nodes, from memory; requests are made only about silent ones.
    async fn monitor(&self) {
        let now = self.ctx.clock.now();
        let silent: Vec<Facts> = {
            let mut guard = self.state();
            let state = &mut *guard;
            let mut silent = Vec::new();
            for (name, facts) in &state.nodes {
                let signs = Signs {
                    heartbeat: facts.heartbeat,
                    ready: facts.condition("Ready").map(str::to_owned),
                    renewed: state.renewed.get(name).copied(),
                };
                let seen = health::look(state.seen.remove(name), signs, now);
                if health::is_silent(facts, &seen, self.grace, now) {
                    silent.push(facts.clone());
                }
                state.seen.insert(name.clone(), seen);
            }
            silent
        };
        for facts in silent {
            let lost = health::lost_conditions(&facts);
            if lost.is_empty() {
                continue;
            }
            if let Err(error) = self.mark_silent(&facts, &lost, now).await {
                tracing::info!(controller = NAME, node = facts.name, "{error}");
            }
        }
        self.assess_zones();
    }

    /// Looks at the zones again; when all nodes are lost, or found again, each node's taints are looked at.
    fn assess_zones(&self) {
        let mut state = self.state();
        let all_down = zone::all_down(&zone::assess(state.nodes.values(), &self.limits));
        if all_down == state.all_down {
            return;
        }
        tracing::info!(controller = NAME, all_down, "whether any node is ready has changed");
        state.all_down = all_down;
        state.nodes.keys().for_each(|name| self.queue.add(name.clone()));
    }

    async fn mark_silent(&self, facts: &Facts, lost: &[Lost], now: Timestamp) -> Result<(), Error> {
        let name = &facts.name;
        // The cache may be what is silent: the server is asked before anything is done. By a list, which the daemon may
        // do as its own self; neither it nor this controller has a role to get the leases of nodes.
        let only = ListParams::fields(format!("metadata.name={name}"));
        let leases = self.ctx.root().list::<Lease>(LEASE_NAMESPACE, &only).await;
        let lease = leases.during(|| format!("reading the lease of node {name}"))?.items.iter().find_map(renew_time);
        {
            let mut state = self.state();
            if let Some(lease) = lease
                && state.renewed.get(name) != Some(&lease)
            {
                tracing::info!(controller = NAME, node = name, "silent in the cache only: its lease is renewed");
                state.renewed.insert(name.clone(), lease);
                return Ok(());
            }
        }
        let conditions: Vec<_> = lost
            .iter()
            .map(|l| {
                let mut condition = json!({
                    "type": l.kind, "status": "Unknown", "reason": l.reason, "message": l.message,
                    "lastTransitionTime": time(now),
                });
                if l.new {
                    condition["lastHeartbeatTime"] = json!(time(facts.created));
                }
                condition
            })
            .collect();
        // With the version that was looked at: a node that has written meanwhile is not silent.
        let version = facts.resource_version.to_string();
        let patch = Patch::Strategic(json!({"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}}));
        match self.client.patch::<Node>("", name, &patch, &PatchParams::status()).await {
            Ok(_) => {}
            Err(error) if error.is_conflict() || error.is_not_found() => return Ok(()),
            Err(error) => return Err(error).during(|| format!("marking node {name}")),
        }
        tracing::warn!(controller = NAME, node = name, "silent: its conditions are unknown from now on");
        if facts.is_ready() {
            let reference = ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(name.clone()),
                uid: Some(facts.uid.clone()),
                ..ObjectReference::default()
            };
            let note = Note::normal("NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
            self.events.note_for(reference, &note);
        }
        self.mark_pods_not_ready(name, now).await
    }

    /// Nobody says any more that these pods are ready: no traffic goes to them.
    async fn mark_pods_not_ready(&self, node: &str, now: Timestamp) -> Result<(), Error> {
        let pods = self.ctx.informers.pods.by_index(BY_NODE, node);
        let patch = Patch::Strategic(json!({
            "status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": time(now)}]},
        }));
        let mut failure = None;
        for pod in pods.iter().filter_map(client::informer::logged::<Pod>).filter(pod::is_ready) {
            let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref());
            let name = name.unwrap_or_default();
            self.events.note(&pod, &Note::warning("NodeNotReady", "Node is not ready"));
            match self.client.patch::<Pod>(namespace, name, &patch, &PatchParams::status()).await {
                Err(error) if !error.is_not_found() => failure = Some(error),
                _ => {}
            }
        }
        failure.map_or(Ok(()), |error| Err(error).during(|| format!("marking the pods of node {node} not ready")))
    }

    async fn reconcile_taints(&self, name: &str) -> Result<Outcome, Error> {
        let Some(cached) = self.state().nodes.get(name).cloned() else { return Ok(Outcome::Done) };
        let now = self.ctx.clock.now();
        let (eviction, wait) = self.eviction(&cached, now);
        let plan = taint::plan(&cached, eviction, now);
        if plan.taints.is_some() {
            self.write_taints(name, eviction, now).await?;
        }
        Ok(wait.map_or(Outcome::Done, Outcome::Again))
    }

    /// Whether pods may be made to leave this node now, and if not, when to ask again.
    fn eviction(&self, facts: &Facts, now: Timestamp) -> (Eviction, Option<Duration>) {
        let mut state = self.state();
        if state.all_down {
            return (Eviction::Stopped, None);
        }
        if !taint::plan(facts, Eviction::Allowed, now).evicts {
            return (Eviction::Deferred, None);
        }
        let zones = zone::assess(state.nodes.values(), &self.limits);
        if zone::all_down(&zones) {
            return (Eviction::Stopped, None);
        }
        let rate = zones.get(&facts.zone).map_or(self.limits.rate, |(s, nodes)| zone::rate(*s, *nodes, &self.limits));
        match state.gates.entry(facts.zone.clone()).or_default().pass(rate, now) {
            Ok(()) => (Eviction::Allowed, None),
            Err(wait) => (Eviction::Deferred, Some(wait)),
        }
    }

    /// Decides again on the node as the server has it, and writes that version only.
    async fn write_taints(&self, name: &str, eviction: Eviction, now: Timestamp) -> Result<(), Error> {
        let live = match self.client.get::<Node>("", name).await {
            Ok(live) => Facts::of(&live),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error).during(|| format!("reading node {name}")),
        };
        let Some(taints) = taint::plan(&live, eviction, now).taints else { return Ok(()) };
        let version = live.resource_version.to_string();
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}}));
        let patched = self.client.patch::<Node>("", name, &patch, &PatchParams::default()).await;
        patched.map(drop).during(|| format!("tainting node {name}"))
    }
}

fn renew_time(lease: &Lease) -> Option<Timestamp> {
    lease.spec.as_ref()?.renew_time.as_ref().map(|t| t.0)
}

fn node_reference(node: &Cached<Node>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Node".into()),
        name: Some(node.name.clone()),
        uid: Some(node.uid.clone()),
        ..ObjectReference::default()
    }
}
