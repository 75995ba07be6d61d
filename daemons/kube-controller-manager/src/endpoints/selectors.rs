//! Which Services a pod belongs to: their selectors, kept so that a pod's change costs no decoding of Services.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::core::{Pod, Service};
use client::queue::Queue;
use client::{Change, Informer, ObjectKey};

use super::batching::Batching;

type Labels = BTreeMap<String, String>;

/// Selectors by Service. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Selectors(Arc<Mutex<BTreeMap<ObjectKey, Labels>>>);

impl Selectors {
    /// Puts into `queue` each Service that changes, and into `batching` each that a changed pod belongs to or belonged to.
    pub(super) fn feed(services: &Informer<Service>, pods: &Informer<Pod>, queue: &Queue<ObjectKey>, batching: Batching) {
        let selectors = Self::default();
        let (this, q) = (selectors.clone(), queue.clone());
        services.subscribe(move |change| {
            this.note(change);
            q.add(change.object().key());
        });
        pods.subscribe(move |change| {
            let pod = change.object();
            selectors.matching(&pod.namespace, &pod.labels).into_iter().for_each(|s| batching.add(s));
            if let Change::Updated { old, new } = change
                && old.labels != new.labels
            {
                selectors.matching(&old.namespace, &old.labels).into_iter().for_each(|s| batching.add(s));
            }
        });
    }

    fn note(&self, change: &Change<Service>) {
        let key = change.object().key();
        let selector = match change {
            Change::Deleted(_) => None,
            Change::Added(service) | Change::Updated { new: service, .. } => {
                client::informer::logged(service).and_then(|s| s.spec).and_then(|s| s.selector)
            }
        };
        match selector {
            Some(selector) => self.lock().insert(key, selector),
            None => self.lock().remove(&key),
        };
    }

    fn matching(&self, namespace: &str, labels: &Labels) -> Vec<ObjectKey> {
        let start = ObjectKey::new(namespace, "");
        let selectors = self.lock();
        let here = selectors.range(start..).take_while(|(key, _)| key.namespace == namespace);
        here.filter(|(_, s)| s.iter().all(|(k, v)| labels.get(k) == Some(v))).map(|(key, _)| key.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Labels>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
