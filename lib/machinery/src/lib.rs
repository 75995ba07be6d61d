//! Pure API machinery: names, errors, selectors, quantities, patches, server-side apply, JSONPath, YAML.

pub mod gvk;
