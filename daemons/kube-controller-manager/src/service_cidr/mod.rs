//! service-cidr-controller: ranges of Services are ready when they are made, and stay while addresses of them are in use.

mod decide;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::ResourceId;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Cached, Client, Informer, InformerConfig, ObjectKey, Patch, PatchParams, Scope};
use machinery::meta;
use serde_json::{Value, json};

use self::decide::{Plan, decide};
use crate::context::Context;
use crate::error::{During, Error};

pub(crate) const NAME: &str = "service-cidr-controller";
const IDENTITY: &str = "service-cidrs-controller";
/// Addresses that the API server gave to Services.
const MANAGED: &str = "ipaddress.kubernetes.io/managed-by=ipallocator.k8s.io";

fn resource(kind: &str, plural: &str) -> ResourceId {
    let (group, version) = ("networking.k8s.io".into(), "v1".into());
    ResourceId { group, version, kind: kind.into(), plural: plural.into(), namespaced: false }
}

struct Ranges {
    client: Client,
    resource: ResourceId,
    cidrs: Informer<()>,
    addresses: Informer<()>,
    queue: Queue<ObjectKey>,
    ctx: Arc<Context>,
}

/// Stands for every ServiceCIDR that is going: none has an empty name.
fn all() -> ObjectKey {
    ObjectKey::new("", "")
}

pub(crate) async fn run(ctx: Arc<Context>) {
    let cidrs = Informer::<()>::of_resource(ctx.root(), resource("ServiceCIDR", "servicecidrs"), InformerConfig::default());
    let of_services = InformerConfig { label_selector: Some(MANAGED.into()), metadata_only: true, ..InformerConfig::default() };
    let addresses = Informer::<()>::of_resource(ctx.root(), resource("IPAddress", "ipaddresses"), of_services);
    cidrs.synced().await;
    addresses.synced().await;
    let queue: Queue<ObjectKey> = Queue::new();
    // A range may be freed by another one, or by an address that is given back: then all are looked at.
    let q = queue.clone();
    cidrs.subscribe(move |change| {
        q.add(change.object().key());
        q.add(all());
    });
    let q = queue.clone();
    addresses.subscribe(move |change| {
        if let client::Change::Deleted(_) = change {
            q.add(all());
        }
    });
    let ranges = Arc::new(Ranges {
        client: ctx.client(IDENTITY),
        resource: resource("ServiceCIDR", "servicecidrs"),
        queue: queue.clone(),
        cidrs,
        addresses,
        ctx,
    });
    client::controller::run(NAME, queue, 1, move |key| {
        let ranges = ranges.clone();
        async move { ranges.reconcile(&key).await }
    })
    .await;
}

fn value(cached: &Cached<()>) -> Option<Value> {
    serde_json::from_slice(cached.bytes()).ok()
}

impl Ranges {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        if *key == all() {
            self.cidrs.list().iter().filter(|cidr| cidr.deleting).for_each(|cidr| self.queue.add(cidr.key()));
            return Ok(Outcome::Done);
        }
        let Some(cidr) = self.cidrs.get_key(key).and_then(|cached| value(&cached)) else { return Ok(Outcome::Done) };
        let others: Vec<Value> = self.cidrs.list().iter().filter(|other| other.name != key.name).filter_map(value).collect();
        let addresses: Vec<IpAddr> = self.addresses.list().iter().filter_map(|address| address.name.parse().ok()).collect();
        match decide(&cidr, &others, &addresses, self.ctx.clock.now()) {
            Plan::Nothing => Ok(Outcome::Done),
            Plan::Wait(left) => Ok(Outcome::Again(Duration::try_from(left).unwrap_or_default())),
            Plan::Finalizers(finalizers) => {
                let patch = json!({"metadata": {"finalizers": finalizers}});
                self.patch(&cidr, key, patch, PatchParams::default()).await
            }
            Plan::Conditions(conditions) => {
                self.patch(&cidr, key, json!({"status": {"conditions": conditions}}), PatchParams::status()).await
            }
        }
    }

    /// On exactly the version that was looked at.
    async fn patch(&self, cidr: &Value, key: &ObjectKey, mut patch: Value, params: PatchParams) -> Result<Outcome, Error> {
        meta::set_path(&mut patch, &["metadata", "resourceVersion"], cidr["metadata"]["resourceVersion"].clone());
        let scope = Scope { resource: &self.resource, namespace: "" };
        match self.client.patch_bytes(scope, &key.name, &Patch::Merge(patch), &params).await {
            Err(error) if error.is_conflict() => Ok(Outcome::Again(Duration::from_millis(50))),
            Err(error) if error.is_not_found() => Ok(Outcome::Done),
            other => other.map(|_| Outcome::Done).during(|| format!("changing the ServiceCIDR {key}")),
        }
    }
}
