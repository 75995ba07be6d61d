//! The developer's one list of commands: `cargo xtask COMMAND`.

mod gen_grpc;
mod gen_schema;
mod setup;
mod sh;
mod test;
mod up;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer's one list of commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(up::Args),
    Test(test::Args),
    GenGrpc(gen_grpc::Args),
    GenSchema(gen_schema::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Up(args) => up::run_up(&args),
        Command::Test(args) => test::run_test(&args),
        Command::GenGrpc(args) => gen_grpc::run(&args),
        Command::GenSchema(args) => gen_schema::run(args),
    }
}
