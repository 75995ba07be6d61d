//! CEL: an expression, and an object for it.

use cel::{Bindings, Budget, Environment, EvalError, PER_CALL_LIMIT, RUNTIME_BUDGET, Type, UnknownSizes, display};
use serde_json::json;

use crate::documents::{halves, value};

/// The step that finds the limit exceeded may itself have a large cost; more than one such step there is not.
const OVERDRAFT: u64 = PER_CALL_LIMIT * 100;

fn environment() -> Environment {
    Environment::new()
        .variable("self", Type::Dyn)
        .variable("object", Type::Dyn)
        .variable("oldObject", Type::Dyn)
        .variable("s", Type::String)
        .variable("i", Type::Int)
        .variable("l", Type::list(Type::Int))
        .variable("m", Type::map(Type::String, Type::String))
        .mutation()
}

pub(crate) fn run(data: &[u8]) {
    let (expression, object) = halves(data);
    let Ok(expression) = std::str::from_utf8(expression) else { return };
    let program = match environment().compile(expression) {
        Ok(program) => program,
        Err(errors) => {
            assert!(!display(&errors).is_empty());
            return;
        }
    };
    let estimate = program.estimated_cost(&UnknownSizes);
    assert!(estimate.min <= estimate.max);

    let object = value(object).unwrap_or_else(|| json!({"a": 1, "b": {"c": "x"}, "l": [1, 2.5, "3", null], "s": "h\u{e9}llo"}));
    let (list, map) = (json!([3, 1, 2]), json!({"k": "v"}));
    let mut bindings = Bindings::new();
    for name in ["self", "object", "oldObject"] {
        bindings.bind_json(name, &object);
    }
    bindings.bind_json("l", &list).bind_json("m", &map);
    let (result, cost) = program.evaluate_with_cost(&bindings, &mut Budget::new(RUNTIME_BUDGET));
    match result {
        Ok(value) => {
            assert!(cost <= PER_CALL_LIMIT, "{cost}");
            let _ = value.to_json();
        }
        Err(error) => {
            assert!(error == EvalError::CostLimit || cost <= OVERDRAFT);
            assert!(!error.to_string().is_empty());
        }
    }
}
