//! job-controller: pods that run to their end, so many of them.

mod decide;
mod indexes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::Kind;
use api::batch::Job;
use api::core::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Cached, Change, Client, DeleteParams, Informer, InformerConfig, ObjectKey, Patch, PatchParams};
use futures::future::join_all;
use machinery::selector::LabelSelector;
use serde_json::json;

use self::decide::{FINALIZER, INDEX, Plan};
use crate::clock::until;
use crate::context::{Context, Events, candidates};
use crate::error::{During, Error, GoneIsDone};
use crate::event::Note;
use crate::fence::Fence;
use crate::{batch, claims, owner, pod, selector};

pub(crate) const NAME: &str = "job-controller";
const WORKERS: usize = 5;

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let jobs = Informer::<Job>::start(ctx.root(), InformerConfig::default());
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
        pods: Fence::new(ctx.informers.pods.clone()),
        written: Fence::new(jobs.clone()),
        jobs,
        ctx,
    });
    client::controller::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    jobs: Informer<Job>,
    pods: Fence<Pod>,
    written: Fence<Job>,
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        self.pods.caught_up(&key).await?;
        let Some(cached) = self.jobs.get_key(&key) else {
            self.written.forget(&key);
            self.pods.forget(&key);
            return self.release_orphans(&key).await;
        };
        let job = cached.parse()?;
        let spec = job.spec.clone().unwrap_or_default();
        if spec.managed_by.as_deref().is_some_and(|by| by != "kubernetes.io/job-controller") {
            return Ok(Outcome::Done);
        }
        if let Some(field) = decide::unsupported(&spec) {
            self.events.note(&job, &Note::warning("Unsupported", format!("{field} is not supported: this Job is not run")));
            return Ok(Outcome::Done);
        }
        let pods = candidates(&self.ctx.informers.pods, &key.namespace, job.uid());
        let pods = match spec.selector.as_ref().and_then(|s| selector::compile(s).ok()) {
            Some(selector) => claims::claim_all(&self.client, &job, &selector, pods, &self.pods).await?,
            // A server that made no selector: what it owns is its own.
            None => claims::claim_all(&self.client, &job, &LabelSelector::everything(), owned(pods, &job), &self.pods).await?,
        };
        let now = self.ctx.clock.now();
        let plan = decide::decide(&job, &pods, now);
        self.obey(&key, &job, &plan, &pods).await?;
        Ok(plan.again_at.map_or(Outcome::Done, |at| Outcome::Again(until(at, now))))
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
        let deleted = join_all(plan.delete.iter().map(|i| self.delete(key, job, &pods[*i]))).await;
        let next = AtomicUsize::new(0);
        let create = || {
            let index = plan.create[next.fetch_add(1, Ordering::Relaxed)];
            self.create(key, job, pod_for(job, index))
        };
        let (_, failure) = batch::slow_start(plan.create.len(), create).await;
        if let Some(status) = &plan.status {
            let written = self.client.update_status(&**status).await.during(|| format!("writing the status of {key}"))?;
            self.written.wrote(key, &written);
        }
        // Only now: what the status names is not lost if this process ends here.
        let released = join_all(plan.release.iter().map(|i| self.release(key, &pods[*i]))).await;
        released.into_iter().chain(deleted).collect::<Result<Vec<()>, Error>>()?;
        failure.map_or(Ok(()), |error| Err(error).during(|| format!("the pods of {key}")))
    }

    async fn create(&self, key: &ObjectKey, job: &Job, pod: Pod) -> Result<(), client::Error> {
        match self.client.create(&pod).await {
            Ok(created) => {
                self.pods.wrote(key, &created);
                self.events.note(job, &Note::normal("SuccessfulCreate", format!("Created pod: {}", created.name())));
                Ok(())
            }
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                self.events.note(job, &Note::warning("FailedCreate", format!("Error creating: {error}")));
                Err(error)
            }
        }
    }

    async fn delete(&self, key: &ObjectKey, job: &Job, pod: &Pod) -> Result<(), Error> {
        self.release(key, pod).await?;
        let params = DeleteParams::uid(pod.uid());
        let deleted = self.client.delete::<Pod>(pod.namespace(), pod.name(), &params).await;
        deleted.gone_is_done().during(|| format!("deleting {}", ObjectKey::of(pod)))?;
        self.pods.deleted(key, ObjectKey::of(pod), pod.uid());
        self.events.note(job, &Note::normal("SuccessfulDelete", format!("Deleted pod: {}", pod.name())));
        Ok(())
    }

    /// Takes the finalizer off.
    async fn release(&self, key: &ObjectKey, pod: &Pod) -> Result<(), Error> {
        if !pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER) {
            return Ok(());
        }
        let metadata = json!({"uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER]});
        let patch = Patch::Strategic(json!({ "metadata": metadata }));
        match self.client.patch::<Pod>(pod.namespace(), pod.name(), &patch, &PatchParams::default()).await {
            Ok(patched) => {
                // One that was only held by the finalizer is gone now: its deletion is what the cache will show.
                if patched.metadata.deletion_timestamp.is_none() {
                    self.pods.wrote(key, &patched);
                }
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(error).during(|| format!("releasing {}", ObjectKey::of(pod))),
        }
    }
}

fn owned(mut pods: Vec<Pod>, job: &Job) -> Vec<Pod> {
    pods.retain(|p| owner::is_controlled_by(&p.metadata, job.uid()));
    pods
}

/// A new pod of the Job, with its completion index if it is an indexed one.
fn pod_for(job: &Job, index: Option<u32>) -> Pod {
    let template = job.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let mut pod = pod::from_template(&template, job, owner::controller_ref(job));
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.into());
    let labels = pod.metadata.labels.get_or_insert_default();
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", job.uid()),
        ("controller-uid", job.uid()),
        ("batch.kubernetes.io/job-name", job.name()),
        ("job-name", job.name()),
    ] {
        labels.entry(key.into()).or_insert_with(|| value.into());
    }
    let Some(index) = index else { return pod };
    labels.insert(INDEX.into(), index.to_string());
    pod.metadata.annotations.get_or_insert_default().insert(INDEX.into(), index.to_string());
    pod.metadata.generate_name = Some(format!("{}-{index}-", job.name()));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{}-{index}", job.name()));
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for container in containers {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
            env.push(EnvVar {
                name: "JOB_COMPLETION_INDEX".into(),
                value: None,
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") }),
                    ..EnvVarSource::default()
                }),
            });
        }
    }
    pod
}
