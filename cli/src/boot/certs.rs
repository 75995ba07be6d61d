//! `kctl certs`: when certificates end, and their renewal (what `kctl-certs.timer` runs every day).

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::certificates::{self, Facts};
use super::cluster::Cluster;
use super::context::Context;
use super::{node, paths, steps};

/// The cluster's certificates.
#[derive(Args, Debug)]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List certificates and when they end.
    Ls,
    /// Renew those whose life is two thirds over; daemons take the new ones without a restart.
    Renew,
}

pub(crate) async fn run(args: CertsArgs) -> Result<ExitCode> {
    match args.command {
        Command::Ls => {
            for (path, end) in certificates::expiries() {
                let end = end.map_or_else(|| "can't be read".to_owned(), |end| end.strftime("%Y-%m-%d").to_string());
                println!("{end:<12} {}", path.display());
            }
        }
        Command::Renew => {
            let cluster = Cluster::read(paths::CLUSTER_FILE.as_ref()).context("this host has no cluster made by kctl")?;
            let name = node::name(&cluster).map_err(anyhow::Error::msg)?;
            let address = node::address(&cluster).map_err(anyhow::Error::msg)?;
            let context = Context::new(cluster, name, address).await?;
            let written = certificates::ensure(&context, &Facts::of(&context)?, Timestamp::now())?;
            steps::write_kubeconfigs(&context)?;
            for path in &written {
                println!("renewed {}", path.display());
            }
            if written.is_empty() {
                println!("no certificate is due");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
