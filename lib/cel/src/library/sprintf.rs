//! `format`: cel-go's clauses `%s %d %f %e %b %x %X %o`, in its first form (English digit groups, `1.5×10⁰³`).

use std::fmt::Write;

use super::prelude::*;
use super::strings::RESULT_BYTES_MAX;
use crate::value::time;

/// Most digits after the point.
const PRECISION_MAX: usize = 1000;
const DEPTH_MAX: u32 = 100;

pub(super) fn format(meter: &mut Meter, text: &str, values: &List<'_>) -> Result<String, EvalError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut used = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let end = || EvalError::failed("unexpected end of string");
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut precision = 6;
        let first = *chars.peek().ok_or_else(end)?;
        if used >= values.len() {
            return Err(EvalError::failed(format!("index {used} out of range")));
        }
        if first == '.' {
            chars.next();
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            precision = digits.parse().ok().filter(|p| *p <= PRECISION_MAX).ok_or_else(|| {
                EvalError::failed(format!(
                    "could not parse formatting clause: error while parsing precision: error while converting precision to \
                     integer: strconv.Atoi: parsing \"{digits}\": invalid syntax"
                ))
            })?;
        }
        let clause = chars.next().ok_or_else(end)?;
        let value = values.get(used)?;
        used += 1;
        let before = out.len();
        write_clause(meter, &mut out, clause, precision, &value)?;
        meter.work(1 + (out.len() - before) / 8)?;
        if out.len() > RESULT_BYTES_MAX {
            return Err(EvalError::CostLimit);
        }
    }
    Ok(out)
}

fn refused(what: &str, value: &Value<'_>) -> EvalError {
    EvalError::failed(format!("error during formatting: {what}, was given {}", value.type_name()))
}

fn write_clause(meter: &mut Meter, out: &mut String, clause: char, precision: usize, value: &Value<'_>) -> Result<(), EvalError> {
    match clause {
        's' => string(meter, out, value, false, DEPTH_MAX),
        'd' => match value {
            Value::Int(_) | Value::Uint(_) => push(out, &equal::shown(value)),
            Value::Double(d) if !d.is_finite() => push(out, non_finite(*d)),
            _ => Err(refused("decimal clause can only be used on integers", value)),
        },
        'f' => match number(value) {
            Some(d) if d.is_finite() => push(out, &grouped(&format!("{d:.precision$}"))),
            Some(d) => push(out, non_finite(d)),
            None => Err(refused("fixed-point clause can only be used on doubles", value)),
        },
        'e' => match number(value) {
            // Upstream takes no precision here.
            Some(d) if d.is_finite() => push(out, &scientific(d)),
            Some(d) => push(out, non_finite(d)),
            None => Err(refused("scientific clause can only be used on doubles", value)),
        },
        'b' => match value {
            Value::Bool(b) => push(out, if *b { "1" } else { "0" }),
            Value::Int(_) | Value::Uint(_) => radix(out, value, |n| format!("{n:b}")),
            _ => Err(refused("only integers and bools can be formatted as binary", value)),
        },
        'o' => match value {
            Value::Int(_) | Value::Uint(_) => radix(out, value, |n| format!("{n:o}")),
            _ => Err(refused("octal clause can only be used on integers", value)),
        },
        'x' | 'X' => {
            let before = out.len();
            match value {
                Value::Int(_) | Value::Uint(_) => radix(out, value, |n| format!("{n:x}"))?,
                Value::String(s) => hex(out, s.as_bytes()),
                Value::Bytes(b) => hex(out, b),
                _ => return Err(refused("only integers, byte buffers, and strings can be formatted as hex", value)),
            }
            if clause == 'X' {
                let upper = out[before..].to_ascii_uppercase();
                out.replace_range(before.., &upper);
            }
            Ok(())
        }
        other => Err(EvalError::failed(format!("could not parse formatting clause: unrecognized formatting clause \"{other}\""))),
    }
}

fn push(out: &mut String, text: &str) -> Result<(), EvalError> {
    out.push_str(text);
    Ok(())
}

/// A double, or the text of one that is no number.
fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(d) => Some(*d),
        Value::String(s) => match &**s {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn non_finite(d: f64) -> &'static str {
    if d.is_nan() {
        "NaN"
    } else if d > 0.0 {
        "\u{221e}"
    } else {
        "-\u{221e}"
    }
}

/// The digits before the point in groups of three.
fn grouped(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(w, f)| (w, Some(f)));
    let mut out = String::from(sign);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn scientific(d: f64) -> String {
    let text = format!("{d:.6e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mut out = format!("{mantissa}\u{d7}10");
    if exponent < 0 {
        out.push('\u{207b}');
    }
    for digit in format!("{:02}", exponent.unsigned_abs()).chars() {
        out.push(match digit {
            '1' => '\u{b9}',
            '2' => '\u{b2}',
            '3' => '\u{b3}',
            '0' => '\u{2070}',
            other => char::from_u32(0x2070 + other.to_digit(10).unwrap_or(0)).unwrap_or(other),
        });
    }
    out
}

fn radix(out: &mut String, value: &Value<'_>, show: fn(u64) -> String) -> Result<(), EvalError> {
    match value {
        Value::Int(i) => {
            if *i < 0 {
                out.push('-');
            }
            push(out, &show(i.unsigned_abs()))
        }
        Value::Uint(u) => push(out, &show(*u)),
        _ => Err(EvalError::no_overload()),
    }
}

fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
    }
}

/// `%s`; strings within lists and maps are quoted.
fn string(meter: &mut Meter, out: &mut String, value: &Value<'_>, nested: bool, depth: u32) -> Result<(), EvalError> {
    meter.work(1)?;
    let Some(depth) = depth.checked_sub(1) else { return Err(EvalError::failed("error during formatting: nests too deep")) };
    if out.len() > RESULT_BYTES_MAX {
        return Err(EvalError::CostLimit);
    }
    match value {
        Value::String(s) if nested => push(out, &format!("\"{}\"", &**s)),
        Value::String(s) => push(out, s),
        Value::Bool(b) => push(out, if *b { "true" } else { "false" }),
        Value::Null => push(out, "null"),
        Value::Int(_) | Value::Uint(_) => push(out, &equal::shown(value)),
        Value::Double(d) if !d.is_finite() => push(out, if nested { "\"" } else { "" }).and_then(|()| {
            push(
                out,
                if d.is_nan() {
                    "NaN"
                } else if *d > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                },
            )?;
            push(out, if nested { "\"" } else { "" })
        }),
        Value::Double(d) if nested => push(out, &format!("{d:.6}")),
        Value::Double(d) => push(out, &equal::double(*d)),
        Value::Bytes(b) => push(out, &String::from_utf8_lossy(b)),
        Value::Duration(d) => push(out, &time::show_duration(*d)),
        Value::Timestamp(t) => push(out, &t.to_string()),
        Value::Type(ty) => push(out, ty.runtime_name()),
        Value::List(list) => {
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                string(meter, out, &item?, true, depth)?;
            }
            push(out, "]")
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for (key, value) in map.entries()? {
                let mut text = String::new();
                string(meter, &mut text, &key.to_value(), true, depth)?;
                text.push(':');
                string(meter, &mut text, &value, true, depth)?;
                entries.push(text);
            }
            entries.sort();
            push(out, &format!("{{{}}}", entries.join(", ")))
        }
        other => Err(refused(
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps",
            other,
        )),
    }
}
