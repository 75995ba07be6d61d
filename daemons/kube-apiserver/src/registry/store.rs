//! One resource's place in the store: its keys, its cache, and what store errors mean to a client.

use std::time::{Duration, Instant};

use ::store::{Cache, Config, Entry, Feed, IndexRecord, Pairs, Snapshot, Storage, StoreError};
use bytes::Bytes;
use futures::FutureExt;
use machinery::gvk::GroupResource;
use machinery::status::{Cause, Status};
use schema::Resource;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::custom::Selectable;
use crate::metrics;

/// How long a read waits for a revision that is not here yet.
pub const FRESHNESS_WAIT: Duration = Duration::from_secs(3);

/// Where the objects of one resource are, in the one version they are stored in.
pub struct ResourceStore {
    pub group_resource: GroupResource,
    pub api_version: String,
    pub kind: String,
    pub namespaced: bool,
    /// Ends in `/`.
    prefix: String,
    pub cache: Cache,
    feed: Feed,
    ttl: Option<Duration>,
    /// The fields a selector may name, besides metadata.name and metadata.namespace.
    selectable: Vec<String>,
    conversion: u64,
    /// Set when another store takes this one's place.
    retired: tokio::sync::watch::Sender<bool>,
}

/// A parsed view of a cached object.
pub trait EntryExt {
    fn value(&self) -> Option<Value>;
}

impl EntryExt for Entry {
    fn value(&self) -> Option<Value> {
        match serde_json::from_slice(self.bytes()) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::error!(key = self.key(), %error, "a stored object cannot be read");
                None
            }
        }
    }
}

impl ResourceStore {
    pub fn builtin(feed: &Feed, resource: &Resource, events_last: Duration) -> Self {
        let strategy = crate::kinds::strategy(resource);
        let ttl = (resource.kind == "Event").then_some(events_last);
        let empty = strategy.selectable_fields(&Value::Null);
        let selectable = empty.into_iter().map(|(name, _)| name.to_owned()).collect();
        let mut config = Config::new(move |bytes| {
            index(outline(bytes), |object| {
                strategy.selectable_fields(object).into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            })
        });
        if resource.plural == "pods" {
            // What a kubelet asks for costs what its node holds.
            config = config.with_index("spec.nodeName");
        }
        Self::new(feed, resource, format!("/registry/{}/", resource.plural), config, selectable, ttl)
    }

    /// The store of a custom resource in its stored version, with the fields that any of its versions lets selectors name.
    ///
    /// `conversion` stands for how its versions become each other: watches begin anew when that changes.
    pub fn custom(feed: &Feed, resource: &Resource, fields: Vec<Selectable>, conversion: u64) -> Self {
        let selectable = fields.iter().map(|field| field.name.clone()).collect();
        let config = Config::new(move |bytes| {
            // Their paths go anywhere.
            let object = if fields.is_empty() { outline(bytes) } else { serde_json::from_slice(bytes) };
            index(object, |object| fields.iter().map(|field| (field.name.clone(), field.value(object))).collect())
        });
        let prefix = format!("/registry/{}/{}/", resource.group, resource.plural);
        Self { conversion, ..Self::new(feed, resource, prefix, config, selectable, None) }
    }

    fn new(
        feed: &Feed,
        resource: &Resource,
        prefix: String,
        config: Config,
        selectable: Vec<String>,
        ttl: Option<Duration>,
    ) -> Self {
        Self {
            group_resource: GroupResource::new(&resource.group, &resource.plural),
            api_version: resource.api_version(),
            kind: resource.kind.clone(),
            namespaced: resource.namespaced,
            cache: Cache::new(feed, prefix.clone(), config),
            prefix,
            feed: feed.clone(),
            ttl,
            selectable,
            conversion: 0,
            retired: tokio::sync::watch::Sender::new(false),
        }
    }

    /// Whether it holds the same in the same form.
    pub fn is_like(&self, other: &Self) -> bool {
        self.api_version == other.api_version
            && self.kind == other.kind
            && self.namespaced == other.namespaced
            && self.selectable == other.selectable
            && self.conversion == other.conversion
    }

    /// Ends the watches: their clients come back to the store that is now.
    pub fn retire(&self) {
        self.retired.send_replace(true);
    }

    /// Tells when the store is retired.
    pub fn retirement(&self) -> tokio::sync::watch::Receiver<bool> {
        self.retired.subscribe()
    }

    /// The key of an object. Names hold no slash (`metadata::check_name`), so no object reaches into another's place.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{}{namespace}/{name}", self.prefix) } else { format!("{}{name}", self.prefix) }
    }

    /// The prefix of all keys, or of those of one namespace.
    pub fn prefix(&self, namespace: &str) -> String {
        if self.namespaced && !namespace.is_empty() { format!("{}{namespace}/", self.prefix) } else { self.prefix.clone() }
    }

    pub fn is_selectable(&self, field: &str) -> bool {
        field == "metadata.name"
            || (field == "metadata.namespace" && self.namespaced)
            || self.selectable.iter().any(|own| own == field)
    }

    /// The 400 for a selector with another field.
    pub fn unsupported_field(&self, field: &str) -> Status {
        if self.selectable.iter().any(|field| !field.starts_with("metadata.")) {
            return Status::bad_request(format!("field label not supported: {field}"));
        }
        let namespace = if self.namespaced { ", \"metadata.namespace\"" } else { "" };
        Status::bad_request(format!("{field:?} is not a known field selector: only \"metadata.name\"{namespace}"))
    }

    pub fn storage(&self) -> &dyn Storage {
        self.feed.storage().as_ref()
    }

    /// A snapshot no older than every write acknowledged before this call.
    pub async fn consistent(&self) -> Result<Snapshot, Status> {
        let read = async { self.cache.consistent().await.map_err(|error| self.error(error, "")) };
        tokio::time::timeout(FRESHNESS_WAIT * 5, read)
            .await
            .unwrap_or_else(|_| Err(Status::server_timeout(&self.group_resource, "get", 1)))
    }

    /// A snapshot as it is in memory.
    pub async fn recent(&self) -> Result<Snapshot, Status> {
        tokio::time::timeout(FRESHNESS_WAIT * 5, self.cache.recent())
            .await
            .map_err(|_| Status::server_timeout(&self.group_resource, "get", 1))
    }

    /// A snapshot at that revision or later.
    pub async fn fresh(&self, revision: u64) -> Result<Snapshot, Status> {
        match tokio::time::timeout(FRESHNESS_WAIT, self.cache.fresh(revision)).await {
            Ok(result) => result.map_err(|error| self.error(error, "")),
            Err(_) => Err(too_new(revision, self.recent().await?.revision())),
        }
    }

    /// The newest state of an object that memory has, without waiting; none before the cache is loaded.
    pub fn get_now(&self, namespace: &str, name: &str) -> Option<Entry> {
        let snapshot = self.cache.recent().now_or_never()?;
        snapshot.get(&self.key(namespace, name)).cloned()
    }

    pub fn list_now(&self, namespace: &str) -> Vec<Value> {
        let Some(snapshot) = self.cache.recent().now_or_never() else { return Vec::new() };
        snapshot.scan(&self.prefix(namespace), None).filter_map(EntryExt::value).collect()
    }

    pub async fn create(&self, namespace: &str, name: &str, object: &Value) -> Result<Stored, Status> {
        let key = self.key(namespace, name);
        let begun = Instant::now();
        let result = self.storage().create(&key, encode(object), self.ttl).await;
        metrics::wrote("create", &self.group_resource.resource, begun);
        let revision = result.map_err(|error| self.error(error, name))?;
        Ok(self.stored(&key, revision).await)
    }

    /// Replaces an object that must still be at that revision.
    pub async fn update(&self, namespace: &str, name: &str, object: &Value, expected: u64) -> Result<Stored, StoreError> {
        let key = self.key(namespace, name);
        let begun = Instant::now();
        let result = self.storage().update(&key, encode(object), expected, self.ttl).await;
        metrics::wrote("update", &self.group_resource.resource, begun);
        Ok(self.stored(&key, result?).await)
    }

    pub async fn delete(&self, namespace: &str, name: &str, expected: u64) -> Result<u64, StoreError> {
        let begun = Instant::now();
        let result = self.storage().delete(&self.key(namespace, name), expected).await;
        metrics::wrote("delete", &self.group_resource.resource, begun);
        let revision = result?;
        self.seen(revision).await;
        Ok(revision)
    }

    async fn stored(&self, key: &str, revision: u64) -> Stored {
        self.seen(revision).await;
        let snapshot = self.cache.recent().now_or_never();
        let entry = snapshot.and_then(|snapshot| snapshot.get(key).cloned());
        Stored { revision, entry: entry.filter(|entry| entry.revision() == revision) }
    }

    /// Who wrote something finds it in memory with the next request. The wait is bounded: the write itself is done.
    async fn seen(&self, revision: u64) {
        let _ = tokio::time::timeout(FRESHNESS_WAIT, self.cache.wait_fresh(revision)).await;
    }

    /// What a store error means to the client.
    pub fn error(&self, error: StoreError, name: &str) -> Status {
        match error {
            StoreError::NotFound => Status::not_found(&self.group_resource, name),
            StoreError::Exists => Status::already_exists(&self.group_resource, name),
            StoreError::Conflict { .. } => Status::modified(&self.group_resource, name),
            StoreError::Compacted { revision } => {
                Status::expired(format!("The resourceVersion for the provided list is too old. ({revision})"))
            }
            StoreError::Future { current } => too_new(0, current),
            StoreError::TooLarge => Status::too_large("the object is larger than the store accepts"),
            StoreError::Unavailable(source) => {
                tracing::warn!(error = %source, "the store is unavailable");
                Status::unavailable("the store is unavailable")
            }
        }
    }
}

fn too_new(revision: u64, current: u64) -> Status {
    Status::timeout(format!("Too large resource version: {revision}, current: {current}"), 1).with_cause(Cause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        ..Cause::default()
    })
}

/// What a write made.
pub struct Stored {
    pub revision: u64,
    /// As memory has it, unless it has a later state already.
    pub entry: Option<Entry>,
}

/// The stored form of an object: JSON without its resourceVersion, which is the store's revision.
struct Unrevised<'a>(&'a Value);

impl Serialize for Unrevised<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(fields) = self.0 else { return self.0.serialize(serializer) };
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (name, value) in fields {
            match value {
                Value::Object(metadata) if name == "metadata" => map.serialize_entry(name, &Unversioned(metadata))?,
                value => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

struct Unversioned<'a>(&'a serde_json::Map<String, Value>);

impl Serialize for Unversioned<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter(|(name, _)| *name != "resourceVersion"))
    }
}

fn encode(object: &Value) -> Bytes {
    // A Value has only string keys, so it always serialises.
    Bytes::from(serde_json::to_vec(&Unrevised(object)).unwrap_or_default())
}

/// What an index needs of objects beyond their plain fields.
const KEPT: [(&str, &str); 2] = [("metadata", "labels"), ("status", "podIPs")];

fn outline(bytes: &[u8]) -> serde_json::Result<Value> {
    machinery::outline::read(bytes, &KEPT)
}

fn index(object: serde_json::Result<Value>, own: impl Fn(&Value) -> Vec<(String, String)>) -> IndexRecord {
    object.map_or_else(|_| IndexRecord::default(), |object| record(&object, own))
}

/// What selectors need to know of an object, with the fields of its kind.
pub fn record(object: &Value, own: impl Fn(&Value) -> Vec<(String, String)>) -> IndexRecord {
    let labels: Pairs = machinery::meta::labels(object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    let name = ("metadata.name".to_owned(), machinery::meta::name(object).to_owned());
    let namespace = ("metadata.namespace".to_owned(), machinery::meta::namespace(object).to_owned());
    let own = own(object).into_iter().filter(|(field, _)| !field.starts_with("metadata."));
    let fields: Pairs = own.chain([name, namespace]).collect();
    IndexRecord { labels, fields }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_stored_without_their_version() {
        let object = json!({"kind": "X", "metadata": {"name": "a", "resourceVersion": "7"}, "spec": {"resourceVersion": "8"}});
        let expected = json!({"kind": "X", "metadata": {"name": "a"}, "spec": {"resourceVersion": "8"}});
        assert_eq!(serde_json::from_slice::<Value>(&encode(&object)).unwrap(), expected);
    }

    /// An outline says of every kind's selectable fields what the whole object says.
    #[test]
    fn outlines_have_what_selectors_name() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns", "labels": {"a": "b"}},
            "spec": {"nodeName": "n", "restartPolicy": "Never", "schedulerName": "s", "serviceAccountName": "sa", "hostNetwork": true},
            "status": {"phase": "Running", "podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}], "nominatedNodeName": "m"}});
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "r", "type": "Normal",
            "reportingComponent": "c", "source": {"component": "c2"}, "involvedObject": {"kind": "Pod", "name": "p",
            "namespace": "ns", "uid": "u", "apiVersion": "v1", "resourceVersion": "1", "fieldPath": "spec"}});
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "status": {"succeeded": 3}});
        for object in [pod, event, job] {
            let kind = object["kind"].as_str().unwrap();
            let resource = schema::builtin().resources.iter().find(|r| r.kind == kind && r.served).unwrap();
            let strategy = crate::kinds::strategy(resource);
            let outline = outline(object.to_string().as_bytes()).unwrap();
            assert_eq!(strategy.selectable_fields(&outline), strategy.selectable_fields(&object));
        }
    }
}
