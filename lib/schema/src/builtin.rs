//! The built-in table.

use std::sync::LazyLock;

use crate::{Resource, TypeRef, types::Types};

/// All built-in types and resources.
#[derive(Debug, Default)]
pub struct Builtin {
    pub resources: Vec<Resource>,
    pub(crate) types: Types,
}

/// The table of this release.
pub fn builtin() -> &'static Builtin {
    static BUILTIN: LazyLock<Builtin> = LazyLock::new(Builtin::default);
    &BUILTIN
}

impl Builtin {
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
    }

    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.kind == kind && r.group == group && r.version == version)
    }

    /// The type of a kind, of its list, or of one of the kinds every group knows (`DeleteOptions`, `Status`, …).
    pub fn type_of(&self, _group: &str, _version: &str, _kind: &str) -> Option<TypeRef<'_>> {
        self.types.named("")
    }
}
