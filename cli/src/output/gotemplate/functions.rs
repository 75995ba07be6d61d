//! The functions of text/template, and kubectl's.

use std::cmp::Ordering;

use base64::{Engine, engine::general_purpose::STANDARD};
use machinery::gotext;
use serde_json::Value;

use super::eval::Datum;

type Result<T> = std::result::Result<T, String>;
type Function = fn(&[Datum]) -> Result<Datum>;

const FUNCTIONS: &[(&str, Function)] = &[
    ("and", |_| Ok(None)), // evaluated one by one, beside the table
    ("or", |_| Ok(None)),
    ("not", |args| Ok(Some(Value::Bool(!truth(one(args)?))))),
    ("len", len),
    ("index", index),
    ("slice", slice),
    ("print", |args| Ok(Some(print(args).into()))),
    ("println", |args| Ok(Some((args.iter().map(text).collect::<Vec<_>>().join(" ") + "\n").into()))),
    ("printf", printf),
    ("html", |args| Ok(Some(html(&print(args)).into()))),
    ("js", |args| Ok(Some(js(&print(args)).into()))),
    ("urlquery", |args| Ok(Some(url_query(&print(args)).into()))),
    ("eq", eq),
    ("ne", |args| Ok(Some(Value::Bool(!equal(two(args)?)?)))),
    ("lt", |args| ordered(args, Ordering::is_lt)),
    ("le", |args| ordered(args, Ordering::is_le)),
    ("gt", |args| ordered(args, Ordering::is_gt)),
    ("ge", |args| ordered(args, Ordering::is_ge)),
    ("exists", |args| Ok(Some(Value::Bool(follow(args).is_some())))),
    ("base64decode", base64_decode),
];

pub fn is_known(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, _)| *known == name)
}

pub fn call(name: &str, args: &[Datum]) -> Result<Datum> {
    let function = FUNCTIONS.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("function {name:?} not defined"))?;
    (function.1)(args).map_err(|error| format!("error calling {name}: {error}"))
}

/// What is printed for a value.
pub fn text(value: &Datum) -> String {
    match value {
        None | Some(Value::Null) => "<no value>".into(),
        Some(value) => gotext::plain(value),
    }
}

/// Whether a value is not empty.
pub fn truth(value: &Datum) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
    }
}

fn one(args: &[Datum]) -> Result<&Datum> {
    match args {
        [one] => Ok(one),
        _ => Err(format!("wrong number of args: want 1 got {}", args.len())),
    }
}

fn two(args: &[Datum]) -> Result<(&Datum, &Datum)> {
    match args {
        [a, b] => Ok((a, b)),
        _ => Err(format!("wrong number of args: want 2 got {}", args.len())),
    }
}

fn len(args: &[Datum]) -> Result<Datum> {
    let length = match one(args)? {
        Some(Value::String(text)) => text.len(),
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(fields)) => fields.len(),
        None | Some(Value::Null) => return Err("len of nil pointer".into()),
        Some(other) => return Err(format!("len of type {}", gotext::type_name(other))),
    };
    Ok(Some(length.into()))
}

fn index(args: &[Datum]) -> Result<Datum> {
    let [from, keys @ ..] = args else { return Err("wrong number of args: want at least 1 got 0".into()) };
    let mut value = from.clone();
    for key in keys {
        value = match (value, key) {
            (None | Some(Value::Null), _) => return Err("index of untyped nil".into()),
            (Some(Value::Object(mut fields)), Some(Value::String(key))) => fields.remove(key),
            (Some(Value::Array(mut items)), Some(Value::Number(at))) => {
                let place = at.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < items.len());
                Some(items.swap_remove(place.ok_or_else(|| format!("index out of range: {at}"))?))
            }
            (Some(other), _) => return Err(format!("can't index item of type {}", gotext::type_name(&other))),
        };
    }
    Ok(value)
}

fn slice(args: &[Datum]) -> Result<Datum> {
    let [from, bounds @ ..] = args else { return Err("wrong number of args: want at least 1 got 0".into()) };
    let bound = |at: usize, default: usize, length: usize| match bounds.get(at) {
        None => Ok(default),
        Some(Some(Value::Number(number))) => {
            let place = number.as_u64().and_then(|place| usize::try_from(place).ok()).filter(|place| *place <= length);
            place.ok_or_else(|| format!("index out of range: {number}"))
        }
        Some(_) => Err("cannot index slice/array with that type".to_owned()),
    };
    let range = |length: usize| {
        let (start, end) = (bound(0, 0, length)?, bound(1, length, length)?);
        if start > end { Err(format!("invalid slice index: {start} > {end}")) } else { Ok(start..end) }
    };
    match from {
        Some(Value::String(text)) => {
            let range = range(text.len())?;
            Ok(Some(text.get(range).ok_or("the slice cuts a character")?.into()))
        }
        Some(Value::Array(items)) => Ok(Some(items[range(items.len())?].to_vec().into())),
        _ => Err("slice of a value that is neither a list nor a string".into()),
    }
}

/// Go's `Sprint`: a space between two operands neither of which is a string.
fn print(args: &[Datum]) -> String {
    let mut out = String::new();
    for (at, value) in args.iter().enumerate() {
        let is_text = |value: &Datum| matches!(value, Some(Value::String(_)));
        if at > 0 && !is_text(value) && !is_text(&args[at - 1]) {
            out.push(' ');
        }
        out += &text(value);
    }
    out
}

fn printf(args: &[Datum]) -> Result<Datum> {
    let [Some(Value::String(format)), rest @ ..] = args else { return Err("the first argument must be a format".into()) };
    let mut out = String::new();
    let mut values = rest.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(part) = chars.next_if(|c| c.is_ascii_digit() || "+-# .".contains(*c)) {
            spec.push(part);
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                None => out += &format!("%!{verb}(MISSING)"),
                Some(value) => out += &pad(&spec, &formatted(verb, &spec, value), verb),
            },
        }
    }
    Ok(Some(out.into()))
}

fn formatted(verb: char, spec: &str, value: &Datum) -> String {
    let number = value.as_ref().and_then(Value::as_f64);
    let whole = value.as_ref().and_then(Value::as_i64);
    let precision = spec.split_once('.').and_then(|(_, digits)| digits.parse::<usize>().ok()).map(|digits| digits.min(64));
    match (verb, whole, number) {
        ('d', Some(whole), _) => whole.to_string(),
        ('x', Some(whole), _) => format!("{whole:x}"),
        ('X', Some(whole), _) => format!("{whole:X}"),
        ('o', Some(whole), _) => format!("{whole:o}"),
        ('b', Some(whole), _) => format!("{whole:b}"),
        ('f', _, Some(number)) => format!("{number:.*}", precision.unwrap_or(6)),
        ('e', _, Some(number)) => format!("{number:e}"),
        ('q', _, _) => gotext::quote(&text(value)),
        ('T', _, _) => value.as_ref().map_or("<nil>", gotext::type_name).to_owned(),
        ('s' | 'v' | 't' | 'g', _, _) => match (precision, verb) {
            (Some(length), 's') => text(value).chars().take(length).collect(),
            _ => text(value),
        },
        (verb, _, _) => {
            let kind = value.as_ref().map_or("<nil>", gotext::type_name);
            format!("%!{verb}({kind}={})", text(value))
        }
    }
}

/// Widths, `-` and `0` of a format.
fn pad(spec: &str, text: &str, verb: char) -> String {
    let flags: String = spec.chars().take_while(|c| "+-# 0".contains(*c)).collect();
    let width = spec[flags.len()..].split('.').next().and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0).min(4096);
    let sign = if flags.contains('+') && "dfeg".contains(verb) && !text.starts_with('-') { "+" } else { "" };
    let missing = width.saturating_sub(text.chars().count() + sign.len());
    if flags.contains('-') {
        format!("{sign}{text}{}", " ".repeat(missing))
    } else if flags.contains('0') {
        format!("{sign}{}{text}", "0".repeat(missing))
    } else {
        format!("{}{sign}{text}", " ".repeat(missing))
    }
}

fn html(text: &str) -> String {
    let escapes = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")];
    escapes.iter().fold(text.to_owned(), |text, (c, escape)| text.replace(*c, escape))
}

fn js(text: &str) -> String {
    let escape = |c: char| match c {
        '\\' | '\'' | '"' => format!("\\{c}"),
        '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

fn url_query(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// The first against each of the others.
fn eq(args: &[Datum]) -> Result<Datum> {
    let [first, others @ ..] = args else { return Err("missing argument for comparison".into()) };
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if equal((first, other))? {
            return Ok(Some(Value::Bool(true)));
        }
    }
    Ok(Some(Value::Bool(false)))
}

fn equal((a, b): (&Datum, &Datum)) -> Result<bool> {
    match (a, b) {
        (None | Some(Value::Null), None | Some(Value::Null)) => Ok(true),
        (None | Some(Value::Null), _) | (_, None | Some(Value::Null)) => Ok(false),
        (Some(Value::Number(a)), Some(Value::Number(b))) if a.is_f64() == b.is_f64() => Ok(a == b),
        (Some(Value::String(a)), Some(Value::String(b))) => Ok(a == b),
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => Ok(a == b),
        (Some(Value::Array(_) | Value::Object(_)), _) | (_, Some(Value::Array(_) | Value::Object(_))) => {
            Err("non-comparable type".into())
        }
        _ => Err("incompatible types for comparison".into()),
    }
}

fn ordered(args: &[Datum], want: fn(Ordering) -> bool) -> Result<Datum> {
    let order = match two(args)? {
        (Some(Value::Number(a)), Some(Value::Number(b))) if a.is_f64() == b.is_f64() => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
        },
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        _ => return Err("incompatible types for comparison".into()),
    };
    Ok(Some(Value::Bool(want(order))))
}

/// `exists . "a" 0 "b"`: like index, but what is not there is no error.
fn follow(args: &[Datum]) -> Option<Value> {
    let [from, keys @ ..] = args else { return None };
    let mut value = from.clone()?;
    for key in keys {
        value = match (value, key.as_ref()?) {
            (Value::Object(mut fields), Value::String(key)) => fields.remove(key)?,
            (Value::Array(mut items), Value::Number(at)) => {
                let at = usize::try_from(at.as_u64()?).ok()?;
                (at < items.len()).then(|| items.swap_remove(at))?
            }
            _ => return None,
        };
    }
    Some(value)
}

fn base64_decode(args: &[Datum]) -> Result<Datum> {
    let Some(Value::String(text)) = one(args)? else { return Err("invalid value; expected string".into()) };
    let bytes = STANDARD.decode(text).map_err(|error| format!("base64 decode failed: {error}"))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned().into()))
}
