//! OpenAPI documents, made from the table on demand.

/// The OpenAPI v3 document of a group and version, as JSON.
pub fn v3(_group: &str, _version: &str) -> Option<Vec<u8>> {
    None
}

/// One entry of the `/openapi/v3` index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// `api/v1`, `apis/apps/v1`
    pub path: String,
    pub group: String,
    pub version: String,
    /// The content hash that goes into `serverRelativeURL`.
    pub hash: String,
}

/// The documents there are.
pub fn v3_index() -> Vec<IndexEntry> {
    Vec::new()
}

/// The OpenAPI v2 document of everything, as JSON.
pub fn v2() -> Vec<u8> {
    Vec::new()
}
