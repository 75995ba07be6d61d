//! JSON to protobuf.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire::{put_bytes, put_fixed64, put_message, put_number};
use super::{DEPTH_MAX, ProtoError};
use crate::TypeRef;
use crate::builtin::builtin;
use crate::types::{AnyKind, Node, Object, Scalar};

type Result<T = ()> = std::result::Result<T, ProtoError>;

/// Appends the message of an object.
pub(super) fn message(out: &mut Vec<u8>, value: &Value, ty: TypeRef<'_>) -> Result {
    object(out, value, ty, 0)
}

fn object(out: &mut Vec<u8>, value: &Value, ty: TypeRef<'_>, depth: usize) -> Result {
    let Some(shape) = ty.object() else { return Err(unencodable("it is not an object type")) };
    let Some(map) = value.as_object() else { return Err(unencodable("it is not an object")) };
    if depth > DEPTH_MAX {
        return Err(unencodable("it is nested too deeply"));
    }
    members(out, map, ty, shape, &[], depth)
}

/// Writes the members whose numbers begin with that path: the object's own, or those of a message embedded in it.
fn members(out: &mut Vec<u8>, map: &Map<String, Value>, ty: TypeRef<'_>, shape: &Object, path: &[u16], depth: usize) -> Result {
    let mut indices = shape.with_prefix(path);
    while let Some(index) = indices.first() {
        let field = &shape.fields[usize::from(*index)];
        let tags = field.tags.path();
        let number = tags[path.len()];
        if tags.len() == path.len() + 1 {
            if let Some(value) = map.get(field.name.as_ref()).filter(|value| !value.is_null()) {
                put(out, number, value, ty.types.at(field.node), depth).map_err(|err| at(err, &field.name))?;
            }
            indices = &indices[1..];
            continue;
        }
        // All members of one embedded message lie together.
        let inner = &tags[..=path.len()];
        let group = shape.with_prefix(inner);
        if group.iter().any(|i| map.contains_key(shape.fields[usize::from(*i)].name.as_ref())) {
            put_message(out, number, |out| members(out, map, ty, shape, inner, depth))?;
        }
        indices = &indices[group.len()..];
    }
    Ok(())
}

/// Writes one field with its number.
fn put(out: &mut Vec<u8>, number: u16, value: &Value, ty: TypeRef<'_>, depth: usize) -> Result {
    match ty.node() {
        Node::Object(_) => put_message(out, number, |out| object(out, value, ty, depth + 1)),
        Node::List { item, .. } => {
            let Some(items) = value.as_array() else { return Err(unencodable("it is not a list")) };
            for (index, value) in items.iter().enumerate() {
                put(out, number, value, ty.types.at(*item), depth + 1).map_err(|err| at(err, &format!("[{index}]")))?;
            }
            Ok(())
        }
        Node::Map { value: inner, .. } => {
            let Some(entries) = value.as_object() else { return Err(unencodable("it is not a map")) };
            let inner = ty.types.at(*inner);
            for (key, value) in entries {
                let entry = |out: &mut Vec<u8>| {
                    put_bytes(out, 1, key.as_bytes());
                    // A list cannot be the value of a protobuf map: it lies in a message of its own.
                    if matches!(inner.node(), Node::List { .. }) {
                        put_message(out, 2, |out| if value.is_null() { Ok(()) } else { put(out, 1, value, inner, depth + 1) })
                    } else {
                        put(out, 2, value, inner, depth + 1)
                    }
                };
                put_message(out, number, entry).map_err(|err| at(err, key))?;
            }
            Ok(())
        }
        Node::Scalar(scalar) => put_scalar(out, number, value, *scalar),
        Node::Any(kind) => put_any(out, number, value, *kind, depth),
    }
}

fn put_scalar(out: &mut Vec<u8>, number: u16, value: &Value, scalar: Scalar) -> Result {
    match scalar {
        Scalar::String => {
            let text = match value {
                Value::Null => "",
                value => value.as_str().ok_or(unencodable("it is not a string"))?,
            };
            put_bytes(out, number, text.as_bytes());
        }
        Scalar::Int32 | Scalar::Int64 => {
            let integer = integer(value).ok_or(unencodable("it is not an integer"))?;
            put_number(out, number, integer.cast_unsigned());
        }
        Scalar::Bool => {
            let truth = value.is_null().then_some(false).or(value.as_bool()).ok_or(unencodable("it is not a boolean"))?;
            put_number(out, number, u64::from(truth));
        }
        Scalar::Float => {
            let float = value.as_f64().ok_or(unencodable("it is not a number"))?;
            put_fixed64(out, number, float.to_bits());
        }
        Scalar::Bytes => {
            let text = value.as_str().unwrap_or_default();
            let bytes = STANDARD.decode(text).map_err(|_| unencodable("it is not base64"))?;
            put_bytes(out, number, &bytes);
        }
        Scalar::Quantity => {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Null => "0".to_owned(),
                _ => return Err(unencodable("it is not a quantity")),
            };
            put_message(out, number, |out| {
                put_bytes(out, 1, text.as_bytes());
                Ok(())
            })?;
        }
        Scalar::Time | Scalar::MicroTime => {
            if value.is_null() {
                return Ok(());
            }
            let text = value.as_str().ok_or(unencodable("it is not a time"))?;
            let time: Timestamp = text.parse().map_err(|_| unencodable("it is not a time"))?;
            put_message(out, number, |out| {
                put_number(out, 1, time.as_second().cast_unsigned());
                put_number(out, 2, i64::from(time.subsec_nanosecond()).cast_unsigned());
                Ok(())
            })?;
        }
        Scalar::IntOrString => put_message(out, number, |out| {
            let (kind, int, text) = match value {
                Value::String(text) => (1, 0, text.as_str()),
                value => (0, integer(value).ok_or(unencodable("it is neither integer nor string"))?, ""),
            };
            put_number(out, 1, kind);
            put_number(out, 2, int.cast_unsigned());
            put_bytes(out, 3, text.as_bytes());
            Ok(())
        })?,
    }
    Ok(())
}

fn put_any(out: &mut Vec<u8>, number: u16, value: &Value, kind: AnyKind, depth: usize) -> Result {
    let schema = || {
        builtin()
            .types()
            .named("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
            .expect("the table has JSONSchemaProps: tested")
    };
    put_message(out, number, |out| {
        match (kind, value) {
            (AnyKind::Raw | AnyKind::Fields | AnyKind::Json, value) => {
                let text = serde_json::to_vec(value).map_err(|_| unencodable("it is not JSON"))?;
                put_bytes(out, 1, &text);
            }
            (AnyKind::SchemaOrBool, Value::Bool(allows)) => put_number(out, 1, u64::from(*allows)),
            (AnyKind::SchemaOrBool, value) => {
                put_number(out, 1, 1);
                put_message(out, 2, |out| object(out, value, schema(), depth + 1))?;
            }
            (AnyKind::SchemaOrArray, Value::Array(schemas)) => {
                for value in schemas {
                    put_message(out, 2, |out| object(out, value, schema(), depth + 1))?;
                }
            }
            (AnyKind::SchemaOrStrings, Value::Array(names)) => {
                for name in names {
                    put_scalar(out, 2, name, Scalar::String)?;
                }
            }
            (AnyKind::SchemaOrArray | AnyKind::SchemaOrStrings, value) => {
                put_message(out, 1, |out| object(out, value, schema(), depth + 1))?;
            }
        }
        Ok(())
    })
}

/// Integers may be written as `3.0`.
fn integer(value: &Value) -> Option<i64> {
    if value.is_null() {
        return Some(0);
    }
    value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64))
}

fn unencodable(reason: &'static str) -> ProtoError {
    ProtoError::Unencodable { path: String::new(), reason }
}

/// Puts a step before the path of an error on its way out.
fn at(err: ProtoError, step: &str) -> ProtoError {
    match err {
        ProtoError::Unencodable { path, reason } => {
            let separator = if path.is_empty() || path.starts_with(['[', '.']) { "" } else { "." };
            ProtoError::Unencodable { path: format!("{step}{separator}{path}"), reason }
        }
        err => err,
    }
}
