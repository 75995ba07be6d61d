//! Tables of expressions with upstream's answers, and what must never happen.

mod answers;
mod bound;
mod noise;
mod policies;
mod schemas;

use serde_json::Value as Json;

use crate::{Bindings, Budget, Environment, EvalError, PER_CALL_LIMIT, Type};

/// The environment of the tables: one dynamic variable and some that have types.
fn environment() -> Environment {
    Environment::new()
        .variable("self", Type::Dyn)
        .variable("object", Type::Dyn)
        .variable("oldObject", Type::Dyn)
        .variable("params", Type::Dyn)
        .variable("s", Type::String)
        .variable("i", Type::Int)
        .variable("l", Type::list(Type::Int))
        .variable("ls", Type::list(Type::String))
        .variable("m", Type::map(Type::String, Type::String))
        .variable("mm", Type::map(Type::String, Type::Dyn))
}

/// The value of an expression in an environment without variables, as JSON.
fn value(env: &Environment, expression: &str) -> Result<Json, EvalError> {
    let program = env.compile(expression).unwrap_or_else(|e| panic!("{expression}: {}", crate::display(&e)));
    program.evaluate(&Bindings::new(), &mut Budget::new(PER_CALL_LIMIT)).and_then(|v| v.to_json())
}
