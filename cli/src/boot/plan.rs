//! A plan: steps in a dependency graph. A step that is done already is not done again.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use super::context::Context;
use super::diagnose::Component;

/// What a step's check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Done,
    /// Why it is not done: shown by `--dry-run`.
    Todo(String),
}

impl Check {
    /// Done when there is nothing to say.
    pub(crate) fn of(reasons: Vec<String>) -> Self {
        if reasons.is_empty() { Self::Done } else { Self::Todo(reasons.join(", ")) }
    }
}

type CheckFn = for<'a> fn(&'a Context) -> BoxFuture<'a, Result<Check>>;
type ApplyFn = for<'a> fn(&'a Context) -> BoxFuture<'a, Result<()>>;

/// One step. Its undo is what the ledger notes while it is applied.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// Steps that must be done before.
    pub(crate) needs: &'static [&'static str],
    /// One line for people.
    pub(crate) what: &'static str,
    /// Whose last words explain a failure.
    pub(crate) component: Option<Component>,
    pub(crate) check: CheckFn,
    pub(crate) apply: ApplyFn,
}

/// The state of one step, as progress is told.
pub(crate) enum Event<'a> {
    Started {
        step: &'a Step,
        reason: String,
    },
    /// `changed` is false when nothing had to be done.
    Finished {
        step: &'a Step,
        changed: bool,
        elapsed: Duration,
    },
    Failed {
        step: &'a Step,
    },
}

pub(crate) struct Failure<'a> {
    pub(crate) step: &'a Step,
    pub(crate) error: anyhow::Error,
}

/// Indexes of the steps in an order in which all needs come first.
///
/// # Panics
/// When the table itself is wrong: a cycle or an unknown name. A test runs this on the real table.
pub(crate) fn order(steps: &[Step]) -> Vec<usize> {
    let mut order = Vec::with_capacity(steps.len());
    while order.len() < steps.len() {
        let before = order.len();
        for (index, step) in steps.iter().enumerate() {
            let ready = step.needs.iter().all(|need| order.iter().any(|i: &usize| steps[*i].name == *need));
            if ready && !order.contains(&index) {
                order.push(index);
            }
        }
        assert!(order.len() > before, "the steps' needs form a cycle or name a step that is not there");
    }
    order
}

/// Runs all steps, each as soon as its needs are done. After a failure no further step begins; those that run end.
/// Returns how many steps changed something.
pub(crate) async fn run<'a>(
    steps: &'a [Step],
    context: &Context,
    tell: &(dyn Fn(Event<'a>) + Sync),
) -> Result<usize, Vec<Failure<'a>>> {
    let (mut waiting, mut done, mut changed) = (order(steps), Vec::new(), 0);
    let (mut running, mut failures) = (FuturesUnordered::new(), Vec::new());
    loop {
        if failures.is_empty() {
            waiting.retain(|index| {
                let step = &steps[*index];
                let ready = step.needs.iter().all(|need| done.contains(need));
                if ready {
                    running.push(run_step(step, context, tell).map(move |result| (step, result)));
                }
                !ready
            });
        }
        match running.next().await {
            Some((step, Ok(did))) => {
                done.push(step.name);
                changed += usize::from(did);
            }
            Some((step, Err(error))) => {
                tell(Event::Failed { step });
                failures.push(Failure { step, error });
            }
            None => break,
        }
    }
    if failures.is_empty() { Ok(changed) } else { Err(failures) }
}

async fn run_step<'a>(step: &'a Step, context: &Context, tell: &(dyn Fn(Event<'a>) + Sync)) -> Result<bool> {
    let begin = Instant::now();
    let reason = match (step.check)(context).await? {
        Check::Done => {
            tell(Event::Finished { step, changed: false, elapsed: begin.elapsed() });
            return Ok(false);
        }
        Check::Todo(reason) => reason,
    };
    tell(Event::Started { step, reason });
    (step.apply)(context).await?;
    if let Check::Todo(reason) = (step.check)(context).await? {
        anyhow::bail!("it was done, but is not as it should be: {reason}");
    }
    tell(Event::Finished { step, changed: true, elapsed: begin.elapsed() });
    Ok(true)
}
