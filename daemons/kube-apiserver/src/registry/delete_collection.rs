//! Deletecollection: every object a list would show, one by one.

use futures::{StreamExt, TryStreamExt, stream};
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::options::{DeleteOptions, ListOptions};
use super::store::EntryExt;
use super::{Context, Registry, Served};

const PARALLEL: usize = 8;

impl Registry {
    /// The objects that were deleted or marked, and the revision they were listed at.
    pub async fn delete_collection(
        &self,
        cx: &Context,
        served: &Served,
        namespace: &str,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(Vec<Value>, u64), Status> {
        let page = self.list(served, namespace, list).await?;
        let deleted: Vec<Value> = stream::iter(page.entries)
            .map(|entry| async move {
                let Some(object) = entry.value() else { return Ok(None) };
                match self.delete(cx, served, meta::namespace(&object), meta::name(&object), options).await {
                    Ok(_) => Ok(Some(served.from_storage(object))),
                    // Someone else was faster.
                    Err(status) if status.code() == 404 => Ok(None),
                    Err(status) => Err(status),
                }
            })
            .buffered(PARALLEL)
            .try_filter_map(|object| async move { Ok(object) })
            .try_collect()
            .await?;
        Ok((deleted, page.revision))
    }
}
