//! Short ways to read and fill JSON objects by path. Paths for reading are JSON pointers (`/spec/replicas`).

use serde_json::{Map, Value};

/// What is there. As serde_json's `pointer`, which makes two strings of each step for escapes that no path of ours has.
pub(super) fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(value, |value, step| match value {
        Value::Object(map) => map.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The text there; empty when there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number there; none when there is none.
pub(super) fn number(value: &Value, pointer: &str) -> Option<i64> {
    at(value, pointer).and_then(Value::as_i64)
}

/// The number there; zero when there is none.
pub(super) fn int(value: &Value, pointer: &str) -> i64 {
    number(value, pointer).unwrap_or_default()
}

/// Whether there is `true`.
pub(super) fn truth(value: &Value, pointer: &str) -> bool {
    at(value, pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// Whether there is anything but null.
pub(super) fn has(value: &Value, pointer: &str) -> bool {
    at(value, pointer).is_some_and(|value| !value.is_null())
}

/// The items of the list there.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The items of the list there, to be changed.
pub(super) fn items_mut<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The texts of the list there.
pub(super) fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    items(value, pointer).iter().filter_map(Value::as_str).collect()
}

/// The entries of the map there, ordered by key.
pub(super) fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(value, pointer).and_then(Value::as_object).into_iter().flatten()
}

/// How many items or entries there are.
pub(super) fn count(value: &Value, pointer: &str) -> usize {
    match at(value, pointer) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(entries)) => entries.len(),
        _ => 0,
    }
}

/// Sets the field unless it is there. Does nothing to what is not an object.
pub(super) fn fill(value: &mut Value, field: &str, default: impl Into<Value>) {
    if let Value::Object(map) = value
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.to_owned(), default.into());
    }
}

/// Sets the field.
pub(super) fn set(value: &mut Value, field: &str, new: impl Into<Value>) {
    if let Value::Object(map) = value {
        map.insert(field.to_owned(), new.into());
    }
}

/// Removes the field.
pub(super) fn unset(value: &mut Value, field: &str) {
    if let Value::Object(map) = value {
        map.remove(field);
    }
}

/// The object in that field, made if there is none.
pub(super) fn object_in<'a>(value: &'a mut Value, field: &str) -> &'a mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let slot = &mut value[field];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot
}

/// Makes sure that there are objects all along the path: those that the reference types hold by value.
pub(super) fn ensure(value: &mut Value, path: &[&str]) {
    path.iter().fold(value, |value, field| object_in(value, field));
}

/// Makes the field in `new` what it is in `old`.
pub(super) fn restore(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => set(new, field, value.clone()),
        None => unset(new, field),
    }
}
