//! replicaset-controller and replicationcontroller-controller: as many pods as asked for.

mod decide;
mod kind;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::apps::ReplicaSet;
use api::core::Pod;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Cached, Client, DeleteParams, Informer, ObjectKey};
use futures::future::join_all;

use self::decide::{Outcome as Manage, Plan};
use self::kind::ReplicaOwner;
use crate::clock::until;
use crate::context::{BY_OWNER, Context, Events, candidates};
use crate::error::{During, Error, GoneIsDone};
use crate::event::Note;
use crate::fence::Fence;
use crate::follow::follow_owned;
use crate::{batch, claims, owner, pod};

const WORKERS: usize = 5;

/// Runs the ReplicaSet controller.
pub(crate) async fn run_replica_sets(ctx: Arc<Context>) {
    run(ctx.clone(), ctx.informers.replica_sets.clone()).await;
}

/// Runs the ReplicationController controller.
pub(crate) async fn run_replication_controllers(ctx: Arc<Context>) {
    run(ctx.clone(), ctx.informers.replication_controllers.clone()).await;
}

async fn run<K: ReplicaOwner>(ctx: Arc<Context>, owners: Informer<K>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let controller = Arc::new(Controller {
        client: ctx.client(K::COMPONENT),
        events: ctx.events(K::COMPONENT, K::COMPONENT),
        pods: Fence::new(ctx.informers.pods.clone()),
        written: Fence::new(owners.clone()),
        owners,
        ctx,
    });
    controller.owners.synced().await;
    controller.ctx.informers.pods.synced().await;
    controller.subscribe(&queue);
    client::controller::run(K::CONTROLLER, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

struct Controller<K> {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    owners: Informer<K>,
    pods: Fence<Pod>,
    written: Fence<K>,
}

impl<K: ReplicaOwner> Controller<K> {
    fn subscribe(&self, queue: &Queue<ObjectKey>) {
        let q = queue.clone();
        self.owners.subscribe(move |change| q.add(change.object().key()));
        follow_owned(&self.ctx.informers.pods, &self.owners, queue, K::selector);
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        self.pods.caught_up(&key).await?;
        let Some(cached) = self.owners.get_key(&key) else {
            self.pods.forget(&key);
            self.written.forget(&key);
            return Ok(Outcome::Done);
        };
        let mut object = cached.parse()?;
        let Some(selector) = object.selector() else { return Ok(Outcome::Done) };
        let candidates = candidates(&self.ctx.informers.pods, &key.namespace, object.uid());
        // Finished pods are not adopted: nothing is to be kept of them.
        let candidates = candidates
            .into_iter()
            .filter(|p| owner::is_controlled_by(&p.metadata, object.uid()) || !pod::is_finished(p))
            .collect();
        let owned = claims::claim_all(&self.client, &object, &selector, candidates, &self.pods).await?;
        let pods: Vec<&Pod> = owned.iter().collect();

        let now = self.ctx.clock.now();
        let plan = decide::plan(&object.wanted(), &pods, &self.kin(&cached, &object, &pods), now);
        let failure = self.obey(&key, &object, &plan, &pods).await;
        let why = failure.as_ref().map(client::Error::to_string);
        let outcome = match &why {
            None => Manage::Obeyed,
            Some(why) if plan.create > 0 => Manage::CreateFailed(why),
            Some(why) => Manage::DeleteFailed(why),
        };
        let old = object.status();
        let (status, available_at) = decide::status(&object.wanted(), &old, &pods, outcome, now);
        if status != old {
            object.set_status(status);
            let written = self.client.update_status(&object).await.during(|| format!("writing the status of {key}"))?;
            self.written.wrote(&key, &written);
        }
        match failure {
            Some(error) => Err(error).during(|| format!("the pods of {key}")),
            None => Ok(available_at.map_or(Outcome::Done, |at| Outcome::Again(until(at, now)))),
        }
    }

    /// How many active pods of this set and its siblings run on each node; asked for only when pods must go.
    fn kin(&self, cached: &Cached<K>, object: &K, pods: &[&Pod]) -> BTreeMap<String, usize> {
        let active = pods.iter().filter(|p| pod::is_active(p)).count();
        let mut by_node = BTreeMap::new();
        if usize::try_from(object.wanted().replicas).is_ok_and(|wanted| active <= wanted) {
            return by_node;
        }
        let pods = &self.ctx.informers.pods;
        let related = match cached.controller() {
            Some(owner) if K::KIND == <ReplicaSet as api::Resource>::KIND => {
                let siblings = self.ctx.informers.replica_sets.by_index(BY_OWNER, &owner.uid);
                siblings.iter().flat_map(|s| pods.by_index(BY_OWNER, &s.uid)).collect()
            }
            _ => pods.by_index(BY_OWNER, &cached.uid),
        };
        for pod in related.iter().filter_map(client::informer::logged).filter(pod::is_active) {
            *by_node.entry(pod::node_name(&pod).to_owned()).or_insert(0) += 1;
        }
        by_node
    }

    /// Creates and deletes as planned. The first failure.
    async fn obey(&self, key: &ObjectKey, object: &K, plan: &Plan, pods: &[&Pod]) -> Option<client::Error> {
        if plan.create > 0 {
            let wanted = object.wanted();
            let pod = pod::from_template(wanted.template?, object, owner::controller_ref(object));
            return batch::slow_start(plan.create, || self.create(key, object, &pod)).await.1;
        }
        let deletions = plan.delete.iter().map(|i| self.delete(key, object, pods[*i]));
        join_all(deletions).await.into_iter().find_map(Result::err)
    }

    async fn create(&self, key: &ObjectKey, object: &K, pod: &Pod) -> Result<(), client::Error> {
        match self.client.create(pod).await {
            Ok(created) => {
                self.pods.wrote(key, &created);
                self.events.note(object, &Note::normal("SuccessfulCreate", format!("Created pod: {}", created.name())));
                Ok(())
            }
            // Nothing more can be made there, and soon the owner goes too.
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                self.events.note(object, &Note::warning("FailedCreate", format!("Error creating: {error}")));
                Err(error)
            }
        }
    }

    async fn delete(&self, key: &ObjectKey, object: &K, pod: &Pod) -> Result<(), client::Error> {
        let params = DeleteParams::uid(pod.uid());
        match self.client.delete::<Pod>(pod.namespace(), pod.name(), &params).await.gone_is_done() {
            Ok(()) => {
                self.pods.deleted(key, ObjectKey::of(pod), pod.uid());
                self.events.note(object, &Note::normal("SuccessfulDelete", format!("Deleted pod: {}", pod.name())));
                Ok(())
            }
            Err(error) => {
                self.events.note(object, &Note::warning("FailedDelete", format!("Error deleting: {error}")));
                Err(error)
            }
        }
    }
}
