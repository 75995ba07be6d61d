//! The developer's one list of commands: `cargo xtask COMMAND`.

mod gen_cri;
mod gen_schema;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer's one list of commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    GenCri(gen_cri::Args),
    GenSchema(gen_schema::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::GenCri(args) => gen_cri::run(args),
        Command::GenSchema(args) => gen_schema::run(args),
    }
}
