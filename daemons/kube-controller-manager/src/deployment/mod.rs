//! deployment-controller: rolls a Deployment's template out by growing and shrinking ReplicaSets.

mod condition;
mod decide;
mod revision;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::apps::{Deployment, ReplicaSet};
use api::core::Pod;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Client, DeleteParams, ObjectKey};

use self::decide::{Observed, Plan, SetWrite, Taken, Verb};
use crate::clock::until;
use crate::context::{BY_OWNER, Context, Events, candidates};
use crate::error::{During, Error, GoneIsDone};
use crate::event::Note;
use crate::fence::Fence;
use crate::follow::follow_owned;
use crate::{claims, pod, worker};

pub(crate) const NAME: &str = "deployment-controller";

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let controller = Arc::new(Controller {
        client: ctx.client(NAME),
        events: ctx.events(NAME, NAME),
        sets: Fence::new(ctx.informers.replica_sets.clone()),
        written: Fence::new(ctx.informers.deployments.clone()),
        ctx,
    });
    let informers = &controller.ctx.informers;
    informers.deployments.synced().await;
    informers.replica_sets.synced().await;
    informers.pods.synced().await;
    controller.subscribe(&queue);
    let workers = controller.ctx.settings.workers.deployments;
    client::controller::run(NAME, queue, workers, worker::of(controller, Controller::reconcile)).await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    sets: Fence<ReplicaSet>,
    written: Fence<Deployment>,
}

impl Controller {
    fn subscribe(&self, queue: &Queue<ObjectKey>) {
        let informers = &self.ctx.informers;
        let q = queue.clone();
        informers.deployments.subscribe(move |change| q.add(change.object().key()));

        follow_owned(&informers.replica_sets, &informers.deployments, queue, selector);

        // A Recreate rollout goes on when the last old pod is gone.
        let (q, sets) = (queue.clone(), informers.replica_sets.clone());
        informers.pods.subscribe(move |change| {
            let gone_or_finished = match change {
                Change::Deleted(_) => true,
                Change::Updated { new, .. } => client::informer::logged(new).is_some_and(|p| pod::is_finished(&p)),
                Change::Added(_) => false,
            };
            let pod = change.object();
            let set = pod.controller().filter(|o| gone_or_finished && o.kind == <ReplicaSet as api::Resource>::KIND);
            let deployment = set.and_then(|o| sets.get(&pod.namespace, &o.name)).and_then(|s| s.controller().cloned());
            if let Some(deployment) = deployment {
                q.add(ObjectKey::new(&pod.namespace, deployment.name));
            }
        });
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        self.sets.caught_up(&key).await?;
        let informers = &self.ctx.informers;
        let Some(cached) = informers.deployments.get_key(&key) else {
            self.written.forget(&key);
            self.sets.forget(&key);
            return Ok(Outcome::Done);
        };
        let deployment = cached.parse()?;
        let Some(selector) = selector(&deployment) else { return Ok(Outcome::Done) };
        if selector.is_empty() {
            let note = Note::warning("SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.");
            self.events.note(&deployment, &note);
            return Ok(Outcome::Done);
        }
        let sets = candidates(&informers.replica_sets, &key.namespace, deployment.uid());
        let sets = claims::claim_all(&self.client, &deployment, &selector, sets, &self.sets).await?;
        let observed =
            Observed { deployment: &deployment, sets: &sets, pods_unfinished: &self.pods_unfinished(&deployment, &sets) };
        let now = self.ctx.clock.now();
        let plan = decide::decide(&observed, now);
        let again = plan.again_at;
        self.obey(&key, &deployment, plan).await?;
        Ok(again.map_or(Outcome::Done, |at| Outcome::Again(until(at, now))))
    }

    /// Pods matter to the Recreate strategy alone.
    fn pods_unfinished(&self, deployment: &Deployment, sets: &[ReplicaSet]) -> BTreeMap<String, usize> {
        let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref()).and_then(|s| s.type_.as_deref());
        if strategy != Some("Recreate") {
            return BTreeMap::new();
        }
        let unfinished = |set: &ReplicaSet| {
            let pods = self.ctx.informers.pods.by_index(BY_OWNER, set.uid());
            pods.iter().filter_map(client::informer::logged::<Pod>).filter(|p| !pod::is_finished(p)).count()
        };
        sets.iter().map(|set| (set.uid().to_owned(), unfinished(set))).collect()
    }

    async fn obey(&self, key: &ObjectKey, deployment: &Deployment, plan: Plan) -> Result<(), Error> {
        for note in &plan.notes {
            self.events.note(deployment, note);
        }
        for write in &plan.sets {
            self.write_set(key, deployment, write).await?;
        }
        for set in &plan.delete {
            let params = DeleteParams::uid(&set.uid);
            let deleted = self.client.delete::<ReplicaSet>(&key.namespace, &set.name, &params).await;
            deleted.gone_is_done().during(|| format!("deleting the old ReplicaSet {}", set.name))?;
            self.sets.deleted(key, ObjectKey::new(&key.namespace, &set.name), &set.uid);
        }
        if let Some(update) = &plan.update {
            let written = self.client.update(&**update).await.during(|| format!("rolling back {key}"))?;
            self.written.wrote(key, &written);
        }
        if let Some(status) = &plan.status {
            let written = self.client.update_status(&**status).await.during(|| format!("writing the status of {key}"))?;
            self.written.wrote(key, &written);
        }
        Ok(())
    }

    async fn write_set(&self, key: &ObjectKey, deployment: &Deployment, write: &SetWrite) -> Result<(), Error> {
        let set = &*write.set;
        let result = match write.verb {
            Verb::Create => self.client.create(set).await,
            Verb::Update => self.client.update(set).await,
        };
        match result {
            Ok(written) => {
                self.sets.wrote(key, &written);
                if let Some(note) = &write.note {
                    self.events.note(deployment, note);
                }
                // Something on the way changed the template, so that this set will not be recognized: an error makes the
                // next try wait, longer each time.
                if write.verb == Verb::Create && !decide::is_newest(deployment, &written) {
                    return Err(Error::Other(format!(
                        "the template of the ReplicaSet {} was changed on its creation",
                        set.name()
                    )));
                }
                Ok(())
            }
            Err(error) if write.verb == Verb::Create && error.is_already_exists() => {
                self.name_taken(key, deployment, set).await?;
                Err(error).during(|| format!("creating the ReplicaSet {}", set.name()))
            }
            Err(error) if write.verb == Verb::Create && !error.is_namespace_terminating() => {
                let now = self.ctx.clock.now();
                let (status, note) = decide::create_failed(deployment, set.name(), &error.to_string(), now);
                self.events.note(deployment, &note);
                if let Some(status) = status {
                    // Only tells of the failure, which is returned in any case.
                    if let Ok(written) = self.client.update_status(&status).await {
                        self.written.wrote(key, &written);
                    }
                }
                Err(error).during(|| format!("creating the ReplicaSet {}", set.name()))
            }
            Err(error) => Err(error).during(|| format!("writing the ReplicaSet {}", set.name())),
        }
    }

    async fn name_taken(&self, key: &ObjectKey, deployment: &Deployment, set: &ReplicaSet) -> Result<(), Error> {
        let live = self.client.get::<ReplicaSet>(&key.namespace, set.name()).await;
        let live = live.during(|| format!("reading the ReplicaSet {}", set.name()))?;
        match decide::name_taken(deployment, &live) {
            Taken::ByWanted => self.sets.wrote(key, &live),
            Taken::ByAnother(status) => {
                let written = self.client.update_status(&*status).await.during(|| format!("writing the status of {key}"))?;
                self.written.wrote(key, &written);
            }
        }
        Ok(())
    }
}

fn selector(deployment: &Deployment) -> Option<machinery::selector::LabelSelector> {
    crate::selector::compile(&deployment.spec.as_ref()?.selector).ok()
}
