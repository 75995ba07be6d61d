//! cronjob-controller: Jobs made by the clock.

mod decide;
mod schedule;
mod zone;

use std::sync::Arc;

use api::Kind;
use api::batch::{CronJob, Job};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Client, DeleteParams, Informer, InformerConfig, ObjectKey, Propagation};

use crate::clock::until;
use crate::context::{BY_OWNER, Context, Events};
use crate::error::{During, Error, GoneIsDone};
use crate::event::Note;
use crate::fence::Fence;
use crate::{owner, worker};

pub(crate) const NAME: &str = "cronjob-controller";

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let crons = Informer::<CronJob>::start(ctx.root(), InformerConfig::default());
    let jobs = ctx.informers.jobs.clone();
    crons.synced().await;
    jobs.synced().await;
    let q = queue.clone();
    crons.subscribe(move |change| q.add(change.object().key()));
    let q = queue.clone();
    jobs.subscribe(move |change: &Change<Job>| {
        let job = change.object();
        if let Some(owner) = job.controller().filter(|o| o.kind == <CronJob as api::Resource>::KIND) {
            q.add(ObjectKey::new(&job.namespace, &owner.name));
        }
    });
    let controller = Arc::new(Controller {
        client: ctx.client(NAME),
        events: ctx.events(NAME, NAME),
        written: Fence::new(crons.clone()),
        made: Fence::new(jobs.clone()),
        crons,
        jobs,
        ctx,
    });
    let workers = controller.ctx.settings.workers.cron_jobs;
    client::controller::run(NAME, queue, workers, worker::of(controller, Controller::reconcile)).await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    crons: Informer<CronJob>,
    jobs: Informer<Job>,
    written: Fence<CronJob>,
    made: Fence<Job>,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        self.made.caught_up(&key).await?;
        let Some(cached) = self.crons.get_key(&key) else {
            self.written.forget(&key);
            self.made.forget(&key);
            return Ok(Outcome::Done);
        };
        let cron = cached.parse()?;
        let jobs: Vec<Job> = self.jobs.by_index(BY_OWNER, cron.uid()).iter().filter_map(client::informer::logged).collect();
        let now = self.ctx.clock.now();
        let zone = zone::find(cron.spec.time_zone.as_deref()).await;
        let mut plan = decide::decide(&cron, &jobs, zone.as_ref().map_err(String::as_str), now);
        for note in &plan.notes {
            self.events.note(&cron, note);
        }
        for i in &plan.delete {
            self.delete(&key, &cron, &jobs[*i]).await?;
        }
        if let Some(job) = &plan.create {
            let made = self.create(&key, &cron, job).await?;
            plan.status.active.get_or_insert_default().push(decide::reference(&made));
        }
        if cron.status.clone().unwrap_or_default() != plan.status {
            let after = CronJob { status: Some(plan.status), ..cron };
            let written = self.client.update_status(&after).await.during(|| format!("writing the status of {key}"))?;
            self.written.wrote(&key, &written);
        }
        Ok(plan.again_at.map_or(Outcome::Done, |at| Outcome::Again(until(at, now))))
    }

    async fn create(&self, key: &ObjectKey, cron: &CronJob, job: &Job) -> Result<Job, Error> {
        match self.client.create(job).await {
            Ok(made) => {
                self.made.wrote(key, &made);
                self.events.note(cron, &Note::normal("SuccessfulCreate", format!("Created job {}", made.name())));
                Ok(made)
            }
            // Made before, and not yet written down: the name says for which time.
            Err(error) if error.is_already_exists() => {
                let live = self.client.get::<Job>(&key.namespace, job.name()).await;
                let live = live.during(|| format!("reading the Job {}", job.name()))?;
                if owner::is_controlled_by(&live.metadata, cron.uid()) {
                    return Ok(live);
                }
                Err(error).during(|| format!("the Job {} is not of {key}", job.name()))
            }
            Err(error) => {
                self.events.note(cron, &Note::warning("FailedCreate", format!("Error creating job: {error}")));
                Err(error).during(|| format!("creating the Job {}", job.name()))
            }
        }
    }

    async fn delete(&self, key: &ObjectKey, cron: &CronJob, job: &Job) -> Result<(), Error> {
        let params = DeleteParams { propagation: Some(Propagation::Background), ..DeleteParams::uid(job.uid()) };
        let deleted = self.client.delete::<Job>(&key.namespace, job.name(), &params).await;
        deleted.gone_is_done().during(|| format!("deleting the Job {}", job.name()))?;
        self.made.deleted(key, ObjectKey::of(job), job.uid());
        self.events.note(cron, &Note::normal("SuccessfulDelete", format!("Deleted job {}", job.name())));
        Ok(())
    }
}
