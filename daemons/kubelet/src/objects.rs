//! ConfigMaps and Secrets of this node's pods: each is watched alone, as long as a pod names it. A node may read no others.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use api::Kind;
use client::{Client, Informer, InformerConfig, ObjectKey};

/// A watch that has not answered by then is helped by a GET, whose failure tells why.
const SYNC_TIMEOUT: Duration = Duration::from_secs(2);

struct Entry<K> {
    informer: Informer<K>,
    /// The uids of the pods that name it.
    users: HashSet<String>,
}

type Entries<K> = Mutex<HashMap<ObjectKey, Entry<K>>>;
type Wake = Arc<dyn Fn(&str) + Send + Sync>;

pub struct Watched<K> {
    client: Client,
    entries: Arc<Entries<K>>,
    /// Called with the uid of each pod that names an object that changed.
    wake: Wake,
}

impl<K: Kind> Watched<K> {
    pub fn new(client: Client, wake: Wake) -> Self {
        Self { client, entries: Arc::default(), wake }
    }

    /// A pod names these objects, and no others.
    pub fn set(&self, pod_uid: &str, namespace: &str, names: &BTreeSet<String>) {
        let mut started = Vec::new();
        {
            let mut entries = self.entries.lock().unwrap_or_else(|e| e.into_inner());
            entries.retain(|key, entry| {
                if entry.users.contains(pod_uid) && (key.namespace != namespace || !names.contains(&key.name)) {
                    entry.users.remove(pod_uid);
                }
                !entry.users.is_empty()
            });
            for name in names {
                let key = ObjectKey::new(namespace, name);
                let entry = entries.entry(key.clone()).or_insert_with(|| {
                    let config = InformerConfig {
                        namespace: namespace.to_owned(),
                        field_selector: Some(format!("metadata.name={name}")),
                        ..InformerConfig::default()
                    };
                    let informer = Informer::start(&self.client, config);
                    started.push((key, informer.clone()));
                    Entry { informer, users: HashSet::new() }
                });
                entry.users.insert(pod_uid.to_owned());
            }
        }
        for (key, informer) in started {
            let (entries, wake): (Weak<Entries<K>>, Wake) = (Arc::downgrade(&self.entries), self.wake.clone());
            informer.subscribe(move |_| {
                let Some(entries) = entries.upgrade() else { return };
                let users: Vec<String> = {
                    let entries = entries.lock().unwrap_or_else(|e| e.into_inner());
                    entries.get(&key).map(|e| e.users.iter().cloned().collect()).unwrap_or_default()
                };
                users.iter().for_each(|uid| wake(uid));
            });
        }
    }

    /// The object; `None` when it does not exist.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<K>, client::Error> {
        let key = ObjectKey::new(namespace, name);
        let informer = self.entries.lock().unwrap_or_else(|e| e.into_inner()).get(&key).map(|e| e.informer.clone());
        if let Some(informer) = informer
            && tokio::time::timeout(SYNC_TIMEOUT, informer.synced()).await.is_ok()
            && let Some(found) = informer.get_key(&key)
        {
            return Ok(Some(found.parse()?));
        }
        // What a watch does not show may have been made a moment ago.
        match self.client.get::<K>(namespace, name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
