//! How the versions of a custom resource become each other (`spec.conversion`).
//!
//! | Question | Answer |
//! |---|---|
//! | What is a webhook asked, and which answers count? | [`review`] |
//! | How is it asked? | [`webhook`] |
//! | What have watchers been shown already? | [`recent`] |
//!
//! An object that is read is made whole in the version it was stored in (pruned, with that version's defaults), converted, and
//! pruned again in the version it is wanted in: as upstream's codec for custom resources has it. Where the strategy is `None`
//! a conversion is another `apiVersion`.

mod recent;
mod review;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::store::Entry;
use machinery::meta;
use machinery::status::Status;
use schema::TypeRef;
use serde_json::Value;

use self::recent::Recent;
pub use self::webhook::Webhook;
use super::CustomType;
use crate::convert;

/// All versions of one definition, and the way between them.
pub struct Conversion {
    /// By apiVersion, also those that are not served.
    versions: BTreeMap<String, Version>,
    /// None where a version is a name and nothing more.
    webhook: Option<Webhook>,
    /// Objects may be in the store in other versions than the one that is written today.
    mixed: bool,
}

struct Version {
    ty: Arc<CustomType>,
    recent: tokio::sync::Mutex<Recent>,
}

impl Conversion {
    pub fn new(versions: impl IntoIterator<Item = (String, Arc<CustomType>)>, webhook: Option<Webhook>, mixed: bool) -> Self {
        let version = |ty| Version { ty, recent: tokio::sync::Mutex::default() };
        Self { versions: versions.into_iter().map(|(name, ty)| (name, version(ty))).collect(), webhook, mixed }
    }

    /// Whether a webhook may have to be asked for what is read, in the version that is stored or in another.
    pub fn asks(&self, is_storage_version: impl FnOnce() -> bool) -> bool {
        self.webhook.is_some() && (self.mixed || !is_storage_version())
    }

    /// Whether a webhook converts.
    pub fn has_webhook(&self) -> bool {
        self.webhook.is_some()
    }

    /// The type of a version.
    pub fn type_ref(&self, api_version: &str) -> Option<TypeRef<'_>> {
        self.versions.get(api_version)?.ty.type_ref()
    }

    /// A stored object in another version; only where no webhook is to be asked.
    pub fn read(&self, mut object: Value, api_version: &str) -> Value {
        self.complete(&mut object);
        self.renamed(object, api_version)
    }

    /// Makes a stored object whole in the version it is in.
    pub fn complete(&self, object: &mut Value) {
        if let Some(version) = self.versions.get(meta::api_version(object)) {
            version.ty.complete(object);
        }
    }

    fn prune(&self, object: &mut Value) {
        if let Some(version) = self.versions.get(meta::api_version(object)) {
            version.ty.prune(object);
        }
    }

    /// The objects in that version; those that are in it already stay as they are.
    ///
    /// # Errors
    /// Of the webhook, in upstream's words.
    pub async fn convert(&self, objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, Status> {
        let Some(webhook) = &self.webhook else {
            return Ok(objects.into_iter().map(|object| self.renamed(object, api_version)).collect());
        };
        for object in &objects {
            let from = meta::api_version(object);
            if !self.versions.contains_key(from) {
                let why = format!("request to convert CR from an invalid group/version: {from}");
                return Err(failed(why));
            }
        }
        let mut converted = webhook.convert(objects, api_version).await.map_err(failed)?;
        converted.iter_mut().for_each(|object| self.prune(object));
        Ok(converted)
    }

    fn renamed(&self, object: Value, api_version: &str) -> Value {
        if meta::api_version(&object) == api_version {
            return object;
        }
        let mut object = convert::to(object, api_version);
        self.prune(&mut object);
        object
    }

    /// What watchers are shown of these entries: `read` is asked for those that no watcher of the version was shown lately, by
    /// one watcher at a time.
    pub async fn watched<F>(
        &self,
        api_version: &str,
        entries: Vec<Entry>,
        read: impl FnOnce(Vec<Entry>) -> F,
    ) -> Result<Vec<Entry>, Status>
    where
        F: Future<Output = Result<Vec<Entry>, Status>>,
    {
        let Some(version) = self.versions.get(api_version) else { return read(entries).await };
        let mut recent = version.recent.lock().await;
        recent.failure(tokio::time::Instant::now())?;
        let missing: Vec<Entry> = entries.iter().filter(|entry| recent.get(entry).is_none()).cloned().collect();
        let fresh = match read(missing).await {
            Ok(fresh) => fresh,
            Err(status) => {
                recent.fail(status.clone(), tokio::time::Instant::now());
                return Err(status);
            }
        };
        let mut next = fresh.iter();
        let shown = entries.iter().filter_map(|entry| recent.get(entry).or_else(|| next.next()).cloned()).collect();
        fresh.into_iter().for_each(|entry| recent.put(entry));
        Ok(shown)
    }
}

/// The answer to a request that needed a conversion: upstream has no reason for it.
fn failed(why: String) -> Status {
    let mut status = Status::internal("");
    status.reason = machinery::status::Reason::Unknown;
    status.details = None;
    status.message = why;
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conversion() -> Conversion {
        let version = |name: &str, properties: Value| {
            let version = json!({"name": name, "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}});
            (format!("g.io/{name}"), Arc::new(CustomType::new(&json!({"spec": {"names": {"kind": "K"}}}), &version)))
        };
        let text = |default: &str| json!({"type": "string", "default": default});
        let versions = [
            version("v1", json!({"both": text("one"), "first": text("x")})),
            version("v2", json!({"both": text("two"), "second": text("y")})),
        ];
        Conversion::new(versions, None, false)
    }

    /// An object of the store gets the defaults of the version it was stored in, and the fields that both versions have.
    #[test]
    fn what_is_read_in_each_version() {
        let check = |stored: Value, api_version: &str, expected: Value| {
            let mut object = json!({"apiVersion": "g.io/v1", "kind": "K", "metadata": {"name": "n"}});
            object.as_object_mut().unwrap().extend(stored.as_object().unwrap().clone());
            let mut whole = json!({"apiVersion": api_version, "kind": "K", "metadata": {"name": "n"}});
            whole.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
            assert_eq!(conversion().read(object, api_version), whole);
        };
        check(json!({}), "g.io/v1", json!({"both": "one", "first": "x"}));
        check(json!({}), "g.io/v2", json!({"both": "one"}));
        check(json!({"both": "own", "unknown": 1}), "g.io/v2", json!({"both": "own"}));
        // Known to the version that is asked alone.
        check(json!({"second": "s"}), "g.io/v2", json!({"both": "one"}));
    }

    #[test]
    fn nobody_is_asked_without_a_webhook() {
        let conversion = conversion();
        assert!(!conversion.asks(|| false) && !conversion.has_webhook());
    }
}
