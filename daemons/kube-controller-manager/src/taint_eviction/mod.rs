//! taint-eviction-controller: pods that do not tolerate a `NoExecute` taint of their node leave it, those that tolerate it
//! for a while leave after that.

mod decide;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use api::Kind;
use api::core::{Node, Pod, Taint};
use api::jiff::Timestamp;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Client, DeleteParams, ObjectKey};

use self::decide::{Since, Verdict, decide};
use crate::clock::until;
use crate::context::{BY_NODE, Context, Events};
use crate::error::{During, Error, GoneIsDone};
use crate::event::Note;
use crate::node::{self, is_same_taint};
use crate::{pod, worker};

pub(crate) const NAME: &str = "taint-eviction-controller";
const WORKERS: usize = 8;

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let informers = &ctx.informers;
    informers.nodes.synced().await;
    informers.pods.synced().await;
    let controller = Arc::new(Controller {
        client: ctx.client(node::IDENTITY),
        events: ctx.events(node::IDENTITY, NAME),
        tainted: Mutex::default(),
        leaving: Mutex::default(),
        ctx: ctx.clone(),
    });
    let (this, q, pods) = (controller.clone(), queue.clone(), informers.pods.clone());
    informers.nodes.subscribe(move |change| {
        if this.note_node(change) {
            pods.by_index(BY_NODE, &change.object().name).iter().for_each(|p| q.add(p.key()));
        }
    });
    let (this, q) = (controller.clone(), queue.clone());
    informers.pods.subscribe(move |change| {
        let concerned = match change {
            Change::Deleted(pod) => this.leaving().contains(&pod.key()),
            // Most nodes have no such taint: then a pod's change is not even decoded.
            Change::Added(_) | Change::Updated { .. } => !this.tainted().is_empty(),
        };
        if concerned {
            q.add(change.object().key());
        }
    });
    client::controller::run(NAME, queue, WORKERS, worker::of(controller, Controller::reconcile)).await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    /// Nodes with `NoExecute` taints.
    tainted: Mutex<HashMap<String, Vec<Since>>>,
    /// Pods whose time is running.
    leaving: Mutex<HashSet<ObjectKey>>,
}

impl Controller {
    fn tainted(&self) -> MutexGuard<'_, HashMap<String, Vec<Since>>> {
        self.tainted.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn leaving(&self) -> MutexGuard<'_, HashSet<ObjectKey>> {
        self.leaving.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether the node's pods are to be looked at.
    fn note_node(&self, change: &Change<Node>) -> bool {
        let name = &change.object().name;
        let taints: Vec<Taint> = match change {
            Change::Deleted(_) => Vec::new(),
            Change::Added(node) | Change::Updated { new: node, .. } => client::informer::logged(node)
                .map(|n| node::taints(&n).iter().filter(|t| t.effect == "NoExecute").cloned().collect())
                .unwrap_or_default(),
        };
        let mut tainted = self.tainted();
        let before = tainted.remove(name).unwrap_or_default();
        let now = self.ctx.clock.now();
        let since = |taint: Taint| {
            // A taint that does not say since when counts from when it was first seen.
            let known = before.iter().find(|b| is_same_taint(&b.taint, &taint) && b.taint.value == taint.value).map(|b| b.at);
            let at = taint.time_added.as_ref().map(|t| t.0).or(known).unwrap_or(now);
            Since { taint, at }
        };
        let after: Vec<Since> = taints.into_iter().map(since).collect();
        let changed = after != before;
        if !after.is_empty() {
            tainted.insert(name.clone(), after);
        }
        changed
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        let pod = self.ctx.informers.pods.get_key(&key).map(|c| c.parse()).transpose()?;
        let Some(pod) = pod.filter(|p| !pod::is_deleting(p) && !pod::is_finished(p)) else {
            self.leaving().remove(&key);
            return Ok(Outcome::Done);
        };
        let taints = self.tainted().get(pod::node_name(&pod)).cloned().unwrap_or_default();
        let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.clone()).unwrap_or_default();
        match decide(&taints, &tolerations, began(&pod)) {
            Verdict::Stays => {
                if self.leaving().remove(&key) {
                    let note = Note::normal("TaintManagerEviction", format!("Cancelling deletion of Pod {key}"));
                    self.events.note(&pod, &note);
                }
                Ok(Outcome::Done)
            }
            Verdict::LeavesAt(at) => {
                let now = self.ctx.clock.now();
                self.leaving().insert(key.clone());
                if at > now {
                    return Ok(Outcome::Again(until(at, now)));
                }
                self.evict(&key, &pod, now).await.map(|()| Outcome::Done)
            }
        }
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod, now: Timestamp) -> Result<(), Error> {
        let note = Note::normal("TaintManagerEviction", format!("Marking for deletion Pod {key}"));
        self.events.note(pod, &note);
        let why = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
        pod::mark_disrupted(&self.client, pod, why, None, now).await?;
        let params = DeleteParams::uid(pod.uid());
        let deleted = self.client.delete::<Pod>(&key.namespace, &key.name, &params).await;
        deleted.gone_is_done().during(|| format!("evicting {key}"))
    }
}

/// When the pod came to its node, as well as can be told.
fn began(pod: &Pod) -> Timestamp {
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref());
    started.or(pod.metadata.creation_timestamp.as_ref()).map_or(Timestamp::UNIX_EPOCH, |t| t.0)
}
