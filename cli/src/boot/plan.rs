//! A plan: steps in a dependency graph. A step that is done already is not done again.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

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

type CheckFn<C> = for<'a> fn(&'a C) -> BoxFuture<'a, Result<Check>>;
type ApplyFn<C> = for<'a> fn(&'a C) -> BoxFuture<'a, Result<()>>;

/// What a step that is applied does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Changes,
    /// Only waits for what others do: having waited is not a change.
    Waits,
}

/// One step on a host that `C` gives access to. Its undo is what the ledger notes while it is applied.
pub(crate) struct Step<C> {
    pub(crate) name: &'static str,
    /// Steps that must be done before.
    pub(crate) needs: &'static [&'static str],
    /// One line for people.
    pub(crate) what: &'static str,
    /// Whose last words explain a failure.
    pub(crate) component: Option<Component>,
    pub(crate) kind: Kind,
    pub(crate) check: CheckFn<C>,
    pub(crate) apply: ApplyFn<C>,
}

/// The state of one step, as progress is told.
pub(crate) enum Event<'a, C> {
    Started {
        step: &'a Step<C>,
        reason: String,
    },
    /// `changed` is false when nothing had to be done.
    Finished {
        step: &'a Step<C>,
        changed: bool,
        elapsed: Duration,
    },
    Failed {
        step: &'a Step<C>,
    },
}

pub(crate) struct Failure<'a, C> {
    pub(crate) step: &'a Step<C>,
    pub(crate) error: anyhow::Error,
}

/// Indexes of the steps in an order in which all needs come first.
///
/// # Panics
/// When the table itself is wrong: a cycle or an unknown name. A test runs this on the real table.
pub(crate) fn order<C>(steps: &[Step<C>]) -> Vec<usize> {
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
pub(crate) async fn run<'a, C>(
    steps: &'a [Step<C>],
    context: &C,
    tell: &(dyn Fn(Event<'a, C>) + Sync),
) -> Result<usize, Vec<Failure<'a, C>>> {
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
                changed += usize::from(did && step.kind == Kind::Changes);
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

async fn run_step<'a, C>(step: &'a Step<C>, context: &C, tell: &(dyn Fn(Event<'a, C>) + Sync)) -> Result<bool> {
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

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// A host that remembers what was applied.
    #[derive(Default)]
    struct Host(Mutex<Vec<&'static str>>);

    impl Host {
        fn applied(&self) -> Vec<&'static str> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        fn apply(&self, name: &'static str) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        }

        fn check(&self, name: &'static str) -> Check {
            if self.applied().contains(&name) { Check::Done } else { Check::Todo("not yet".to_owned()) }
        }
    }

    macro_rules! step {
        ($name:literal, [$($need:literal),*], $apply:expr) => {
            Step::<Host> {
                name: $name,
                needs: &[$($need),*],
                what: "",
                component: None,
                kind: Kind::Changes,
                check: |host| Box::pin(async move { Ok(host.check($name)) }),
                apply: $apply,
            }
        };
        ($name:literal, [$($need:literal),*]) => {
            step!($name, [$($need),*], |host| Box::pin(async move { host.apply($name); Ok(()) }))
        };
    }

    #[tokio::test]
    async fn needs_come_first_and_a_second_run_changes_nothing() {
        let steps = [step!("c", ["b", "a"]), step!("b", ["a"]), step!("a", [])];
        let host = Host::default();
        assert_eq!(run(&steps, &host, &|_| ()).await.ok(), Some(3));
        assert_eq!(host.applied(), ["a", "b", "c"]);
        assert_eq!(run(&steps, &host, &|_| ()).await.ok(), Some(0));
    }

    #[tokio::test]
    async fn a_failure_keeps_what_needs_it_and_a_later_run_goes_on() {
        let fails = step!("b", ["a"], |_| Box::pin(async { anyhow::bail!("no") }));
        let host = Host::default();
        let steps = [step!("a", []), fails, step!("c", ["b"])];
        let failures = run(&steps, &host, &|_| ()).await.err().unwrap_or_default();
        assert_eq!(failures.iter().map(|f| f.step.name).collect::<Vec<_>>(), ["b"]);
        assert_eq!(host.applied(), ["a"]);
        let steps = [step!("a", []), step!("b", ["a"]), step!("c", ["b"])];
        assert_eq!(run(&steps, &host, &|_| ()).await.ok(), Some(2));
    }

    #[tokio::test]
    async fn what_was_applied_must_have_had_an_effect() {
        let steps = [step!("a", [], |_| Box::pin(async { Ok(()) }))];
        let failures = run(&steps, &Host::default(), &|_| ()).await.err().unwrap_or_default();
        assert!(failures[0].error.to_string().contains("not yet"));
    }

    #[test]
    #[should_panic(expected = "cycle")]
    fn a_cycle_is_noticed() {
        order(&[step!("a", ["b"]), step!("b", ["a"])]);
    }
}
