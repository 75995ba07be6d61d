//! The patch of client-side apply: from what was applied last, what is applied now, and what the server has.

use machinery::{
    gvk::Gvk,
    patch::{PatchError, merge, strategic},
};
use serde_json::Value;

use super::configuration;
use crate::kube::session::{MERGE_PATCH, STRATEGIC_PATCH};

/// A patch and its media type.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    pub kind: &'static str,
    pub body: Value,
}

impl Patch {
    /// The object is as the file says.
    pub fn is_empty(&self) -> bool {
        self.body.as_object().is_some_and(serde_json::Map::is_empty)
    }

    /// The object as the patch makes it, without asking the server.
    pub fn apply(&self, current: &Value) -> Result<Value, PatchError> {
        match builtin(current).filter(|_| self.kind == STRATEGIC_PATCH) {
            Some(ty) => strategic::apply(current, &self.body, ty),
            None => {
                let mut object = current.clone();
                merge::apply(&mut object, &self.body);
                Ok(object)
            }
        }
    }
}

/// Removes what left the file since the last apply and sets what is not as the file says; what others set stays. Lists of
/// built-in kinds are merged by their keys, those of custom resources are replaced.
///
/// # Errors
/// When the annotation of the last apply is no JSON, or a list has no key to merge it by.
pub fn patch(modified: &Value, current: &Value) -> Result<Patch, PatchError> {
    let original = last(current)?;
    Ok(match builtin(modified) {
        Some(ty) => Patch { kind: STRATEGIC_PATCH, body: strategic::create_three_way(&original, modified, current, ty)? },
        None => Patch { kind: MERGE_PATCH, body: merge::create_three_way(&original, modified, current) },
    })
}

/// Refuses to set what others changed since the last apply: what kubectl does for `--overwrite=false`. A patch of a custom resource
/// is never refused.
///
/// # Errors
/// The patch, and what it is at odds with.
pub fn keep_changes(patch: &Patch, current: &Value) -> Result<(), PatchError> {
    let Some(ty) = builtin(current).filter(|_| patch.kind == STRATEGIC_PATCH) else { return Ok(()) };
    let changed = strategic::create_two_way(&last(current)?, current, ty)?;
    if !strategic::conflict(&patch.body, &changed, ty)? {
        return Ok(());
    }
    let text = machinery::yaml::to_string;
    Err(PatchError::Malformed(format!(
        "patch:\n{}\nconflicts with changes made from original to current:\n{}\n",
        text(&patch.body),
        text(&changed)
    )))
}

/// What was applied last; nothing if the object never was.
fn last(current: &Value) -> Result<Value, PatchError> {
    let last = configuration::last_applied(current).map_err(|_| PatchError::Malformed("Invalid JSON document".into()))?;
    Ok(last.unwrap_or_else(|| Value::Object(serde_json::Map::new())))
}

fn builtin(object: &Value) -> Option<schema::TypeRef<'static>> {
    let gvk = Gvk::of(object)?;
    schema::builtin().type_of(&gvk.group, &gvk.version, &gvk.kind)
}

#[cfg(test)]
mod tests {
    use machinery::{apply::LAST_APPLIED, meta};
    use serde_json::json;

    use super::*;

    /// What an apply of `now` after one of `last` sends, when others made the object `current`.
    fn check(last: Value, now: Value, mut current: Value, want: (&str, Value)) {
        current["metadata"]["annotations"] = json!({LAST_APPLIED: configuration::text(&last)});
        let mut got = patch(&configuration::annotated(&now), &current).unwrap();
        if let Some(annotations) = got.body["metadata"]["annotations"].as_object_mut() {
            annotations.remove(LAST_APPLIED);
        }
        assert_eq!((got.kind, got.body["spec"].take()), want);
    }

    #[test]
    fn lists_are_merged_by_key_or_replaced() {
        let object = |api: &str, kind: &str, ports: Value| json!({"apiVersion": api, "kind": kind, "metadata": {"name": "a"}, "spec": {"ports": ports}});
        let port = |number: u16| json!({"port": number});
        check(
            object("v1", "Service", json!([port(1), port(2)])),
            object("v1", "Service", json!([port(2), port(3)])),
            object("v1", "Service", json!([port(1), port(2), port(9)])),
            (
                STRATEGIC_PATCH,
                json!({"$setElementOrder/ports": [port(2), port(3)], "ports": [port(3), {"port": 1, "$patch": "delete"}]}),
            ),
        );
        check(
            object("example.com/v1", "Widget", json!([port(1), port(2)])),
            object("example.com/v1", "Widget", json!([port(2), port(3)])),
            object("example.com/v1", "Widget", json!([port(1), port(2), port(9)])),
            (MERGE_PATCH, json!({"ports": [port(2), port(3)]})),
        );
    }

    #[test]
    fn changes_of_others_are_kept() {
        let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
        let check = |now: Value, current: Value, kept: bool| {
            let mut current = map(current);
            current["metadata"]["annotations"] = json!({LAST_APPLIED: configuration::text(&map(json!({"x": "1"})))});
            let mut patch = patch(&configuration::annotated(&map(now)), &current).unwrap();
            // The annotation itself is one of the changes.
            assert_eq!(keep_changes(&patch, &current).is_ok(), patch.is_empty());
            meta::metadata_mut(&mut patch.body).remove("annotations");
            assert_eq!(keep_changes(&patch, &current).is_ok(), kept, "{patch:?}");
        };
        check(json!({"x": "1"}), json!({"x": "1"}), true);
        check(json!({"x": "2"}), json!({"x": "1", "y": "1"}), true);
        check(json!({"x": "2"}), json!({"x": "3"}), false);
    }

    #[test]
    fn nothing_to_do_is_an_empty_patch() {
        let now = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}});
        let mut current = configuration::annotated(&now);
        current["metadata"]["uid"] = "u".into();
        let same = patch(&configuration::annotated(&now), &current).unwrap();
        assert!(same.is_empty(), "{same:?}");
        assert_eq!(same.apply(&current).unwrap(), current);
        current["metadata"]["annotations"][LAST_APPLIED] = "{".into();
        assert!(patch(&now, &current).is_err());
    }
}
