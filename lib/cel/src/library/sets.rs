//! Lists as sets.

use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("sets.contains", "list_sets_contains_list", "(list(A), list(A)) -> bool", Cost::Sets { factor: 1 }, contains),
    row("sets.equivalent", "list_sets_equivalent_list", "(list(A), list(A)) -> bool", Cost::Sets { factor: 2 }, equivalent),
    row("sets.intersects", "list_sets_intersects_list", "(list(A), list(A)) -> bool", Cost::Sets { factor: 1 }, intersects),
];

fn has<'a>(meter: &mut Meter, list: &List<'a>, item: &Value<'a>) -> Result<bool, EvalError> {
    for known in list.iter() {
        if equal::equals(meter, &known?, item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_all<'a>(meter: &mut Meter, list: &List<'a>, part: &List<'a>) -> Result<bool, EvalError> {
    for item in part.iter() {
        if !has(meter, list, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::List(part)] = args else { return Err(EvalError::no_overload()) };
    has_all(meter, list, part).map(Value::Bool)
}

fn equivalent<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(x), Value::List(y)] = args else { return Err(EvalError::no_overload()) };
    Ok(Value::Bool(has_all(meter, x, y)? && has_all(meter, y, x)?))
}

fn intersects<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(x), Value::List(y)] = args else { return Err(EvalError::no_overload()) };
    for item in y.iter() {
        if has(meter, x, &item?)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
