//! Inputs that hold several documents, and what is asked of any document.

use serde_json::Value;

pub(crate) use machinery::json::{DEPTH_MAX, depth};

/// The text before the first empty line and what comes after it.
pub(crate) fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[]),
    }
}

/// JSON as the API server reads it, and not more than it keeps.
pub(crate) fn value(data: &[u8]) -> Option<Value> {
    machinery::json::parse_strict(data).ok().map(|(value, _)| value)
}

/// Whether a member of an object is null, here or below: merge patches cannot say that.
pub(crate) fn has_null_member(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().any(|value| value.is_null() || has_null_member(value)),
        _ => false,
    }
}

/// Whether two values are equal but for the spelling of whole numbers (`1.0`).
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1)),
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}
