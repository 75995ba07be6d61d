//! `math.greatest`, `math.least`: of cel-go's extension; Kubernetes has it not.

use std::cmp::Ordering;

use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("math.greatest", "math_greatest_one", "(A) -> A", Cost::Unit, greatest),
    row("math.greatest", "math_greatest_two", "(A, A) -> A", Cost::Unit, greatest),
    row("math.greatest", "math_greatest_three", "(A, A, A) -> A", Cost::Unit, greatest),
    row("math.least", "math_least_one", "(A) -> A", Cost::Unit, least),
    row("math.least", "math_least_two", "(A, A) -> A", Cost::Unit, least),
    row("math.least", "math_least_three", "(A, A, A) -> A", Cost::Unit, least),
];

fn extreme<'a>(args: &[Value<'a>], wanted: Ordering) -> Outcome<'a> {
    let listed;
    let args = match args {
        [Value::List(list)] => {
            listed = list.iter().collect::<Result<Vec<_>, _>>()?;
            &listed
        }
        args => args,
    };
    let Some((first, rest)) = args.split_first() else { return Err(EvalError::no_overload()) };
    let mut best = first;
    for value in rest {
        if equal::compare(value, best)? == Some(wanted) {
            best = value;
        }
    }
    Ok(best.clone())
}

fn greatest<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    extreme(args, Ordering::Greater)
}

fn least<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    extreme(args, Ordering::Less)
}
