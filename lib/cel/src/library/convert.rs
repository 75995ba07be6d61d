//! Conversions between types.

use super::prelude::*;
use crate::value::{Moment, time};

pub(crate) const ROWS: &[Row] = &[
    row("type", "type", "(A) -> type(A)", Cost::Unit, type_of),
    row("dyn", "to_dyn", "(A) -> dyn", Cost::Unit, identity),
    row("bool", "bool_to_bool", "(bool) -> bool", Cost::Unit, to_bool),
    row("bool", "string_to_bool", "(string) -> bool", Cost::Unit, to_bool),
    row("bytes", "bytes_to_bytes", "(bytes) -> bytes", Cost::Unit, to_bytes),
    row("bytes", "string_to_bytes", "(string) -> bytes", Cost::StringToBytes, to_bytes),
    row("double", "double_to_double", "(double) -> double", Cost::Unit, to_double),
    row("double", "int64_to_double", "(int) -> double", Cost::Unit, to_double),
    row("double", "string_to_double", "(string) -> double", Cost::Unit, to_double),
    row("double", "uint64_to_double", "(uint) -> double", Cost::Unit, to_double),
    row("duration", "duration_to_duration", "(duration) -> duration", Cost::Unit, to_duration),
    row("duration", "int64_to_duration", "(int) -> duration", Cost::Unit, to_duration),
    row("duration", "string_to_duration", "(string) -> duration", Cost::Unit, to_duration),
    row("int", "int64_to_int64", "(int) -> int", Cost::Unit, to_int),
    row("int", "double_to_int64", "(double) -> int", Cost::Unit, to_int),
    row("int", "duration_to_int64", "(duration) -> int", Cost::Unit, to_int),
    row("int", "string_to_int64", "(string) -> int", Cost::Unit, to_int),
    row("int", "timestamp_to_int64", "(timestamp) -> int", Cost::Unit, to_int),
    row("int", "uint64_to_int64", "(uint) -> int", Cost::Unit, to_int),
    row("string", "string_to_string", "(string) -> string", Cost::Unit, to_string),
    row("string", "bool_to_string", "(bool) -> string", Cost::Unit, to_string),
    row("string", "bytes_to_string", "(bytes) -> string", Cost::BytesToString, to_string),
    row("string", "double_to_string", "(double) -> string", Cost::Unit, to_string),
    row("string", "duration_to_string", "(duration) -> string", Cost::Unit, to_string),
    row("string", "int64_to_string", "(int) -> string", Cost::Unit, to_string),
    row("string", "timestamp_to_string", "(timestamp) -> string", Cost::Unit, to_string),
    row("string", "uint64_to_string", "(uint) -> string", Cost::Unit, to_string),
    row("timestamp", "timestamp_to_timestamp", "(timestamp) -> timestamp", Cost::Unit, to_timestamp),
    row("timestamp", "int64_to_timestamp", "(int) -> timestamp", Cost::Unit, to_timestamp),
    row("timestamp", "string_to_timestamp", "(string) -> timestamp", Cost::Unit, to_timestamp),
    row("uint", "uint64_to_uint64", "(uint) -> uint", Cost::Unit, to_uint),
    row("uint", "double_to_uint64", "(double) -> uint", Cost::Unit, to_uint),
    row("uint", "int64_to_uint64", "(int) -> uint", Cost::Unit, to_uint),
    row("uint", "string_to_uint64", "(string) -> uint", Cost::Unit, to_uint),
];

fn failed<'a>(from: &str, to: &str) -> Outcome<'a> {
    Err(EvalError::failed(format!("type conversion error from '{from}' to '{to}'")))
}

fn no_overload<'a>(function: &str, value: &Value<'_>) -> Outcome<'a> {
    Err(EvalError::failed(format!("no such overload: {function}({})", value.type_name())))
}

fn type_of<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Type(args[0].ty()))
}

fn identity<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(args[0].clone())
}

fn to_bool<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Bool(b) => Ok(Value::Bool(*b)),
        Value::String(s) => match &**s {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => failed("string", "bool"),
        },
        other => no_overload("bool", other),
    }
}

fn to_bytes<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Bytes(b) => Ok(Value::Bytes(b.clone())),
        Value::String(s) => {
            meter.work(s.len() / 8)?;
            Ok(Value::Bytes(s.as_bytes().into()))
        }
        other => no_overload("bytes", other),
    }
}

#[allow(clippy::cast_precision_loss)] // As every conversion of an integer to a double.
fn to_double<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Double(d) => Ok(Value::Double(*d)),
        Value::Int(i) => Ok(Value::Double(*i as f64)),
        Value::Uint(u) => Ok(Value::Double(*u as f64)),
        Value::String(s) => match s.parse::<f64>() {
            Ok(d) if d.is_finite() || !s.contains(|c: char| c.is_ascii_digit()) => Ok(Value::Double(d)),
            _ => failed("string", "double"),
        },
        other => no_overload("double", other),
    }
}

fn to_duration<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Duration(d) => Ok(Value::Duration(*d)),
        Value::Int(i) => Ok(Value::Duration(*i)),
        Value::String(s) => time::duration(s).map(Value::Duration),
        other => no_overload("duration", other),
    }
}

fn to_timestamp<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Timestamp(t) => Ok(Value::Timestamp(*t)),
        Value::Int(i) => Moment::from_seconds(*i).map(Value::Timestamp),
        Value::String(s) => match time::timestamp(s) {
            Ok(t) => Ok(Value::Timestamp(t)),
            Err(_) => failed("string", "google.protobuf.Timestamp"),
        },
        other => no_overload("timestamp", other),
    }
}

fn to_int<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let overflow = || EvalError::failed("integer overflow");
    match &args[0] {
        Value::Int(i) => Ok(Value::Int(*i)),
        Value::Uint(u) => i64::try_from(*u).map(Value::Int).map_err(|_| overflow()),
        #[allow(clippy::cast_possible_truncation)] // Checked.
        Value::Double(d) if *d > -LIMIT && *d < LIMIT => Ok(Value::Int(*d as i64)),
        Value::Double(_) => Err(overflow()),
        Value::Duration(d) => Ok(Value::Int(*d)),
        Value::Timestamp(t) => {
            Ok(Value::Int(i64::try_from(t.as_nanosecond().div_euclid(1_000_000_000)).map_err(|_| overflow())?))
        }
        Value::String(s) => s.parse().map(Value::Int).or_else(|_| failed("string", "int")),
        other => no_overload("int", other),
    }
}

fn to_uint<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    const LIMIT: f64 = 18_446_744_073_709_551_616.0;
    let overflow = || EvalError::failed("unsigned integer overflow");
    match &args[0] {
        Value::Uint(u) => Ok(Value::Uint(*u)),
        Value::Int(i) => u64::try_from(*i).map(Value::Uint).map_err(|_| overflow()),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Checked.
        Value::Double(d) if *d >= 0.0 && *d < LIMIT => Ok(Value::Uint(*d as u64)),
        Value::Double(_) => Err(overflow()),
        Value::String(s) if !s.starts_with('+') => s.parse().map(Value::Uint).or_else(|_| failed("string", "uint")),
        Value::String(_) => failed("string", "uint"),
        other => no_overload("uint", other),
    }
}

pub(super) fn to_string<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match &args[0] {
        Value::String(s) => Value::String(s.clone()),
        Value::Bool(b) => Value::string(b.to_string()),
        Value::Bytes(b) => {
            meter.work(b.len() / 8)?;
            match std::str::from_utf8(b) {
                Ok(s) => Value::string(s),
                Err(_) => return Err(EvalError::failed("invalid UTF-8 in bytes, cannot convert to string")),
            }
        }
        Value::Double(d) => Value::string(equal::double(*d)),
        Value::Int(i) => Value::string(i.to_string()),
        Value::Uint(u) => Value::string(u.to_string()),
        Value::Duration(d) => Value::string(time::show_duration(*d)),
        Value::Timestamp(t) => Value::string(t.to_string()),
        Value::Opaque(Opaque::Ip(ip)) => Value::string(ip.to_string()),
        Value::Opaque(Opaque::Cidr(cidr)) => Value::string(cidr.to_string()),
        other => return no_overload("string", other),
    })
}
