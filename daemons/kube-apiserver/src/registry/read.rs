//! Get.

use ::store::Entry;
use machinery::status::Status;

use super::options::ListOptions;
use super::{Registry, Served};

impl Registry {
    /// The object's bytes. Without a resourceVersion the newest state there is, whoever wrote it.
    pub async fn get(&self, served: &Served, namespace: &str, name: &str, options: &ListOptions) -> Result<Entry, Status> {
        let snapshot = match options.resource_version {
            None => served.store.consistent().await?,
            Some(0) => served.store.recent().await?,
            Some(revision) => served.store.fresh(revision).await?,
        };
        let found = snapshot.get(&served.store.key(namespace, name)).cloned().ok_or_else(|| served.not_found(name))?;
        served.read_one(found).await
    }
}
