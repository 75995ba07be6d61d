//! How resources differ in the generic verbs: facts, one table each.

use machinery::gvk::GroupResource;

/// May an update (or apply) of a missing object create it?
pub fn creates_on_update(resource: &GroupResource) -> bool {
    matches!(
        (resource.group.as_str(), resource.resource.as_str()),
        ("coordination.k8s.io", "leases" | "leasecandidates")
            | ("", "endpoints" | "events" | "limitranges" | "services")
            | ("node.k8s.io", "runtimeclasses")
            | ("rbac.authorization.k8s.io", _)
    )
}

/// Must an update say which version it replaces?
pub fn needs_resource_version(resource: &GroupResource, custom: bool) -> bool {
    custom
        || matches!(
            (resource.group.as_str(), resource.resource.as_str()),
            ("admissionregistration.k8s.io" | "apiextensions.k8s.io" | "apiregistration.k8s.io", _)
                | ("coordination.k8s.io", "leases" | "leasecandidates")
                | ("node.k8s.io", "runtimeclasses")
                | ("policy", "poddisruptionbudgets")
                | ("certificates.k8s.io", "clustertrustbundles" | "podcertificaterequests")
                | ("storage.k8s.io", "csidrivers" | "csinodes" | "csistoragecapacities" | "volumeattachments")
        )
}

/// Does a finished deletion answer with the object rather than with a Status?
pub fn returns_deleted(resource: &GroupResource) -> bool {
    matches!(
        (resource.group.as_str(), resource.resource.as_str()),
        (
            "",
            "resourcequotas"
                | "persistentvolumes"
                | "serviceaccounts"
                | "persistentvolumeclaims"
                | "namespaces"
                | "pods"
                | "services"
                | "podtemplates"
        ) | ("resource.k8s.io", _)
            | ("storage.k8s.io", "csidrivers" | "storageclasses" | "volumeattachments" | "csinodes" | "volumeattributesclasses")
    )
}

/// Which names a resource allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    Subdomain,
    Label,
    /// Anything that can stand in a path.
    PathSegment,
}

impl NameRule {
    pub fn of(resource: &GroupResource) -> Self {
        match (resource.group.as_str(), resource.resource.as_str()) {
            ("", "namespaces" | "services") => Self::Label,
            ("rbac.authorization.k8s.io", _) => Self::PathSegment,
            _ => Self::Subdomain,
        }
    }

    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => machinery::names::dns1123_subdomain(name),
            Self::Label => machinery::names::dns1123_label(name),
            Self::PathSegment => machinery::names::path_segment(name),
        }
    }
}
