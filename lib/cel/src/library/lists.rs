//! Lists: cel-go's extension in version 3 and Kubernetes' own.

use std::cmp::Ordering;

use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("slice", "list_slice", "list(A).(int, int) -> list(A)", Cost::Slice, slice),
    row("flatten", "list_flatten", "list(list(A)).() -> list(A)", Cost::Flatten, flatten),
    row("flatten", "list_flatten_int", "list(dyn).(int) -> list(dyn)", Cost::Flatten, flatten),
    row("sort", "list_int_sort", "list(int).() -> list(int)", Cost::Sort, sort),
    row("sort", "list_uint_sort", "list(uint).() -> list(uint)", Cost::Sort, sort),
    row("sort", "list_double_sort", "list(double).() -> list(double)", Cost::Sort, sort),
    row("sort", "list_bool_sort", "list(bool).() -> list(bool)", Cost::Sort, sort),
    row("sort", "list_google.protobuf.Duration_sort", "list(duration).() -> list(duration)", Cost::Sort, sort),
    row("sort", "list_google.protobuf.Timestamp_sort", "list(timestamp).() -> list(timestamp)", Cost::Sort, sort),
    row("sort", "list_string_sort", "list(string).() -> list(string)", Cost::Sort, sort),
    row("sort", "list_bytes_sort", "list(bytes).() -> list(bytes)", Cost::Sort, sort),
    row("@sortByAssociatedKeys", "list_int_sortByAssociatedKeys", "list(A).(list(int)) -> list(A)", Cost::SortBy, sort_by),
    row("@sortByAssociatedKeys", "list_uint_sortByAssociatedKeys", "list(A).(list(uint)) -> list(A)", Cost::SortBy, sort_by),
    row("@sortByAssociatedKeys", "list_double_sortByAssociatedKeys", "list(A).(list(double)) -> list(A)", Cost::SortBy, sort_by),
    row("@sortByAssociatedKeys", "list_bool_sortByAssociatedKeys", "list(A).(list(bool)) -> list(A)", Cost::SortBy, sort_by),
    row(
        "@sortByAssociatedKeys",
        "list_google.protobuf.Duration_sortByAssociatedKeys",
        "list(A).(list(duration)) -> list(A)",
        Cost::SortBy,
        sort_by,
    ),
    row(
        "@sortByAssociatedKeys",
        "list_google.protobuf.Timestamp_sortByAssociatedKeys",
        "list(A).(list(timestamp)) -> list(A)",
        Cost::SortBy,
        sort_by,
    ),
    row("@sortByAssociatedKeys", "list_string_sortByAssociatedKeys", "list(A).(list(string)) -> list(A)", Cost::SortBy, sort_by),
    row("@sortByAssociatedKeys", "list_bytes_sortByAssociatedKeys", "list(A).(list(bytes)) -> list(A)", Cost::SortBy, sort_by),
    row("lists.range", "lists_range", "(int) -> list(int)", Cost::Range, range),
    row("reverse", "list_reverse", "list(A).() -> list(A)", Cost::Reverse, reverse),
    row("distinct", "list_distinct", "list(A).() -> list(A)", Cost::Distinct, distinct),
];

pub(crate) const KUBERNETES: &[Row] = &[
    row("isSorted", "list_int_isSorted", "list(int).() -> bool", Cost::Walk, is_sorted),
    row("isSorted", "list_uint_isSorted", "list(uint).() -> bool", Cost::Walk, is_sorted),
    row("isSorted", "list_double_isSorted", "list(double).() -> bool", Cost::Walk, is_sorted),
    row("isSorted", "list_bool_isSorted", "list(bool).() -> bool", Cost::Walk, is_sorted),
    row("isSorted", "list_duration_isSorted", "list(duration).() -> bool", Cost::Walk, is_sorted),
    row("isSorted", "list_timestamp_isSorted", "list(timestamp).() -> bool", Cost::Walk, is_sorted),
    row("isSorted", "list_string_isSorted", "list(string).() -> bool", Cost::Walk, is_sorted),
    row("isSorted", "list_bytes_isSorted", "list(bytes).() -> bool", Cost::Walk, is_sorted),
    row("sum", "list_int_sum", "list(int).() -> int", Cost::Walk, sum),
    row("sum", "list_uint_sum", "list(uint).() -> uint", Cost::Walk, sum),
    row("sum", "list_double_sum", "list(double).() -> double", Cost::Walk, sum),
    row("sum", "list_duration_sum", "list(duration).() -> duration", Cost::Walk, sum),
    row("min", "list_int_min", "list(int).() -> int", Cost::Walk, min),
    row("min", "list_uint_min", "list(uint).() -> uint", Cost::Walk, min),
    row("min", "list_double_min", "list(double).() -> double", Cost::Walk, min),
    row("min", "list_bool_min", "list(bool).() -> bool", Cost::Walk, min),
    row("min", "list_duration_min", "list(duration).() -> duration", Cost::Walk, min),
    row("min", "list_timestamp_min", "list(timestamp).() -> timestamp", Cost::Walk, min),
    row("min", "list_string_min", "list(string).() -> string", Cost::Walk, min),
    row("min", "list_bytes_min", "list(bytes).() -> bytes", Cost::Walk, min),
    row("max", "list_int_max", "list(int).() -> int", Cost::Walk, max),
    row("max", "list_uint_max", "list(uint).() -> uint", Cost::Walk, max),
    row("max", "list_double_max", "list(double).() -> double", Cost::Walk, max),
    row("max", "list_bool_max", "list(bool).() -> bool", Cost::Walk, max),
    row("max", "list_duration_max", "list(duration).() -> duration", Cost::Walk, max),
    row("max", "list_timestamp_max", "list(timestamp).() -> timestamp", Cost::Walk, max),
    row("max", "list_string_max", "list(string).() -> string", Cost::Walk, max),
    row("max", "list_bytes_max", "list(bytes).() -> bytes", Cost::Walk, max),
    row("indexOf", "list_a_indexOf", "list(A).(A) -> int", Cost::Walk, index_of),
    row("lastIndexOf", "list_a_lastIndexOf", "list(A).(A) -> int", Cost::Walk, last_index_of),
];

/// Longest list that `lists.range` makes. What is longer costs more than any evaluation may.
const RANGE_MAX: i64 = crate::budget::PER_CALL_LIMIT as i64;

fn list<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v List<'a>, EvalError> {
    match args.first() {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::no_overload()),
    }
}

fn items<'a>(meter: &mut Meter, list: &List<'a>) -> Result<Vec<Value<'a>>, EvalError> {
    meter.work(list.len())?;
    list.iter().collect()
}

fn made<'a>(items: Vec<Value<'a>>) -> Outcome<'a> {
    Ok(Value::List(List::new(items)))
}

fn slice<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return Err(EvalError::no_overload()) };
    let failed = |why: &str| EvalError::failed(format!("cannot slice({start}, {end}), {why}"));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return Err(failed("negative indexes not supported"));
    };
    if from > to {
        return Err(failed("start index must be less than or equal to end index"));
    }
    if to > list.len() {
        return Err(failed(&format!("list is length {}", list.len())));
    }
    meter.work(to - from)?;
    made((from..to).map(|i| list.get(i)).collect::<Result<_, _>>()?)
}

fn flatten<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let depth = match args.get(1) {
        None => 1,
        Some(Value::Int(depth)) if *depth < 0 => return Err(EvalError::failed("level must be non-negative")),
        Some(Value::Int(depth)) => (*depth).min(1000),
        Some(_) => return Err(EvalError::no_overload()),
    };
    let mut out = Vec::new();
    flatten_into(meter, list(args)?, depth, &mut out)?;
    made(out)
}

fn flatten_into<'a>(meter: &mut Meter, list: &List<'a>, depth: i64, out: &mut Vec<Value<'a>>) -> Result<(), EvalError> {
    for item in list.iter() {
        meter.work(1)?;
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(meter, &inner, depth - 1, out)?,
            other => out.push(other),
        }
    }
    Ok(())
}

/// Sorts places by keys of one ordered type.
fn order(meter: &mut Meter, keys: &[Value<'_>]) -> Result<Vec<usize>, EvalError> {
    meter.work(keys.len().saturating_mul(20))?;
    if let Some(first) = keys.first() {
        for key in keys {
            if key.type_name() != first.type_name() {
                return Err(EvalError::failed("list elements must have the same type"));
            }
            equal::compare(first, key)?;
        }
    }
    let mut places: Vec<usize> = (0..keys.len()).collect();
    // All are of one ordered type; NaN stands where it is.
    places.sort_by(|a, b| total(&keys[*a], &keys[*b]));
    Ok(places)
}

/// A total order: NaN comes first, so that sorting has one answer.
fn total(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Double(x), Value::Double(y)) => x.partial_cmp(y).unwrap_or_else(|| y.is_nan().cmp(&x.is_nan())),
        _ => equal::compare(a, b).ok().flatten().unwrap_or(Ordering::Equal),
    }
}

fn sort<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let items = items(meter, list(args)?)?;
    let places = order(meter, &items)?;
    made(places.into_iter().map(|i| items[i].clone()).collect())
}

fn sort_by<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::List(keys)] = args else { return Err(EvalError::no_overload()) };
    if list.len() != keys.len() {
        return Err(EvalError::failed("@sortByAssociatedKeys() expected a list of the same size as the associated keys list"));
    }
    let (items, keys) = (items(meter, list)?, items(meter, keys)?);
    let places = order(meter, &keys)?;
    made(places.into_iter().map(|i| items[i].clone()).collect())
}

fn range<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Int(end)] = args else { return Err(EvalError::no_overload()) };
    if *end > RANGE_MAX {
        return Err(EvalError::CostLimit);
    }
    meter.work(usize::try_from(*end).unwrap_or(0))?;
    made((0..*end).map(Value::Int).collect())
}

fn reverse<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let mut items = items(meter, list(args)?)?;
    items.reverse();
    made(items)
}

fn distinct<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let mut out: Vec<Value<'a>> = Vec::new();
    'items: for item in list(args)?.iter() {
        let item = item?;
        for known in &out {
            if equal::equals(meter, known, &item)? {
                continue 'items;
            }
        }
        out.push(item);
    }
    made(out)
}

fn is_sorted<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let items = items(meter, list(args)?)?;
    for pair in items.windows(2) {
        if equal::compare(&pair[0], &pair[1])? == Some(Ordering::Greater) {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let items = items(meter, list(args)?)?;
    let Some((first, rest)) = items.split_first() else { return Ok(Value::Int(0)) };
    rest.iter().try_fold(first.clone(), |sum, item| super::operators::add(meter, &[sum, item.clone()]))
}

fn extreme<'a>(meter: &mut Meter, args: &[Value<'a>], name: &str, wanted: Ordering) -> Outcome<'a> {
    let items = items(meter, list(args)?)?;
    let Some((first, rest)) = items.split_first() else {
        return Err(EvalError::failed(format!("{name} called on empty list")));
    };
    let mut best = first;
    for item in rest {
        if equal::compare(item, best)? == Some(wanted) {
            best = item;
        }
    }
    Ok(best.clone())
}

fn min<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    extreme(meter, args, "min", Ordering::Less)
}

fn max<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    extreme(meter, args, "max", Ordering::Greater)
}

fn found<'a>(index: Option<usize>) -> Outcome<'a> {
    Ok(Value::Int(index.and_then(|i| i64::try_from(i).ok()).unwrap_or(-1)))
}

pub(super) fn index_of<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), wanted] = args else { return Err(EvalError::no_overload()) };
    for (i, item) in list.iter().enumerate() {
        if equal::equals(meter, &item?, wanted)? {
            return found(Some(i));
        }
    }
    found(None)
}

pub(super) fn last_index_of<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), wanted] = args else { return Err(EvalError::no_overload()) };
    for i in (0..list.len()).rev() {
        if equal::equals(meter, &list.get(i)?, wanted)? {
            return found(Some(i));
        }
    }
    found(None)
}
