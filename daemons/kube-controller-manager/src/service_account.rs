//! serviceaccount-controller: every namespace has a ServiceAccount named `default`.

use std::sync::Arc;

use api::core::ServiceAccount;
use api::metav1::ObjectMeta;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, ObjectKey};

use crate::context::Context;
use crate::error::{During, Error};

pub(crate) const NAME: &str = "serviceaccount-controller";
const IDENTITY: &str = "service-account-controller";
const DEFAULT: &str = "default";

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<String> = Queue::new();
    let informers = &ctx.informers;
    informers.namespaces.synced().await;
    informers.service_accounts.synced().await;
    let q = queue.clone();
    informers.namespaces.subscribe(move |change| q.add(change.object().name.clone()));
    let q = queue.clone();
    informers.service_accounts.subscribe(move |change| {
        if change.object().name == DEFAULT {
            q.add(change.object().namespace.clone());
        }
    });
    let client = ctx.client(IDENTITY);
    client::controller::run(NAME, queue, 1, move |namespace| {
        let (ctx, client) = (ctx.clone(), client.clone());
        async move { reconcile(&ctx, &client, &namespace).await }
    })
    .await;
}

async fn reconcile(ctx: &Context, client: &Client, namespace: &str) -> Result<Outcome, Error> {
    let live = ctx.informers.namespaces.get("", namespace).filter(|n| !n.deleting);
    if live.is_none() || ctx.informers.service_accounts.get(namespace, DEFAULT).is_some() {
        return Ok(Outcome::Done);
    }
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some(DEFAULT.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    match client.create(&account).await {
        Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => {
            Err(error).during(|| format!("creating the ServiceAccount {}", ObjectKey::new(namespace, DEFAULT)))
        }
        _ => Ok(Outcome::Done),
    }
}
