//! The generic registry: every verb, for every kind, over the watch caches and the store. One file per verb.
//!
//! A request that arrives here is authenticated and authorised. What differs between kinds is asked of its
//! [`Strategy`](crate::kinds::Strategy); nothing here knows a kind by name, except where `hooks.rs` says why.

pub mod create;
pub mod delete;
pub mod delete_collection;
pub mod hooks;
pub mod list;
pub mod managers;
pub mod metadata;
pub mod options;
pub mod patch;
pub mod read;
pub mod store;
mod table;
pub mod traits;
pub mod update;
pub mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use ::store::{Feed, Storage};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::gvk::{GroupKind, GroupResource};
use machinery::status::Status;
use schema::{Resource, TypeRef};
use serde_json::Value;

use self::options::WriteOptions;
use self::store::{EntryExt, ResourceStore};
use self::table::Table;
use crate::authn::user::User;
use crate::convert;
use crate::custom::CustomType;
use crate::kinds::Strategy;
use crate::lookup::Lookup;

/// What is served at one group, version and plural name.
pub struct Served {
    pub resource: Resource,
    pub strategy: Strategy,
    pub store: Arc<ResourceStore>,
    pub types: TypeSource,
}

/// Where the type of a resource comes from.
#[derive(Clone)]
pub enum TypeSource {
    Builtin,
    /// A CustomResourceDefinition's version.
    Custom(Arc<CustomType>),
}

impl Served {
    /// The schema of an object of this resource, if it has one.
    pub fn type_ref(&self) -> Option<TypeRef<'_>> {
        let r = &self.resource;
        match &self.types {
            TypeSource::Builtin => schema::builtin().type_of(&r.group, &r.version, &r.kind),
            TypeSource::Custom(custom) => custom.type_ref(),
        }
    }

    /// Fills in what the sender left out.
    pub fn default(&self, object: &mut Value) {
        self.strategy.default(object);
        if let TypeSource::Custom(custom) = &self.types {
            custom.default(object);
        }
    }

    /// What is wrong with the metadata of any built-in object; custom resources are free in it.
    pub fn metadata_errors(&self, object: &Value) -> FieldErrors {
        match self.resource.group.as_str() {
            "apiextensions.k8s.io" | "apiregistration.k8s.io" => FieldErrors::new(),
            _ if matches!(self.types, TypeSource::Custom(_)) => FieldErrors::new(),
            _ => metadata::validate_standard_finalizers(object),
        }
    }

    /// What a custom resource's schema refuses; built-in types are checked by their strategy.
    pub fn schema_errors(&self, object: &Value, old: Option<&Value>, subresource: &str) -> FieldErrors {
        match &self.types {
            TypeSource::Builtin => FieldErrors::new(),
            TypeSource::Custom(custom) => custom.validate(object, old, subresource),
        }
    }

    /// What a custom resource's definition declares.
    pub fn custom(&self) -> Option<&CustomType> {
        match &self.types {
            TypeSource::Builtin => None,
            TypeSource::Custom(custom) => Some(custom),
        }
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.resource.group, &self.resource.plural)
    }

    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(&self.resource.group, &self.resource.kind)
    }

    pub fn api_version(&self) -> String {
        self.resource.api_version()
    }

    /// Whether that is its apiVersion.
    fn is_of(&self, api_version: &str) -> bool {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.resource.group == group && self.resource.version == version
    }

    /// Whether objects are stored as they are served here.
    pub fn is_storage_version(&self) -> bool {
        self.is_of(&self.store.api_version)
    }

    /// Whether clients get the bytes that are stored: they are in this version, and what its schema makes of them.
    pub fn serves_stored_bytes(&self) -> bool {
        self.is_storage_version() && !self.custom().is_some_and(CustomType::rewrites)
    }

    /// An object read from the store, in the version served here.
    pub fn from_storage(&self, object: Value) -> Value {
        let mut object = if self.is_storage_version() { object } else { convert::to(object, &self.api_version()) };
        if let Some(custom) = self.custom().filter(|custom| custom.rewrites() || !self.is_storage_version()) {
            if self.is_storage_version() {
                // Stored before its definition stored another version.
                object = convert::to(object, &self.api_version());
            }
            custom.complete(&mut object);
        }
        object
    }

    /// An object as it goes to the store.
    pub fn to_storage(&self, object: Value) -> Value {
        if self.is_storage_version() { object } else { convert::to(object, &self.store.api_version) }
    }

    /// The 404 for an object of this resource.
    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(self.group_resource(), name)
    }
}

/// One request, as the registry sees it.
pub struct Context {
    pub user: Arc<User>,
    pub now: Timestamp,
    pub options: WriteOptions,
    /// Warnings for the client, as headers.
    pub warnings: Mutex<Vec<String>>,
    /// What admission has to say in the audit log.
    pub annotations: Mutex<BTreeMap<String, String>>,
}

impl Context {
    pub fn new(user: Arc<User>, now: Timestamp, options: WriteOptions) -> Self {
        Self { user, now, options, warnings: Mutex::default(), annotations: Mutex::default() }
    }

    /// For what the server does by itself.
    pub fn server(now: Timestamp) -> Self {
        let options = WriteOptions { field_manager: "kube-apiserver".to_owned(), ..WriteOptions::default() };
        Self::new(Arc::new(User::server()), now, options)
    }

    /// Adds an audit annotation. The first of a name stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        let mut annotations = self.annotations.lock().unwrap_or_else(|e| e.into_inner());
        annotations.entry(key.into()).or_insert_with(|| value.into());
    }

    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let mut warnings = self.warnings.lock().unwrap_or_else(|e| e.into_inner());
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

/// Every resource that is served, and what all verbs share.
pub struct Registry {
    pub feed: Feed,
    table: ArcSwap<Table>,
    /// One store for each (storage group, plural): versions share it.
    stores: Mutex<HashMap<(String, String), Arc<ResourceStore>>>,
    pub hooks: hooks::Hooks,
    pub admission: crate::admission::Chain,
    random: ring::rand::SystemRandom,
}

impl Registry {
    /// A registry of all built-in resources.
    pub fn new(storage: Arc<dyn Storage>, hooks: hooks::Hooks, admission: crate::admission::Chain) -> Self {
        let registry = Self {
            feed: Feed::start(storage),
            table: ArcSwap::default(),
            stores: Mutex::default(),
            hooks,
            admission,
            random: ring::rand::SystemRandom::new(),
        };
        let mut table = Table::default();
        for resource in schema::builtin().resources.iter().filter(|resource| resource.served) {
            table.add(Arc::new(registry.builtin(resource)));
        }
        registry.table.store(Arc::new(table));
        registry
    }

    fn builtin(&self, resource: &Resource) -> Served {
        let strategy = crate::kinds::strategy(resource);
        let stored = convert::stored_as(resource);
        let store = self.store_of(&stored.group, &stored.plural, || ResourceStore::builtin(&self.feed, stored));
        Served { resource: resource.clone(), strategy, store, types: TypeSource::Builtin }
    }

    /// The store of a resource, made once.
    pub fn store_of(&self, group: &str, plural: &str, make: impl FnOnce() -> ResourceStore) -> Arc<ResourceStore> {
        let mut stores = self.stores.lock().unwrap_or_else(|e| e.into_inner());
        stores.entry((group.to_owned(), plural.to_owned())).or_insert_with(|| Arc::new(make())).clone()
    }

    /// The store of a custom resource. It stays while definitions agree on what is stored and indexed; another one ends the
    /// watches of the one before.
    pub fn custom_store(&self, wanted: ResourceStore) -> Arc<ResourceStore> {
        let key = (wanted.group_resource.group.clone(), wanted.group_resource.resource.clone());
        let mut stores = self.stores.lock().unwrap_or_else(|e| e.into_inner());
        match stores.get(&key) {
            Some(store) if store.is_like(&wanted) => store.clone(),
            before => {
                if let Some(before) = before {
                    before.retire();
                }
                let store = Arc::new(wanted);
                stores.insert(key, store.clone());
                store
            }
        }
    }

    pub fn served(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Served>> {
        self.table.load().get(group, version, plural).cloned()
    }

    /// The served resource of that group and plural in its storage version.
    pub fn stored(&self, group: &str, plural: &str) -> Option<Arc<Served>> {
        self.table.load().versions(group, plural).find(|served| served.is_storage_version()).cloned()
    }

    /// What is served of that apiVersion and kind.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Served>> {
        let table = self.table.load();
        let of = |served: &&Arc<Served>| served.resource.kind == kind && served.is_of(api_version);
        table.all().find(of).cloned()
    }

    /// The other versions and groups in which the objects of a resource are served, by name.
    pub fn equivalents(&self, resource: &Resource) -> Vec<Arc<Served>> {
        let table = self.table.load();
        let Some(own) = table.get(&resource.group, &resource.version, &resource.plural) else { return Vec::new() };
        let others = table.all().filter(|other| Arc::ptr_eq(&other.store, &own.store) && !Arc::ptr_eq(other, own));
        let mut others: Vec<Arc<Served>> = others.cloned().collect();
        let path = |r: &Resource| (r.group.clone(), r.version.clone(), r.plural.clone());
        others.sort_by_key(|served| path(&served.resource));
        others
    }

    /// Everything served, unordered.
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.table.load().all().cloned().collect()
    }

    /// Serves resources that a CustomResourceDefinition declares, instead of those it declared before.
    pub fn replace_custom(&self, group: &str, plural: &str, served: Vec<Served>) {
        let served: Vec<Arc<Served>> = served.into_iter().map(Arc::new).collect();
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            table.remove_custom(group, plural);
            served.iter().cloned().for_each(|served| table.add(served));
            table
        });
    }

    /// Loads the caches that authentication, authorization and admission read, so that [`Lookup`] never has to wait.
    pub async fn load(&self, resources: &[(&str, &str)]) {
        let served: Vec<_> = resources.iter().filter_map(|(group, plural)| self.stored(group, plural)).collect();
        futures::future::join_all(served.iter().map(|served| served.store.cache.ready())).await;
    }

    /// A random version 4 UUID.
    pub fn new_uid(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        hyphenated(bytes)
    }

    pub fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill(&self, bytes: &mut [u8]) {
        use ring::rand::SecureRandom;
        // getrandom(2) fails only on kernels that cannot run this program.
        self.random.fill(bytes).expect("the kernel gives random bytes");
    }
}

/// A UUID's text.
fn hyphenated(bytes: [u8; 16]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend([byte >> 4, byte & 0xf].map(|half| char::from(DIGITS[usize::from(half)])));
    }
    text
}

impl Lookup for Registry {
    fn object(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let served = self.stored(group, plural)?;
        served.store.get_now(namespace, name)?.value()
    }

    fn objects(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let Some(served) = self.stored(group, plural) else { return Vec::new() };
        served.store.list_now(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        let bytes = [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x46, 0x07, 0x88, 0x09, 0x0a, 0x0b, 0xfc, 0xfd, 0xfe, 0xff];
        assert_eq!(hyphenated(bytes), "00010203-0405-4607-8809-0a0bfcfdfeff");
    }
}
