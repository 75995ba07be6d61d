//! What is served where.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Served, TypeSource};

/// Everything served, by plural name: looking one up allocates nothing, and few groups share a plural.
#[derive(Clone, Default)]
pub struct Table(HashMap<String, Vec<Arc<Served>>>);

impl Table {
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Served>> {
        self.versions(group, plural).find(|served| served.resource.version == version)
    }

    /// All served versions of a resource.
    pub fn versions(&self, group: &str, plural: &str) -> impl Iterator<Item = &Arc<Served>> {
        self.0.get(plural).into_iter().flatten().filter(move |served| served.resource.group == group)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.0.values().flatten()
    }

    /// Who is there first stays.
    pub fn add(&mut self, served: Arc<Served>) {
        let resource = &served.resource;
        if self.get(&resource.group, &resource.version, &resource.plural).is_none() {
            self.0.entry(resource.plural.clone()).or_default().push(served);
        }
    }

    /// Takes away what a CustomResourceDefinition declared.
    pub fn remove_custom(&mut self, group: &str, plural: &str) {
        if let Some(served) = self.0.get_mut(plural) {
            served.retain(|served| !(served.resource.group == group && matches!(served.types, TypeSource::Custom(_))));
        }
    }
}
