//! Reads all objects of a resource, page by page, and has each stored anew.

use std::time::Duration;

use api::{Meta, ResourceId};
use client::queue::Backoff;
use client::{Client, Error, Patch, PatchParams, Scope};
use futures::{StreamExt, stream};
use serde_json::json;

use super::NAME;
use super::decide::{Fate, is_before, judge};

/// So many objects, of which the metadata alone, are in memory.
const PAGE_ITEMS: u32 = 500;
const WRITES_AT_ONCE: usize = 8;
/// Of one object.
const TRIES_MAX: u32 = 5;
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);

pub(super) struct Walk<'w> {
    pub(super) client: &'w Client,
    pub(super) resource: &'w ResourceId,
    pub(super) checkpoint: u64,
}

impl Walk<'_> {
    /// Goes through all objects while `goes_on`; ends early with the first that is not done.
    pub(super) async fn run(&self, goes_on: impl Fn() -> bool) -> Fate {
        let (mut token, mut expired) = (String::new(), false);
        while goes_on() {
            let scope = Scope { resource: self.resource, namespace: "" };
            let page = match self.client.metadata_page(scope, PAGE_ITEMS, &token).await {
                Ok(page) => page,
                // The page's revision is gone. What comes after it by name is read as it is now: newer objects are skipped.
                Err(error) => match continuation(&error) {
                    // A token of just now that is too old again: the server compacts faster than it answers.
                    Some(newer) if !expired => {
                        (token, expired) = (newer, true);
                        continue;
                    }
                    _ => return Fate::Later(error.to_string()),
                },
            };
            expired = false;
            let objects = page.items.iter().filter_map(|bytes| Meta::decode(bytes).ok());
            let writes: Vec<_> = objects.map(|object| self.write(object)).collect();
            let mut writes = stream::iter(writes).buffer_unordered(WRITES_AT_ONCE);
            while let Some(fate) = writes.next().await {
                if fate != Fate::Done {
                    return fate;
                }
            }
            token = page.continue_token;
            if token.is_empty() {
                break;
            }
        }
        Fate::Done
    }

    /// An apply of nothing: the server stores what it would store today. With the uid, an object that is gone is not made again, and
    /// with the revision a namesake is not taken for it.
    async fn write(&self, object: Meta) -> Fate {
        match is_before(&object, self.checkpoint) {
            Ok(true) => {}
            Ok(false) => return Fate::Done,
            Err(why) => return Fate::Fail(why),
        }
        let nothing = json!({"apiVersion": self.resource.api_version(), "kind": self.resource.kind,
            "metadata": {"uid": object.uid, "resourceVersion": object.resource_version.to_string()}});
        let scope = Scope { resource: self.resource, namespace: &object.namespace };
        let params = PatchParams { field_manager: Some(NAME.into()), ..PatchParams::default() };
        let (patch, mut backoff) = (Patch::Apply(nothing), Backoff::new(WAIT_MIN, WAIT_MAX));
        let mut tries = 1;
        loop {
            let answer = self.client.patch_bytes(scope.clone(), &object.name, &patch, &params).await;
            match judge(answer.as_ref().map(|_| ())) {
                // Among many objects some meet a busy server. To begin again for each would never end.
                Fate::Later(_) if tries < TRIES_MAX => tokio::time::sleep(backoff.next_delay()).await,
                fate => return fate,
            }
            tries += 1;
        }
    }
}

/// Where a list that came too late may go on.
fn continuation(error: &Error) -> Option<String> {
    let token = &error.status().filter(|_| error.is_gone())?.metadata.continue_token;
    (!token.is_empty()).then(|| token.clone())
}
