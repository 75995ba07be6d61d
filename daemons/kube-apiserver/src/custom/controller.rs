//! Keeps the status of definitions: gives out names, and ends a definition's objects before it goes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::definitions::{GROUP, PLURAL};
use super::{cleanup, conditions, naming};
use crate::lookup::Lookup;
use crate::queue::Queue;
use crate::registry::update::{Changed, Target};
use crate::registry::{Context, Registry};
use crate::server::Server;

const RETRY: Duration = Duration::from_secs(1);

/// Starts the worker; what is put into the queue is looked at.
pub(super) fn start(server: &Arc<Server>) -> Queue {
    let queue = Queue::default();
    let (worker, server) = (queue.clone(), server.clone());
    tokio::spawn(async move {
        let shutdown = server.shutdown.clone();
        tokio::select! {
            () = shutdown.requested() => {}
            () = work(&server, &worker) => {}
        }
    });
    queue
}

async fn work(server: &Arc<Server>, queue: &Queue) {
    let cleaning = Arc::new(Mutex::new(BTreeSet::new()));
    loop {
        let name = queue.next().await;
        if let Err(status) = look_at(server, queue, &cleaning, &name).await {
            tracing::warn!(error = %status, name, "the status of a definition");
            queue.add_after(&name, RETRY);
        }
    }
}

async fn look_at(server: &Arc<Server>, queue: &Queue, cleaning: &Arc<Mutex<BTreeSet<String>>>, name: &str) -> Result<(), Status> {
    let registry = &server.registry;
    let all = registry.objects(GROUP, PLURAL, "");
    let group = name.split_once('.').map_or("", |(_, group)| group);
    let others = |queue: &Queue| {
        let same_group = all.iter().filter(|other| other["spec"]["group"] == group && meta::name(other) != name);
        // Names that this one had may be theirs now.
        same_group.filter(|other| !naming::is_true(other, "NamesAccepted")).for_each(|other| queue.add(meta::name(other)));
    };
    let Some(definition) = all.iter().find(|definition| meta::name(definition) == name) else {
        others(queue);
        return Ok(());
    };
    if cleanup::is_due(definition) {
        if cleaning.lock().unwrap_or_else(|e| e.into_inner()).insert(name.to_owned()) {
            let (server, cleaning, name) = (server.clone(), cleaning.clone(), name.to_owned());
            tokio::spawn(async move {
                cleanup::run(&server, &name).await;
                cleaning.lock().unwrap_or_else(|e| e.into_inner()).remove(&name);
            });
        }
        return Ok(());
    }
    let now = machinery::time::format((server.now)());
    let mut wanted = definition.clone();
    let named = naming::decide(definition, &all, &now);
    if let Some(status) = &named {
        wanted["status"] = status.clone();
    }
    let Some(status) = conditions::decide(&wanted, &now).or(named) else { return Ok(()) };
    set_status(
        registry,
        server,
        name,
        &|object: &mut Value| object["status"] = status.clone(),
        meta::resource_version(definition),
    )
    .await?;
    others(queue);
    Ok(())
}

/// Changes the status of a definition, unless it is another by now: then it is looked at again anyway.
pub(super) async fn set_status(
    registry: &Registry,
    server: &Server,
    name: &str,
    change: &(dyn Fn(&mut Value) + Send + Sync),
    revision: u64,
) -> Result<(), Status> {
    let Some(served) = registry.stored(GROUP, PLURAL) else { return Ok(()) };
    let target = Target { served: &served, namespace: "", name, subresource: "status" };
    let cx = Context::server((server.now)());
    let changed = |old: Option<&Value>| {
        let mut new = old.ok_or_else(|| served.not_found(name))?.clone();
        if revision != 0 && meta::resource_version(&new) != revision {
            return Err(Status::modified(served.group_resource(), name));
        }
        change(&mut new);
        Ok(Changed::Object(new))
    };
    match registry.modify(&cx, target, &changed, false).await {
        Ok(_) => Ok(()),
        Err(status) if matches!(status.code(), 404 | 409) => Ok(()),
        Err(status) => Err(status),
    }
}
