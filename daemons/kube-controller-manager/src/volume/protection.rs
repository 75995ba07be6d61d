//! persistentvolumeclaim-, persistentvolume- and volumeattributesclass-protection-controller: what is in use is not
//! deleted. Each is a finalizer, put on every object and taken off one that is being deleted when nobody uses it.

use std::future::Future;
use std::sync::Arc;

use api::Kind;
use api::core::{PersistentVolume, PersistentVolumeClaim, Pod};
use api::storage::VolumeAttributesClass;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Informer, InformerConfig, ListParams, ObjectKey};

use super::{ephemeral, facts};
use crate::context::{BY_CLAIM, Context};
use crate::error::{During, Error};

pub(crate) const CLAIMS: &str = "persistentvolumeclaim-protection-controller";
pub(crate) const VOLUMES: &str = "persistentvolume-protection-controller";
pub(crate) const CLASSES: &str = "volumeattributesclass-protection-controller";

pub(crate) async fn run_claims(ctx: Arc<Context>) {
    let informers = &ctx.informers;
    informers.pods.synced().await;
    let queue: Queue<ObjectKey> = Queue::new();
    let (q, claims) = (queue.clone(), informers.volume_claims.clone());
    informers.pods.subscribe(move |change| {
        let ended = match change {
            Change::Deleted(pod) | Change::Updated { new: pod, .. } => pod,
            Change::Added(_) => return,
        };
        for claim in facts::index_claims(ended, ended.bytes()) {
            let key = claim.split_once('/').map(|(namespace, name)| ObjectKey::new(namespace, name));
            if let Some(key) = key.filter(|k| claims.get_key(k).is_some_and(|c| c.deleting)) {
                q.add(key);
            }
        }
    });
    run(ctx.clone(), ctx.informers.volume_claims.clone(), queue).await;
}

pub(crate) async fn run_volumes(ctx: Arc<Context>) {
    run(ctx.clone(), ctx.informers.volumes.clone(), Queue::new()).await;
}

pub(crate) async fn run_classes(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let classes = Informer::<VolumeAttributesClass>::start(ctx.root(), InformerConfig::default());
    classes.synced().await;
    // A class is let go when its last user goes: the users are looked at, whatever they named.
    fn follow<K: Kind>(users: &Informer<K>, classes: &Informer<VolumeAttributesClass>, queue: &Queue<ObjectKey>) {
        let (queue, classes) = (queue.clone(), classes.clone());
        users.subscribe(move |change| {
            if !matches!(change, Change::Added(_)) {
                classes.list().iter().filter(|c| c.deleting).for_each(|c| queue.add(c.key()));
            }
        });
    }
    ctx.informers.volumes.synced().await;
    ctx.informers.volume_claims.synced().await;
    follow(&ctx.informers.volumes, &classes, &queue);
    follow(&ctx.informers.volume_claims, &classes, &queue);
    run(ctx, classes, queue).await;
}

/// A kind that is protected while it is in use.
trait Protected: Kind {
    const CONTROLLER: &'static str;
    const IDENTITY: &'static str;
    const FINALIZER: &'static str;

    fn is_used(&self, ctx: &Context) -> impl Future<Output = Result<bool, Error>> + Send;
}

async fn run<K: Protected>(ctx: Arc<Context>, objects: Informer<K>, queue: Queue<ObjectKey>) {
    objects.synced().await;
    let q = queue.clone();
    objects.subscribe(move |change| q.add(change.object().key()));
    let client = ctx.client(K::IDENTITY);
    client::controller::run(K::CONTROLLER, queue, 1, move |key| {
        let (ctx, objects, client) = (ctx.clone(), objects.clone(), client.clone());
        async move { reconcile(&ctx, &objects, &client, &key).await }
    })
    .await;
}

async fn reconcile<K: Protected>(
    ctx: &Context,
    objects: &Informer<K>,
    client: &client::Client,
    key: &ObjectKey,
) -> Result<Outcome, Error> {
    let Some(cached) = objects.get_key(key) else { return Ok(Outcome::Done) };
    let has = cached.finalizers.iter().any(|f| f == K::FINALIZER);
    let mut object = match (cached.deleting, has) {
        (false, true) | (true, false) => return Ok(Outcome::Done),
        (false, false) | (true, true) => cached.parse()?,
    };
    let finalizers = object.meta_mut().finalizers.get_or_insert_default();
    if cached.deleting {
        finalizers.retain(|f| f != K::FINALIZER);
        if object.is_used(ctx).await? {
            return Ok(Outcome::Done);
        }
    } else {
        finalizers.push(K::FINALIZER.into());
    }
    match client.update(&object).await {
        Err(error) if !error.is_not_found() => Err(error).during(|| format!("protecting {} {key}", K::KIND)),
        _ => Ok(Outcome::Done),
    }
}

impl Protected for PersistentVolumeClaim {
    const CONTROLLER: &'static str = CLAIMS;
    const IDENTITY: &'static str = "pvc-protection-controller";
    const FINALIZER: &'static str = "kubernetes.io/pvc-protection";

    /// Asks the cache, and when it knows of no user, the server: a pod that was made a moment ago counts.
    async fn is_used(&self, ctx: &Context) -> Result<bool, Error> {
        let cached = ctx.informers.pods.by_index(BY_CLAIM, &ObjectKey::of(self).to_string());
        if cached.iter().filter_map(client::informer::logged).any(|pod| uses(&pod, self)) {
            return Ok(true);
        }
        let client = ctx.client(Self::IDENTITY);
        let live = client.list::<Pod>(self.namespace(), &ListParams::default()).await;
        Ok(live.during(|| format!("listing the pods of {}", self.namespace()))?.items.iter().any(|pod| uses(pod, self)))
    }
}

impl Protected for PersistentVolume {
    const CONTROLLER: &'static str = VOLUMES;
    const IDENTITY: &'static str = "pv-protection-controller";
    const FINALIZER: &'static str = "kubernetes.io/pv-protection";

    async fn is_used(&self, _: &Context) -> Result<bool, Error> {
        Ok(self.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound"))
    }
}

impl Protected for VolumeAttributesClass {
    const CONTROLLER: &'static str = CLASSES;
    const IDENTITY: &'static str = CLASSES;
    const FINALIZER: &'static str = "kubernetes.io/vac-protection";

    async fn is_used(&self, ctx: &Context) -> Result<bool, Error> {
        let claims = ctx.informers.volume_claims.parsed();
        let volumes = ctx.informers.volumes.parsed();
        Ok(claims.iter().any(|c| claim_names(c, self.name())) || volumes.iter().any(|v| volume_names(v, self.name())))
    }
}

/// Only on a node is a claim in use: the kubelet starts no pod whose claim is being deleted.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if crate::pod::node_name(pod).is_empty() {
        return false;
    }
    // The kubelet is done with it, or it was deleted by force.
    let shut_down = crate::pod::is_deleting(pod) && pod.metadata.deletion_grace_period_seconds == Some(0);
    facts::claims_of(pod)
        .any(|(volume, name)| name == claim.name() && (volume.ephemeral.is_none() || !shut_down && ephemeral::is_for(claim, pod)))
}

fn claim_names(claim: &PersistentVolumeClaim, class: &str) -> bool {
    let status = claim.status.as_ref();
    let asked = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    let current = status.and_then(|s| s.current_volume_attributes_class_name.as_deref());
    let target =
        status.and_then(|s| s.modify_volume_status.as_ref()).and_then(|m| m.target_volume_attributes_class_name.as_deref());
    [asked, current, target].contains(&Some(class))
}

fn volume_names(volume: &PersistentVolume, class: &str) -> bool {
    volume.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref()) == Some(class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn who_uses_a_claim() {
        let claim = PersistentVolumeClaim::decode_value(json!({
            "metadata": {"name": "p-b", "ownerReferences":
                [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]},
        }))
        .unwrap();
        let named = json!({"name": "a", "persistentVolumeClaim": {"claimName": "p-b"}});
        let own = json!({"name": "b", "ephemeral": {}});
        let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
        for (node, volume, meta, want) in [
            ("n1", &named, json!({}), true),
            ("", &named, json!({}), false),
            ("n1", &named, gone.clone(), true),
            ("n1", &own, json!({}), true),
            ("n1", &own, gone, false),
            ("n1", &own, json!({"uid": "another"}), false),
            ("n1", &json!({"name": "c", "emptyDir": {}}), json!({}), false),
        ] {
            let mut object =
                json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [], "nodeName": node, "volumes": [volume]}});
            meta.as_object().unwrap().iter().for_each(|(k, v)| object["metadata"][k] = v.clone());
            assert_eq!(uses(&Pod::decode_value(object).unwrap(), &claim), want, "{node} {volume} {meta}");
        }
    }

    #[test]
    fn who_names_a_class() {
        let claim = |spec: Value, status: Value| {
            PersistentVolumeClaim::decode_value(json!({"metadata": {}, "spec": spec, "status": status})).unwrap()
        };
        let none = || json!({});
        assert!(claim_names(&claim(json!({"volumeAttributesClassName": "gold"}), none()), "gold"));
        assert!(claim_names(&claim(none(), json!({"currentVolumeAttributesClassName": "gold"})), "gold"));
        let change = json!({"modifyVolumeStatus": {"targetVolumeAttributesClassName": "gold", "status": "Pending"}});
        assert!(claim_names(&claim(none(), change), "gold"));
        assert!(!claim_names(&claim(none(), none()), "gold"));
    }
}
