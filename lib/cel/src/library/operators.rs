//! Operators.

use std::cmp::Ordering;

use super::prelude::*;
use crate::schema::ListKind;

pub(crate) const ROWS: &[Row] = &[
    row("_?_:_", "conditional", "(bool, A, A) -> A", Cost::Conditional, never),
    row("_&&_", "logical_and", "(bool, bool) -> bool", Cost::Logical, never),
    row("_||_", "logical_or", "(bool, bool) -> bool", Cost::Logical, never),
    row("!_", "logical_not", "(bool) -> bool", Cost::Unit, not),
    row("@not_strictly_false", "not_strictly_false", "(bool) -> bool", Cost::Unit, never),
    row("_==_", "equals", "(A, A) -> bool", Cost::Equal, equals),
    row("_!=_", "not_equals", "(A, A) -> bool", Cost::Compare, not_equals),
    row("_+_", "add_bytes", "(bytes, bytes) -> bytes", Cost::Concat, add),
    row("_+_", "add_double", "(double, double) -> double", Cost::Unit, add),
    row("_+_", "add_duration_duration", "(duration, duration) -> duration", Cost::Unit, add),
    row("_+_", "add_duration_timestamp", "(duration, timestamp) -> timestamp", Cost::Unit, add),
    row("_+_", "add_timestamp_duration", "(timestamp, duration) -> timestamp", Cost::Unit, add),
    row("_+_", "add_int64", "(int, int) -> int", Cost::Unit, add),
    row("_+_", "add_list", "(list(A), list(A)) -> list(A)", Cost::ListConcat, add),
    row("_+_", "add_string", "(string, string) -> string", Cost::Concat, add),
    row("_+_", "add_uint64", "(uint, uint) -> uint", Cost::Unit, add),
    row("_/_", "divide_double", "(double, double) -> double", Cost::Unit, divide),
    row("_/_", "divide_int64", "(int, int) -> int", Cost::Unit, divide),
    row("_/_", "divide_uint64", "(uint, uint) -> uint", Cost::Unit, divide),
    row("_%_", "modulo_int64", "(int, int) -> int", Cost::Unit, modulo),
    row("_%_", "modulo_uint64", "(uint, uint) -> uint", Cost::Unit, modulo),
    row("_*_", "multiply_double", "(double, double) -> double", Cost::Unit, multiply),
    row("_*_", "multiply_int64", "(int, int) -> int", Cost::Unit, multiply),
    row("_*_", "multiply_uint64", "(uint, uint) -> uint", Cost::Unit, multiply),
    row("-_", "negate_double", "(double) -> double", Cost::Unit, negate),
    row("-_", "negate_int64", "(int) -> int", Cost::Unit, negate),
    row("_-_", "subtract_double", "(double, double) -> double", Cost::Unit, subtract),
    row("_-_", "subtract_duration_duration", "(duration, duration) -> duration", Cost::Unit, subtract),
    row("_-_", "subtract_int64", "(int, int) -> int", Cost::Unit, subtract),
    row("_-_", "subtract_timestamp_duration", "(timestamp, duration) -> timestamp", Cost::Unit, subtract),
    row("_-_", "subtract_timestamp_timestamp", "(timestamp, timestamp) -> duration", Cost::Unit, subtract),
    row("_-_", "subtract_uint64", "(uint, uint) -> uint", Cost::Unit, subtract),
    row("_<_", "less_bool", "(bool, bool) -> bool", Cost::Unit, less),
    row("_<_", "less_int64", "(int, int) -> bool", Cost::Unit, less),
    row("_<_", "less_int64_double", "(int, double) -> bool", Cost::Unit, less),
    row("_<_", "less_int64_uint64", "(int, uint) -> bool", Cost::Unit, less),
    row("_<_", "less_uint64", "(uint, uint) -> bool", Cost::Unit, less),
    row("_<_", "less_uint64_double", "(uint, double) -> bool", Cost::Unit, less),
    row("_<_", "less_uint64_int64", "(uint, int) -> bool", Cost::Unit, less),
    row("_<_", "less_double", "(double, double) -> bool", Cost::Unit, less),
    row("_<_", "less_double_int64", "(double, int) -> bool", Cost::Unit, less),
    row("_<_", "less_double_uint64", "(double, uint) -> bool", Cost::Unit, less),
    row("_<_", "less_string", "(string, string) -> bool", Cost::Compare, less),
    row("_<_", "less_bytes", "(bytes, bytes) -> bool", Cost::Compare, less),
    row("_<_", "less_timestamp", "(timestamp, timestamp) -> bool", Cost::Unit, less),
    row("_<_", "less_duration", "(duration, duration) -> bool", Cost::Unit, less),
    row("_<=_", "less_equals_bool", "(bool, bool) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_int64", "(int, int) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_int64_double", "(int, double) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_int64_uint64", "(int, uint) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_uint64", "(uint, uint) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_uint64_double", "(uint, double) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_uint64_int64", "(uint, int) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_double", "(double, double) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_double_int64", "(double, int) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_double_uint64", "(double, uint) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_string", "(string, string) -> bool", Cost::Compare, less_equals),
    row("_<=_", "less_equals_bytes", "(bytes, bytes) -> bool", Cost::Compare, less_equals),
    row("_<=_", "less_equals_timestamp", "(timestamp, timestamp) -> bool", Cost::Unit, less_equals),
    row("_<=_", "less_equals_duration", "(duration, duration) -> bool", Cost::Unit, less_equals),
    row("_>_", "greater_bool", "(bool, bool) -> bool", Cost::Unit, greater),
    row("_>_", "greater_int64", "(int, int) -> bool", Cost::Unit, greater),
    row("_>_", "greater_int64_double", "(int, double) -> bool", Cost::Unit, greater),
    row("_>_", "greater_int64_uint64", "(int, uint) -> bool", Cost::Unit, greater),
    row("_>_", "greater_uint64", "(uint, uint) -> bool", Cost::Unit, greater),
    row("_>_", "greater_uint64_double", "(uint, double) -> bool", Cost::Unit, greater),
    row("_>_", "greater_uint64_int64", "(uint, int) -> bool", Cost::Unit, greater),
    row("_>_", "greater_double", "(double, double) -> bool", Cost::Unit, greater),
    row("_>_", "greater_double_int64", "(double, int) -> bool", Cost::Unit, greater),
    row("_>_", "greater_double_uint64", "(double, uint) -> bool", Cost::Unit, greater),
    row("_>_", "greater_string", "(string, string) -> bool", Cost::Compare, greater),
    row("_>_", "greater_bytes", "(bytes, bytes) -> bool", Cost::Compare, greater),
    row("_>_", "greater_timestamp", "(timestamp, timestamp) -> bool", Cost::Unit, greater),
    row("_>_", "greater_duration", "(duration, duration) -> bool", Cost::Unit, greater),
    row("_>=_", "greater_equals_bool", "(bool, bool) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_int64", "(int, int) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_int64_double", "(int, double) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_int64_uint64", "(int, uint) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_uint64", "(uint, uint) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_uint64_double", "(uint, double) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_uint64_int64", "(uint, int) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_double", "(double, double) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_double_int64", "(double, int) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_double_uint64", "(double, uint) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_string", "(string, string) -> bool", Cost::Compare, greater_equals),
    row("_>=_", "greater_equals_bytes", "(bytes, bytes) -> bool", Cost::Compare, greater_equals),
    row("_>=_", "greater_equals_timestamp", "(timestamp, timestamp) -> bool", Cost::Unit, greater_equals),
    row("_>=_", "greater_equals_duration", "(duration, duration) -> bool", Cost::Unit, greater_equals),
    row("_[_]", "index_list", "(list(A), int) -> A", Cost::IndexList, never),
    row("_[_]", "index_map", "(map(A, B), A) -> B", Cost::IndexMap, never),
    row("@in", "in_list", "(A, list(A)) -> bool", Cost::InList, is_in),
    row("@in", "in_map", "(A, map(A, B)) -> bool", Cost::Unit, is_in),
    row("size", "size_bytes", "(bytes) -> int", Cost::Unit, size),
    row("size", "bytes_size", "bytes.() -> int", Cost::Unit, size),
    row("size", "size_list", "(list(A)) -> int", Cost::Unit, size),
    row("size", "list_size", "list(A).() -> int", Cost::Unit, size),
    row("size", "size_map", "(map(A, B)) -> int", Cost::Unit, size),
    row("size", "map_size", "map(A, B).() -> int", Cost::Unit, size),
    row("size", "size_string", "(string) -> int", Cost::Unit, size),
    row("size", "string_size", "string.() -> int", Cost::Unit, size),
];

fn int(value: Option<i64>) -> Outcome<'static> {
    value.map(Value::Int).ok_or_else(|| EvalError::failed("integer overflow"))
}

fn uint(value: Option<u64>) -> Outcome<'static> {
    value.map(Value::Uint).ok_or_else(|| EvalError::failed("unsigned integer overflow"))
}

fn duration(value: Option<i64>) -> Outcome<'static> {
    value.map(Value::Duration).ok_or_else(|| EvalError::failed("duration overflow"))
}

fn not<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => Err(EvalError::no_overload()),
    }
}

fn equals<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    equal::equals(meter, &args[0], &args[1]).map(Value::Bool)
}

fn not_equals<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    equal::equals(meter, &args[0], &args[1]).map(|equal| Value::Bool(!equal))
}

pub(super) fn add<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(x), Value::Int(y)] => int(x.checked_add(*y)),
        [Value::Uint(x), Value::Uint(y)] => uint(x.checked_add(*y)),
        [Value::Double(x), Value::Double(y)] => Ok(Value::Double(x + y)),
        [Value::String(x), Value::String(y)] => {
            meter.work((x.len() + y.len()) / 8)?;
            Ok(Value::String(Str::Shared([&**x, &**y].concat().into())))
        }
        [Value::Bytes(x), Value::Bytes(y)] => {
            meter.work((x.len() + y.len()) / 8)?;
            Ok(Value::Bytes([&**x, &**y].concat().into()))
        }
        [Value::Duration(x), Value::Duration(y)] => duration(x.checked_add(*y)),
        [Value::Timestamp(t), Value::Duration(d)] | [Value::Duration(d), Value::Timestamp(t)] => {
            t.plus(i128::from(*d)).map(Value::Timestamp)
        }
        [Value::List(x), Value::List(y)] => add_lists(meter, x, y),
        _ => Err(EvalError::no_overload()),
    }
}

/// One after the other; a set keeps one of equal elements, a list-map takes the right element where keys are equal.
fn add_lists<'a>(meter: &mut Meter, x: &List<'a>, y: &List<'a>) -> Outcome<'a> {
    match x.kind() {
        ListKind::Atomic => Ok(Value::List(x.clone().sum(y.clone()))),
        ListKind::Set => {
            let mut items = x.iter().collect::<Result<Vec<_>, _>>()?;
            for item in y.iter() {
                let item = item?;
                if !contains(meter, &items, &item)? {
                    items.push(item);
                }
            }
            Ok(Value::List(List::with_kind(items, ListKind::Set)))
        }
        ListKind::Map(keys) => {
            let mut items = x.iter().collect::<Result<Vec<_>, _>>()?;
            for item in y.iter() {
                let item = item?;
                let mut place = None;
                for (i, known) in items.iter().enumerate() {
                    if same_keys(meter, keys, known, &item)? {
                        place = Some(i);
                        break;
                    }
                }
                match place {
                    Some(i) => items[i] = item,
                    None => items.push(item),
                }
            }
            Ok(Value::List(List::with_kind(items, ListKind::Map(keys.clone()))))
        }
    }
}

fn contains<'a>(meter: &mut Meter, items: &[Value<'a>], item: &Value<'a>) -> Result<bool, EvalError> {
    for known in items {
        if equal::equals(meter, known, item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn same_keys<'a>(meter: &mut Meter, keys: &[String], a: &Value<'a>, b: &Value<'a>) -> Result<bool, EvalError> {
    for key in keys {
        let (left, right) = match (a, b) {
            (Value::Object(x), Value::Object(y)) => (x.get_json(key)?, y.get_json(key)?),
            (Value::Map(x), Value::Map(y)) => {
                let key = Key::String(key.as_str().into());
                (x.get(&key)?, y.get(&key)?)
            }
            _ => return Ok(false),
        };
        let same = match (left, right) {
            (Some(left), Some(right)) => equal::equals(meter, &left, &right)?,
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn subtract<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(x), Value::Int(y)] => int(x.checked_sub(*y)),
        [Value::Uint(x), Value::Uint(y)] => uint(x.checked_sub(*y)),
        [Value::Double(x), Value::Double(y)] => Ok(Value::Double(x - y)),
        [Value::Duration(x), Value::Duration(y)] => duration(x.checked_sub(*y)),
        [Value::Timestamp(t), Value::Duration(d)] => t.plus(-i128::from(*d)).map(Value::Timestamp),
        [Value::Timestamp(x), Value::Timestamp(y)] => duration(i64::try_from(x.as_nanosecond() - y.as_nanosecond()).ok()),
        _ => Err(EvalError::no_overload()),
    }
}

fn multiply<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(x), Value::Int(y)] => int(x.checked_mul(*y)),
        [Value::Uint(x), Value::Uint(y)] => uint(x.checked_mul(*y)),
        [Value::Double(x), Value::Double(y)] => Ok(Value::Double(x * y)),
        _ => Err(EvalError::no_overload()),
    }
}

fn divide<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(EvalError::failed("division by zero")),
        [Value::Int(x), Value::Int(y)] => int(x.checked_div(*y)),
        [Value::Uint(x), Value::Uint(y)] => uint(x.checked_div(*y)),
        [Value::Double(x), Value::Double(y)] => Ok(Value::Double(x / y)),
        _ => Err(EvalError::no_overload()),
    }
}

fn modulo<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(EvalError::failed("modulus by zero")),
        [Value::Int(x), Value::Int(y)] => int(x.checked_rem(*y)),
        [Value::Uint(x), Value::Uint(y)] => uint(x.checked_rem(*y)),
        _ => Err(EvalError::no_overload()),
    }
}

fn negate<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(x)] => int(x.checked_neg()),
        [Value::Double(x)] => Ok(Value::Double(-x)),
        _ => Err(EvalError::no_overload()),
    }
}

fn ordered<'a>(args: &[Value<'a>], test: fn(Ordering) -> bool) -> Outcome<'a> {
    match equal::compare(&args[0], &args[1])? {
        Some(order) => Ok(Value::Bool(test(order))),
        None => Err(EvalError::failed("NaN values cannot be ordered")),
    }
}

fn less<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    ordered(args, Ordering::is_lt)
}

fn less_equals<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    ordered(args, Ordering::is_le)
}

fn greater<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    ordered(args, Ordering::is_gt)
}

fn greater_equals<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    ordered(args, Ordering::is_ge)
}

pub(crate) fn is_in<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [item, Value::List(list)] => {
            for known in list.iter() {
                if equal::equals(meter, item, &known?)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [key, Value::Map(map)] => Ok(Value::Bool(Key::from_value(key).is_some_and(|key| map.contains(&key)))),
        [Value::String(field), Value::Object(object)] => Ok(Value::Bool(object.get(field)?.is_some())),
        _ => Err(EvalError::no_overload()),
    }
}

fn size<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(value.size().and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX)))
        }
        _ => Err(EvalError::no_overload()),
    }
}
