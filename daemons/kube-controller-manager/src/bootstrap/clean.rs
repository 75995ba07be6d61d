//! token-cleaner-controller: bootstrap tokens go when their time is over.

use std::sync::Arc;

use api::Kind;
use api::core::Secret;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, DeleteParams, Informer, ObjectKey};

use super::token::{Expiration, expiration};
use crate::clock::until;
use crate::context::Context;
use crate::error::{During, Error};

pub(crate) const NAME: &str = "token-cleaner-controller";
const IDENTITY: &str = "token-cleaner";

pub(crate) async fn run(ctx: Arc<Context>) {
    let secrets = super::secrets(ctx.root());
    secrets.synced().await;
    let queue: Queue<ObjectKey> = Queue::new();
    let q = queue.clone();
    secrets.subscribe(move |change| q.add(change.object().key()));
    let client = ctx.client(IDENTITY);
    client::controller::run(NAME, queue, 1, move |key| {
        let (ctx, secrets, client) = (ctx.clone(), secrets.clone(), client.clone());
        async move { reconcile(&ctx, &secrets, &client, &key).await }
    })
    .await;
}

async fn reconcile(ctx: &Context, secrets: &Informer<Secret>, client: &Client, key: &ObjectKey) -> Result<Outcome, Error> {
    let Some(cached) = secrets.get_key(key) else { return Ok(Outcome::Done) };
    let secret = cached.parse()?;
    let now = ctx.clock.now();
    match expiration(&secret) {
        Expiration::Never => return Ok(Outcome::Done),
        Expiration::At(end) if end > now => return Ok(Outcome::Again(until(end, now))),
        Expiration::At(_) | Expiration::Unreadable => {}
    }
    match client.delete::<Secret>(&key.namespace, &key.name, &DeleteParams::uid(secret.uid())).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => {
            Err(error).during(|| format!("deleting the expired token {}", key.name))
        }
        _ => Ok(Outcome::Done),
    }
}
