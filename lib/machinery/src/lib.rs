//! Pure API machinery: names, errors, selectors, quantities, patches, server-side apply, JSONPath, YAML; what pods hold and
//! refer to, and what quotas count of them.
//!
//! Nothing here does I/O, reads a clock or awaits: every function is data in, data out, over `serde_json::Value` and the
//! schema's types. Messages are worded as upstream's, since clients and tests compare them.

pub mod apply;
pub mod field;
pub mod gojson;
pub mod gotext;
pub mod gvk;
pub mod json;
pub mod jsonpath;
pub mod linediff;
pub mod meta;
pub mod names;
pub mod outline;
pub mod patch;
pub mod pod;
pub mod quantity;
pub mod quota;
pub mod regexp;
pub mod selector;
pub mod status;
pub mod time;
pub mod yaml;
