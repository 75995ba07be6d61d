//! replicaset-controller and replicationcontroller-controller: as many pods as asked for.

mod decide;
mod kind;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::apps::ReplicaSet;
use api::core::Pod;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Cached, Client, Informer, ObjectKey};
use futures::future::join_all;

use self::decide::{Outcome as Manage, Plan};
use self::kind::ReplicaOwner;
use crate::clock::until;
use crate::context::{BY_OWNER, Context, candidates};
use crate::error::{During, Error};
use crate::fence::Fence;
use crate::follow::follow_owned;
use crate::pod_control::PodControl;
use crate::{batch, claims, owner, pod, worker};

/// Runs the ReplicaSet controller.
pub(crate) async fn run_replica_sets(ctx: Arc<Context>) {
    run(ctx.clone(), ctx.informers.replica_sets.clone(), ctx.settings.workers.replica_sets).await;
}

/// Runs the ReplicationController controller.
pub(crate) async fn run_replication_controllers(ctx: Arc<Context>) {
    run(ctx.clone(), ctx.informers.replication_controllers.clone(), ctx.settings.workers.replication_controllers).await;
}

async fn run<K: ReplicaOwner>(ctx: Arc<Context>, owners: Informer<K>, workers: usize) {
    let queue: Queue<ObjectKey> = Queue::new();
    let (client, events) = (ctx.client(K::COMPONENT), ctx.events(K::COMPONENT, K::COMPONENT));
    let controller = Arc::new(Controller {
        pods: PodControl::new(client.clone(), events, &ctx.informers.pods),
        client,
        written: Fence::new(owners.clone()),
        owners,
        ctx,
    });
    controller.owners.synced().await;
    controller.ctx.informers.pods.synced().await;
    controller.subscribe(&queue);
    client::controller::run(K::CONTROLLER, queue, workers, worker::of(controller, Controller::<K>::reconcile)).await;
}

struct Controller<K> {
    ctx: Arc<Context>,
    client: Client,
    owners: Informer<K>,
    pods: PodControl,
    written: Fence<K>,
}

impl<K: ReplicaOwner> Controller<K> {
    fn subscribe(&self, queue: &Queue<ObjectKey>) {
        let q = queue.clone();
        self.owners.subscribe(move |change| q.add(change.object().key()));
        follow_owned(&self.ctx.informers.pods, &self.owners, queue, K::selector);
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        self.pods.caught_up(&key).await?;
        let Some(cached) = self.owners.get_key(&key) else {
            self.pods.fence().forget(&key);
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
        let owned = claims::claim_all(&self.client, &object, &selector, candidates, self.pods.fence()).await?;
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
            return batch::slow_start(plan.create, || self.pods.create(key, object, &pod)).await.1;
        }
        let deletions = plan.delete.iter().map(|i| self.pods.delete(key, object, pods[*i]));
        join_all(deletions).await.into_iter().find_map(Result::err)
    }
}
