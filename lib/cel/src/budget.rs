//! What evaluation may cost, and the meter that interrupts it.

use crate::error::EvalError;

/// Most that one evaluation may cost; upstream's `PerCallLimit` (about a tenth of a second there).
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all rules of one object, or all expressions of one policy binding, may cost together.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// What the match conditions of one webhook or binding may cost together.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;
/// Elementary steps that one evaluation may do besides its cost: upstream's cost of an equality, for one, is that of the
/// shorter side whatever the depth of its elements.
const WORK_MAX: u64 = 10_000_000;

/// A cost shared by several evaluations.
#[derive(Clone, Debug)]
pub struct Budget {
    remaining: u64,
}

impl Budget {
    pub fn new(cost: u64) -> Self {
        Self { remaining: cost }
    }

    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Takes a cost off.
    ///
    /// # Errors
    /// [`EvalError::BudgetExhausted`] when there is not so much left.
    pub fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        match self.remaining.checked_sub(cost) {
            Some(rest) => {
                self.remaining = rest;
                Ok(())
            }
            None => {
                self.remaining = 0;
                Err(EvalError::BudgetExhausted)
            }
        }
    }
}

/// Counts one evaluation.
#[derive(Debug)]
pub(crate) struct Meter {
    pub cost: u64,
    limit: u64,
    work: u64,
}

impl Meter {
    pub fn new(limit: u64) -> Self {
        Self { cost: 0, limit, work: 0 }
    }

    pub fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    /// Counts steps that upstream's cost does not see.
    pub fn work(&mut self, steps: usize) -> Result<(), EvalError> {
        self.work = self.work.saturating_add(steps as u64);
        if self.work > WORK_MAX { Err(EvalError::CostLimit) } else { Ok(()) }
    }
}
