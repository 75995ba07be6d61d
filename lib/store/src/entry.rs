//! One object as a cache holds it: its bytes as they are sent, and the few facts by which it is found and filtered.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::splice;

/// An immutable object; clones share it.
#[derive(Clone)]
pub struct Entry(Arc<Object>);

struct Object {
    key: Arc<str>,
    revision: u64,
    json: splice::Spliced,
    record: IndexRecord,
    protobuf: OnceLock<Bytes>,
}

/// What selectors and secondary indexes need of an object, extracted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexRecord {
    pub labels: Pairs,
    /// Selectable fields by path (`spec.nodeName`). A path may occur more than once (owners); an index then has the
    /// object under each value.
    pub fields: Pairs,
}

/// Names with values, sorted by name: a map in the smallest space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(Box<[(Arc<str>, Box<str>)]>);

impl Pairs {
    pub fn new(pairs: impl IntoIterator<Item = (Arc<str>, Box<str>)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort();
        Self(pairs.into())
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (found, value) = self.0.get(self.0.partition_point(|(n, _)| &**n < name))?;
        (&**found == name).then_some(value)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let at = self.0.partition_point(|(n, _)| &**n < name);
        self.0[at..].iter().take_while(move |(n, _)| &**n == name).map(|(_, value)| &**value)
    }

    /// Sorted by name: what `machinery::selector` matches against.
    pub fn as_slice(&self) -> &[(Arc<str>, Box<str>)] {
        &self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self::new(pairs.into_iter().map(|(name, value)| (Arc::from(name.as_ref()), Box::from(value.as_ref()))))
    }
}

impl Entry {
    /// `None` when the value is no JSON object with metadata.
    pub fn new(key: Arc<str>, value: &[u8], revision: u64, index: &dyn Fn(&[u8]) -> IndexRecord) -> Option<Self> {
        let json = splice::insert(value, revision)?;
        let record = index(value);
        Some(Self(Arc::new(Object { key, revision, json, record, protobuf: OnceLock::new() })))
    }

    pub fn key(&self) -> &str {
        &self.0.key
    }

    pub(crate) fn shared_key(&self) -> Arc<str> {
        Arc::clone(&self.0.key)
    }

    /// The object's JSON, with its resourceVersion.
    pub fn bytes(&self) -> &Bytes {
        &self.0.json.bytes
    }

    pub fn revision(&self) -> u64 {
        self.0.revision
    }

    pub fn record(&self) -> &IndexRecord {
        &self.0.record
    }

    /// The same object under the resourceVersion of a later event: what a watcher is told last of an object that was
    /// deleted or left its selection.
    pub fn at_revision(&self, revision: u64) -> Self {
        let Object { key, json, record, .. } = &*self.0;
        let bytes = splice::replace(&json.bytes, json.digits.clone(), revision);
        let end = json.digits.start + (bytes.len() + json.digits.len() - json.bytes.len());
        let json = splice::Spliced { bytes, digits: json.digits.start..end };
        Self(Arc::new(Object { key: Arc::clone(key), revision, json, record: record.clone(), protobuf: OnceLock::new() }))
    }

    /// The object's protobuf form, made by `encode` when it is first asked for.
    pub fn protobuf(&self, encode: impl FnOnce(&Bytes) -> Bytes) -> &Bytes {
        self.0.protobuf.get_or_init(|| encode(&self.0.json.bytes))
    }

    /// Bytes held, near enough to bound a cache.
    pub(crate) fn cost(&self) -> usize {
        self.0.json.bytes.len() + self.0.key.len() + 256
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the content: it may be a Secret.
        write!(f, "Entry({}@{})", self.0.key, self.0.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_find_first_and_all() {
        let pairs: Pairs = [("b", "2"), ("a", "1"), ("b", "1")].into_iter().collect();
        assert_eq!(pairs.get("b"), Some("1"));
        assert_eq!(pairs.all("b").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(pairs.get("c"), None);
    }

    #[test]
    fn at_revision_can_be_repeated() {
        let entry = Entry::new("k".into(), br#"{"metadata":{"name":"x"}}"#, 9, &|_| IndexRecord::default()).unwrap();
        let later = entry.at_revision(1000).at_revision(7);
        assert_eq!(&later.bytes()[..], br#"{"metadata":{"resourceVersion":"7","name":"x"}}"#);
        assert_eq!(later.revision(), 7);
    }
}
