//! daemonset-controller: one pod on each node that fits.

mod decide;
mod placement;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::Kind;
use api::apps::DaemonSet;
use api::core::{Node, Pod};
use api::jiff::Timestamp;
use client::controller::Outcome;
use client::queue::{Queue, delay_after};
use client::{Cached, Change, Client, ObjectKey};
use futures::future::join_all;
use machinery::selector::LabelSelector;

use self::decide::{Observed, Plan};
use crate::clock::{plus_seconds, until};
use crate::context::{Context, Events, candidates};
use crate::error::{During, Error};
use crate::event::Note;
use crate::fence::Fence;
use crate::follow::follow_owned;
use crate::pod_control::PodControl;
use crate::revisions::Revisions;
use crate::{batch, claims, node, pod, selector, worker};

pub(crate) const NAME: &str = "daemonset-controller";
const IDENTITY: &str = "daemon-set-controller";
/// Failed pods of a node are replaced after a second, then two, four, … up to a quarter of an hour.
const FAILED_BACKOFF: Duration = Duration::from_secs(1);
const FAILED_BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let informers = &ctx.informers;
    informers.daemon_sets.synced().await;
    informers.controller_revisions.synced().await;
    informers.nodes.synced().await;
    informers.pods.synced().await;
    subscribe(&ctx, &queue);
    let controller = Arc::new(Controller {
        client: ctx.client(IDENTITY),
        events: ctx.events(IDENTITY, NAME),
        pods: PodControl::new(ctx.client(IDENTITY), ctx.events(IDENTITY, NAME), &informers.pods),
        revisions: Revisions::new(ctx.client(IDENTITY), informers.controller_revisions.clone()),
        written: Fence::new(informers.daemon_sets.clone()),
        failed: Mutex::default(),
        ctx: ctx.clone(),
    });
    let workers = ctx.settings.workers.daemon_sets;
    client::controller::run(NAME, queue, workers, worker::of(controller, Controller::reconcile)).await;
}

fn subscribe(ctx: &Context, queue: &Queue<ObjectKey>) {
    let informers = &ctx.informers;
    let q = queue.clone();
    informers.daemon_sets.subscribe(move |change| q.add(change.object().key()));
    follow_owned(&informers.pods, &informers.daemon_sets, queue, selector_of);
    follow_owned(&informers.controller_revisions, &informers.daemon_sets, queue, selector_of);
    let (q, sets) = (queue.clone(), informers.daemon_sets.clone());
    informers.nodes.subscribe(move |change| {
        if is_relevant(change) {
            sets.list().iter().for_each(|s| q.add(s.key()));
        }
    });
}

/// Only labels and taints decide where pods run; a node's status changes far more often.
fn is_relevant(change: &Change<Node>) -> bool {
    let Change::Updated { old, new } = change else { return true };
    let taints = |n: &Cached<Node>| client::informer::logged(n).map(|n| node::taints(&n).to_vec());
    old.labels != new.labels || taints(old) != taints(new)
}

fn selector_of(set: &DaemonSet) -> Option<LabelSelector> {
    selector::compile(&set.spec.as_ref()?.selector).ok()
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    pods: PodControl,
    revisions: Revisions,
    written: Fence<DaemonSet>,
    /// By DaemonSet and node: how often a pod failed there, and when it was last replaced.
    failed: Mutex<HashMap<(ObjectKey, String), Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    at: Timestamp,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        self.pods.caught_up(&key).await?;
        let informers = &self.ctx.informers;
        let Some(cached) = informers.daemon_sets.get_key(&key) else {
            self.written.forget(&key);
            self.pods.fence().forget(&key);
            self.revisions.forget(&key);
            self.failed.lock().unwrap_or_else(|e| e.into_inner()).retain(|(set, _), _| *set != key);
            return Ok(Outcome::Done);
        };
        let set = cached.parse()?;
        let Some(selector) = selector_of(&set) else { return Ok(Outcome::Done) };
        if selector.is_empty() {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.events.note(&set, &Note::warning("SelectingAll", text));
            return Ok(Outcome::Done);
        }
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let spec = set.spec.clone().unwrap_or_default();
        let collisions = set.status.as_ref().and_then(|s| s.collision_count);
        let history = self.revisions.sync(&key, &set, &selector, &spec.template, collisions).await?;
        let Some(hash) = history.present else { return self.bump_collisions(&key, set).await };
        let pods = candidates(&informers.pods, &key.namespace, set.uid());
        let pods = claims::claim_all(&self.client, &set, &selector, pods, self.pods.fence()).await?;
        let nodes = informers.nodes.parsed();
        let observed = Observed { set: &set, hash: &hash, nodes: &nodes, pods: &pods };
        let now = self.ctx.clock.now();
        let mut plan = decide::plan(&observed, now);
        let replace_at = self.replace_failed(&key, &pods, &mut plan, now);
        let obeyed = self.obey(&key, &set, &hash, &plan, &pods).await;
        let (status, available_at) = decide::status(&observed, now);
        self.write_status(&key, &set, status).await?;
        obeyed?;
        let limit = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        self.revisions.clean(&key, &history.all, &pods, &[&hash], limit).await?;
        let again = [replace_at, available_at].into_iter().flatten().min();
        Ok(again.map_or(Outcome::Done, |at| Outcome::Again(until(at, now))))
    }

    /// Another template has the hash of this one: the next name will differ.
    async fn bump_collisions(&self, key: &ObjectKey, mut set: DaemonSet) -> Result<Outcome, Error> {
        let count = set.status.get_or_insert_default().collision_count.get_or_insert(0);
        *count = count.saturating_add(1);
        let written = self.client.update_status(&set).await.during(|| format!("writing the status of {key}"))?;
        self.written.wrote(key, &written);
        Ok(Outcome::Done)
    }

    /// Moves failed pods whose back-off is over to those that are deleted. When to look at the others again.
    fn replace_failed(&self, key: &ObjectKey, pods: &[Pod], plan: &mut Plan, now: Timestamp) -> Option<Timestamp> {
        let mut failed = self.failed.lock().unwrap_or_else(|e| e.into_inner());
        let mut again: Option<Timestamp> = None;
        for i in std::mem::take(&mut plan.failed) {
            let entry = (key.clone(), pod::node_name(&pods[i]).to_owned());
            let before = failed.get(&entry).copied();
            let delay = before.map_or(Duration::ZERO, |f| delay_after(FAILED_BACKOFF, FAILED_BACKOFF_MAX, f.count - 1));
            let from = before.map_or(now, |f| plus_seconds(f.at, i64::try_from(delay.as_secs()).unwrap_or(i64::MAX)));
            if from > now {
                again = Some(again.map_or(from, |a| a.min(from)));
                continue;
            }
            // After a long quiet time it starts anew.
            let quiet = before.is_some_and(|f| crate::clock::since(f.at, now) > 2 * FAILED_BACKOFF_MAX);
            let count = if quiet { 1 } else { before.map_or(1, |f| f.count.saturating_add(1)) };
            failed.insert(entry, Failures { count, at: now });
            plan.delete.push(i);
        }
        again
    }

    async fn obey(&self, key: &ObjectKey, set: &DaemonSet, hash: &str, plan: &Plan, pods: &[Pod]) -> Result<(), Error> {
        for note in &plan.notes {
            self.events.note(set, note);
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let create = || {
            let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let pod = placement::pod_for(set, &plan.create[i], hash);
            async move { self.pods.create(key, set, &pod).await }
        };
        let (_, failure) = batch::slow_start(plan.create.len(), create).await;
        let deletions = join_all(plan.delete.iter().map(|i| self.pods.delete(key, set, &pods[*i]))).await;
        let failure = failure.or_else(|| deletions.into_iter().find_map(Result::err));
        failure.map_or(Ok(()), |error| Err(error).during(|| format!("the pods of {key}")))
    }

    async fn write_status(&self, key: &ObjectKey, set: &DaemonSet, status: api::apps::DaemonSetStatus) -> Result<(), Error> {
        if set.status.as_ref().is_some_and(|old| decide::same(old, &status)) {
            return Ok(());
        }
        let after = DaemonSet { status: Some(status), ..set.clone() };
        let written = self.client.update_status(&after).await.during(|| format!("writing the status of {key}"))?;
        self.written.wrote(key, &written);
        Ok(())
    }
}
