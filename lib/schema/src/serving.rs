//! Which versions of the built-in resources a server serves: those that are on by default, and those that it was asked for.

use crate::builtin::{Builtin, Module, builtin};
use crate::resource::Resource;

/// A version that is served only when it is asked for (`--runtime-config`), while a feature gate is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnRequest {
    pub group: &'static str,
    pub version: &'static str,
    pub gate: &'static str,
}

/// The versions that a server serves. The default are those of a server that was asked for no others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Serving(Vec<OnRequest>);

impl Serving {
    pub fn with(requested: impl IntoIterator<Item = OnRequest>) -> Self {
        Self(requested.into_iter().collect())
    }

    fn serves(&self, by_default: bool, group: &str, version: &str) -> bool {
        by_default || self.0.iter().any(|other| other.group == group && other.version == version)
    }

    /// In the order of the table.
    pub fn resources(&self) -> impl Iterator<Item = &'static Resource> {
        builtin().resources.iter().filter(|r| self.serves(r.served, &r.group, &r.version))
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = &'static Module<'static>> {
        builtin().modules.iter().filter(|module| self.serves(module.served, module.group, module.version))
    }
}

impl Builtin {
    /// The versions that may be asked for.
    pub fn on_request(&self) -> &[OnRequest] {
        &self.on_request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served() {
        let default: Vec<_> = Serving::default().resources().collect();
        assert!(default.iter().all(|resource| resource.served));
        let migrations = builtin().on_request().iter().find(|version| version.group == "storagemigration.k8s.io").unwrap();
        assert_eq!((migrations.version, migrations.gate), ("v1beta1", "StorageVersionMigrator"));
        let asked = Serving::with([*migrations]);
        let more: Vec<_> = asked.resources().filter(|resource| !default.contains(resource)).collect();
        assert_eq!(more.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>(), ["StorageVersionMigration"]);
        assert!(more[0].storage_version && more[0].subresource("status").is_some() && !more[0].namespaced);
    }

    /// What may be asked for is in the table, and not on anyway.
    #[test]
    fn what_may_be_asked_for() {
        for OnRequest { group, version, .. } in builtin().on_request() {
            assert!(builtin().module(group, version).is_some_and(|module| !module.served), "{group}/{version}");
        }
    }
}
