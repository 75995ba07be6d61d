//! Quantities.

use std::sync::Arc;

use machinery::quantity::{Format, Quantity};

use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("quantity", "string_to_quantity", "(string) -> quantity", Cost::Parse, quantity),
    row("isQuantity", "is_quantity_string", "(string) -> bool", Cost::Parse, is_quantity),
    row("sign", "quantity_sign", "(quantity) -> int", Cost::Nominal, sign),
    row("isGreaterThan", "quantity_is_greater_than", "quantity.(quantity) -> bool", Cost::Nominal, is_greater),
    row("isLessThan", "quantity_is_less_than", "quantity.(quantity) -> bool", Cost::Nominal, is_less),
    row("compareTo", "quantity_compare_to", "quantity.(quantity) -> int", Cost::Nominal, compare_to),
    row("asApproximateFloat", "quantity_get_float", "quantity.() -> double", Cost::Nominal, as_float),
    row("asInteger", "quantity_get_int", "quantity.() -> int", Cost::Nominal, as_integer),
    row("isInteger", "quantity_is_integer", "quantity.() -> bool", Cost::Nominal, is_integer),
    row("add", "quantity_add", "quantity.(quantity) -> quantity", Cost::Nominal, add),
    row("add", "quantity_add_int", "quantity.(int) -> quantity", Cost::Nominal, add),
    row("sub", "quantity_sub", "quantity.(quantity) -> quantity", Cost::Nominal, sub),
    row("sub", "quantity_sub_int", "quantity.(int) -> quantity", Cost::Nominal, sub),
];

fn text<'v>(args: &'v [Value<'_>]) -> Result<&'v str, EvalError> {
    args.first().and_then(Value::as_str).ok_or_else(EvalError::no_overload)
}

fn made<'a>(quantity: Quantity) -> Value<'a> {
    Value::Opaque(Opaque::Quantity(Arc::new(quantity)))
}

fn of(value: &Value<'_>) -> Result<Quantity, EvalError> {
    match value {
        Value::Opaque(Opaque::Quantity(q)) => Ok((**q).clone()),
        Value::Int(i) => Ok(Quantity::new(*i, Format::DecimalExponent)),
        _ => Err(EvalError::no_overload()),
    }
}

fn one(args: &[Value<'_>]) -> Result<Quantity, EvalError> {
    args.first().map_or_else(|| Err(EvalError::no_overload()), of)
}

fn two(args: &[Value<'_>]) -> Result<(Quantity, Quantity), EvalError> {
    match args {
        [x, y] => Ok((of(x)?, of(y)?)),
        _ => Err(EvalError::no_overload()),
    }
}

fn quantity<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Quantity::parse(text(args)?).map(made).map_err(|e| EvalError::failed(e.to_string()))
}

fn is_quantity<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(Quantity::parse(text(args)?).is_ok()))
}

fn sign<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let q = one(args)?;
    Ok(Value::Int(if q.is_zero() {
        0
    } else if q.is_negative() {
        -1
    } else {
        1
    }))
}

fn is_greater<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    two(args).map(|(x, y)| Value::Bool(x.cmp(&y).is_gt()))
}

fn is_less<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    two(args).map(|(x, y)| Value::Bool(x.cmp(&y).is_lt()))
}

fn compare_to<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    two(args).map(|(x, y)| Value::Int(x.cmp(&y) as i64))
}

fn as_float<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    one(args).map(|q| Value::Double(q.as_f64()))
}

/// The whole number that a quantity is, if it is one that 64 bits hold.
fn whole(q: &Quantity) -> Option<i64> {
    let value = q.value();
    (q.is_integer() && Quantity::new(value, Format::DecimalSi).cmp(q).is_eq()).then_some(value)
}

fn as_integer<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    whole(&one(args)?).map(Value::Int).ok_or_else(|| EvalError::failed("cannot convert value to integer"))
}

fn is_integer<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(whole(&one(args)?).is_some()))
}

fn add<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let (mut x, y) = two(args)?;
    x.add(&y);
    Ok(made(x))
}

fn sub<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let (mut x, y) = two(args)?;
    x.sub(&y);
    Ok(made(x))
}
