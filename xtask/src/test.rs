//! `cargo xtask test`: everything that must hold, in the order of what fails fastest.

use anyhow::Result;

use crate::setup;
use crate::sh::{cargo, programs, run};

/// Formatting, lints, unit and integration tests (with a real etcd), command lines, end-to-end tests on a host with systemd.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the end-to-end tests out.
    #[arg(long)]
    no_e2e: bool,
    /// Scenarios of the end-to-end tests; all when none is named.
    scenarios: Vec<String>,
}

pub(crate) fn run_test(args: &Args) -> Result<()> {
    setup::packages()?;
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    cargo(&["test", "--workspace"])?;
    cargo(&["build", "--package", "kctl", "--package", "kctl-tests", "--package", "kube-rs-client"])?;
    run(programs().join("commands"), &[] as &[&str])?;
    if args.no_e2e {
        return Ok(());
    }
    run(programs().join("e2e"), &args.scenarios)
}
