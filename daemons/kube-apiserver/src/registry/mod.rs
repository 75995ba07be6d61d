//! The generic registry: every verb, for every kind, over the watch caches and the store. One file per verb.
//!
//! A request that arrives here is authenticated and authorised. What differs between kinds is asked of its
//! [`Strategy`](crate::kinds::Strategy); nothing here knows a kind by name, except where `hooks.rs` says why.

pub mod create;
pub mod delete;
pub mod delete_collection;
pub mod hooks;
pub mod list;
mod managed_versions;
pub mod managers;
pub mod metadata;
pub mod options;
pub mod patch;
pub mod read;
pub mod store;
mod table;
pub mod traits;
pub mod uid;
pub mod update;
pub mod versions;
pub mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::store::{Feed, Storage};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::gvk::{GroupKind, GroupResource};
use machinery::status::Status;
use schema::{Resource, Serving, TypeRef};
use serde_json::Value;

use self::options::WriteOptions;
use self::store::{EntryExt, ResourceStore};
use self::table::Table;
use crate::authn::user::User;
use crate::convert;
use crate::custom::CustomType;
use crate::custom::conversion::Conversion;
use crate::kinds::Strategy;
use crate::lookup::Lookup;

/// What is served at one group, version and plural name.
pub struct Served {
    pub resource: Resource,
    pub strategy: Strategy,
    pub store: Arc<ResourceStore>,
    pub types: TypeSource,
    /// How a custom resource gets from version to version.
    pub conversion: Option<Arc<Conversion>>,
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
    /// What is refused no longer, because it was there before, is told.
    pub fn schema_errors(&self, cx: &Context, object: &Value, old: Option<&Value>, subresource: &str) -> FieldErrors {
        match &self.types {
            TypeSource::Builtin => FieldErrors::new(),
            TypeSource::Custom(custom) => {
                let verdict = custom.validate(object, old, subresource);
                verdict.warnings.into_iter().for_each(|warning| cx.warn(warning));
                verdict.errors
            }
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

/// How long things last that nobody ends.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// `--event-ttl`.
    pub events: Duration,
    /// `--min-request-timeout`: a watch without `timeoutSeconds` lasts between one and two times this, in seconds.
    pub watches: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { events: Duration::from_secs(3600), watches: 1800 }
    }
}

/// Every resource that is served, and what all verbs share.
pub struct Registry {
    /// The versions of built-in resources.
    pub serving: Serving,
    pub feed: Feed,
    table: ArcSwap<Table>,
    /// One store for each (storage group, plural): versions share it.
    stores: Mutex<HashMap<(String, String), Arc<ResourceStore>>>,
    pub hooks: hooks::Hooks,
    pub admission: crate::admission::Chain,
    pub terms: Terms,
    random: uid::Random,
}

impl Registry {
    /// A registry of the built-in resources that are served.
    pub fn new(
        serving: Serving,
        storage: Arc<dyn Storage>,
        hooks: hooks::Hooks,
        admission: crate::admission::Chain,
        terms: Terms,
    ) -> Self {
        let registry = Self {
            serving,
            feed: Feed::start(storage),
            table: ArcSwap::default(),
            stores: Mutex::default(),
            hooks,
            admission,
            terms,
            random: uid::Random::default(),
        };
        let mut table = Table::default();
        for resource in registry.serving.resources() {
            table.add(Arc::new(registry.builtin(resource)));
        }
        registry.table.store(Arc::new(table));
        registry
    }

    fn builtin(&self, resource: &Resource) -> Served {
        let strategy = crate::kinds::strategy(resource);
        let stored = convert::stored_as(resource);
        let store =
            self.store_of(&stored.group, &stored.plural, || ResourceStore::builtin(&self.feed, stored, self.terms.events));
        Served { resource: resource.clone(), strategy, store, types: TypeSource::Builtin, conversion: None }
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
        self.random.uid()
    }

    pub fn random(&self) -> u64 {
        self.random.number()
    }

    /// Random bytes, for what else needs some.
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        self.random.bytes()
    }
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
