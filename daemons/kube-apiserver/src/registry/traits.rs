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
                | ("storagemigration.k8s.io", _)
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
    /// An address, written as upstream prints it.
    Ip,
}

impl NameRule {
    pub fn of(resource: &GroupResource) -> Self {
        match (resource.group.as_str(), resource.resource.as_str()) {
            // The core group's is named `v1.`.
            ("apiregistration.k8s.io", _) => Self::PathSegment,
            ("", "namespaces" | "services") => Self::Label,
            ("networking.k8s.io", "ipaddresses") => Self::Ip,
            ("rbac.authorization.k8s.io", _) | ("certificates.k8s.io", "certificatesigningrequests") => Self::PathSegment,
            _ => Self::Subdomain,
        }
    }

    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => machinery::names::dns1123_subdomain(name),
            Self::Label => machinery::names::dns1123_label(name),
            Self::PathSegment => machinery::names::path_segment(name),
            Self::Ip => match name.parse::<std::net::IpAddr>() {
                Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
                Ok(address) if address.to_string() != name => {
                    vec![format!("must be in canonical form ({:?})", address.to_string())]
                }
                Ok(_) => Vec::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_names() {
        for (name, accepted) in [("10.0.0.1", true), ("fe80::42:1dff:fe84:f9e2", true), ("fe80:0::1", false), ("a", false)] {
            assert_eq!(NameRule::Ip.check(name).is_empty(), accepted, "{name}");
        }
    }
}
