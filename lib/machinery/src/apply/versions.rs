//! Owners that wrote in other versions of a kind, where fields may have other names.

use std::collections::BTreeMap;
use std::fmt::Debug;

use schema::TypeRef;
use serde_json::Value;

use super::managers::Manager;
use super::set::Set;
use super::walk::{self, Comparison};
use super::{Writer, meta};

/// The same object in other versions of its kind.
pub trait Versions: Debug + Sync {
    /// The object in that version and its type; none when there is no such version any more.
    fn shown(&self, object: &Value, api_version: &str) -> Option<(Value, TypeRef<'_>)>;
}

/// One change as the versions of its managers see it.
pub(super) struct Changes<'c> {
    pub old: &'c Value,
    pub new: &'c Value,
    /// In the writer's version.
    pub own: &'c Comparison,
    pub writer: &'c Writer<'c>,
    others: BTreeMap<String, Option<Comparison>>,
}

impl<'c> Changes<'c> {
    pub fn new(old: &'c Value, new: &'c Value, own: &'c Comparison, writer: &'c Writer<'c>) -> Self {
        Self { old, new, own, writer, others: BTreeMap::new() }
    }

    /// What the manager's fields are compared with; none when its version is no more.
    pub fn seen_by(&mut self, manager: &Manager) -> Option<&Comparison> {
        let version = manager.api_version.as_str();
        let Some(versions) = self.writer.versions.filter(|_| version != self.writer.api_version) else { return Some(self.own) };
        let Self { old, new, writer, others, .. } = self;
        let compare = || {
            let (old, ty) = versions.shown(old, version)?;
            let (new, _) = versions.shown(new, version)?;
            Some(walk::compare(&old, &new, ty).without(writer.ignored))
        };
        others.entry(version.to_owned()).or_insert_with(compare).as_ref()
    }
}

/// Takes away what was applied last time, at another version perhaps, and is not now, unless another owner claims it in the
/// version it wrote in. `merged` and the answer are in the writer's version.
pub(super) fn prune(
    merged: &Value,
    last: (&str, &Set),
    now: (&str, &Set),
    others: &[Manager],
    versions: &dyn Versions,
) -> Option<Value> {
    let (of_last, ty) = versions.shown(merged, last.0)?;
    let last_fields = last.1.with_named_fields(Some(ty));
    let mut pruned = walk::remove(&of_last, &last_fields, ty);
    let mut owned: BTreeMap<&str, Set> = BTreeMap::from([(now.0, now.1.clone())]);
    for manager in others {
        owned.entry(&manager.api_version).or_default().extend(&manager.fields);
    }
    for (version, fields) in owned {
        let (Some((whole, ty)), Some((left, _))) = (versions.shown(merged, version), versions.shown(&pruned, version)) else {
            continue;
        };
        let named = |set: &Set| set.with_named_fields(Some(ty));
        let kept = named(&walk::field_set(&left, ty)).union(&named(&fields));
        pruned = walk::remove(&whole, &named(&walk::field_set(&whole, ty)).difference(&kept), ty);
    }
    // Only what this manager owned may go; items nobody owns stay.
    let (left, _) = versions.shown(&pruned, last.0)?;
    let named = |object: &Value| walk::field_set(object, ty).with_named_fields(Some(ty));
    let gone = named(&of_last).difference(&named(&left)).intersection(&last_fields);
    versions.shown(&walk::remove(&of_last, &gone, ty), meta::api_version(merged)).map(|(object, _)| object)
}
