//! Named formats.

use machinery::names;

use super::prelude::*;
use super::url::Url;
use crate::value::time;

pub(crate) const ROWS: &[Row] = &[
    row("format.dns1123Label", "format.dns1123Label", "() -> format", Cost::Unit, |_, _| constant("dns1123Label")),
    row("format.dns1123Subdomain", "format.dns1123Subdomain", "() -> format", Cost::Unit, |_, _| constant("dns1123Subdomain")),
    row("format.dns1035Label", "format.dns1035Label", "() -> format", Cost::Unit, |_, _| constant("dns1035Label")),
    row("format.qualifiedName", "format.qualifiedName", "() -> format", Cost::Unit, |_, _| constant("qualifiedName")),
    row("format.dns1123LabelPrefix", "format.dns1123LabelPrefix", "() -> format", Cost::Unit, |_, _| {
        constant("dns1123LabelPrefix")
    }),
    row("format.dns1123SubdomainPrefix", "format.dns1123SubdomainPrefix", "() -> format", Cost::Unit, |_, _| {
        constant("dns1123SubdomainPrefix")
    }),
    row("format.dns1035LabelPrefix", "format.dns1035LabelPrefix", "() -> format", Cost::Unit, |_, _| {
        constant("dns1035LabelPrefix")
    }),
    row("format.labelValue", "format.labelValue", "() -> format", Cost::Unit, |_, _| constant("labelValue")),
    row("format.uri", "format.uri", "() -> format", Cost::Unit, |_, _| constant("uri")),
    row("format.uuid", "format.uuid", "() -> format", Cost::Unit, |_, _| constant("uuid")),
    row("format.byte", "format.byte", "() -> format", Cost::Unit, |_, _| constant("byte")),
    row("format.date", "format.date", "() -> format", Cost::Unit, |_, _| constant("date")),
    row("format.datetime", "format.datetime", "() -> format", Cost::Unit, |_, _| constant("datetime")),
    row("format.named", "format-named", "(string) -> optional(format)", Cost::Nominal, named),
    row("validate", "format-validate", "format.(string) -> optional(list(string))", Cost::Validate, validate),
];

/// A format that text can have.
#[derive(Debug)]
pub struct NamedFormat {
    pub name: &'static str,
    /// Length of the pattern that it stands for, which a check is charged for.
    pub pattern_max: u64,
    check: fn(&str) -> Vec<String>,
}

static FORMATS: [NamedFormat; 13] = [
    NamedFormat { name: "dns1123Label", pattern_max: 30, check: names::dns1123_label },
    NamedFormat { name: "dns1123Subdomain", pattern_max: 60, check: names::dns1123_subdomain },
    NamedFormat { name: "dns1035Label", pattern_max: 30, check: names::dns1035_label },
    NamedFormat { name: "qualifiedName", pattern_max: 60, check: names::qualified_name },
    NamedFormat { name: "dns1123LabelPrefix", pattern_max: 30, check: |s| names::dns1123_label(&names::mask_trailing_dash(s)) },
    NamedFormat {
        name: "dns1123SubdomainPrefix",
        pattern_max: 60,
        check: |s| names::dns1123_subdomain(&names::mask_trailing_dash(s)),
    },
    NamedFormat { name: "dns1035LabelPrefix", pattern_max: 30, check: |s| names::dns1035_label(&names::mask_trailing_dash(s)) },
    NamedFormat { name: "labelValue", pattern_max: 40, check: names::label_value },
    NamedFormat { name: "uri", pattern_max: 1103, check: |s| Url::parse(s).err().into_iter().collect() },
    NamedFormat { name: "uuid", pattern_max: 69, check: |s| unless(is_uuid(s), "does not match the UUID format") },
    NamedFormat {
        name: "byte",
        pattern_max: 84,
        check: |s| unless(!s.is_empty() && time::decode_base64(s).is_some(), "invalid base64"),
    },
    NamedFormat { name: "date", pattern_max: 71, check: |s| unless(time::date(s).is_ok(), "invalid date") },
    NamedFormat { name: "datetime", pattern_max: 71, check: |s| unless(time::timestamp(s).is_ok(), "invalid datetime") },
];

fn unless(good: bool, message: &str) -> Vec<String> {
    if good { Vec::new() } else { vec![message.to_owned()] }
}

/// Hexadecimal digits in groups of 8, 4, 4, 4 and 12, with or without dashes between them.
fn is_uuid(s: &str) -> bool {
    let mut bytes = s.bytes().peekable();
    for (i, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if i > 0 {
            bytes.next_if_eq(&b'-');
        }
        for _ in 0..length {
            if !bytes.next().is_some_and(|b| b.is_ascii_hexdigit()) {
                return false;
            }
        }
    }
    bytes.next().is_none()
}

fn find(name: &str) -> Option<&'static NamedFormat> {
    FORMATS.iter().find(|f| f.name == name)
}

fn constant<'a>(name: &str) -> Outcome<'a> {
    find(name).map(|f| Value::Opaque(Opaque::Format(f))).ok_or_else(EvalError::no_overload)
}

fn named<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(name)] = args else { return Err(EvalError::no_overload()) };
    Ok(find(name).map_or(Value::Optional(None), |f| Value::some(Value::Opaque(Opaque::Format(f)))))
}

fn validate<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Opaque(Opaque::Format(format)), Value::String(text)] = args else { return Err(EvalError::no_overload()) };
    meter.work(text.len())?;
    let errors = (format.check)(text);
    if errors.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::List(List::new(errors.into_iter().map(Value::string).collect()))))
}
