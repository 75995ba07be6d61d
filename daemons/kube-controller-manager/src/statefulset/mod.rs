//! statefulset-controller: pods with names and volumes of their own, made and replaced in order.

mod decide;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::apps::StatefulSet;
use api::core::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, DeleteParams, Informer, InformerConfig, ObjectKey};
use machinery::selector::LabelSelector;

use self::decide::{New, Observed, Plan};
use crate::clock::until;
use crate::context::{Context, Events, candidates};
use crate::error::{During, Error, GoneIsDone};
use crate::event::Note;
use crate::fence::Fence;
use crate::follow::follow_owned;
use crate::revisions::{History, Revisions};
use crate::{claims, history, owner, pod, selector};

pub(crate) const NAME: &str = "statefulset-controller";
const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";
const WORKERS: usize = 5;

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let sets = Informer::<StatefulSet>::start(ctx.root(), InformerConfig::default());
    let informers = &ctx.informers;
    sets.synced().await;
    informers.controller_revisions.synced().await;
    informers.pods.synced().await;
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
    client::controller::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

fn selector_of(set: &StatefulSet) -> Option<LabelSelector> {
    selector::compile(&set.spec.as_ref()?.selector).ok()
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
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
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
        let pods = pods.into_iter().filter(|p| decide::ordinal(set.name(), p.name()).is_some()).collect();
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
        let (pod, claims) = pod_for(set, template, new);
        for claim in claims {
            match self.client.create(&claim).await {
                Ok(_) => {
                    let message =
                        format!("create Claim {} Pod {} in StatefulSet {} success", claim.name(), pod.name(), set.name());
                    self.events.note(set, &Note::normal("SuccessfulCreate", message));
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error).during(|| format!("creating the claim {}", ObjectKey::of(&claim))),
            }
        }
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

/// A pod of that ordinal and revision, and the claims that its volumes need.
fn pod_for(set: &StatefulSet, template: &PodTemplateSpec, new: &New) -> (Pod, Vec<PersistentVolumeClaim>) {
    let spec = set.spec.clone().unwrap_or_default();
    let name = format!("{}-{}", set.name(), new.ordinal);
    let mut pod = pod::from_template(template, set, owner::controller_ref(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels: &mut BTreeMap<String, String> = pod.metadata.labels.get_or_insert_default();
    labels.insert(history::HASH_LABEL.into(), new.revision.clone());
    labels.insert(POD_NAME_LABEL.into(), name.clone());
    labels.insert(POD_INDEX_LABEL.into(), new.ordinal.to_string());
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = spec.service_name.clone().filter(|s| !s.is_empty());
    let mut claims = Vec::new();
    for template in spec.volume_claim_templates.iter().flatten() {
        let volume = template.name().to_owned();
        let mut claim = template.clone();
        claim.metadata.name = Some(format!("{volume}-{}-{}", set.name(), new.ordinal));
        claim.metadata.namespace = set.metadata.namespace.clone();
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        claim.status = None;
        let volumes = pod_spec.volumes.get_or_insert_default();
        volumes.retain(|v| v.name != volume);
        volumes.push(Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.name().to_owned(),
                read_only: None,
            }),
            ..Volume::default()
        });
        claims.push(claim);
    }
    (pod, claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_has_its_name_and_its_volumes() {
        let set = StatefulSet::decode_value(json!({
            "metadata": {"name": "db", "namespace": "default", "uid": "u"},
            "spec": {
                "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"spec": {"containers": [], "volumes": [{"name": "data", "emptyDir": {}}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            },
        }))
        .unwrap();
        let template = set.spec.as_ref().unwrap().template.clone();
        let (pod, claims) = pod_for(&set, &template, &New { ordinal: 2, revision: "abc".into() });
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!((pod.name(), spec.hostname.as_deref(), spec.subdomain.as_deref()), ("db-2", Some("db-2"), Some("db")));
        let volumes = spec.volumes.as_ref().unwrap();
        assert_eq!((volumes.len(), volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name.as_str()), (1, "data-db-2"));
        assert_eq!((claims[0].name(), claims[0].namespace()), ("data-db-2", "default"));
        assert_eq!(claims[0].metadata.labels.as_ref().unwrap()["app"], "db");
        assert!(owner::is_controlled_by(&pod.metadata, "u") && claims[0].metadata.owner_references.is_none());
    }
}
