//! JSON merge patch (RFC 7386): objects merge, null removes, everything else replaces.

use serde_json::{Map, Value};

use super::PatchError;
use super::json::kind_of;

/// A merge patch of an API object is itself an object.
///
/// # Errors
/// When it is not.
pub fn require_object(patch: &Value) -> Result<(), PatchError> {
    match patch {
        Value::Object(_) => Ok(()),
        other => Err(PatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            kind_of(other)
        ))),
    }
}

/// Applies a merge patch.
pub fn apply(object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(map) = object else { return };
    for (key, change) in changes {
        match change {
            Value::Null => {
                map.remove(key);
            }
            Value::Object(_) => apply(map.entry(key.clone()).or_insert(Value::Null), change),
            other => {
                map.insert(key.clone(), other.clone());
            }
        }
    }
}

/// The patch that makes `modified` of `original`; `{}` when they are equal.
pub fn create_two_way(original: &Value, modified: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (original, modified) else {
        return modified.clone();
    };
    let mut patch = Map::new();
    for (key, value) in to {
        match from.get(key) {
            Some(old) if old == value => {}
            Some(old @ Value::Object(_)) if value.is_object() => {
                patch.insert(key.clone(), create_two_way(old, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in from.keys().filter(|k| !to.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// kubectl's three-way merge for kinds without a strategic patch: removes what `original` had and `modified` has not, and
/// sets what differs between `current` and `modified`.
pub fn create_three_way(original: &Value, modified: &Value, current: &Value) -> Value {
    let mut patch = keep_additions(create_two_way(current, modified));
    let deletions = keep_deletions(create_two_way(original, modified));
    apply_keeping_nulls(&mut patch, deletions);
    patch
}

fn keep_additions(patch: Value) -> Value {
    match patch {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, keep_additions(v)))
                .filter(|(_, v)| v.as_object().is_none_or(|m| !m.is_empty()))
                .collect(),
        ),
        other => other,
    }
}

fn keep_deletions(patch: Value) -> Value {
    let Value::Object(map) = patch else {
        return Value::Object(Map::new());
    };
    Value::Object(
        map.into_iter()
            .filter_map(|(k, v)| match v {
                Value::Null => Some((k, Value::Null)),
                Value::Object(_) => {
                    let inner = keep_deletions(v);
                    inner.as_object().is_some_and(|m| !m.is_empty()).then_some((k, inner))
                }
                _ => None,
            })
            .collect(),
    )
}

fn apply_keeping_nulls(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(map), Value::Object(changes)) => {
            for (key, change) in changes {
                match map.get_mut(&key) {
                    Some(inner) => apply_keeping_nulls(inner, change),
                    None => {
                        map.insert(key, change);
                    }
                }
            }
        }
        (target, patch) => *target = patch,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rfc_7386_appendix() {
        for (object, patch, want) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut got = object.clone();
            apply(&mut got, &patch);
            assert_eq!(got, want, "{object} with {patch}");
        }
    }

    #[test]
    fn two_way_round_trip() {
        for (a, b) in [
            (json!({"a": 1, "b": {"c": 2, "d": 3}}), json!({"a": 2, "b": {"d": 3, "e": [1]}})),
            (json!({"a": {"b": 1}}), json!({"a": 5})),
            (json!({}), json!({})),
        ] {
            let mut got = a.clone();
            apply(&mut got, &create_two_way(&a, &b));
            assert_eq!(got, b);
        }
    }

    #[test]
    fn three_way_keeps_what_others_set() {
        let original = json!({"spec": {"a": 1, "gone": 2}});
        let modified = json!({"spec": {"a": 5}});
        let current = json!({"spec": {"a": 1, "gone": 2, "other": 3}, "status": {}});
        assert_eq!(create_three_way(&original, &modified, &current), json!({"spec": {"a": 5, "gone": null}}));
    }
}
