//! job-controller: pods that run to their end, so many of them.

mod decide;
mod indexes;
mod pods;
mod policy;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::Kind;
use api::batch::Job;
use api::core::Pod;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Cached, Change, Client, Informer, ObjectKey, Patch, PatchParams};
use futures::future::join_all;
use machinery::selector::LabelSelector;
use serde_json::json;

use self::decide::Plan;
use self::pods::{FINALIZER, is_tracked, pod_for};
use crate::clock::until;
use crate::context::{Context, Events, candidates};
use crate::error::{During, Error};
use crate::fence::Fence;
use crate::pod_control::PodControl;
use crate::{batch, claims, owner, selector, worker};

pub(crate) const NAME: &str = "job-controller";

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let jobs = ctx.informers.jobs.clone();
    jobs.synced().await;
    ctx.informers.pods.synced().await;
    let q = queue.clone();
    jobs.subscribe(move |change| q.add(change.object().key()));
    let q = queue.clone();
    ctx.informers.pods.subscribe(move |change| {
        let enqueue = |pod: &Cached<Pod>| {
            if let Some(owner) = pod.controller().filter(|o| o.kind == <Job as api::Resource>::KIND) {
                q.add(ObjectKey::new(&pod.namespace, &owner.name));
            }
        };
        enqueue(change.object());
        if let Change::Updated { old, .. } = change {
            enqueue(old);
        }
    });
    let controller = Arc::new(Controller {
        client: ctx.client(NAME),
        events: ctx.events(NAME, NAME),
        pods: PodControl::new(ctx.client(NAME), ctx.events(NAME, NAME), &ctx.informers.pods),
        written: Fence::new(jobs.clone()),
        jobs,
        ctx,
    });
    let workers = controller.ctx.settings.workers.jobs;
    client::controller::run(NAME, queue, workers, worker::of(controller, Controller::reconcile)).await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    jobs: Informer<Job>,
    pods: PodControl,
    written: Fence<Job>,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        self.pods.caught_up(&key).await?;
        let Some(cached) = self.jobs.get_key(&key) else {
            self.written.forget(&key);
            self.pods.fence().forget(&key);
            return self.release_orphans(&key).await;
        };
        let job = cached.parse()?;
        let spec = job.spec.clone().unwrap_or_default();
        if spec.managed_by.as_deref().is_some_and(|by| by != "kubernetes.io/job-controller") {
            return Ok(Outcome::Done);
        }
        let pods = candidates(&self.ctx.informers.pods, &key.namespace, job.uid());
        let pods = match spec.selector.as_ref().and_then(|s| selector::compile(s).ok()) {
            Some(selector) => self.claim(&job, &selector, pods).await?,
            // A server that made no selector: what it owns is its own.
            None => self.claim(&job, &LabelSelector::everything(), owned(pods, &job)).await?,
        };
        let now = self.ctx.clock.now();
        let plan = decide::decide(&job, &pods, now);
        self.obey(&key, &job, &plan, &pods).await?;
        Ok(plan.again_at.map_or(Outcome::Done, |at| Outcome::Again(until(at, now))))
    }

    /// A pod that is adopted is counted from then on, one that is released no more.
    async fn claim(&self, job: &Job, selector: &LabelSelector, pods: Vec<Pod>) -> Result<Vec<Pod>, Error> {
        claims::claim_all_with(&self.client, job, selector, pods, self.pods.fence(), Some(FINALIZER)).await
    }

    /// A Job that is gone counts no more: nothing must hold its pods.
    async fn release_orphans(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let pods = self.ctx.informers.pods.list_namespace(&key.namespace);
        let left = pods.iter().filter(|p| {
            let owner = p.controller().filter(|o| o.kind == <Job as api::Resource>::KIND && o.name == key.name);
            owner.is_some() && p.finalizers.iter().any(|f| f == FINALIZER)
        });
        for pod in left.filter_map(client::informer::logged) {
            self.release(key, &pod).await?;
        }
        Ok(Outcome::Done)
    }

    async fn obey(&self, key: &ObjectKey, job: &Job, plan: &Plan, pods: &[Pod]) -> Result<(), Error> {
        for note in &plan.notes {
            self.events.note(job, note);
        }
        let deleted = join_all(plan.delete.iter().map(|i| self.delete(key, job, &pods[*i], Counted::No))).await;
        let ended = join_all(plan.terminate.iter().map(|i| self.delete(key, job, &pods[*i], Counted::Yes))).await;
        let next = AtomicUsize::new(0);
        let create = || {
            let new = &plan.create[next.fetch_add(1, Ordering::Relaxed)];
            let pod = pod_for(job, new);
            async move { self.pods.create(key, job, &pod).await }
        };
        let (made, failure) = batch::slow_start(plan.create.len(), create).await;
        if let Some(planned) = &plan.status {
            let mut after = Job::clone(planned);
            // The plan counted on all of them.
            let missing = i32::try_from(plan.create.len() - made).unwrap_or(i32::MAX);
            let status = after.status.get_or_insert_default();
            status.active = status.active.map(|n| n.saturating_sub(missing));
            let written = self.client.update_status(&after).await.during(|| format!("writing the status of {key}"))?;
            self.written.wrote(key, &written);
        }
        // Only now: what the status names is not lost if this process ends here.
        let released = join_all(plan.release.iter().map(|i| self.release(key, &pods[*i]))).await;
        released.into_iter().chain(deleted).chain(ended).collect::<Result<Vec<()>, Error>>()?;
        failure.map_or(Ok(()), |error| Err(error).during(|| format!("the pods of {key}")))
    }

    async fn delete(&self, key: &ObjectKey, job: &Job, pod: &Pod, counted: Counted) -> Result<(), Error> {
        if counted == Counted::No {
            self.release(key, pod).await?;
        }
        self.pods.delete(key, job, pod).await.during(|| format!("deleting {}", ObjectKey::of(pod)))
    }

    /// Takes the finalizer off.
    async fn release(&self, key: &ObjectKey, pod: &Pod) -> Result<(), Error> {
        if !is_tracked(pod) {
            return Ok(());
        }
        let metadata = json!({"uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER]});
        let patch = Patch::Strategic(json!({ "metadata": metadata }));
        match self.client.patch::<Pod>(pod.namespace(), pod.name(), &patch, &PatchParams::default()).await {
            Ok(patched) => {
                // One that was only held by the finalizer is gone now: its deletion is what the cache will show.
                if patched.metadata.deletion_timestamp.is_none() {
                    self.pods.fence().wrote(key, &patched);
                }
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(error).during(|| format!("releasing {}", ObjectKey::of(pod))),
        }
    }
}

/// Whether a deleted pod is still to be counted: then its finalizer stays until it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Yes,
    No,
}

fn owned(mut pods: Vec<Pod>, job: &Job) -> Vec<Pod> {
    pods.retain(|p| owner::is_controlled_by(&p.metadata, job.uid()));
    pods
}
