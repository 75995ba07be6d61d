//! `cargo xtask up`: from a clean clone to a cluster that runs a workload.

use anyhow::Result;

use crate::setup;
use crate::sh::{cargo, programs, run};

/// Build kctl, boot a host with systemd, run `kctl init` in it, apply an example and ask it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The lab that the host belongs to.
    #[arg(long, default_value = "lab")]
    name: String,
}

pub(crate) fn run_up(args: &Args) -> Result<()> {
    setup::packages()?;
    cargo(&["build", "--package", "kctl", "--package", "kctl-tests"])?;
    run(programs().join("demo"), &["--lab", &args.name])
}
