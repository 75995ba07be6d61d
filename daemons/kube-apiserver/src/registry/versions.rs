//! One object in several versions: as it is stored, and as each version shows it.
//!
//! The registry's verbs hand out entries that [`Served::read`] has seen. Where a webhook converts, these are in the version
//! that is served; else [`Served::from_storage`] makes them so, which waits for nobody.

use std::borrow::Cow;

use ::store::Entry;
use machinery::gvk::Gvr;
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::options::ListOptions;
use super::store::{EntryExt, Stored, record};
use super::{Registry, Served};
use crate::convert;
use crate::custom::CustomType;
use crate::custom::conversion::Conversion;

impl Served {
    /// Whether objects are stored as they are served here.
    pub fn is_storage_version(&self) -> bool {
        self.is_of(&self.store.api_version)
    }

    /// Whether clients get an entry's bytes as they are: they are in this version, and what its schema makes of them.
    pub fn serves_entry_bytes(&self) -> bool {
        self.asked().is_some() || self.shows_what_is_stored()
    }

    /// Whether objects are stored just as they are served here.
    fn shows_what_is_stored(&self) -> bool {
        self.is_storage_version() && !self.custom().is_some_and(CustomType::rewrites)
    }

    /// The conversion, if it may have to ask a webhook for what is read here.
    fn asked(&self) -> Option<&Conversion> {
        self.conversion.as_deref().filter(|conversion| conversion.asks(|| self.is_storage_version()))
    }

    /// Whether [`Self::read`] may wait for a webhook.
    pub fn asks_to_read(&self) -> bool {
        self.asked().is_some()
    }

    /// Whether entries match a selector only after their conversion: it names fields of this version.
    pub fn selects_converted(&self, options: &ListOptions) -> bool {
        self.asked().is_some() && options.fields.terms().iter().any(|term| !term.field.starts_with("metadata."))
    }

    /// An entry's object, in the version served here.
    pub fn from_storage(&self, object: Value) -> Value {
        match &self.conversion {
            _ if self.serves_entry_bytes() => object,
            Some(conversion) => conversion.read(object, &self.api_version()),
            None => convert::to(object, &self.api_version()),
        }
    }

    /// Entries of the store as the registry hands them out: converted where that takes a webhook.
    ///
    /// # Errors
    /// Of the webhook.
    pub async fn read(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, Status> {
        let Some(conversion) = self.asked() else { return Ok(entries) };
        let objects: Result<Vec<Value>, Status> = entries
            .iter()
            .map(|entry| {
                let mut object = entry.value().ok_or_else(|| Status::internal("the stored object cannot be read"))?;
                // The store's, like the rest of what an entry adds.
                meta::remove_path(&mut object, &["metadata", "resourceVersion"]);
                conversion.complete(&mut object);
                Ok(object)
            })
            .collect();
        let converted = conversion.convert(objects?, &self.api_version()).await?;
        entries.iter().zip(converted).map(|(entry, object)| self.entry(entry, &object)).collect()
    }

    /// The same, of one.
    pub async fn read_one(&self, entry: Entry) -> Result<Entry, Status> {
        if self.asked().is_none() {
            return Ok(entry);
        }
        let mut read = self.read(vec![entry]).await?;
        read.pop().ok_or_else(|| Status::internal("a conversion without an object"))
    }

    /// The same, for watchers: what one was shown the others need not ask for.
    ///
    /// # Errors
    /// Of the webhook.
    pub async fn read_for_watchers(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, Status> {
        let Some(conversion) = self.asked() else { return Ok(entries) };
        conversion.watched(&self.api_version(), entries, |entries| self.read(entries)).await
    }

    fn entry(&self, of: &Entry, object: &Value) -> Result<Entry, Status> {
        // A Value has only string keys: it always serialises.
        let bytes = serde_json::to_vec(object).unwrap_or_default();
        let fields = |object: &Value| -> Vec<(String, String)> {
            let fields = self.custom().map_or(&[][..], CustomType::selectable).iter();
            fields.map(|field| (field.name.clone(), field.value(object))).collect()
        };
        Entry::new(of.key().into(), &bytes, of.revision(), &|_| record(object, fields))
            .ok_or_else(|| Status::internal("a converted object has no metadata"))
    }

    /// The object of an entry of the store.
    ///
    /// # Errors
    /// It cannot be read, or not be converted.
    pub async fn object(&self, entry: &Entry) -> Result<Value, Status> {
        let object = self.read_one(entry.clone()).await?.value();
        object.map(|object| self.from_storage(object)).ok_or_else(|| Status::internal("the stored object cannot be read"))
    }

    /// An object as it goes to the store.
    ///
    /// # Errors
    /// Of a conversion webhook.
    pub async fn to_storage<'o>(&self, object: &'o Value) -> Result<Cow<'o, Value>, Status> {
        if meta::api_version(object) == self.store.api_version {
            return Ok(Cow::Borrowed(object));
        }
        self.in_version(object.clone(), &self.store.api_version).await.map(Cow::Owned)
    }

    /// What a write stored, where that is what its client gets to see.
    pub fn answer_of(&self, stored: Stored) -> Option<Entry> {
        stored.entry.filter(|_| self.shows_what_is_stored())
    }

    /// Whether an object, which the entry of the store shows here, would be stored today as something else than it is: in the
    /// version of today, with the defaults of today. Built-in kinds have had one form of storage only.
    ///
    /// # Errors
    /// Of a conversion webhook.
    pub async fn is_stored_otherwise(&self, entry: &Entry, object: &Value) -> Result<bool, Status> {
        if self.custom().is_none() || self.shows_what_is_stored() {
            return Ok(false);
        }
        let Some(mut kept) = entry.value() else { return Ok(false) };
        let mut today = self.to_storage(object).await?.into_owned();
        for object in [&mut kept, &mut today] {
            meta::remove_path(object, &["metadata", "resourceVersion"]);
        }
        Ok(kept != today)
    }

    /// An object of this resource, from whichever version, in that one.
    async fn in_version(&self, object: Value, api_version: &str) -> Result<Value, Status> {
        if meta::api_version(&object) == api_version {
            return Ok(object);
        }
        let Some(conversion) = &self.conversion else { return Ok(convert::to(object, api_version)) };
        let mut converted = conversion.convert(vec![object], api_version).await?;
        converted.pop().ok_or_else(|| Status::internal("a conversion without an object"))
    }
}

impl Registry {
    /// An object as another of the resources that share its store shows it.
    ///
    /// # Errors
    /// Nothing is served there; a conversion webhook failed.
    pub async fn shown_as(&self, object: &Value, resource: &Gvr) -> Result<Value, Status> {
        let served = self.served(&resource.group, &resource.version, &resource.resource);
        let served =
            served.ok_or_else(|| Status::internal(format!("unable to convert to {}: unknown kind", resource.resource)))?;
        let shown = served.in_version(object.clone(), &served.api_version()).await;
        shown.map_err(|status| Status::internal(status.message))
    }
}
