//! Writes into Secrets that their tokens are used.

use std::sync::Arc;

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::legacy_token::{LAST_USED, Used};
use crate::registry::Context;
use crate::registry::update::{Changed, Target};
use crate::server::Server;

/// Notes that wait to be written; beyond, the next use of a token is noted instead.
pub const WAITING_MAX: usize = 64;

/// Until nobody can send any more, or the server ends.
pub async fn run(server: Arc<Server>, mut used: mpsc::Receiver<Used>) {
    let shutdown = server.shutdown.clone();
    loop {
        let next = tokio::select! {
            () = shutdown.requested() => return,
            next = used.recv() => next,
        };
        let Some(used) = next else { return };
        if let Err(status) = note(&server, &used).await {
            let (namespace, name) = (&used.namespace, &used.name);
            tracing::warn!(namespace, name, error = %status, "noting that a service account token is used");
        }
    }
}

async fn note(server: &Server, used: &Used) -> Result<(), Status> {
    let served = server.registry.stored("", "secrets").ok_or_else(Status::no_such_path)?;
    let target = Target { served: &served, namespace: &used.namespace, name: &used.name, subresource: "" };
    let change = |old: Option<&Value>| {
        let old = old.ok_or_else(|| Status::not_found(("", "secrets"), &used.name))?;
        let mut new = old.clone();
        if meta::uid(old) == used.uid {
            meta::set_path(&mut new, &["metadata", "labels", LAST_USED], json!(used.day.to_string()));
        }
        Ok(Changed::Object(new))
    };
    match server.registry.modify(&Context::server((server.now)()), target, &change, false).await {
        // It was deleted meanwhile.
        Err(status) if status.code() != 404 => Err(status),
        _ => Ok(()),
    }
}
