//! ephemeral-volume-controller: the claims of pods' generic ephemeral volumes (KEP-1698). They go with their pod: the
//! garbage collector sees to it.

use std::sync::Arc;

use api::Kind;
use api::core::{PersistentVolumeClaim, Pod, Volume};
use api::metav1::ObjectMeta;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, ObjectKey};

use super::facts;
use crate::context::{BY_CLAIM, Context, Events};
use crate::error::{During, Error};
use crate::event::Note;
use crate::{owner, pod};

pub(crate) const NAME: &str = "ephemeral-volume-controller";

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let informers = &ctx.informers;
    informers.pods.synced().await;
    informers.volume_claims.synced().await;
    let q = queue.clone();
    // A pod's volumes never change.
    informers.pods.subscribe(move |change| {
        if let Change::Added(pod) = change
            && client::informer::logged(pod).is_some_and(|p| has_ephemeral(&p))
        {
            q.add(pod.key());
        }
    });
    let (q, pods) = (queue.clone(), informers.pods.clone());
    informers.volume_claims.subscribe(move |change| {
        if let Change::Deleted(claim) = change {
            pods.by_index(BY_CLAIM, &claim.key().to_string()).iter().for_each(|p| q.add(p.key()));
        }
    });
    let (client, events) = (ctx.client(NAME), ctx.events(NAME, "ephemeral_volume"));
    let workers = ctx.settings.workers.ephemeral_volumes;
    client::controller::run(NAME, queue, workers, move |key| {
        let (ctx, client, events) = (ctx.clone(), client.clone(), events.clone());
        async move { reconcile(&ctx, &client, &events, &key).await }
    })
    .await;
}

fn has_ephemeral(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).any(|v| v.ephemeral.is_some())
}

async fn reconcile(ctx: &Context, client: &client::Client, events: &Events, key: &ObjectKey) -> Result<Outcome, Error> {
    let Some(cached) = ctx.informers.pods.get_key(key) else { return Ok(Outcome::Done) };
    let pod = cached.parse()?;
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let Some(wanted) = claim_for(&pod, volume) else { continue };
        let present = ctx.informers.volume_claims.get_key(&ObjectKey::of(&wanted)).map(|c| c.parse()).transpose()?;
        let result = match &present {
            Some(present) if is_for(present, &pod) => Ok(()),
            Some(present) => Err(Error::Other(not_for(present, &pod))),
            None => match client.create(&wanted).await {
                Err(error) if error.is_namespace_terminating() || error.is_already_exists() => Ok(()),
                result => result.map(drop).during(|| format!("create PVC {}", wanted.name())),
            },
        };
        if let Err(error) = result {
            let message = format!("ephemeral volume {}: {error}", volume.name);
            events.note(&pod, &Note::warning("FailedBinding", message));
            return Err(error);
        }
    }
    Ok(Outcome::Done)
}

/// The claim that the volume asks for, which belongs to the pod.
fn claim_for(pod: &Pod, volume: &Volume) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    if pod::is_deleting(pod) {
        return None;
    }
    let meta = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: facts::claim_name(pod.name(), volume),
            namespace: pod.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![owner::controller_ref(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}

pub(super) fn is_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    owner::is_controlled_by(&claim.metadata, pod.uid())
}

fn not_for(claim: &PersistentVolumeClaim, pod: &Pod) -> String {
    let (namespace, claim, pod) = (claim.namespace(), claim.name(), pod.name());
    format!("PVC {namespace}/{claim} was not created for pod {namespace}/{pod} (pod is not owner)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_made_as_the_volume_asks() {
        let mut pod = Pod::decode_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "plain", "emptyDir": {}},
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}}},
            ]},
        }))
        .unwrap();
        let volumes = pod.spec.as_ref().unwrap().volumes.clone().unwrap();
        assert_eq!(claim_for(&pod, &volumes[0]), None);
        let claim = claim_for(&pod, &volumes[1]).unwrap();
        assert_eq!((claim.name(), claim.namespace(), is_for(&claim, &pod)), ("p-scratch", "n", true));
        assert_eq!(claim.metadata.labels.as_ref().unwrap()["a"], "b");
        pod.metadata.uid = Some("another".into());
        assert!(!is_for(&claim, &pod));
        pod.metadata.deletion_timestamp = Some(crate::clock::time(api::jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(claim_for(&pod, &volumes[1]), None);
    }
}
