//! [`Meta`]: the part of an object's metadata that caches index, read without decoding the rest.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The index record that informers keep beside an object's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub name: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub uid: String,
    pub resource_version: u64,
    pub generation: i64,
    pub labels: BTreeMap<String, String>,
    pub owners: Vec<OwnerRef>,
    pub finalizers: Vec<String>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
}

/// One of an object's owners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerRef {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

#[derive(Deserialize)]
struct ObjectView {
    #[serde(default)]
    metadata: MetaView,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MetaView {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerRef>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

impl Meta {
    /// Reads the metadata of an encoded object; everything else is skipped, not built.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let m = serde_json::from_slice::<ObjectView>(bytes)?.metadata;
        Ok(Self {
            name: m.name,
            namespace: m.namespace.unwrap_or_default(),
            uid: m.uid.unwrap_or_default(),
            resource_version: m.resource_version.and_then(|v| v.parse().ok()).unwrap_or(0),
            generation: m.generation.unwrap_or(0),
            labels: m.labels.unwrap_or_default(),
            owners: m.owner_references.unwrap_or_default(),
            finalizers: m.finalizers.unwrap_or_default(),
            deleting: m.deletion_timestamp.is_some(),
        })
    }

    /// The owner that has `controller: true`.
    pub fn controller(&self) -> Option<&OwnerRef> {
        self.owners.iter().find(|o| o.controller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_indexed() {
        let m = Meta::decode(
            br#"{"spec":{"x":[1,2]},"metadata":{"name":"p","namespace":"n","uid":"u","resourceVersion":"9","labels":{"a":"b"},
            "deletionTimestamp":"2026-01-01T00:00:00Z","ownerReferences":[{"kind":"ReplicaSet","name":"r","uid":"x","apiVersion":"apps/v1","controller":true}]}}"#,
        )
        .unwrap();
        assert_eq!((m.name.as_str(), m.resource_version, m.deleting), ("p", 9, true));
        assert_eq!(m.controller().unwrap().name, "r");
        assert_eq!(m.labels["a"], "b");
    }

    #[test]
    fn null_deletion_timestamp_is_not_deleting() {
        assert!(!Meta::decode(br#"{"metadata":{"name":"p","deletionTimestamp":null}}"#).unwrap().deleting);
    }
}
