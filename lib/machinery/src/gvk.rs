//! Group, version, kind and resource names, and their wire spelling (`apps/v1`, `v1`).

use std::fmt;
use std::str::FromStr;

/// An API group and version; the core group is the empty string and prints as the version alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    pub group: String,
    pub version: String,
}

impl GroupVersion {
    pub fn new(group: impl Into<String>, version: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into() }
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.version) } else { write!(f, "{}/{}", self.group, self.version) }
    }
}

/// `apiVersion` held more than one slash, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected GroupVersion string: {0}")]
pub struct ParseGroupVersionError(pub String);

impl FromStr for GroupVersion {
    type Err = ParseGroupVersionError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut parts = s.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(version), None, _) => Ok(Self::new("", version)),
            (Some(group), Some(version), None) => Ok(Self::new(group, version)),
            _ => Err(ParseGroupVersionError(s.to_owned())),
        }
    }
}

/// What an object says of itself: `apiVersion` and `kind`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    pub group: String,
    pub version: String,
    pub kind: String,
}

impl Gvk {
    pub fn new(group: impl Into<String>, version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// Reads `apiVersion` and `kind` of an object.
    pub fn of(object: &serde_json::Value) -> Option<Self> {
        let gv: GroupVersion = object.get("apiVersion")?.as_str()?.parse().ok()?;
        Some(Self { group: gv.group, version: gv.version, kind: object.get("kind")?.as_str()?.to_owned() })
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&self.group, &self.version)
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.group_version(), self.kind)
    }
}

/// A served resource: group, version and plural.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvr {
    pub group: String,
    pub version: String,
    pub resource: String,
}

impl Gvr {
    pub fn new(group: impl Into<String>, version: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&self.group, &self.version)
    }
}

/// A resource whatever its version; prints as `deployments.apps`, and `pods` in the core group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    pub group: String,
    pub resource: String,
}

/// A kind whatever its version; prints as `Deployment.apps`, and `Pod` in the core group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    pub group: String,
    pub kind: String,
}

impl GroupResource {
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

impl GroupKind {
    pub fn new(group: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: group.into(), kind: kind.into() }
    }
}

fn fmt_dotted(f: &mut fmt::Formatter<'_>, name: &str, group: &str) -> fmt::Result {
    if group.is_empty() { f.write_str(name) } else { write!(f, "{name}.{group}") }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_dotted(f, &self.resource, &self.group)
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_dotted(f, &self.kind, &self.group)
    }
}

fn split_dotted(s: &str) -> (&str, &str) {
    s.split_once('.').unwrap_or((s, ""))
}

/// `deployments.apps`, or `pods`.
impl From<&str> for GroupResource {
    fn from(s: &str) -> Self {
        let (resource, group) = split_dotted(s);
        Self::new(group, resource)
    }
}

/// `Deployment.apps`, or `Pod`.
impl From<&str> for GroupKind {
    fn from(s: &str) -> Self {
        let (kind, group) = split_dotted(s);
        Self::new(group, kind)
    }
}

/// (group, resource)
impl From<(&str, &str)> for GroupResource {
    fn from((group, resource): (&str, &str)) -> Self {
        Self::new(group, resource)
    }
}

/// (group, kind)
impl From<(&str, &str)> for GroupKind {
    fn from((group, kind): (&str, &str)) -> Self {
        Self::new(group, kind)
    }
}

impl From<&Gvr> for GroupResource {
    fn from(gvr: &Gvr) -> Self {
        Self::new(&gvr.group, &gvr.resource)
    }
}

impl From<&GroupResource> for GroupResource {
    fn from(gr: &GroupResource) -> Self {
        gr.clone()
    }
}

impl From<&Gvk> for GroupKind {
    fn from(gvk: &Gvk) -> Self {
        Self::new(&gvk.group, &gvk.kind)
    }
}

impl From<&GroupKind> for GroupKind {
    fn from(gk: &GroupKind) -> Self {
        gk.clone()
    }
}
