//! Short, stable names for templates: `pod-template-hash` and the suffix of a ControllerRevision.
//!
//! The value need not equal upstream's (which hashes a Go memory dump and differs between releases): a template that
//! already has a ReplicaSet is found by comparing templates, never by its hash. It must be stable, so it is FNV-1a over
//! canonical JSON: keys sorted, absent fields absent.

use api::core::PodTemplateSpec;
use machinery::names::safe_encode;
use serde_json::Value;

/// 32-bit FNV-1a.
#[derive(Clone, Copy)]
struct Fnv(u32);

impl Fnv {
    fn new() -> Self {
        Self(0x811c_9dc5)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

/// The hash of a pod template, in the alphabet of generated names. `collisions` is `status.collisionCount`.
pub(crate) fn of_template(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    of_value(&crate::template::canonical(template), collisions)
}

/// The hash of any JSON value (`serde_json`'s maps are sorted).
pub(crate) fn of_value(value: &Value, collisions: Option<i32>) -> String {
    let mut fnv = Fnv::new();
    fnv.write(value.to_string().as_bytes());
    if let Some(count) = collisions {
        fnv.write(&count.to_le_bytes());
    }
    safe_encode(&fnv.0.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_value_is_stable_and_safe_in_names() {
        // A changed value here would make every Deployment roll: it must never change.
        assert_eq!(of_value(&json!({"spec": {"containers": [{"name": "a", "image": "b"}]}}), None), "b778769f");
        assert_eq!(of_value(&json!({"b": 1, "a": 2}), None), of_value(&json!({"a": 2, "b": 1}), None));
    }

    #[test]
    fn a_collision_gives_another_name() {
        let template = PodTemplateSpec::default();
        let names: std::collections::BTreeSet<String> =
            [None, Some(0), Some(1), Some(2)].iter().map(|c| of_template(&template, *c)).collect();
        assert_eq!(names.len(), 4);
    }
}
