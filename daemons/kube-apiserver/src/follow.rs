//! Indexes that follow the caches: RBAC's and the Node authorizer's.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::store::{ChangeKind, Entry};
use machinery::meta;
use serde_json::Value;

use crate::authz::node::NodeAuthorizer;
use crate::authz::rbac::{self, Rbac};
use crate::lookup::Lookup;
use crate::registry::Served;
use crate::registry::store::EntryExt;
use crate::server::Server;

const RETRY: Duration = Duration::from_millis(200);

/// A lookup that is connected once the registry exists, for parts that the registry itself is built of.
#[derive(Default)]
pub struct LateLookup(OnceLock<Arc<dyn Lookup>>);

impl LateLookup {
    pub fn connect(&self, lookup: Arc<dyn Lookup>) {
        // Called once, at start.
        let _ = self.0.set(lookup);
    }
}

impl Lookup for LateLookup {
    fn object(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.0.get()?.object(group, plural, namespace, name)
    }

    fn objects(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        self.0.get().map(|lookup| lookup.objects(group, plural, namespace)).unwrap_or_default()
    }
}

/// Starts the tasks that keep the authorizers' indexes up to date.
pub fn start(server: &Arc<Server>, rbac: Arc<Rbac>, node: Arc<NodeAuthorizer>) {
    for plural in ["clusterroles", "roles", "clusterrolebindings", "rolebindings"] {
        let rbac = rbac.clone();
        spawn(server, rbac::GROUP, plural, move |namespace, name, object| rbac.apply(plural, namespace, name, object));
    }
    spawn(server, "", "pods", move |namespace, name, pod| node.apply_pod(namespace, name, pod));
}

/// Calls `apply` with every object of a resource, and again with every change (none: it was deleted).
pub fn spawn(
    server: &Arc<Server>,
    group: &str,
    plural: &str,
    apply: impl Fn(&str, &str, Option<&Value>) + Send + Sync + 'static,
) {
    spawn_loaded(server, group, plural, apply, || {});
}

/// The same; calls `loaded` each time that everything there is was applied.
pub fn spawn_loaded(
    server: &Arc<Server>,
    group: &str,
    plural: &str,
    apply: impl Fn(&str, &str, Option<&Value>) + Send + Sync + 'static,
    loaded: impl Fn() + Send + Sync + 'static,
) {
    let Some(served) = server.registry.stored(group, plural) else { return };
    let shutdown = server.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.requested() => {}
            () = follow(&served, &apply, &loaded) => {}
        }
    });
}

async fn follow(
    served: &Served,
    apply: &(impl Fn(&str, &str, Option<&Value>) + Send + Sync),
    loaded: &(impl Fn() + Send + Sync),
) {
    let mut known: std::collections::HashSet<(String, String)> = std::collections::HashSet::new();
    loop {
        let snapshot = served.store.cache.recent().await;
        let mut gone = std::mem::take(&mut known);
        for entry in snapshot.scan(&served.store.prefix(""), None) {
            let key = put(entry, apply);
            gone.remove(&key);
            known.insert(key);
        }
        // What went while nobody was watching.
        for (namespace, name) in gone {
            apply(&namespace, &name, None);
        }
        loaded();
        if let Ok(mut watcher) = served.store.cache.watch(snapshot.revision()).await {
            while let Ok(change) = watcher.next().await {
                if change.kind == ChangeKind::Deleted {
                    let key = key_of(&change.entry);
                    apply(&key.0, &key.1, None);
                    known.remove(&key);
                } else {
                    known.insert(put(&change.entry, apply));
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn put(entry: &Entry, apply: &impl Fn(&str, &str, Option<&Value>)) -> (String, String) {
    let key = key_of(entry);
    if let Some(object) = entry.value() {
        apply(meta::namespace(&object), meta::name(&object), Some(&object));
    }
    key
}

fn key_of(entry: &Entry) -> (String, String) {
    let field = |name: &str| entry.record().fields.get(name).unwrap_or_default().to_owned();
    (field("metadata.namespace"), field("metadata.name"))
}
