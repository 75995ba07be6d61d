//! `matchConditions`: CEL expressions that must all hold for a webhook or policy to be asked.

use cel::{Bindings, Budget, MATCH_CONDITIONS_BUDGET};
use machinery::field::aggregate;
use serde_json::Value;

use super::expression::{Compiler, Expression, Names, Wanted};

/// The conditions of one webhook or policy.
#[derive(Default)]
pub struct Conditions {
    expressions: Vec<Expression>,
    failures_ignored: bool,
}

impl Conditions {
    pub fn compile(conditions: &Value, params: bool, failures_ignored: bool) -> Self {
        let names = Names { params, authorizer: true, patches: false };
        let conditions = conditions.as_array().into_iter().flatten().filter_map(|condition| condition["expression"].as_str());
        let compiler = Compiler::default();
        let expressions = conditions.map(|text| Expression::compile(&compiler, names, text, Wanted::Bool)).collect();
        Self { expressions, failures_ignored }
    }

    pub fn is_empty(&self) -> bool {
        self.expressions.is_empty()
    }

    /// Whether all hold. One that does not decides, whatever else fails.
    ///
    /// # Errors
    /// An expression that cannot be evaluated, unless failures are to be ignored: then it counts as not holding.
    pub fn hold(&self, bindings: &Bindings<'_>) -> Result<bool, String> {
        let mut budget = Budget::new(MATCH_CONDITIONS_BUDGET);
        let mut failures = Vec::new();
        for expression in &self.expressions {
            match expression.evaluate(bindings, &mut budget) {
                Ok(value) if value.as_bool() == Some(false) => return Ok(false),
                Ok(_) => {}
                Err(failure) => {
                    let exhausted = failure.exhausted;
                    failures.push(failure.message);
                    if exhausted {
                        break;
                    }
                }
            }
        }
        match failures.is_empty() {
            true => Ok(true),
            false if self.failures_ignored => Ok(false),
            false => Err(aggregate(failures)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::expression::Facts;

    #[test]
    fn all_must_hold() {
        let object = json!({"metadata": {"name": "a"}});
        let facts = Facts { object: &object, ..Facts::default() };
        let check = |expressions: &[&str], ignored: bool, expected: Result<bool, &str>| {
            let conditions: Value = expressions.iter().map(|e| json!({"name": "n", "expression": e})).collect();
            let got = Conditions::compile(&conditions, false, ignored).hold(&facts.bindings());
            match (&got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(*got, expected, "{expressions:?}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{expressions:?}: {got}"),
                _ => panic!("{expressions:?}: {got:?}, not {expected:?}"),
            }
        };
        check(&[], false, Ok(true));
        check(&["object.metadata.name == 'a'", "true"], false, Ok(true));
        check(&["true", "object.metadata.name == 'b'"], false, Ok(false));
        check(&["object.spec.x == 1"], false, Err("expression 'object.spec.x == 1' resulted in error: no such key: spec"));
        check(&["object.spec.x == 1"], true, Ok(false));
        check(&["object.spec.x == 1", "false"], false, Ok(false));
        check(&["oops("], false, Err("compilation failed"));
    }
}
