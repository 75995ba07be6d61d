//! Waiting for what others do.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_millis(250);

/// Asks until there is nothing more to wait for. `look` says what is awaited, None when it is there.
pub(super) async fn until<F, R>(what: &str, limit: Duration, mut look: F) -> Result<()>
where
    F: FnMut() -> R,
    R: Future<Output = Result<Option<String>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let waiting_for = match look().await {
            Ok(None) => return Ok(()),
            Ok(Some(reason)) => reason,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("{what} took more than {} s; it still waited for: {waiting_for}", limit.as_secs());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
