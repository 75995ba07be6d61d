//! Strings: the standard tests and cel-go's extension in version 2. Positions count code points.

use super::prelude::*;
use super::sprintf;

pub(crate) const STANDARD: &[Row] = &[
    row("contains", "contains_string", "string.(string) -> bool", Cost::Contains, contains),
    row("endsWith", "ends_with_string", "string.(string) -> bool", Cost::Affix, ends_with),
    row("startsWith", "starts_with_string", "string.(string) -> bool", Cost::Affix, starts_with),
];

pub(crate) const ROWS: &[Row] = &[
    row("charAt", "string_char_at_int", "string.(int) -> string", Cost::Unit, char_at),
    row("indexOf", "string_index_of_string", "string.(string) -> int", Cost::Walk, index_of),
    row("indexOf", "string_index_of_string_int", "string.(string, int) -> int", Cost::Walk, index_of),
    row("lastIndexOf", "string_last_index_of_string", "string.(string) -> int", Cost::Walk, last_index_of),
    row("lastIndexOf", "string_last_index_of_string_int", "string.(string, int) -> int", Cost::Walk, last_index_of),
    row("lowerAscii", "string_lower_ascii", "string.() -> string", Cost::Transform, lower),
    row("upperAscii", "string_upper_ascii", "string.() -> string", Cost::Transform, upper),
    row("replace", "string_replace_string_string", "string.(string, string) -> string", Cost::Replace, replace),
    row("replace", "string_replace_string_string_int", "string.(string, string, int) -> string", Cost::Replace, replace),
    row("split", "string_split_string", "string.(string) -> list(string)", Cost::Split, split),
    row("split", "string_split_string_int", "string.(string, int) -> list(string)", Cost::Split, split),
    row("substring", "string_substring_int", "string.(int) -> string", Cost::Transform, substring),
    row("substring", "string_substring_int_int", "string.(int, int) -> string", Cost::Transform, substring),
    row("trim", "string_trim", "string.() -> string", Cost::Transform, trim),
    row("format", "string_format", "string.(list(dyn)) -> string", Cost::Format, format),
    row("strings.quote", "strings_quote", "(string) -> string", Cost::Quote, quote),
    row("join", "list_join", "list(string).() -> string", Cost::Join, join),
    row("join", "list_join_string", "list(string).(string) -> string", Cost::Join, join),
];

/// Most bytes of a string that a function makes.
pub(super) const RESULT_BYTES_MAX: usize = 16 * 1024 * 1024;

fn contains<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s), Value::String(part)] = args else { return Err(EvalError::no_overload()) };
    meter.work((s.len() + part.len()) / 8)?;
    Ok(Value::Bool(s.contains(&**part)))
}

fn starts_with<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s), Value::String(part)] = args else { return Err(EvalError::no_overload()) };
    Ok(Value::Bool(s.starts_with(&**part)))
}

fn ends_with<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s), Value::String(part)] = args else { return Err(EvalError::no_overload()) };
    Ok(Value::Bool(s.ends_with(&**part)))
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::failed(format!("index out of range: {index}"))
}

/// The place in bytes of a code point, up to the one after the last.
fn byte_at(s: &str, index: i64) -> Result<usize, EvalError> {
    let at = usize::try_from(index).map_err(|_| out_of_range(index))?;
    s.char_indices().map(|(i, _)| i).chain([s.len()]).nth(at).ok_or_else(|| out_of_range(index))
}

fn code_points(s: &str) -> i64 {
    i64::try_from(s.chars().count()).unwrap_or(i64::MAX)
}

fn char_at<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s), Value::Int(index)] = args else { return Err(EvalError::no_overload()) };
    let at = byte_at(s, *index)?;
    Ok(Value::string(s[at..].chars().next().map(String::from).unwrap_or_default()))
}

fn index_of<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let (s, part, offset) = match args {
        [Value::String(s), Value::String(part)] => (s, part, 0),
        [Value::String(s), Value::String(part), Value::Int(offset)] => (s, part, *offset),
        [Value::List(_), _] => return super::lists::index_of(meter, args),
        _ => return Err(EvalError::no_overload()),
    };
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    let Ok(start) = byte_at(s, offset) else { return Ok(Value::Int(-1)) };
    Ok(Value::Int(s[start..].find(&**part).map_or(-1, |i| code_points(&s[..start + i]))))
}

fn last_index_of<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let (s, part, offset) = match args {
        [Value::String(s), Value::String(part)] => (s, part, None),
        [Value::String(s), Value::String(part), Value::Int(offset)] => (s, part, Some(*offset)),
        [Value::List(_), _] => return super::lists::last_index_of(meter, args),
        _ => return Err(EvalError::no_overload()),
    };
    let length = code_points(s);
    if let Some(offset) = offset {
        if offset < 0 || offset >= length && !(part.is_empty() && offset == length) {
            return Err(out_of_range(offset));
        }
        if part.is_empty() {
            return Ok(Value::Int(offset));
        }
        let end = byte_at(s, offset)?.saturating_add(part.len());
        let end = (end.min(s.len())..=s.len()).find(|i| s.is_char_boundary(*i)).unwrap_or(s.len());
        return Ok(Value::Int(s[..end].rfind(&**part).map_or(-1, |i| code_points(&s[..i]))));
    }
    if part.is_empty() {
        return Ok(Value::Int(length));
    }
    Ok(Value::Int(s.rfind(&**part).map_or(-1, |i| code_points(&s[..i]))))
}

fn lower<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s)] = args else { return Err(EvalError::no_overload()) };
    Ok(Value::string(s.to_ascii_lowercase()))
}

fn upper<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s)] = args else { return Err(EvalError::no_overload()) };
    Ok(Value::string(s.to_ascii_uppercase()))
}

fn replace<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let (s, from, to, limit) = match args {
        [Value::String(s), Value::String(from), Value::String(to)] => (s, from, to, -1),
        [Value::String(s), Value::String(from), Value::String(to), Value::Int(limit)] => (s, from, to, *limit),
        _ => return Err(EvalError::no_overload()),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let most = if from.is_empty() { s.len() + 1 } else { s.len() / from.len() };
    let size = s.len().saturating_add(most.min(limit).saturating_mul(to.len()));
    if size > RESULT_BYTES_MAX {
        return Err(EvalError::CostLimit);
    }
    meter.work(size / 8)?;
    Ok(Value::string(s.replacen(&**from, to, limit)))
}

fn split<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let (s, separator, limit) = match args {
        [Value::String(s), Value::String(separator)] => (s, separator, -1),
        [Value::String(s), Value::String(separator), Value::Int(limit)] => (s, separator, *limit),
        _ => return Err(EvalError::no_overload()),
    };
    meter.work(s.len())?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut parts: Vec<Value<'a>> = Vec::new();
    if limit == 0 {
        return Ok(Value::List(List::new(parts)));
    }
    if separator.is_empty() {
        let mut rest: &str = s;
        while let Some(c) = rest.chars().next() {
            let length = if parts.len() + 1 == limit { rest.len() } else { c.len_utf8() };
            parts.push(Value::string(&rest[..length]));
            rest = &rest[length..];
        }
    } else {
        parts.extend(s.splitn(limit, &**separator).map(Value::string));
    }
    Ok(Value::List(List::new(parts)))
}

fn substring<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let (s, start, end) = match args {
        [Value::String(s), Value::Int(start)] => (s, *start, None),
        [Value::String(s), Value::Int(start), Value::Int(end)] => (s, *start, Some(*end)),
        _ => return Err(EvalError::no_overload()),
    };
    if let Some(end) = end
        && start > end
    {
        return Err(EvalError::failed(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let from = byte_at(s, start)?;
    let to = end.map_or(Ok(s.len()), |end| byte_at(s, end))?;
    Ok(Value::string(&s[from..to]))
}

fn trim<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s)] = args else { return Err(EvalError::no_overload()) };
    Ok(Value::string(s.trim()))
}

fn format<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s), Value::List(values)] = args else { return Err(EvalError::no_overload()) };
    sprintf::format(meter, s, values).map(Value::string)
}

fn quote<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s)] = args else { return Err(EvalError::no_overload()) };
    meter.work(s.len() / 8)?;
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(Value::string(out))
}

fn join<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return Err(EvalError::no_overload()),
    };
    let mut out = String::new();
    for (i, item) in list.iter().enumerate() {
        let Value::String(item) = item? else { return Err(EvalError::no_overload()) };
        if i > 0 {
            out.push_str(separator);
        }
        out.push_str(&item);
        meter.work(1 + (item.len() + separator.len()) / 8)?;
        if out.len() > RESULT_BYTES_MAX {
            return Err(EvalError::CostLimit);
        }
    }
    Ok(Value::string(out))
}
