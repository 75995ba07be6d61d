//! What a call cost, from its arguments and result.

use super::{AUTHORIZATION_CHECK, Cost, FORMAT_PATTERN_MAX, LIST_CREATE, PATTERN, STRUCT_CREATE, TRAVERSAL, scale};
use crate::value::{Opaque, Value};

fn size(value: &Value<'_>) -> u64 {
    value.size().unwrap_or(1)
}

fn size_of(args: &[Value<'_>], index: usize) -> u64 {
    args.get(index).map_or(1, size)
}

fn walked(size: u64) -> u64 {
    scale(size, TRAVERSAL)
}

/// A pattern applied to a string, either of which may be empty.
fn pattern(text: u64, pattern: u64) -> u64 {
    walked(text.saturating_add(1)).saturating_mul(scale(pattern, PATTERN))
}

fn listed(factor: f64, size: u64) -> u64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Rounded down, as Go does.
    let cost = (size as f64 * factor) as u64;
    cost.saturating_add(1 + LIST_CREATE)
}

pub(crate) fn cost(rule: Cost, args: &[Value<'_>], result: &Value<'_>) -> u64 {
    let arg = |index: usize| size_of(args, index);
    match rule {
        Cost::Unit | Cost::Nominal | Cost::ListConcat | Cost::IndexList | Cost::IndexMap => 1,
        Cost::Logical | Cost::Conditional => 0,
        Cost::StringToBytes | Cost::BytesToString | Cost::Quote | Cost::Format | Cost::Affix => walked(arg(0)),
        Cost::Transform | Cost::Parse => walked(arg(0)),
        Cost::InList => arg(1),
        Cost::Matches | Cost::Find => pattern(arg(0), arg(1)),
        Cost::Contains => walked(arg(0)).saturating_mul(walked(arg(1))),
        Cost::Equal if matches!(args.first(), Some(Value::Opaque(_))) => 1,
        Cost::Equal | Cost::Compare => walked(arg(0).min(arg(1))),
        Cost::Concat => walked(arg(0).saturating_add(arg(1))),
        Cost::Check => AUTHORIZATION_CHECK,
        Cost::Selector => {
            let length = arg(1);
            #[allow(clippy::cast_precision_loss)]
            let requirement = (LIST_CREATE + STRUCT_CREATE) as f64;
            LIST_CREATE.saturating_add(walked(length)).saturating_add(scale(scale(length, 0.5), requirement))
        }
        Cost::Walk => args.first().map_or(0, traversal),
        Cost::Replace | Cost::Split | Cost::Canonical => scale(arg(0), 2.0 * TRAVERSAL),
        Cost::Join => scale(size(result), 2.0 * TRAVERSAL),
        Cost::ContainsIp { text } => walked(2 * arg(0)).saturating_add(if text { walked(arg(1)) } else { 0 }),
        Cost::ContainsCidr { text } => {
            let compared = walked(2 * arg(0)).saturating_add(walked(arg(0))).saturating_add(1);
            compared.saturating_add(if text { walked(arg(1)) } else { 0 })
        }
        Cost::Validate => {
            let longest = match args.first() {
                Some(Value::Opaque(Opaque::Format(format))) => format.pattern_max,
                _ => FORMAT_PATTERN_MAX,
            };
            pattern(arg(1), longest)
        }
        Cost::Sets { factor } => arg(0).saturating_mul(arg(1)).saturating_mul(u64::from(factor)).saturating_add(1),
        Cost::Slice | Cost::Range | Cost::Reverse => listed(1.0, size(result)),
        Cost::Flatten => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => *depth,
                _ => 1,
            };
            #[allow(clippy::cast_precision_loss)]
            listed(depth as f64, arg(0))
        }
        Cost::Sort | Cost::Distinct => self_compared(args.first()),
        Cost::SortBy => self_compared(args.get(1)),
    }
}

fn self_compared(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 };
    let size = list.len() as u64;
    let text = size > 0 && matches!(list.get(0), Ok(Value::String(_) | Value::Bytes(_)));
    listed(if text { 2.0 + TRAVERSAL } else { 2.0 }, size.saturating_mul(size))
}

/// Going through a value as a tree. Stops where any limit is passed.
fn traversal(value: &Value<'_>) -> u64 {
    const ENOUGH: u64 = crate::budget::PER_CALL_LIMIT + 1;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Rounded down, as Go does.
    let bytes = |length: usize| (length as f64 * TRAVERSAL) as u64;
    match value {
        Value::String(s) => bytes(s.len()),
        Value::Bytes(b) => bytes(b.len()),
        Value::List(list) => {
            let mut cost = 0u64;
            let mut seen = 0;
            for item in list.iter().flatten() {
                cost = cost.saturating_add(traversal(&item));
                seen += 1;
                if cost > ENOUGH || seen > ENOUGH {
                    return ENOUGH;
                }
            }
            cost
        }
        Value::Map(map) => {
            let entries = map.entries().unwrap_or_default();
            entries.iter().fold(0u64, |sum, (k, v)| sum.saturating_add(traversal(&k.to_value())).saturating_add(traversal(v)))
        }
        Value::Object(object) => {
            let fields = object.fields().unwrap_or_default();
            fields.iter().fold(0u64, |sum, (k, v)| sum.saturating_add(bytes(k.len())).saturating_add(traversal(v)))
        }
        _ => 1,
    }
}
