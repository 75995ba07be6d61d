//! pod-garbage-collector-controller: removes pods that nobody else will: those of nodes that are gone, those that were
//! deleted before they came to a node, and finished ones beyond a number.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::Kind;
use api::core::{Node, Pod};
use api::jiff::Timestamp;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Client, DeleteParams, ObjectKey};

use crate::clock::{plus_seconds, until};
use crate::context::{BY_NODE, Context};
use crate::error::{During, Error, GoneIsDone};
use crate::{pod, worker};

pub(crate) const NAME: &str = "pod-garbage-collector-controller";
const IDENTITY: &str = "pod-garbage-collector";
/// A node that is gone may come back: it is looked for again after this.
const QUARANTINE_SECONDS: i64 = 40;
const WORKERS: usize = 4;

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let informers = &ctx.informers;
    informers.nodes.synced().await;
    informers.pods.synced().await;
    let controller = Arc::new(Controller {
        client: ctx.client(IDENTITY),
        finished: Mutex::default(),
        started: ctx.clock.now(),
        ctx: ctx.clone(),
    });
    let (q, pods) = (queue.clone(), informers.pods.clone());
    informers.nodes.subscribe(move |change| {
        if let Change::Deleted(node) = change {
            let quarantine = Duration::from_secs(QUARANTINE_SECONDS.unsigned_abs());
            pods.by_index(BY_NODE, &node.name).iter().for_each(|p| q.add_after(p.key(), quarantine));
        }
    });
    let (this, q) = (controller.clone(), queue.clone());
    informers.pods.subscribe(move |change| {
        this.note(change, &q);
    });
    client::controller::run(NAME, queue, WORKERS, worker::of(controller, Controller::reconcile)).await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    /// Finished pods, oldest first.
    finished: Mutex<BTreeSet<(Timestamp, ObjectKey)>>,
    started: Timestamp,
}

impl Controller {
    fn finished(&self) -> MutexGuard<'_, BTreeSet<(Timestamp, ObjectKey)>> {
        self.finished.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn note(&self, change: &Change<Pod>, queue: &Queue<ObjectKey>) {
        let Some(pod) = client::informer::logged(change.object()) else { return };
        let entry = (created(&pod), change.object().key());
        let gone = matches!(change, Change::Deleted(_));
        let threshold = self.ctx.settings.terminated_pod_gc_threshold;
        if !gone && pod::is_finished(&pod) && !pod::is_deleting(&pod) {
            let mut finished = self.finished();
            finished.insert(entry);
            if threshold > 0 && finished.len() > threshold {
                let surplus = finished.len() - threshold;
                finished.iter().take(surplus).for_each(|(_, key)| queue.add(key.clone()));
            }
            return;
        }
        self.finished().remove(&entry);
        if !gone && verdict(&pod, self.has_node(&pod)) != Verdict::Keep {
            queue.add(entry.1);
        }
    }

    fn has_node(&self, pod: &Pod) -> bool {
        self.ctx.informers.nodes.get("", pod::node_name(pod)).is_some()
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(cached) = self.ctx.informers.pods.get_key(&key) else { return Ok(Outcome::Done) };
        let pod = cached.parse()?;
        let now = self.ctx.clock.now();
        match verdict(&pod, self.has_node(&pod)) {
            Verdict::NoNode => {
                // Only now known to be homeless, perhaps because this daemon has only now begun.
                let from = plus_seconds(created(&pod).max(self.started), QUARANTINE_SECONDS);
                if from > now {
                    return Ok(Outcome::Again(until(from, now)));
                }
                if self.node_exists(pod::node_name(&pod)).await? {
                    return Ok(Outcome::Done);
                }
                tracing::info!(controller = NAME, pod = %key, node = pod::node_name(&pod), "deleting: its node is gone");
                let why = ("DeletionByPodGC", "PodGC: node no longer exists");
                let phase = (!pod::is_finished(&pod)).then_some("Failed");
                pod::mark_disrupted(&self.client, &pod, why, phase, now).await?;
                self.delete(&key, &pod).await
            }
            Verdict::NeverScheduled => self.delete(&key, &pod).await,
            Verdict::Keep => {
                let threshold = self.ctx.settings.terminated_pod_gc_threshold;
                let surplus = {
                    let finished = self.finished();
                    threshold > 0 && finished.iter().take(finished.len().saturating_sub(threshold)).any(|(_, k)| *k == key)
                };
                if surplus {
                    self.delete(&key, &pod).await?;
                    self.finished().remove(&(created(&pod), key));
                }
                Ok(Outcome::Done)
            }
        }
    }

    async fn node_exists(&self, name: &str) -> Result<bool, Error> {
        match self.client.get::<Node>("", name).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error).during(|| format!("looking for node {name}")),
        }
    }

    async fn delete(&self, key: &ObjectKey, pod: &Pod) -> Result<Outcome, Error> {
        let params = DeleteParams::uid(pod.uid()).grace(0);
        let deleted = self.client.delete::<Pod>(&key.namespace, &key.name, &params).await;
        deleted.gone_is_done().during(|| format!("deleting {key}"))?;
        Ok(Outcome::Done)
    }
}

fn created(pod: &Pod) -> Timestamp {
    pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    NoNode,
    NeverScheduled,
}

fn verdict(pod: &Pod, has_node: bool) -> Verdict {
    match (pod::node_name(pod).is_empty(), has_node) {
        (true, _) if pod::is_deleting(pod) => Verdict::NeverScheduled,
        (false, false) => Verdict::NoNode,
        _ => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::running;

    #[test]
    fn verdicts() {
        let pod = |node: &str, deleting: bool| {
            let mut pod = running("a");
            pod.spec.as_mut().unwrap().node_name = (!node.is_empty()).then(|| node.to_owned());
            pod.metadata.deletion_timestamp = deleting.then(|| crate::clock::time(Timestamp::UNIX_EPOCH));
            pod
        };
        for (node, deleting, has_node, want) in [
            ("n1", false, true, Verdict::Keep),
            ("n1", true, true, Verdict::Keep),
            ("n1", false, false, Verdict::NoNode),
            ("n1", true, false, Verdict::NoNode),
            ("", false, false, Verdict::Keep),
            ("", true, false, Verdict::NeverScheduled),
        ] {
            assert_eq!(verdict(&pod(node, deleting), has_node), want, "{node} {deleting} {has_node}");
        }
    }
}
