//! A compiled expression.

use std::fmt;
use std::sync::Arc;

use crate::ast::{Expr, Id, Literal};
use crate::bindings::Bindings;
use crate::budget::{Budget, Meter, PER_CALL_LIMIT};
use crate::check::Checked;
use crate::cost::estimate::Estimator;
use crate::cost::{Range, Sizes};
use crate::error::{CompileError, EvalError, Source};
use crate::eval::plan::Plan;
use crate::eval::{Evaluator, plan};
use crate::types::Type;
use crate::value::Value;

/// An expression that was parsed and checked. May be shared and evaluated any number of times.
pub struct Program {
    source: Arc<str>,
    checked: Checked,
    plan: Plan,
}

impl Program {
    pub(crate) fn new(source: Source, checked: Checked) -> Result<Self, Vec<CompileError>> {
        let plan = plan::plan(&checked).map_err(|(id, message)| vec![source.error(checked.ast.offset(id), message)])?;
        Ok(Self { source: source.text, checked, plan })
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The type of its values.
    pub fn output_type(&self) -> &Type {
        &self.checked.types[self.checked.ast.root as usize]
    }

    /// What an evaluation can cost, where things are as large as `sizes` says.
    pub fn estimated_cost(&self, sizes: &dyn Sizes) -> Range {
        Estimator::cost(&self.checked, sizes)
    }

    /// True when the expression names the variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.checked.meanings.iter().any(|m| matches!(m, crate::check::Meaning::Variable(name) if name.as_ref() == variable))
    }

    /// True when the expression asks for that field, of whatever.
    pub fn selects(&self, field: &str) -> bool {
        self.selections().any(|(_, name)| name == field)
    }

    /// True when the expression asks for that field of a variable itself.
    pub fn selects_of(&self, variable: &str, field: &str) -> bool {
        self.selections().any(|(operand, name)| {
            name == field && matches!(self.checked.ast.expr(operand), Expr::Ident(name) if name.as_ref() == variable)
        })
    }

    /// `a.b`, `has(a.b)` and `a.?b`: what is asked, and for which field.
    fn selections(&self) -> impl Iterator<Item = (Id, &str)> {
        self.checked.ast.nodes.iter().filter_map(|node| match &node.expr {
            Expr::Select { operand, field, .. } => Some((*operand, field.as_ref())),
            Expr::Call { function, args, .. } if function.as_ref() == "_?._" => match args.as_slice() {
                [operand, field] => match self.checked.ast.expr(*field) {
                    Expr::Literal(Literal::String(field)) => Some((*operand, field.as_ref())),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
    }

    /// Evaluates the expression; the cost is taken off the budget.
    ///
    /// # Errors
    /// [`EvalError::Failed`] as upstream words it; [`EvalError::CostLimit`] when this evaluation costs more than
    /// [`PER_CALL_LIMIT`]; [`EvalError::BudgetExhausted`] when it costs more than is left.
    pub fn evaluate<'a>(&self, bindings: &Bindings<'a>, budget: &mut Budget) -> Result<Value<'a>, EvalError> {
        self.evaluate_within(bindings, budget, 0).0
    }

    /// The same, with the cost that it had.
    pub fn evaluate_with_cost<'a>(&self, bindings: &Bindings<'a>, budget: &mut Budget) -> (Result<Value<'a>, EvalError>, u64) {
        self.evaluate_within(bindings, budget, 0)
    }

    pub(crate) fn evaluate_within<'a>(
        &self,
        bindings: &Bindings<'a>,
        budget: &mut Budget,
        depth: u32,
    ) -> (Result<Value<'a>, EvalError>, u64) {
        let mut meter = Meter::new(PER_CALL_LIMIT);
        let mut evaluator = Evaluator::new(&self.checked, &self.plan, bindings, &mut meter, budget, depth);
        let value = evaluator.eval(self.checked.ast.root);
        let cost = meter.cost;
        match (budget.charge(cost), &value) {
            (Ok(()), _) | (Err(_), Err(EvalError::CostLimit)) => (value, cost),
            (Err(exhausted), _) => (Err(exhausted), cost),
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("source", &self.source).field("output", self.output_type()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Environment, Type};

    #[test]
    fn fields_that_are_asked_for() {
        let check = |expression: &str, email: bool, of_claims: bool| {
            let environment = Environment::new().variable("claims", Type::Dyn).variable("other", Type::Dyn);
            let program = environment.compile(expression).unwrap();
            assert_eq!((program.selects("email"), program.selects_of("claims", "email")), (email, of_claims), "{expression}");
        };
        check("claims.email == 'a'", true, true);
        check("has(claims.email)", true, true);
        check("claims.?email.orValue('') == 'a'", true, true);
        check("[1].all(x, claims.email == 'a')", true, true);
        check("other.email == 'a'", true, false);
        check("claims.other.email == 'a'", true, false);
        check("claims['email'] == 'email'", false, false);
    }
}
