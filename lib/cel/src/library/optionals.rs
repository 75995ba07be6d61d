//! Optional values.

use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("optional.of", "optional_of", "(A) -> optional(A)", Cost::Unit, of),
    row("optional.ofNonZeroValue", "optional_ofNonZeroValue", "(A) -> optional(A)", Cost::Unit, of_non_zero),
    row("optional.none", "optional_none", "() -> optional(A)", Cost::Unit, none),
    row("value", "optional_value", "optional(A).() -> A", Cost::Unit, value),
    row("hasValue", "optional_hasValue", "optional(A).() -> bool", Cost::Unit, has_value),
    row("or", "optional_or_optional", "optional(A).(optional(A)) -> optional(A)", Cost::Unit, never),
    row("orValue", "optional_orValue_value", "optional(A).(A) -> A", Cost::Unit, never),
    row("_[?_]", "list_optindex_optional_int", "(list(A), int) -> optional(A)", Cost::Unit, never),
    row("_[?_]", "optional_list_optindex_optional_int", "(optional(list(A)), int) -> optional(A)", Cost::Unit, never),
    row("_[?_]", "map_optindex_optional_value", "(map(A, B), A) -> optional(B)", Cost::Unit, never),
    row("_[?_]", "optional_map_optindex_optional_value", "(optional(map(A, B)), A) -> optional(B)", Cost::Unit, never),
    row("_[_]", "optional_list_index_int", "(optional(list(A)), int) -> optional(A)", Cost::Unit, never),
    row("_[_]", "optional_map_index_value", "(optional(map(A, B)), A) -> optional(B)", Cost::Unit, never),
    row("first", "list_first", "list(A).() -> optional(A)", Cost::Unit, first),
    row("last", "list_last", "list(A).() -> optional(A)", Cost::Unit, last),
    row("optional.unwrap", "optional_unwrap", "(list(optional(A))) -> list(A)", Cost::Unit, unwrap),
    row("unwrapOpt", "optional_unwrapOpt", "list(optional(A)).() -> list(A)", Cost::Unit, unwrap),
];

fn of<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::some(args[0].clone()))
}

fn of_non_zero<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(if args[0].is_zero() { Value::Optional(None) } else { Value::some(args[0].clone()) })
}

fn none<'a>(_: &mut Meter, _: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Optional(None))
}

fn value<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(Some(inner))] => Ok((**inner).clone()),
        [Value::Optional(None)] => Err(EvalError::failed("optional.none() dereference")),
        _ => Err(EvalError::no_overload()),
    }
}

fn has_value<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        _ => Err(EvalError::no_overload()),
    }
}

fn first<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::List(list)] if list.is_empty() => Ok(Value::Optional(None)),
        [Value::List(list)] => list.get(0).map(Value::some),
        _ => Err(EvalError::no_overload()),
    }
}

fn last<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::List(list)] if list.is_empty() => Ok(Value::Optional(None)),
        [Value::List(list)] => list.get(list.len() - 1).map(Value::some),
        _ => Err(EvalError::no_overload()),
    }
}

fn unwrap<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return Err(EvalError::no_overload()) };
    let mut out = Vec::new();
    for item in list.iter() {
        meter.work(1)?;
        match item? {
            Value::Optional(inner) => out.extend(inner.map(|v| (*v).clone())),
            _ => return Err(EvalError::no_overload()),
        }
    }
    Ok(Value::List(List::new(out)))
}
