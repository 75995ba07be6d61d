//! resourcequota-controller: counts what quotas limit, when something ends or changes, and all of it every
//! `--resource-quota-sync-period`.
//!
//! The API server charges quotas as objects are written; what is given back, and what was charged for a write that then
//! failed, only this controller finds out. Nothing is watched in a cluster without quotas.

mod decide;
mod monitors;

use std::sync::Arc;
use std::time::Duration;

use api::ResourceId;
use api::core::ResourceQuota;
use bytes::Bytes;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Client, Informer, InformerConfig, ObjectKey, Scope, object_path};
use tokio::sync::Notify;

use self::monitors::{Monitors, value};
use crate::context::Context;
use crate::discovery;
use crate::error::{During, Error};

pub(crate) const NAME: &str = "resourcequota-controller";

pub(crate) async fn run(ctx: Arc<Context>) {
    let quotas = Informer::<ResourceQuota>::start(ctx.root(), InformerConfig::default());
    let queue: Queue<ObjectKey> = Queue::new();
    let limits_changed = Arc::new(Notify::new());
    let (q, changed) = (queue.clone(), limits_changed.clone());
    quotas.subscribe(move |change| {
        // Its status is this controller's own doing.
        let same = matches!(change, Change::Updated { old, new } if limits(old.bytes()) == limits(new.bytes()));
        if !same {
            q.add(change.object().key());
            changed.notify_one();
        }
    });
    quotas.synced().await;
    let mut resources = discovery::follow(ctx.root().clone());
    let monitors = Monitors::new(ctx.clone(), quotas.clone(), queue.clone());
    if resources.wait_for(|r| !r.all.is_empty()).await.is_err() {
        return;
    }
    let client = ctx.client(NAME);
    let workers = {
        let monitors = monitors.clone();
        client::controller::run(NAME, queue.clone(), ctx.settings.workers.resource_quotas, move |key| {
            let (monitors, client) = (monitors.clone(), client.clone());
            async move { reconcile(&monitors, &client, &key).await }
        })
    };
    let follow = async {
        loop {
            let now = resources.borrow_and_update().clone();
            monitors.update(&now).await;
            tokio::select! {
                () = limits_changed.notified() => {}
                changed = resources.changed() => if changed.is_err() { return },
            }
        }
    };
    let resync = async {
        let mut interval = tokio::time::interval(ctx.settings.resource_quota_sync_period);
        loop {
            interval.tick().await;
            quotas.list().iter().for_each(|quota| queue.add(quota.key()));
        }
    };
    tokio::join!(workers, follow, resync);
}

/// `spec`, as it is written.
fn limits(quota: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice::<serde_json::Value>(quota).ok().map(|mut quota| quota["spec"].take())
}

async fn reconcile(monitors: &Monitors, client: &Client, key: &ObjectKey) -> Result<Outcome, Error> {
    let Some(cached) = monitors.quotas.get_key(key) else { return Ok(Outcome::Done) };
    let Some(mut quota) = value(&cached) else { return Ok(Outcome::Done) };
    let observed = monitors.observe(&quota, &key.namespace);
    let Some(status) = decide::decide(&quota, &observed, monitors.ctx.clock.now()) else { return Ok(Outcome::Done) };
    quota["status"] = status;
    let resource = ResourceId::of::<ResourceQuota>();
    quota["apiVersion"] = resource.api_version().into();
    quota["kind"] = resource.kind.as_str().into();
    let path = object_path(Scope { resource: &resource, namespace: &key.namespace }, &key.name, "status");
    // A Value's keys are strings: it always encodes.
    let body = Bytes::from(quota.to_string());
    match client.call(http::Method::PUT, &path, Some(("application/json", body))).await {
        // Charged in between: its new state comes by the watch, and is looked at then.
        Err(error) if error.is_conflict() => Ok(Outcome::Again(Duration::from_millis(50))),
        Err(error) if error.is_not_found() => Ok(Outcome::Done),
        other => other.map(|_| Outcome::Done).during(|| format!("writing the status of the quota {key}")),
    }
}
