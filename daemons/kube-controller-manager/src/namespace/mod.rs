//! namespace-controller: empties a namespace that is being deleted, then lets it go.

mod condition;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::{Namespace, NamespaceStatus, Pod};
use api::{Kind, Meta, ResourceId};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Change, Client, DeleteParams, ListParams, Propagation, Scope};
use futures::StreamExt;

use self::condition::{Found, Remaining};
use crate::clock::until;
use crate::context::Context;
use crate::discovery::{self, Discovered};
use crate::error::{During, Error};

pub(crate) const NAME: &str = "namespace-controller";
const FINALIZER: &str = "kubernetes";
const REQUESTS_AT_ONCE: usize = 8;
/// What waits for finalizers of other controllers is looked at again after this.
const FINALIZERS_WAIT: Duration = Duration::from_secs(5);
/// A pod's deletion wakes this controller by itself; this is for the case that the event is missed.
const PODS_WAIT: Duration = Duration::from_secs(15);

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<String> = Queue::new();
    let informers = &ctx.informers;
    informers.namespaces.synced().await;
    informers.pods.synced().await;
    let q = queue.clone();
    informers.namespaces.subscribe(move |change| {
        if change.object().deleting && !matches!(change, Change::Deleted(_)) {
            q.add(change.object().name.clone());
        }
    });
    let (q, namespaces) = (queue.clone(), informers.namespaces.clone());
    informers.pods.subscribe(move |change| {
        if let Change::Deleted(pod) = change
            && namespaces.get("", &pod.namespace).is_some_and(|n| n.deleting)
        {
            q.add(pod.namespace.clone());
        }
    });
    let client = ctx.client(NAME);
    let workers = ctx.settings.workers.namespaces;
    client::controller::run(NAME, queue, workers, move |name| {
        let controller = Controller { ctx: ctx.clone(), client: client.clone() };
        async move { controller.reconcile(&name).await }
    })
    .await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<Outcome, Error> {
        // Read from the server: several parties write a namespace while it ends.
        let namespace = match self.client.get::<Namespace>("", name).await {
            Ok(namespace) => namespace,
            Err(error) if error.is_not_found() => return Ok(Outcome::Done),
            Err(error) => return Err(error).during(|| format!("reading namespace {name}")),
        };
        let waits_for_us = namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref()).is_some_and(|f| !f.is_empty());
        if namespace.metadata.deletion_timestamp.is_none() || !waits_for_us {
            return Ok(Outcome::Done);
        }
        let found = self.empty(name).await;
        let namespace = self.report(namespace, &found).await?;
        if found.failed() {
            return Err(Error::Other(format!("namespace {name}: {}", found.summary())));
        }
        match found.remaining.is_empty() {
            true => self.finalize(namespace).await.map(|()| Outcome::Done),
            false if found.pods_remain() => Ok(Outcome::Again(self.pods_wait(name))),
            false => Ok(Outcome::Again(FINALIZERS_WAIT)),
        }
    }

    /// Deletes everything that can be deleted. Pods go first, so that nothing they use is taken from them.
    async fn empty(&self, namespace: &str) -> Found {
        let resources = match discovery::discover(self.ctx.root()).await {
            Ok(resources) => resources,
            Err(error) => return Found { discovery: Some(error.to_string()), ..Found::default() },
        };
        let mut found = Found::default();
        if !resources.stale.is_empty() {
            let (count, names) = (resources.stale.len(), resources.stale.join(", "));
            found.discovery = Some(format!("Discovery failed for some groups, {count} failing: {names}"));
        }
        let deletable = |d: &Discovered| d.resource.namespaced && d.can("delete") && d.can("list");
        let is_pods = |d: &Discovered| d.resource == ResourceId::of::<Pod>();
        let (pods, others): (Vec<Discovered>, Vec<Discovered>) = resources.all.into_iter().filter(deletable).partition(is_pods);
        for group in [pods, others] {
            let requests: Vec<_> = group.iter().map(|d| self.delete_all(namespace, d)).collect();
            let results: Vec<_> = futures::stream::iter(requests).buffer_unordered(REQUESTS_AT_ONCE).collect().await;
            for result in results {
                match result {
                    Ok(Some(remaining)) => found.remaining.push(remaining),
                    Ok(None) => {}
                    Err(error) => found.failures.push(error.to_string()),
                }
            }
            if !found.remaining.is_empty() || !found.failures.is_empty() {
                break;
            }
        }
        found.remaining.sort();
        found.failures.sort();
        found
    }

    /// Deletes the objects of one resource; what is left of them afterwards.
    async fn delete_all(&self, namespace: &str, discovered: &Discovered) -> Result<Option<Remaining>, Error> {
        let resource = &discovered.resource;
        let what = || format!("deleting {} of namespace {namespace}", resource.plural);
        let scope = Scope { resource, namespace };
        let list = async || self.client.list_bytes(scope.clone(), &ListParams::default()).await;
        let items = match list().await {
            Ok(list) => list.items,
            // Its kind was taken from the server a moment ago.
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error).during(what),
        };
        if items.is_empty() {
            return Ok(None);
        }
        let params = DeleteParams { propagation: Some(Propagation::Background), ..DeleteParams::default() };
        if discovered.can("deletecollection") {
            self.client.delete_collection(scope.clone(), &ListParams::default(), &params).await.during(what)?;
        } else {
            for meta in items.iter().filter_map(|bytes| Meta::decode(bytes).ok()).filter(|m| !m.deleting) {
                match self.client.delete_object(scope.clone(), &meta.name, &params).await {
                    Err(error) if !error.is_not_found() => return Err(error).during(what),
                    _ => {}
                }
            }
        }
        let left = list().await.during(what)?.items;
        let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
        for meta in left.iter().filter_map(|bytes| Meta::decode(bytes).ok()) {
            meta.finalizers.into_iter().for_each(|f| *finalizers.entry(f).or_default() += 1);
        }
        let resource = format!("{}.{}", resource.plural, resource.group);
        Ok((!left.is_empty()).then_some(Remaining { resource, count: left.len(), finalizers }))
    }

    /// Half of the longest grace period among the pods that are left.
    fn pods_wait(&self, namespace: &str) -> Duration {
        let pods = self.ctx.informers.pods.list_namespace(namespace);
        let now = self.ctx.clock.now();
        let ends = pods.iter().filter_map(client::informer::logged::<Pod>).filter_map(|p| p.metadata.deletion_timestamp);
        let longest = ends.map(|end| until(end.0, now)).max().unwrap_or_default();
        (longest / 2 + Duration::from_secs(1)).min(PODS_WAIT)
    }

    async fn report(&self, mut namespace: Namespace, found: &Found) -> Result<Namespace, Error> {
        let old = namespace.status.clone().unwrap_or_default();
        let mut conditions = old.conditions.clone().unwrap_or_default();
        condition::update(&mut conditions, found, self.ctx.clock.now());
        let status = NamespaceStatus { phase: Some("Terminating".into()), conditions: Some(conditions) };
        if status == old {
            return Ok(namespace);
        }
        namespace.status = Some(status);
        let name = namespace.name().to_owned();
        self.client.update_status(&namespace).await.during(|| format!("writing the status of namespace {name}"))
    }

    async fn finalize(&self, mut namespace: Namespace) -> Result<(), Error> {
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
            finalizers.retain(|f| f != FINALIZER);
        }
        let path = format!("/api/v1/namespaces/{}/finalize", namespace.name());
        let body = Some(("application/json", namespace.encode()));
        match self.client.call(http::Method::PUT, &path, body).await {
            Err(error) if !error.is_not_found() => Err(error).during(|| format!("finalizing namespace {}", namespace.name())),
            _ => Ok(()),
        }
    }
}
