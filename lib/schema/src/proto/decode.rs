//! Protobuf to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::wire::{Wire, fields, text, varint};
use super::{DEPTH_MAX, MAGIC, ProtoError};
use crate::TypeRef;
use crate::builtin::builtin;
use crate::types::{AnyKind, Field, Node, Object, Scalar};

type Result<T> = std::result::Result<T, ProtoError>;

/// Decodes the message of an object.
pub(super) fn message(bytes: &[u8], ty: TypeRef<'_>) -> Result<Value> {
    object(bytes, ty, 0)
}

fn object(bytes: &[u8], ty: TypeRef<'_>, depth: usize) -> Result<Value> {
    let Some(shape) = ty.object() else { return Err(ProtoError::Malformed("a message where none can be")) };
    if depth > DEPTH_MAX {
        return Err(ProtoError::Malformed("messages nested too deeply"));
    }
    let mut map = Map::new();
    members(bytes, ty, shape, &mut Vec::new(), &mut map, depth)?;
    Ok(Value::Object(map))
}

/// Reads a message into the object: its own, or one that is embedded in it at that path of numbers.
fn members(
    bytes: &[u8],
    ty: TypeRef<'_>,
    shape: &Object,
    path: &mut Vec<u16>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    for field in fields(bytes) {
        let (number, wire) = field?;
        let Ok(number) = u16::try_from(number) else { continue };
        path.push(number);
        // Numbers the table does not know are skipped, as every protobuf reader does.
        if let Some(index) = shape.with_prefix(path).first() {
            let field = &shape.fields[usize::from(*index)];
            if field.tags.path().len() == path.len() {
                member(wire, ty, field, map, depth)?;
            } else if let Wire::Bytes(bytes) = wire {
                members(bytes, ty, shape, path, map, depth)?;
            }
        }
        path.pop();
    }
    Ok(())
}

fn member(wire: Wire<'_>, ty: TypeRef<'_>, field: &Field, map: &mut Map<String, Value>, depth: usize) -> Result<()> {
    let field_type = ty.types.at(field.node);
    match field_type.node() {
        Node::List { item, .. } => {
            let items = map.entry(field.name.as_ref()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(items) = items {
                list_item(wire, ty.types.at(*item), items, depth)?;
            }
        }
        Node::Map { value, .. } => {
            let (key, value) = map_entry(wire, ty.types.at(*value), depth)?;
            let entries = map.entry(field.name.as_ref()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = entries {
                entries.insert(key, value);
            }
        }
        Node::Scalar(scalar) => {
            if let Some(value) = scalar_value(wire, *scalar)?
                && (zero_is_kept(field, *scalar) || !is_zero(&value))
            {
                map.insert(field.name.clone().into_owned(), value);
            } else {
                map.remove(field.name.as_ref());
            }
        }
        Node::Object(_) | Node::Any(_) => {
            if let Some(value) = element(wire, field_type, depth)? {
                map.insert(field.name.clone().into_owned(), value);
            }
        }
    }
    Ok(())
}

/// Writers with the reference types always write scalars that are held by value, even when nobody set them. Such a zero says
/// nothing, unless the field is one that is always printed.
fn zero_is_kept(field: &Field, scalar: Scalar) -> bool {
    field.pointer || field.required || matches!(scalar, Scalar::IntOrString | Scalar::Quantity)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

fn list_item(wire: Wire<'_>, item: TypeRef<'_>, items: &mut Vec<Value>, depth: usize) -> Result<()> {
    // Numbers may be packed: many in one length-delimited field.
    if let (Wire::Bytes(mut packed), Node::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool)) = (wire, item.node()) {
        while !packed.is_empty() {
            let number = varint(&mut packed)?;
            items.extend(element(Wire::Varint(number), item, depth)?);
        }
        return Ok(());
    }
    items.extend(element(wire, item, depth + 1)?);
    Ok(())
}

fn map_entry(wire: Wire<'_>, ty: TypeRef<'_>, depth: usize) -> Result<(String, Value)> {
    let Wire::Bytes(bytes) = wire else { return Err(ProtoError::Malformed("a map entry")) };
    let mut key = String::new();
    let mut value = None;
    for field in fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => {
                value = match (ty.node(), wire) {
                    (Node::List { item, .. }, Wire::Bytes(bytes)) => {
                        let mut items = Vec::new();
                        for field in fields(bytes) {
                            if let (1, wire) = field? {
                                list_item(wire, ty.types.at(*item), &mut items, depth + 1)?;
                            }
                        }
                        Some(Value::Array(items))
                    }
                    _ => element(wire, ty, depth + 1)?,
                };
            }
            _ => {}
        }
    }
    // A writer may leave out an empty value.
    let value = value.unwrap_or_else(|| match ty.node() {
        Node::Scalar(Scalar::String | Scalar::Bytes) => Value::from(""),
        Node::Scalar(Scalar::Quantity) => Value::from("0"),
        Node::Scalar(Scalar::Bool) => Value::from(false),
        Node::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Float | Scalar::IntOrString) => Value::from(0),
        Node::Scalar(Scalar::Time | Scalar::MicroTime) | Node::Any(_) => Value::Null,
        Node::List { .. } => Value::Array(Vec::new()),
        Node::Object(_) | Node::Map { .. } => Value::Object(Map::new()),
    });
    Ok((key, value))
}

/// One value that is not a list or a map; none for a time that is not set.
fn element(wire: Wire<'_>, ty: TypeRef<'_>, depth: usize) -> Result<Option<Value>> {
    match (ty.node(), wire) {
        (Node::Object(_), Wire::Bytes(bytes)) => object(bytes, ty, depth + 1).map(Some),
        (Node::Scalar(scalar), wire) => scalar_value(wire, *scalar),
        (Node::Any(kind), Wire::Bytes(bytes)) => any(bytes, *kind, depth),
        _ => Err(ProtoError::Malformed("a field of another type than declared")),
    }
}

fn scalar_value(wire: Wire<'_>, scalar: Scalar) -> Result<Option<Value>> {
    Ok(Some(match (scalar, wire) {
        (Scalar::String, Wire::Bytes(bytes)) => Value::String(text(bytes)?),
        (Scalar::Int32, Wire::Varint(number)) => Value::from(number as u32 as i32),
        (Scalar::Int64, Wire::Varint(number)) => Value::from(number.cast_signed()),
        (Scalar::Bool, Wire::Varint(number)) => Value::from(number != 0),
        (Scalar::Float, Wire::Fixed64(bits)) => {
            Number::from_f64(f64::from_bits(bits)).map(Value::Number).ok_or(ProtoError::Malformed("a number"))?
        }
        (Scalar::Bytes, Wire::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        (Scalar::Quantity, Wire::Bytes(bytes)) => {
            let mut quantity = String::from("0");
            for field in fields(bytes) {
                if let (1, Wire::Bytes(bytes)) = field? {
                    quantity = text(bytes)?;
                }
            }
            Value::String(quantity)
        }
        // The zero time is an empty message.
        (Scalar::Time | Scalar::MicroTime, Wire::Bytes([])) => return Ok(None),
        (Scalar::Time | Scalar::MicroTime, Wire::Bytes(bytes)) => Value::String(time(bytes, scalar)?),
        (Scalar::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        _ => return Err(ProtoError::Malformed("a field of another type than declared")),
    }))
}

fn time(bytes: &[u8], scalar: Scalar) -> Result<String> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    for field in fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => seconds = number.cast_signed(),
            (2, Wire::Varint(number)) => nanos = number as u32 as i32,
            _ => {}
        }
    }
    // Times have whole seconds, micro times whole microseconds, whatever the writer's clock had.
    let time = Timestamp::new(seconds, if scalar == Scalar::MicroTime { nanos / 1000 * 1000 } else { 0 })
        .map_err(|_| ProtoError::Malformed("a time out of range"))?;
    Ok(match scalar {
        Scalar::MicroTime => format!("{time:.6}"),
        _ => time.to_string(),
    })
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut kind, mut int, mut string) = (0, 0i32, String::new());
    for field in fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => kind = number,
            (2, Wire::Varint(number)) => int = number as u32 as i32,
            (3, Wire::Bytes(bytes)) => string = text(bytes)?,
            _ => {}
        }
    }
    Ok(if kind == 1 { Value::String(string) } else { Value::from(int) })
}

fn any(bytes: &[u8], kind: AnyKind, depth: usize) -> Result<Option<Value>> {
    if depth > DEPTH_MAX {
        return Err(ProtoError::Malformed("messages nested too deeply"));
    }
    let schema = builtin()
        .types()
        .named("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .expect("the table has JSONSchemaProps: tested");
    let mut value = match kind {
        AnyKind::SchemaOrBool => Value::Bool(false),
        AnyKind::SchemaOrArray | AnyKind::SchemaOrStrings => Value::Array(Vec::new()),
        AnyKind::Raw | AnyKind::Fields | AnyKind::Json => Value::Null,
    };
    for field in fields(bytes) {
        match (kind, field?) {
            (AnyKind::Raw, (1, Wire::Bytes(raw))) if raw.starts_with(MAGIC) => value = super::decode(raw)?,
            (AnyKind::Raw | AnyKind::Fields | AnyKind::Json, (1, Wire::Bytes(raw))) if !raw.is_empty() => {
                value = serde_json::from_slice(raw).map_err(|_| ProtoError::Malformed("the JSON inside"))?;
            }
            (AnyKind::SchemaOrBool, (1, Wire::Varint(truth))) if !value.is_object() => value = Value::Bool(truth != 0),
            (AnyKind::SchemaOrBool, (2, Wire::Bytes(bytes)))
            | (AnyKind::SchemaOrArray | AnyKind::SchemaOrStrings, (1, Wire::Bytes(bytes))) => {
                value = object(bytes, schema, depth + 1)?;
            }
            (AnyKind::SchemaOrArray, (2, Wire::Bytes(bytes))) => {
                if let Value::Array(items) = &mut value {
                    items.push(object(bytes, schema, depth + 1)?);
                }
            }
            (AnyKind::SchemaOrStrings, (2, Wire::Bytes(bytes))) => {
                if let Value::Array(items) = &mut value {
                    items.push(Value::String(text(bytes)?));
                }
            }
            _ => {}
        }
    }
    Ok((!value.is_null()).then_some(value))
}
