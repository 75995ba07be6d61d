//! Many like requests at once, carefully: one, then two, four, … as long as all go well.

use std::future::Future;

use futures::future::join_all;

/// Calls `request` `count` times in groups that double; stops after the first group with a failure. How many went well,
/// and the first failure.
///
/// Requests that would all fail for one reason (a quota, an admission rule) thus fail once, not five hundred times.
pub(crate) async fn slow_start<E, F: Future<Output = Result<(), E>>>(
    count: usize,
    request: impl Fn() -> F,
) -> (usize, Option<E>) {
    let (mut done, mut size) = (0, 1);
    while done < count {
        let group = join_all((0..size.min(count - done)).map(|_| request())).await;
        let mut failure = None;
        for result in group {
            match result {
                Ok(()) => done += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if failure.is_some() {
            return (done, failure);
        }
        size *= 2;
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn a_failure_ends_it_early() {
        for (count, fails_at, want) in [(0, 99, (0, 0)), (5, 99, (5, 5)), (100, 0, (1, 0)), (100, 4, (7, 6))] {
            let calls = Cell::new(0);
            let (done, failure) = slow_start(count, || {
                let n = calls.replace(calls.get() + 1);
                async move { if n == fails_at { Err(()) } else { Ok(()) } }
            })
            .await;
            assert_eq!((calls.get(), done), want);
            assert_eq!(failure.is_some(), fails_at < count);
        }
    }
}
