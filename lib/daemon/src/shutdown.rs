//! The token that tells every part of a daemon to end, and the signals that set it off.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A cheap clone of one daemon-wide "please end".
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A token that only [`Shutdown::trigger`] sets off: for tests and in-process use.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that SIGTERM and SIGINT set off; a second signal ends the process at once with 128 + its number.
    pub fn on_signals() -> Self {
        let shutdown = Self::new();
        let this = shutdown.clone();
        tokio::spawn(async move {
            let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
                tracing::warn!("signals can't be handled: the default actions stay");
                return;
            };
            loop {
                let number = tokio::select! { _ = term.recv() => 15, _ = int.recv() => 2 };
                if this.token.is_cancelled() {
                    std::process::exit(128 + number);
                }
                tracing::info!(signal = number, "shutting down");
                this.trigger();
            }
        });
        shutdown
    }

    /// Tells everyone to end.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Returns when the daemon is to end.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// A token of its own that also ends with this one.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }
}
