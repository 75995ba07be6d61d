//! Everything that `kctl` does with a cluster through its API: one file per command.

use std::process::ExitCode;

use crate::kube::{Globals, Result, Session};

mod get;

#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    Get(get::GetArgs),
}

/// Runs a command to its end and prints its error.
pub fn main(command: Command, globals: &Globals) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return crate::kube::Error::message(error.to_string()).report(),
    };
    match runtime.block_on(run(command, globals)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

async fn run(command: Command, globals: &Globals) -> Result<()> {
    let session = Session::new(globals)?;
    match command {
        Command::Get(args) => get::run(args, &session).await,
    }
}
