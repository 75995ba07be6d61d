//! `jsonpatch.escapeKey`.

use super::prelude::*;

pub(crate) const ROWS: &[Row] =
    &[row("jsonpatch.escapeKey", "string_jsonpatch_escapeKey_string", "(string) -> string", Cost::Transform, escape_key)];

fn escape_key<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s)] = args else { return Err(EvalError::no_overload()) };
    Ok(Value::string(s.replace('~', "~0").replace('/', "~1")))
}
