//! garbage-collector-controller: deletes what lost its last owner, and carries out foreground and orphaning deletions.
//!
//! The graph is only a hint of where to look: before anything is deleted, the object and every owner that the graph does
//! not know to live are read from the server, and the deletion names the uid and the version that were read.

mod graph;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::{Meta, OwnerRef, ResourceId};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Client, DeleteParams, Informer, InformerConfig, Patch, PatchParams, Precondition, Propagation, Scope};
use serde_json::json;
use tokio::sync::watch;

use self::graph::{FOREGROUND, Graph, Known, Node, ORPHAN, Stage, Verdict, Work, judge};
use crate::context::Context;
use crate::discovery::{self, Resources};
use crate::error::{During, Error, GoneIsDone};

pub(crate) const NAME: &str = "garbage-collector-controller";
pub(crate) const IDENTITY: &str = "generic-garbage-collector";
/// A resource that cannot be listed (its server is down) does not hold up the others for longer.
const SYNC_WAIT_MAX: Duration = Duration::from_secs(30);
/// Deleted by age, and so many: not worth a watch.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

pub(crate) async fn run(ctx: Arc<Context>) {
    if !ctx.settings.garbage_collector {
        tracing::info!(controller = NAME, "not started: --enable-garbage-collector=false");
        return;
    }
    let queue: Queue<Work> = Queue::new();
    let resources = ctx.resources();
    let collector = Arc::new(Collector {
        client: ctx.client(IDENTITY),
        graph: Arc::default(),
        resources: resources.clone(),
        queue: queue.clone(),
    });
    let mut monitors = Monitors { client: ctx.root().clone(), collector: collector.clone(), informers: HashMap::new() };
    let mut changes = resources;
    // The first answer, whatever it takes.
    if changes.wait_for(|r| !r.all.is_empty()).await.is_err() {
        return;
    }
    monitors.update().await;
    let workers = client::controller::run(NAME, queue, ctx.settings.workers.garbage_collector, move |work| {
        let collector = collector.clone();
        async move { collector.work(work).await }
    });
    let follow = async {
        while changes.changed().await.is_ok() {
            monitors.update().await;
        }
    };
    tokio::join!(workers, follow);
}

/// One metadata watch for each resource.
struct Monitors {
    client: Client,
    collector: Arc<Collector>,
    informers: HashMap<ResourceId, Informer<()>>,
}

impl Monitors {
    async fn update(&mut self) {
        let resources = self.collector.resources.borrow().clone();
        let watched = |r: &&discovery::Discovered| {
            let ignored = IGNORED.contains(&(r.resource.group.as_str(), r.resource.plural.as_str()));
            !ignored && ["list", "watch", "delete"].iter().all(|verb| r.can(verb))
        };
        let wanted: Vec<ResourceId> = resources.all.iter().filter(watched).map(|d| d.resource.clone()).collect();
        // While some groups are silent, a resource that is not named may still be there.
        if resources.stale.is_empty() {
            self.informers.retain(|resource, _| {
                let keep = wanted.contains(resource);
                if !keep {
                    self.collector.resource_gone(resource);
                }
                keep
            });
        }
        for resource in wanted {
            if !self.informers.contains_key(&resource) {
                let informer = self.collector.monitor(&self.client, &resource);
                self.informers.insert(resource, informer);
            }
        }
        let all = futures::future::join_all(self.informers.values().map(Informer::synced));
        if tokio::time::timeout(SYNC_WAIT_MAX, all).await.is_err() {
            let behind = self.informers.iter().filter(|(_, i)| !i.is_synced()).map(|(r, _)| r.plural.as_str());
            tracing::warn!(controller = NAME, resources = ?behind.collect::<Vec<_>>(), "going on without a complete view");
        }
    }
}

struct Collector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    resources: watch::Receiver<Arc<Resources>>,
    queue: Queue<Work>,
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn monitor(&self, client: &Client, resource: &ResourceId) -> Informer<()> {
        let config = InformerConfig { metadata_only: true, ..InformerConfig::default() };
        let informer = Informer::<()>::of_resource(client, resource.clone(), config);
        let (graph, queue, resource) = (self.graph.clone(), self.queue.clone(), Arc::new(resource.clone()));
        informer.subscribe(move |change| {
            let mut graph = graph.lock().unwrap_or_else(|e| e.into_inner());
            let work = match change {
                Change::Added(object) | Change::Updated { new: object, .. } => graph.observe(&resource, object),
                Change::Deleted(object) => graph.gone(&object.uid),
            };
            drop(graph);
            work.into_iter().for_each(|w| queue.add(w));
        });
        informer
    }

    fn resource_gone(&self, resource: &ResourceId) {
        let mut graph = self.graph();
        let uids = graph.of_resource(resource);
        let work: Vec<Work> = uids.iter().flat_map(|uid| graph.gone(uid)).collect();
        drop(graph);
        work.into_iter().for_each(|w| self.queue.add(w));
    }

    async fn work(&self, work: Work) -> Result<Outcome, Error> {
        let result = match &work {
            Work::Check(uid) => self.check(uid).await,
            Work::Orphan(uid) => self.orphan(uid).await,
        };
        match result {
            // Somebody else changed it in between: look again.
            Err(error) if error.is_conflict() => Ok(Outcome::Again(Duration::from_millis(100))),
            other => other.map(|()| Outcome::Done),
        }
    }

    async fn check(&self, uid: &str) -> Result<(), Error> {
        let Some(node) = self.graph().node(uid).cloned() else { return Ok(()) };
        if node.deleting && node.stage != Stage::AwaitsDependents {
            return Ok(());
        }
        if node.stage != Stage::AwaitsDependents && self.lives_by_graph(&node) {
            return Ok(());
        }
        let Some(live) = self.live(&node, uid).await? else {
            self.is_gone(uid);
            return Ok(());
        };
        if Stage::of(&live) == Stage::AwaitsDependents {
            return self.release_if_childless(uid, &node, &live).await;
        }
        if live.deleting {
            return Ok(());
        }
        let mut owners = Vec::with_capacity(live.owners.len());
        for owner in &live.owners {
            owners.push(self.owner(owner, &live).await?);
        }
        let has_dependents = self.graph().dependents(uid).next().is_some();
        match judge(&owners, has_dependents) {
            Verdict::Lives => Ok(()),
            Verdict::Trim => self.trim(&node, &live, &owners).await,
            Verdict::DeleteForeground => {
                self.break_cycles(uid, &node, &live).await?;
                self.delete(&node, uid, None, Propagation::Foreground).await
            }
            Verdict::Delete => {
                let has = |finalizer: &str| live.finalizers.iter().any(|f| f == finalizer);
                let propagation = if has(ORPHAN) {
                    Propagation::Orphan
                } else if has(FOREGROUND) {
                    Propagation::Foreground
                } else {
                    Propagation::Background
                };
                self.delete(&node, uid, Some(live.resource_version), propagation).await
            }
        }
    }

    fn lives_by_graph(&self, node: &Node) -> bool {
        let graph = self.graph();
        node.owners.iter().all(|o| graph.owner(&o.uid) == Known::Lives)
    }

    fn is_gone(&self, uid: &str) {
        let work = self.graph().gone(uid);
        work.into_iter().for_each(|w| self.queue.add(w));
    }

    /// The object as the server has it; `None` when it, or all of its kind, is gone.
    async fn live(&self, node: &Node, uid: &str) -> Result<Option<Meta>, Error> {
        let scope = Scope { resource: &node.resource, namespace: &node.namespace };
        match self.client.get_bytes(scope, &node.name).await {
            Ok(bytes) => {
                let meta = Meta::decode(&bytes).map_err(|e| Error::Other(format!("reading {}: {e}", node.name)))?;
                Ok(Some(meta).filter(|m| m.uid == uid))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error).during(|| format!("reading {} {}", node.resource.plural, node.name)),
        }
    }

    /// What is known about one owner, asking the server where the graph does not know.
    async fn owner(&self, owner: &OwnerRef, dependent: &Meta) -> Result<Known, Error> {
        let known = self.graph().owner(&owner.uid);
        if known != Known::Unknown {
            return Ok(known);
        }
        let resources = self.resources.borrow().clone();
        let Some(resource) = resources.by_kind(&owner.api_version, &owner.kind) else {
            return Err(Error::Other(format!("owner {} {}: the server has no such kind", owner.api_version, owner.kind)));
        };
        if resource.namespaced && dependent.namespace.is_empty() {
            tracing::warn!(
                controller = NAME,
                dependent = dependent.name,
                owner = owner.name,
                "a cluster-scoped object names a namespaced owner: it is left alone"
            );
            return Ok(Known::Unknown);
        }
        let namespace = if resource.namespaced { dependent.namespace.as_str() } else { "" };
        let live = match self.client.get_bytes(Scope { resource, namespace }, &owner.name).await {
            Ok(bytes) => Some(Meta::decode(&bytes).map_err(|e| Error::Other(format!("reading {}: {e}", owner.name)))?),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error).during(|| format!("reading the owner {} {}", owner.kind, owner.name)),
        };
        match live.filter(|l| l.uid == owner.uid) {
            None => {
                self.graph().note_absent(&owner.uid);
                Ok(Known::Gone)
            }
            Some(live) if Stage::of(&live) == Stage::AwaitsDependents => Ok(Known::AwaitsDependents),
            Some(_) => Ok(Known::Lives),
        }
    }

    /// Removes the references to owners that are gone or going.
    async fn trim(&self, node: &Node, live: &Meta, owners: &[Known]) -> Result<(), Error> {
        let gone: Vec<&str> = live
            .owners
            .iter()
            .zip(owners)
            .filter(|(_, known)| matches!(known, Known::Gone | Known::AwaitsDependents))
            .map(|(owner, _)| owner.uid.as_str())
            .collect();
        self.set_owners(node, live, |o| !gone.contains(&o.uid.as_str()), |_| ()).await
    }

    /// Objects that wait for each other would wait for ever: no one waits for an object whose own dependents wait.
    async fn break_cycles(&self, uid: &str, node: &Node, live: &Meta) -> Result<(), Error> {
        let waits = {
            let graph = self.graph();
            graph.dependents(uid).filter_map(|d| graph.node(d)).any(|d| d.stage == Stage::AwaitsDependents)
        };
        if !waits || !live.owners.iter().any(|o| o.block_owner_deletion) {
            return Ok(());
        }
        self.set_owners(node, live, |_| true, |o| o["blockOwnerDeletion"] = false.into()).await
    }

    async fn set_owners(
        &self,
        node: &Node,
        live: &Meta,
        keep: impl Fn(&OwnerRef) -> bool,
        change: impl Fn(&mut serde_json::Value),
    ) -> Result<(), Error> {
        let owners: Vec<serde_json::Value> = live
            .owners
            .iter()
            .filter(|o| keep(o))
            .map(|o| {
                let mut value = owner_value(o);
                change(&mut value);
                value
            })
            .collect();
        let owners = if owners.is_empty() { serde_json::Value::Null } else { owners.into() };
        self.patch_metadata(node, live, json!({"ownerReferences": owners})).await
    }

    /// A merge patch of metadata, on exactly the version that was read.
    async fn patch_metadata(&self, node: &Node, live: &Meta, mut metadata: serde_json::Value) -> Result<(), Error> {
        metadata["resourceVersion"] = live.resource_version.to_string().into();
        metadata["uid"] = live.uid.as_str().into();
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let scope = Scope { resource: &node.resource, namespace: &node.namespace };
        match self.client.patch_bytes(scope, &node.name, &patch, &PatchParams::default()).await {
            Err(error) if !error.is_not_found() => {
                Err(error).during(|| format!("changing metadata of {} {}", node.resource.plural, node.name))
            }
            _ => Ok(()),
        }
    }

    async fn delete(&self, node: &Node, uid: &str, version: Option<u64>, propagation: Propagation) -> Result<(), Error> {
        tracing::info!(
            controller = NAME,
            resource = node.resource.plural,
            namespace = node.namespace,
            name = node.name,
            uid,
            ?propagation,
            "deleting: it has no owner left"
        );
        let params = DeleteParams {
            propagation: Some(propagation),
            precondition: Precondition { uid: Some(uid.to_owned()), resource_version: version },
            ..DeleteParams::default()
        };
        let scope = Scope { resource: &node.resource, namespace: &node.namespace };
        let deleted = self.client.delete_object(scope, &node.name, &params).await;
        deleted.gone_is_done().during(|| format!("deleting {} {}", node.resource.plural, node.name))
    }

    /// A foreground deletion is over when nothing is left that it waits for.
    async fn release_if_childless(&self, uid: &str, node: &Node, live: &Meta) -> Result<(), Error> {
        let blocking = self.graph().blocking_dependents(uid);
        if blocking.is_empty() {
            return self.remove_finalizer(node, live, FOREGROUND).await;
        }
        for (dependent, node) in blocking {
            if node.stage != Stage::AwaitsDependents {
                self.queue.add(Work::Check(dependent));
            }
        }
        Ok(())
    }

    async fn remove_finalizer(&self, node: &Node, live: &Meta, finalizer: &str) -> Result<(), Error> {
        let left: Vec<&String> = live.finalizers.iter().filter(|f| *f != finalizer).collect();
        if left.len() == live.finalizers.len() {
            return Ok(());
        }
        self.patch_metadata(node, live, json!({ "finalizers": left })).await
    }

    async fn orphan(&self, uid: &str) -> Result<(), Error> {
        let Some(node) = self.graph().node(uid).cloned() else { return Ok(()) };
        let dependents: Vec<(String, Node)> = {
            let graph = self.graph();
            graph.dependents(uid).filter_map(|d| Some((d.clone(), graph.node(d)?.clone()))).collect()
        };
        for (dependent_uid, dependent) in dependents {
            if let Some(live) = self.live(&dependent, &dependent_uid).await?
                && live.owners.iter().any(|o| o.uid == uid)
            {
                self.set_owners(&dependent, &live, |o| o.uid != uid, |_| ()).await?;
            }
        }
        match self.live(&node, uid).await? {
            Some(live) => self.remove_finalizer(&node, &live, ORPHAN).await,
            None => Ok(()),
        }
    }
}

fn owner_value(owner: &OwnerRef) -> serde_json::Value {
    let mut value = json!({
        "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
    });
    if owner.controller {
        value["controller"] = true.into();
    }
    if owner.block_owner_deletion {
        value["blockOwnerDeletion"] = true.into();
    }
    value
}
