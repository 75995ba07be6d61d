//! disruption-controller: the status of PodDisruptionBudgets, by which evictions are granted.

mod decide;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::apps::{Deployment, ReplicaSet, StatefulSet};
use api::core::{Pod, ReplicationController};
use api::metav1::OwnerReference;
use api::policy::PodDisruptionBudget;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Cached, Change, Client, Informer, InformerConfig, ObjectKey, Patch, PatchParams};
use machinery::selector::LabelSelector;
use serde_json::json;

use self::decide::{Plan, Scale};
use crate::clock::{time, until};
use crate::context::{Context, Events};
use crate::error::{During, Error};
use crate::event::Note;
use crate::fence::Fence;
use crate::{owner, scale, selector, worker};

pub(crate) const NAME: &str = "disruption-controller";
const WORKERS: usize = 2;

pub(crate) async fn run(ctx: Arc<Context>) {
    let budgets = Informer::<PodDisruptionBudget>::start(ctx.root(), InformerConfig::default());
    let informers = &ctx.informers;
    budgets.synced().await;
    informers.pods.synced().await;
    informers.replica_sets.synced().await;
    informers.deployments.synced().await;
    informers.stateful_sets.synced().await;
    informers.replication_controllers.synced().await;
    let controller = Arc::new(Controller {
        client: ctx.client(NAME),
        events: ctx.events(NAME, "controllermanager"),
        written: Fence::new(budgets.clone()),
        budgets,
        ctx,
    });
    let (queue, stale): (Queue<ObjectKey>, Queue<ObjectKey>) = (Queue::new(), Queue::new());
    controller.subscribe(&queue, &stale);
    let counting = client::controller::run(NAME, queue, WORKERS, worker::of(controller.clone(), Controller::reconcile));
    let forgetting = client::controller::run(NAME, stale, 1, worker::of(controller, Controller::forget_target));
    tokio::join!(counting, forgetting);
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    budgets: Informer<PodDisruptionBudget>,
    written: Fence<PodDisruptionBudget>,
}

/// `None` selects nothing, as an absent selector does in `policy/v1`.
fn selector_of(budget: &PodDisruptionBudget) -> Option<LabelSelector> {
    selector::compile(budget.spec.as_ref()?.selector.as_ref()?).ok()
}

impl Controller {
    fn subscribe(self: &Arc<Self>, queue: &Queue<ObjectKey>, stale: &Queue<ObjectKey>) {
        let q = queue.clone();
        self.budgets.subscribe(move |change| q.add(change.object().key()));
        let (q, stale, this) = (queue.clone(), stale.clone(), self.clone());
        self.ctx.informers.pods.subscribe(move |change| {
            let pod = change.object();
            let labels = match change {
                Change::Updated { old, new } if old.labels != new.labels => vec![&old.labels, &new.labels],
                _ => vec![&pod.labels],
            };
            for budget in this.budgets.list_namespace(&pod.namespace) {
                let selector = client::informer::logged(&budget).and_then(|b| selector_of(&b));
                if selector.is_some_and(|s| labels.iter().any(|l| s.matches(*l))) {
                    q.add(budget.key());
                }
            }
            if !matches!(change, Change::Deleted(_)) && names_target(pod) {
                stale.add(pod.key());
            }
        });
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        let Some(cached) = self.budgets.get_key(&key) else {
            self.written.forget(&key);
            return Ok(Outcome::Done);
        };
        let budget = cached.parse()?;
        let selector = selector_of(&budget);
        let pods = self.ctx.informers.pods.list_namespace(&key.namespace);
        let selected = pods.iter().filter(|p| selector.as_ref().is_some_and(|s| s.matches(&p.labels)));
        let pods: Vec<Pod> = selected.filter_map(client::informer::logged).collect();
        let scale = if decide::needs_scale(&budget) { self.scale(&pods).await } else { Ok(Scale::default()) };
        let now = self.ctx.clock.now();
        let plan = decide::decide(&budget, &pods, scale.as_ref().map_err(String::as_str), now);
        self.obey(&key, &budget, &plan, &pods).await?;
        Ok(plan.again_at.map_or(Outcome::Done, |at| Outcome::Again(until(at, now))))
    }

    async fn obey(&self, key: &ObjectKey, budget: &PodDisruptionBudget, plan: &Plan, pods: &[Pod]) -> Result<(), Error> {
        for note in &plan.notes {
            self.events.note(budget, note);
        }
        for pod in pods.iter().filter(|p| plan.stayed.iter().any(|name| name == p.name())) {
            let message = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            self.events.note(pod, &Note::warning("NotDeleted", message));
        }
        if let Some(status) = &plan.status {
            let written = self.client.update_status(&**status).await.during(|| format!("writing the status of {key}"))?;
            self.written.wrote(key, &written);
        }
        Ok(())
    }

    /// What the owners of the pods ask for, all together.
    async fn scale(&self, pods: &[Pod]) -> Result<Scale, String> {
        let mut scale = Scale::default();
        let mut by_owner: BTreeMap<String, (String, i32)> = BTreeMap::new();
        for pod in pods {
            let Some(reference) = owner::controller_of(&pod.metadata) else {
                scale.unmanaged.push(pod.name().to_owned());
                continue;
            };
            if by_owner.contains_key(&reference.uid) {
                continue;
            }
            let found = self.replicas(reference, pod.namespace()).await?;
            let found = found.ok_or_else(|| format!("found no controllers for pod {:?}", pod.name()))?;
            by_owner.insert(reference.uid.clone(), found);
        }
        // Several ReplicaSets may have one Deployment.
        let totals: BTreeMap<&str, i32> = by_owner.values().map(|(uid, n)| (uid.as_str(), *n)).collect();
        scale.replicas = totals.values().fold(0, |sum: i32, n| sum.saturating_add(*n));
        Ok(scale)
    }

    /// The owner that decides on the number of pods, by uid, and its number.
    async fn replicas(&self, reference: &OwnerReference, namespace: &str) -> Result<Option<(String, i32)>, String> {
        let informers = &self.ctx.informers;
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        let count = |n: Option<i32>| n.unwrap_or(1);
        let found = match (group, reference.kind.as_str()) {
            ("", "ReplicationController") => cached(&informers.replication_controllers, namespace, reference)
                .map(|rc: ReplicationController| count(rc.spec.and_then(|s| s.replicas))),
            ("apps" | "extensions", "ReplicaSet") => {
                let Some(set) = cached::<ReplicaSet>(&informers.replica_sets, namespace, reference) else { return Ok(None) };
                if let Some(above) = owner::controller_of(&set.metadata).filter(|o| o.kind == "Deployment") {
                    let deployment = cached::<Deployment>(&informers.deployments, namespace, above);
                    return Ok(deployment.map(|d| (above.uid.clone(), count(d.spec.and_then(|s| s.replicas)))));
                }
                Some(count(set.spec.and_then(|s| s.replicas)))
            }
            ("apps", "StatefulSet") => cached(&informers.stateful_sets, namespace, reference)
                .map(|s: StatefulSet| count(s.spec.and_then(|s| s.replicas))),
            _ => {
                let resources = self.ctx.resources().borrow().clone();
                let found =
                    scale::read(&self.client, &resources, &reference.api_version, &reference.kind, namespace, &reference.name);
                let found = found.await.map_err(|error| error.to_string())?;
                found.filter(|s| s.uid == reference.uid).map(|s| s.replicas)
            }
        };
        Ok(found.map(|n| (reference.uid.clone(), n)))
    }

    /// Takes the word back that a pod is about to be deleted.
    async fn forget_target(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.ctx.informers.pods.get_key(&key) else { return Ok(Outcome::Done) };
        let pod = pod.parse()?;
        let Some(at) = decide::stale_at(&pod) else { return Ok(Outcome::Done) };
        let now = self.ctx.clock.now();
        if at > now {
            return Ok(Outcome::Again(until(at, now)));
        }
        let condition = json!({"type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
            "lastTransitionTime": time(now)});
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}}));
        match self.client.patch::<Pod>(&key.namespace, &key.name, &patch, &PatchParams::status()).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                Err(error).during(|| format!("clearing the disruption of {key}"))
            }
            _ => Ok(Outcome::Done),
        }
    }
}

/// The owner as the cache has it, if it is the one that is meant.
fn cached<K: Kind>(informer: &Informer<K>, namespace: &str, reference: &OwnerReference) -> Option<K> {
    let cached = informer.get(namespace, &reference.name).filter(|c| c.uid == reference.uid)?;
    client::informer::logged(&cached)
}

/// Few pods have such a condition: the others are not decoded to see that.
fn names_target(pod: &Cached<Pod>) -> bool {
    const NEEDLE: &[u8] = b"\"DisruptionTarget\"";
    pod.bytes().windows(NEEDLE.len()).any(|w| w == NEEDLE)
}
