//! Equality, order, and how a value is shown and leaves as JSON.

use std::cmp::Ordering;

use serde_json::{Map as JsonMap, Value as Json};

use super::{Opaque, Value, list::List, time};
use crate::budget::Meter;
use crate::error::EvalError;
use crate::schema::ListKind;

/// How deep values may nest where they are walked through.
const DEPTH_MAX: u32 = 200;

/// `a == b`: numbers by value, lists and maps by their elements, values of different types never.
pub(crate) fn equals<'a>(meter: &mut Meter, a: &Value<'a>, b: &Value<'a>) -> Result<bool, EvalError> {
    equals_within(meter, a, b, DEPTH_MAX)
}

fn equals_within<'a>(meter: &mut Meter, a: &Value<'a>, b: &Value<'a>, depth: u32) -> Result<bool, EvalError> {
    meter.work(1)?;
    let Some(depth) = depth.checked_sub(1) else { return Err(EvalError::failed("values nest too deep to compare")) };
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(x), Value::Bool(y)) => x == y,
        (Value::String(x), Value::String(y)) => {
            meter.work(x.len().min(y.len()) / 16)?;
            **x == **y
        }
        (Value::Bytes(x), Value::Bytes(y)) => x == y,
        (Value::Timestamp(x), Value::Timestamp(y)) => x == y,
        (Value::Duration(x), Value::Duration(y)) => x == y,
        (Value::Type(x), Value::Type(y)) => x.runtime_name() == y.runtime_name(),
        (Value::List(x), Value::List(y)) => lists(meter, x, y, depth)?,
        (Value::Map(x), Value::Map(y)) => {
            if x.len() != y.len() {
                return Ok(false);
            }
            for (key, value) in x.entries()? {
                match y.get(&key)? {
                    Some(other) if equals_within(meter, &value, &other, depth)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Object(x), Value::Object(y)) => {
            let (left, right) = (x.fields()?, y.fields()?);
            if x.name() != y.name() || left.len() != right.len() {
                return Ok(false);
            }
            for ((name, value), (other_name, other)) in left.iter().zip(&right) {
                if name != other_name || !equals_within(meter, value, other, depth)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Optional(x), Value::Optional(y)) => match (x, y) {
            (None, None) => true,
            (Some(x), Some(y)) => equals_within(meter, x, y, depth)?,
            _ => false,
        },
        (Value::Opaque(x), Value::Opaque(y)) => opaque(x, y),
        (x, y) => matches!(numbers(x, y), Some(Some(Ordering::Equal))),
    })
}

fn lists<'a>(meter: &mut Meter, x: &List<'a>, y: &List<'a>, depth: u32) -> Result<bool, EvalError> {
    if x.len() != y.len() {
        return Ok(false);
    }
    match x.kind() {
        ListKind::Atomic => {
            for i in 0..x.len() {
                if !equals_within(meter, &x.get(i)?, &y.get(i)?, depth)? {
                    return Ok(false);
                }
            }
        }
        // In any order: the elements of a set, and of a list-map by their keys, are different.
        ListKind::Set | ListKind::Map(_) => {
            for left in x.iter() {
                let left = left?;
                let mut found = false;
                for right in y.iter() {
                    if equals_within(meter, &left, &right?, depth)? {
                        found = true;
                        break;
                    }
                }
                if !found {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

fn opaque(x: &Opaque<'_>, y: &Opaque<'_>) -> bool {
    match (x, y) {
        (Opaque::Quantity(x), Opaque::Quantity(y)) => x.cmp(y) == Ordering::Equal,
        (Opaque::Url(x), Opaque::Url(y)) => x.text() == y.text(),
        (Opaque::Ip(x), Opaque::Ip(y)) => x == y,
        (Opaque::Cidr(x), Opaque::Cidr(y)) => x == y,
        (Opaque::Semver(x), Opaque::Semver(y)) => x.order(y) == Ordering::Equal,
        (Opaque::Format(x), Opaque::Format(y)) => x.name == y.name,
        _ => false,
    }
}

/// The order of two numbers of any kinds; nothing inside when one is not a number.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Value::Int(x), Value::Int(y)) => Some(x.cmp(y)),
        (Value::Uint(x), Value::Uint(y)) => Some(x.cmp(y)),
        (Value::Double(x), Value::Double(y)) => x.partial_cmp(y),
        (Value::Int(x), Value::Uint(y)) => Some(i128::from(*x).cmp(&i128::from(*y))),
        (Value::Uint(x), Value::Int(y)) => Some(i128::from(*x).cmp(&i128::from(*y))),
        (Value::Int(x), Value::Double(y)) => int_double(i128::from(*x), *y),
        (Value::Uint(x), Value::Double(y)) => int_double(i128::from(*x), *y),
        (Value::Double(x), Value::Int(y)) => int_double(i128::from(*y), *x).map(Ordering::reverse),
        (Value::Double(x), Value::Uint(y)) => int_double(i128::from(*y), *x).map(Ordering::reverse),
        _ => return None,
    })
}

fn int_double(int: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    #[allow(clippy::cast_possible_truncation)] // Saturates beyond what either integer holds, which keeps the order.
    let whole = double.trunc() as i128;
    Some(int.cmp(&whole).then_with(|| 0.0f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)))
}

/// The order of two values of one ordered type; nothing for NaN.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Result<Option<Ordering>, EvalError> {
    if let Some(order) = numbers(a, b) {
        return Ok(order);
    }
    Ok(Some(match (a, b) {
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        (Value::String(x), Value::String(y)) => (**x).cmp(&**y),
        (Value::Bytes(x), Value::Bytes(y)) => x.cmp(y),
        (Value::Timestamp(x), Value::Timestamp(y)) => x.cmp(y),
        (Value::Duration(x), Value::Duration(y)) => x.cmp(y),
        _ => return Err(EvalError::no_overload()),
    }))
}

/// A value in the text of an error.
pub(crate) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::String(s) => s.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => double(*d),
        Value::Bool(b) => b.to_string(),
        Value::Null => "null".to_owned(),
        other => other.type_name().to_owned(),
    }
}

/// Go's `FormatFloat(d, 'g', -1, 64)`: as many digits as it takes.
pub(crate) fn double(d: f64) -> String {
    if d.is_nan() {
        return "NaN".to_owned();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{d:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    format!("{d}")
}

impl Value<'_> {
    /// The value as JSON: bytes in base64, timestamps and durations as text.
    ///
    /// # Errors
    /// Where there is no such JSON: a type, an authorizer, a map whose keys are no strings, nesting without end.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        let mut meter = Meter::new(u64::MAX);
        json(&mut meter, self, DEPTH_MAX)
    }
}

fn json(meter: &mut Meter, value: &Value<'_>, depth: u32) -> Result<Json, EvalError> {
    meter.work(1)?;
    let Some(depth) = depth.checked_sub(1) else { return Err(EvalError::failed("value nests too deep")) };
    Ok(match value {
        Value::Null | Value::Optional(None) => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) => Json::from(*i),
        Value::Uint(u) => Json::from(*u),
        Value::Double(d) => serde_json::Number::from_f64(*d)
            .map(Json::Number)
            .ok_or_else(|| EvalError::failed(format!("{} is no JSON number", double(*d))))?,
        Value::String(s) => Json::String(s.to_string()),
        Value::Bytes(b) => Json::String(time::encode_base64(b)),
        Value::Timestamp(t) => Json::String(t.to_string()),
        Value::Duration(d) => Json::String(time::show_duration(*d)),
        Value::Optional(Some(inner)) => json(meter, inner, depth)?,
        Value::List(list) => {
            let mut items = Vec::new();
            for item in list.iter() {
                items.push(json(meter, &item?, depth)?);
            }
            Json::Array(items)
        }
        Value::Map(map) => {
            let mut object = JsonMap::new();
            for (key, value) in map.entries()? {
                object.insert(key.to_string(), json(meter, &value, depth)?);
            }
            Json::Object(object)
        }
        Value::Object(built) => {
            let mut object = JsonMap::new();
            for (name, value) in built.fields()? {
                object.insert(name.to_string(), json(meter, &value, depth)?);
            }
            Json::Object(object)
        }
        Value::Opaque(Opaque::Quantity(q)) => Json::String(q.to_string()),
        Value::Opaque(Opaque::Ip(ip)) => Json::String(ip.to_string()),
        Value::Opaque(Opaque::Cidr(cidr)) => Json::String(cidr.to_string()),
        Value::Opaque(Opaque::Semver(version)) => Json::String(version.to_string()),
        Value::Opaque(Opaque::Url(url)) => Json::String(url.text().to_owned()),
        Value::Type(_) | Value::Opaque(_) => {
            return Err(EvalError::failed(format!("type conversion error from '{}' to JSON", value.type_name())));
        }
    })
}
