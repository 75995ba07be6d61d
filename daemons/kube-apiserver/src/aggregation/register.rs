//! Keeps the APIServices of what this server serves: built-in groups at start, those of definitions as these come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machinery::status::Status;
use serde_json::Value;

use super::local::{self, Managed, Step};
use super::{GROUP, PLURAL};
use crate::custom::naming;
use crate::follow;
use crate::lookup::Lookup;
use crate::queue::Queue;
use crate::registry::options::DeleteOptions;
use crate::registry::update::{Changed, Target};
use crate::registry::{Context, Served};
use crate::server::Server;

const RETRY: Duration = Duration::from_secs(1);

/// The versions that each definition serves.
type Declared = Arc<Mutex<BTreeMap<String, BTreeSet<(String, String)>>>>;

pub(super) fn start(server: &Arc<Server>) {
    let (queue, declared) = (Queue::default(), Declared::default());
    let (noted, to) = (declared.clone(), queue.clone());
    follow::spawn(server, "apiextensions.k8s.io", "customresourcedefinitions", move |_namespace, name, definition| {
        let versions = definition.map(versions).unwrap_or_default();
        let mut declared = noted.lock().unwrap_or_else(|e| e.into_inner());
        let before = declared.insert(name.to_owned(), versions.clone()).unwrap_or_default();
        if versions.is_empty() {
            declared.remove(name);
        }
        before.symmetric_difference(&versions).for_each(|(group, version)| to.add(&local::name(group, version)));
    });
    let to = queue.clone();
    follow::spawn(server, GROUP, PLURAL, move |_namespace, name, service| {
        let managed = service.and_then(|service| machinery::meta::label(service, local::MANAGED));
        if service.is_none() || managed == Some(Managed::Always.label()) {
            to.add(name);
        }
    });
    let server = server.clone();
    tokio::spawn(async move {
        let shutdown = server.shutdown.clone();
        tokio::select! {
            () = shutdown.requested() => {}
            () = work(&server, &queue, &declared) => {}
        }
    });
}

/// The groups and versions that an established definition serves.
fn versions(definition: &Value) -> BTreeSet<(String, String)> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let all = definition["spec"]["versions"].as_array().into_iter().flatten();
    let served = all.filter(|version| version["served"] == true && naming::is_true(definition, "Established"));
    served.filter_map(|version| Some((group.to_owned(), version["name"].as_str()?.to_owned()))).collect()
}

async fn work(server: &Arc<Server>, queue: &Queue, declared: &Declared) {
    let serving = &server.registry.serving;
    let builtin: BTreeSet<(&str, &str)> = serving
        .resources()
        .filter(|resource| local::builtin_priorities(&resource.group, &resource.version).is_some())
        .map(|resource| (resource.group.as_str(), resource.version.as_str()))
        .collect();
    for (group, version) in builtin {
        let wanted = local::api_service(group, version, Managed::OnStart);
        while let Err(status) = sync(server, &local::name(group, version), Some(&wanted)).await {
            tracing::warn!(error = %status, group, version, "registering an APIService; trying again");
            tokio::time::sleep(RETRY).await;
        }
    }
    loop {
        let name = queue.next().await;
        let Some((version, group)) = name.split_once('.') else { continue };
        let is_declared = {
            let declared = declared.lock().unwrap_or_else(|e| e.into_inner());
            declared.values().any(|versions| versions.contains(&(group.to_owned(), version.to_owned())))
        };
        let wanted = is_declared.then(|| local::api_service(group, version, Managed::Always));
        if let Err(status) = sync(server, &name, wanted.as_ref()).await {
            tracing::warn!(error = %status, name, "an APIService");
            queue.add_after(&name, RETRY);
        }
    }
}

async fn sync(server: &Arc<Server>, name: &str, wanted: Option<&Value>) -> Result<(), Status> {
    let registry = &server.registry;
    let Some(served) = registry.stored(GROUP, PLURAL) else { return Ok(()) };
    registry.load(&[(GROUP, PLURAL)]).await;
    let there = registry.object(GROUP, PLURAL, "", name);
    let cx = Context::server((server.now)());
    let result = match local::decide(wanted, there.as_ref()) {
        Step::Keep => return Ok(()),
        Step::Create(object) => registry.create(&cx, &served, "", "", object).await.map(drop),
        Step::Update(object) => update(server, &served, name, object).await,
        Step::Delete => registry.delete(&cx, &served, "", name, &DeleteOptions::default()).await.map(drop),
    };
    // Another server does the same.
    result.or_else(|status| if matches!(status.code(), 404 | 409) { Ok(()) } else { Err(status) })
}

async fn update(server: &Arc<Server>, served: &Served, name: &str, object: Value) -> Result<(), Status> {
    let target = Target { served, namespace: "", name, subresource: "" };
    let change = move |_old: Option<&Value>| Ok(Changed::Object(object.clone()));
    server.registry.modify(&Context::server((server.now)()), target, &change, false).await.map(drop)
}
