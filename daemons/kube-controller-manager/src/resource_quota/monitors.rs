//! The watches by which quotas are counted: of the resources that some quota limits, and no others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::ResourceId;
use api::core::{Pod, ResourceQuota, Service};
use client::queue::Queue;
use client::{Cached, Change, Informer, InformerConfig, ObjectKey};
use machinery::quota::Evaluator;
use serde_json::Value;

use super::decide::{Objects, changes_usage, counts};
use crate::clock::Clock;
use crate::context::Context;
use crate::discovery::Resources;

/// A resource that cannot be listed (its server is down) does not hold up the others for longer.
const SYNC_WAIT_MAX: Duration = Duration::from_secs(30);

/// The copy of one resource's objects. Pods and Services are watched for other controllers anyway.
#[derive(Clone)]
enum Watched {
    Pods(Informer<Pod>),
    Services(Informer<Service>),
    Other(Informer<()>),
}

impl Watched {
    fn is_synced(&self) -> bool {
        match self {
            Self::Pods(informer) => informer.is_synced(),
            Self::Services(informer) => informer.is_synced(),
            Self::Other(informer) => informer.is_synced(),
        }
    }

    async fn synced(&self) {
        match self {
            Self::Pods(informer) => informer.synced().await,
            Self::Services(informer) => informer.synced().await,
            Self::Other(informer) => informer.synced().await,
        }
    }

    fn objects(&self, namespace: &str, evaluator: &Evaluator) -> Objects {
        fn of<K: 'static>(informer: &Informer<K>, namespace: &str, content: bool) -> Objects {
            let all = informer.list_namespace(namespace);
            if content { Objects::Content(all.iter().filter_map(value).collect()) } else { Objects::Number(all.len()) }
        }
        let content = evaluator.needs_content();
        match self {
            Self::Pods(informer) => of(informer, namespace, content),
            Self::Services(informer) => of(informer, namespace, content),
            Self::Other(informer) => of(informer, namespace, content),
        }
    }

    fn subscribe(&self, follow: Follow) {
        fn on<K: 'static>(informer: &Informer<K>, follow: Follow) {
            informer.subscribe(move |change| follow.see(change));
        }
        match self {
            Self::Pods(informer) => on(informer, follow),
            Self::Services(informer) => on(informer, follow),
            Self::Other(informer) => on(informer, follow),
        }
    }
}

/// The object, or none and a line in the log.
pub(super) fn value<K: 'static>(cached: &Cached<K>) -> Option<Value> {
    let parsed = serde_json::from_slice(cached.bytes());
    parsed.inspect_err(|error| tracing::warn!(object = %cached.key(), %error, "a cached object can't be decoded")).ok()
}

/// What a change of a counted object is a reason for.
struct Follow {
    clock: Clock,
    evaluator: Evaluator,
    quotas: Informer<ResourceQuota>,
    queue: Queue<ObjectKey>,
}

impl Follow {
    /// A creation was charged by the API server already; what ends or changes is counted again.
    fn see<K: 'static>(&self, change: &Change<K>) {
        let quotas = match change {
            Change::Added(_) => return,
            Change::Updated { .. } if !self.evaluator.needs_content() => return,
            Change::Updated { new: object, .. } | Change::Deleted(object) => self.quotas.list_namespace(&object.namespace),
        };
        if quotas.is_empty() {
            return;
        }
        if let Change::Updated { old, new } = change {
            let (Some(old), Some(new)) = (value(old), value(new)) else { return };
            if !changes_usage(&self.evaluator, &old, &new, self.clock.now()) {
                return;
            }
        }
        for quota in quotas {
            if value(&quota).is_some_and(|quota| counts(&quota, &self.evaluator)) {
                self.queue.add(quota.key());
            }
        }
    }
}

/// All watches there are now.
#[derive(Clone)]
pub(super) struct Monitors {
    pub ctx: Arc<Context>,
    pub quotas: Informer<ResourceQuota>,
    pub queue: Queue<ObjectKey>,
    copies: Arc<Mutex<HashMap<ResourceId, (Evaluator, Watched)>>>,
}

impl Monitors {
    pub fn new(ctx: Arc<Context>, quotas: Informer<ResourceQuota>, queue: Queue<ObjectKey>) -> Self {
        Self { ctx, quotas, queue, copies: Arc::default() }
    }

    fn copies(&self) -> MutexGuard<'_, HashMap<ResourceId, (Evaluator, Watched)>> {
        self.copies.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What is there in a namespace of the resources that the quota limits, as far as it is known.
    pub fn observe(&self, quota: &Value, namespace: &str) -> Vec<super::decide::Observed> {
        let copies: Vec<(Evaluator, Watched)> =
            self.copies().values().filter(|(evaluator, copy)| copy.is_synced() && counts(quota, evaluator)).cloned().collect();
        copies
            .into_iter()
            .map(|(evaluator, copy)| super::decide::Observed { objects: copy.objects(namespace, &evaluator), evaluator })
            .collect()
    }

    /// Watches what quotas limit now and were not watched for before, and ends what nobody asks for; then all quotas that
    /// count something new are looked at.
    pub async fn update(&self, resources: &Resources) {
        let quotas: Vec<Value> = self.quotas.list().iter().filter_map(value).collect();
        let counted = |r: &&crate::discovery::Discovered| {
            r.resource.namespaced && ["create", "list", "watch", "delete"].iter().all(|verb| r.can(verb))
        };
        let wanted: HashMap<ResourceId, Evaluator> = resources
            .all
            .iter()
            .filter(counted)
            .filter_map(|r| Some((r.resource.clone(), Evaluator::of(&r.resource.group, &r.resource.plural)?)))
            .filter(|(_, evaluator)| quotas.iter().any(|quota| counts(quota, evaluator)))
            .collect();
        let new: Vec<(ResourceId, Evaluator)> = {
            let mut copies = self.copies();
            // While some groups are silent, a resource that is not named may still be there.
            // What other controllers share ends with them, and is listened to once.
            let kept = |watched: &Watched| !matches!(watched, Watched::Other(_)) || !resources.stale.is_empty();
            copies.retain(|resource, (_, watched)| wanted.contains_key(resource) || kept(watched));
            wanted.into_iter().filter(|(resource, _)| !copies.contains_key(resource)).collect()
        };
        let started: Vec<(Evaluator, Watched)> =
            new.into_iter().map(|(resource, evaluator)| self.start(resource, evaluator)).collect();
        let all = futures::future::join_all(started.iter().map(|(_, copy)| copy.synced()));
        if tokio::time::timeout(SYNC_WAIT_MAX, all).await.is_err() {
            tracing::warn!(controller = super::NAME, "going on without a complete view");
        }
        for quota in self.quotas.list() {
            let content = value(&quota);
            if content.is_some_and(|quota| started.iter().any(|(evaluator, _)| counts(&quota, evaluator))) {
                self.queue.add(quota.key());
            }
        }
    }

    fn start(&self, resource: ResourceId, evaluator: Evaluator) -> (Evaluator, Watched) {
        let informers = &self.ctx.informers;
        let copy = match &evaluator {
            Evaluator::Pods => Watched::Pods(informers.pods.clone()),
            Evaluator::Services => Watched::Services(informers.services.clone()),
            other => {
                let config = InformerConfig { metadata_only: !other.needs_content(), ..InformerConfig::default() };
                Watched::Other(Informer::of_resource(self.ctx.root(), resource.clone(), config))
            }
        };
        copy.subscribe(Follow {
            clock: self.ctx.clock.clone(),
            evaluator: evaluator.clone(),
            quotas: self.quotas.clone(),
            queue: self.queue.clone(),
        });
        self.copies().insert(resource, (evaluator.clone(), copy.clone()));
        (evaluator, copy)
    }
}
