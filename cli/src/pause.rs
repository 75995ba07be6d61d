//! The program of a pod's sandbox: it holds the pod's namespaces, reaps orphans, and ends when told to.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

pub fn main() -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return ExitCode::FAILURE };
    runtime.block_on(async {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::child()));
        let (Ok(mut term), Ok(mut int), Ok(mut child)) = signals else { return ExitCode::FAILURE };
        loop {
            tokio::select! {
                _ = term.recv() => return ExitCode::SUCCESS,
                _ = int.recv() => return ExitCode::SUCCESS,
                _ = child.recv() => reap(),
            }
        }
    })
}

/// With a shared process namespace, this is process 1: what others leave behind is its to wait for.
fn reap() {
    use rustix::process::{WaitOptions, wait};
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}
