//! statefulset-controller: pods with names and volumes of their own, made and replaced in order.

mod decide;
mod pods;
mod retention;

use std::sync::Arc;

use api::Kind;
use api::apps::StatefulSet;
use api::core::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Client, DeleteParams, Informer, ObjectKey, Patch, PatchParams};
use machinery::selector::LabelSelector;
use serde_json::json;

use self::decide::{New, Observed, Plan};
use self::pods::pod_for;
use self::retention::Owners;
use crate::clock::until;
use crate::context::{Context, Events, candidates};
use crate::error::{During, Error, GoneIsDone};
use crate::event::Note;
use crate::fence::Fence;
use crate::follow::follow_owned;
use crate::revisions::{History, Revisions};
use crate::{claims, history, selector, worker};

pub(crate) const NAME: &str = "statefulset-controller";

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let sets = ctx.informers.stateful_sets.clone();
    let informers = &ctx.informers;
    sets.synced().await;
    informers.controller_revisions.synced().await;
    informers.pods.synced().await;
    informers.volume_claims.synced().await;
    follow_claims(&informers.volume_claims, &sets, &queue);
    let q = queue.clone();
    sets.subscribe(move |change| q.add(change.object().key()));
    follow_owned(&informers.pods, &sets, &queue, selector_of);
    follow_owned(&informers.controller_revisions, &sets, &queue, selector_of);
    let controller = Arc::new(Controller {
        client: ctx.client(NAME),
        events: ctx.events(NAME, NAME),
        pods: Fence::new(informers.pods.clone()),
        revisions: Revisions::new(ctx.client(NAME), informers.controller_revisions.clone()),
        written: Fence::new(sets.clone()),
        sets,
        ctx: ctx.clone(),
    });
    let workers = ctx.settings.workers.stateful_sets;
    client::controller::run(NAME, queue, workers, worker::of(controller, Controller::reconcile)).await;
}

fn selector_of(set: &StatefulSet) -> Option<LabelSelector> {
    selector::compile(&set.spec.as_ref()?.selector).ok()
}

/// A claim that went with an earlier pod holds up the next: its end is a reason to look again.
fn follow_claims(claims: &Informer<PersistentVolumeClaim>, sets: &Informer<StatefulSet>, queue: &Queue<ObjectKey>) {
    let (q, sets) = (queue.clone(), sets.clone());
    claims.subscribe(move |change| {
        let Change::Deleted(claim) = change else { return };
        let named = |set: &str| claim.name.rsplit_once('-').is_some_and(|(head, _)| head.ends_with(&format!("-{set}")));
        sets.list_namespace(&claim.namespace).iter().filter(|s| named(&s.name)).for_each(|s| q.add(s.key()));
    });
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    sets: Informer<StatefulSet>,
    pods: Fence<Pod>,
    revisions: Revisions,
    written: Fence<StatefulSet>,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        self.pods.caught_up(&key).await?;
        let Some(cached) = self.sets.get_key(&key) else {
            self.written.forget(&key);
            self.pods.forget(&key);
            self.revisions.forget(&key);
            return Ok(Outcome::Done);
        };
        let set = cached.parse()?;
        let Some(selector) = selector_of(&set).filter(|s| !s.is_empty()) else { return Ok(Outcome::Done) };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let spec = set.spec.clone().unwrap_or_default();
        let old = set.status.clone().unwrap_or_default();
        let history = self.revisions.sync(&key, &set, &selector, &spec.template, old.collision_count).await?;
        let Some(update) = history.present.clone() else { return self.bump_collisions(&key, set).await };
        let current = current_revision(&set, &history, &update);
        let pods = candidates(&self.ctx.informers.pods, &key.namespace, set.uid());
        // Only a pod with a name of this set's can be one of its pods.
        let pods = pods.into_iter().filter(|p| pods::ordinal(set.name(), p.name()).is_some()).collect();
        let pods = claims::claim_all(&self.client, &set, &selector, pods, &self.pods).await?;
        let observed = Observed { set: &set, update: &update, current: &current, pods: &pods };
        let now = self.ctx.clock.now();
        let plan = decide::plan(&observed, now);
        let obeyed = self.obey(&key, &set, &plan, &history, &pods).await;
        let status = decide::status(&observed, now);
        if !decide::same(&status, &old) {
            let after = StatefulSet { status: Some(status), ..set.clone() };
            let written = self.client.update_status(&after).await.during(|| format!("writing the status of {key}"))?;
            self.written.wrote(&key, &written);
        }
        obeyed?;
        let limit = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        self.revisions.clean(&key, &history.all, &pods, &[&update, &current], limit).await?;
        Ok(plan.again_at.map_or(Outcome::Done, |at| Outcome::Again(until(at, now))))
    }

    /// Another template has the hash of this one: the next name will differ.
    async fn bump_collisions(&self, key: &ObjectKey, mut set: StatefulSet) -> Result<Outcome, Error> {
        let count = set.status.get_or_insert_default().collision_count.get_or_insert(0);
        *count = count.saturating_add(1);
        let written = self.client.update_status(&set).await.during(|| format!("writing the status of {key}"))?;
        self.written.wrote(key, &written);
        Ok(Outcome::Done)
    }

    async fn obey(&self, key: &ObjectKey, set: &StatefulSet, plan: &Plan, history: &History, pods: &[Pod]) -> Result<(), Error> {
        for (i, pod) in pods.iter().enumerate() {
            self.keep_identity(key, set, pod).await?;
            self.keep_retention(set, pod, plan.condemned.contains(&i)).await?;
        }
        for i in &plan.furnish {
            self.furnish(set, &pods[*i]).await?;
        }
        for i in &plan.delete {
            self.delete(key, set, &pods[*i]).await?;
        }
        for new in &plan.create {
            let recorded = history.all.iter().find(|r| history::hash_of(r) == new.revision);
            let template = recorded.and_then(history::template_of);
            let template = template.unwrap_or_else(|| set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default());
            self.create(key, set, &template, new).await?;
        }
        Ok(())
    }

    async fn create(&self, key: &ObjectKey, set: &StatefulSet, template: &PodTemplateSpec, new: &New) -> Result<(), Error> {
        let pod = pod_for(set, template, new);
        let stale = self.claims_of(set, &pod).iter().any(|claim| retention::is_stale(claim, set, &pod));
        if stale {
            return Ok(());
        }
        self.furnish(set, &pod).await?;
        match self.client.create(&pod).await {
            Ok(created) => {
                self.pods.wrote(key, &created);
                let message = format!("create Pod {} in StatefulSet {} successful", pod.name(), set.name());
                self.events.note(set, &Note::normal("SuccessfulCreate", message));
                Ok(())
            }
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                let message = format!("create Pod {} in StatefulSet {} failed error: {error}", pod.name(), set.name());
                self.events.note(set, &Note::warning("FailedCreate", message));
                Err(error).during(|| format!("creating {}", ObjectKey::of(&pod)))
            }
        }
    }

    /// Makes the claims of the pod's volumes that are not there.
    async fn furnish(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let Some(ordinal) = pods::ordinal(set.name(), pod.name()) else { return Ok(()) };
        for (_, claim) in pods::claims(set, ordinal) {
            if self.ctx.informers.volume_claims.get_key(&ObjectKey::of(&claim)).is_some() {
                continue;
            }
            let (claim_name, pod_name, set_name) = (claim.name(), pod.name(), set.name());
            match self.client.create(&claim).await {
                Ok(_) => {
                    let message = format!("create Claim {claim_name} Pod {pod_name} in StatefulSet {set_name} success");
                    self.events.note(set, &Note::normal("SuccessfulCreate", message));
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let message =
                        format!("create Claim {claim_name} for Pod {pod_name} in StatefulSet {set_name} failed error: {error}");
                    self.events.note(set, &Note::warning("FailedCreate", message));
                    return Err(error).during(|| format!("creating the claim {}", ObjectKey::of(&claim)));
                }
            }
        }
        Ok(())
    }

    /// The claims of the pod's volumes that are there.
    fn claims_of(&self, set: &StatefulSet, pod: &Pod) -> Vec<PersistentVolumeClaim> {
        let wanted = pods::ordinal(set.name(), pod.name()).map(|o| pods::claims(set, o)).unwrap_or_default();
        let cached = wanted.iter().filter_map(|(_, c)| self.ctx.informers.volume_claims.get_key(&ObjectKey::of(c)));
        cached.filter_map(|c| client::informer::logged(&c)).collect()
    }

    /// Sees to it that the claims go with the set or the pod, or stay, as the policy has it.
    async fn keep_retention(&self, set: &StatefulSet, pod: &Pod, condemned: bool) -> Result<(), Error> {
        for mut claim in self.claims_of(set, pod) {
            claim.metadata.owner_references = match retention::owners(&claim, set, pod, condemned) {
                Owners::Right => continue,
                Owners::Change(owners) => Some(owners),
                Owners::Conflict(owners) => {
                    let message = format!(
                        "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a manging controller, the \
                         retention policy is ignored for this claim",
                        claim.name()
                    );
                    self.events.note(set, &Note::warning("ConflictingController", message));
                    Some(owners)
                }
            };
            self.client.update(&claim).await.during(|| format!("changing the owners of the claim {}", claim.name()))?;
        }
        Ok(())
    }

    async fn keep_identity(&self, key: &ObjectKey, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let Some(labels) = pods::lost_identity(set, pod) else { return Ok(()) };
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid(), "labels": labels}}));
        let patched = self.client.patch::<Pod>(pod.namespace(), pod.name(), &patch, &PatchParams::default()).await;
        self.pods.wrote(key, &patched.during(|| format!("labelling {}", ObjectKey::of(pod)))?);
        Ok(())
    }

    async fn delete(&self, key: &ObjectKey, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let params = DeleteParams::uid(pod.uid());
        let deleted = self.client.delete::<Pod>(pod.namespace(), pod.name(), &params).await;
        deleted.gone_is_done().during(|| format!("deleting {}", ObjectKey::of(pod)))?;
        self.pods.deleted(key, ObjectKey::of(pod), pod.uid());
        let message = format!("delete Pod {} in StatefulSet {} successful", pod.name(), set.name());
        self.events.note(set, &Note::normal("SuccessfulDelete", message));
        Ok(())
    }
}

/// The revision that the status names, as long as it is kept; else the newest is the current one too.
fn current_revision(set: &StatefulSet, history: &History, update: &str) -> String {
    let named = set.status.as_ref().and_then(|s| s.current_revision.as_deref());
    let kept = history.all.iter().find(|r| Some(r.name()) == named);
    kept.map_or_else(|| update.to_owned(), history::hash_of)
}
