//! [`Kind`]: what a typed object is called, and how it is read and written.

use std::fmt::Debug;

use bytes::Bytes;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The server answered with bytes that are not the kind that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("decoding {kind}")]
pub struct DecodeError {
    pub kind: &'static str,
    #[source]
    pub source: serde_json::Error,
}

/// A served resource, by value: for code that handles kinds it does not know at compile time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
}

impl ResourceId {
    pub fn of<K: Kind>() -> Self {
        Self {
            group: K::GROUP.to_owned(),
            version: K::VERSION.to_owned(),
            kind: K::KIND.to_owned(),
            plural: K::PLURAL.to_owned(),
            namespaced: K::NAMESPACED,
        }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// A typed kind with object metadata. `GROUP`, `VERSION` and `KIND` come from [`k8s_openapi::Resource`].
pub trait Kind: Metadata<Ty = ObjectMeta> + Clone + Debug + Send + Sync + 'static {
    /// The plural, as it stands in paths.
    const PLURAL: &'static str = Self::URL_PATH_SEGMENT;
    const NAMESPACED: bool;

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
    /// The object as JSON, with `apiVersion` and `kind`.
    fn encode(&self) -> Bytes;
    fn decode_value(value: serde_json::Value) -> Result<Self, DecodeError>;
    fn to_value(&self) -> serde_json::Value;

    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }
    /// `metadata.name`, or the empty string.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }
    /// `metadata.namespace`, or the empty string.
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }
    /// `metadata.uid`, or the empty string.
    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }
    /// `metadata.resourceVersion` as a number, 0 when it is not there.
    fn resource_version(&self) -> u64 {
        self.metadata().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}

macro_rules! kinds {
    ($($module:ident :: $ty:ident, $namespaced:literal;)*) => {$(
        impl Kind for crate::$module::$ty {
            const NAMESPACED: bool = $namespaced;

            fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                serde_json::from_slice(bytes).map_err(|source| DecodeError { kind: <Self as k8s_openapi::Resource>::KIND, source })
            }
            fn encode(&self) -> Bytes {
                // These types hold no map with keys other than strings, the only way this could fail.
                serde_json::to_vec(self).expect("typed objects encode").into()
            }
            fn decode_value(value: serde_json::Value) -> Result<Self, DecodeError> {
                serde_json::from_value(value).map_err(|source| DecodeError { kind: <Self as k8s_openapi::Resource>::KIND, source })
            }
            fn to_value(&self) -> serde_json::Value {
                serde_json::to_value(self).expect("typed objects encode")
            }
        }
    )*

        #[cfg(test)]
        const NAMES: &[(&str, &str)] =
            &[$((stringify!($ty), <crate::$module::$ty as k8s_openapi::ListableResource>::LIST_KIND)),*];
    };
}

kinds! {
    core::ConfigMap, true;
    core::Endpoints, true;
    core::Event, true;
    core::LimitRange, true;
    core::Namespace, false;
    core::Node, false;
    core::PersistentVolume, false;
    core::PersistentVolumeClaim, true;
    core::Pod, true;
    core::PodTemplate, true;
    core::ReplicationController, true;
    core::ResourceQuota, true;
    core::Secret, true;
    core::Service, true;
    core::ServiceAccount, true;
    apps::ControllerRevision, true;
    apps::DaemonSet, true;
    apps::Deployment, true;
    apps::ReplicaSet, true;
    apps::StatefulSet, true;
    autoscaling::HorizontalPodAutoscaler, true;
    batch::CronJob, true;
    batch::Job, true;
    certificates::CertificateSigningRequest, false;
    coordination::Lease, true;
    discovery::EndpointSlice, true;
    events::Event, true;
    networking::Ingress, true;
    networking::NetworkPolicy, true;
    node::RuntimeClass, false;
    policy::PodDisruptionBudget, true;
    rbac::ClusterRole, false;
    rbac::ClusterRoleBinding, false;
    rbac::Role, true;
    rbac::RoleBinding, true;
    scheduling::PriorityClass, false;
    storage::CSINode, false;
    storage::StorageClass, false;
    storage::VolumeAttributesClass, false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_and_its_list_go_by_one_name() {
        for (kind, list) in NAMES {
            assert_eq!(format!("{kind}List"), *list);
        }
    }

    #[test]
    fn a_pod_survives_decode_and_encode() {
        let json = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b","resourceVersion":"7"},"spec":{"containers":[{"name":"c"}]}}"#;
        let pod = crate::core::Pod::decode(json).unwrap();
        assert_eq!((pod.name(), pod.namespace(), pod.resource_version()), ("a", "b", 7));
        assert_eq!(crate::core::Pod::decode(&pod.encode()).unwrap(), pod);
    }

    #[test]
    fn an_item_of_a_list_decodes_without_its_kind() {
        assert_eq!(crate::core::Node::decode(br#"{"metadata":{"name":"n"}}"#).unwrap().name(), "n");
    }
}
