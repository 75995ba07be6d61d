//! What the macros over two variables make maps with.

use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("cel.@mapInsert", "@mapInsert_map_key_value", "(map(A, B), A, B) -> map(A, B)", Cost::Unit, insert),
    row("cel.@mapInsert", "@mapInsert_map_map", "(map(A, B), map(A, B)) -> map(A, B)", Cost::Unit, insert),
];

fn insert<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let Some(Value::Map(map)) = args.first() else { return Err(EvalError::no_overload()) };
    let mut map = map.clone();
    match &args[1..] {
        [key, value] => map.insert(Key::from_value(key).ok_or_else(EvalError::no_overload)?, value.clone())?,
        [Value::Map(more)] => {
            meter.work(more.len())?;
            for (key, value) in more.entries()? {
                map.insert(key, value)?;
            }
        }
        _ => return Err(EvalError::no_overload()),
    }
    Ok(Value::Map(map))
}
