//! kctl: Kubernetes in one executable.
//!
//! Called by the name of a daemon it is that daemon ([`daemons`]); else it is the command line of this file.

mod boot;
mod commands;
mod completion;
mod daemons;
mod kube;
mod kuberc;
mod lab;
mod output;
mod pause;
mod switches;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Kubernetes on one host: boot a cluster, and use it.
///
/// `kctl init` makes this host a cluster; everything else is what kubectl's users expect.
#[derive(Parser)]
#[command(name = "kctl", version, disable_help_subcommand = true, max_term_width = 110)]
struct Kctl {
    #[command(flatten)]
    globals: kube::Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, and it is taken apart at once")]
enum Command {
    /// Make this host a Kubernetes cluster.
    Init(boot::InitArgs),
    /// Take back everything that init did to this host.
    Reset(boot::ResetArgs),
    /// Show the cluster's parts on this host; the exit code is its health.
    Status(boot::StatusArgs),
    /// Show and renew the cluster's certificates.
    Certs(boot::CertsArgs),
    Lab(lab::LabArgs),
    /// Put images into this host's container runtime.
    Image(boot::ImageArgs),
    Completion(completion::CompletionArgs),
    /// Run one of the daemons: kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, cluster-dns.
    Daemon {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    #[command(flatten)]
    Cluster(commands::Command),
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some((main, args)) = daemons::named_by(&words) {
        return main(args.into_iter());
    }
    end_quietly_with_the_reader();
    daemon::install_crypto();
    clap_complete::CompleteEnv::with_factory(Kctl::command).complete();
    let (words, plugins) = match kuberc::apply(words, Kctl::command) {
        Ok(applied) => applied,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut kctl = match read(&words) {
        Ok(kctl) => kctl,
        Err(error) => {
            if error.kind() == clap::error::ErrorKind::InvalidSubcommand
                && let Some(error) = commands::plugin::become_plugin(&words[1..])
            {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
            let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            match usage::message(&error, &words) {
                Some(text) => eprintln!("{text}"),
                None => drop(error.print()),
            }
            // 1 for wrong flags, as kubectl exits: scripts know 2 as something else.
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    kctl.globals.plugins = plugins;
    let result = match kctl.command {
        Command::Cluster(command) => return commands::main(command, &kctl.globals),
        Command::Daemon { name, .. } => {
            let names: Vec<&str> = daemons::DAEMONS.iter().map(|(name, _)| *name).collect();
            Err(anyhow::anyhow!("{name:?} is not a daemon: {}", names.join(", ")))
        }
        Command::Completion(args) => completion::run(&args, Kctl::command()),
        Command::Lab(args) => lab::run(args),
        Command::Init(args) => block_on(boot::init(args)),
        Command::Reset(args) => block_on(boot::reset(args)),
        Command::Status(args) => block_on(boot::status(args)),
        Command::Certs(args) => block_on(boot::certs(args)),
        Command::Image(args) => block_on(boot::image(args)),
    };
    result.unwrap_or_else(|error| {
        if error.chain().any(|cause| cause.downcast_ref().is_some_and(is_broken_pipe)) {
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The command line as Go's flags would take it.
fn read(words: &[OsString]) -> Result<Kctl, clap::Error> {
    let mut command = switches::with_values(Kctl::command());
    let mut matches = match command.try_get_matches_from_mut(words) {
        // A help text has switches as they are used.
        Err(error) if !error.use_stderr() => return Kctl::try_parse_from(words),
        outcome => outcome?,
    };
    Kctl::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Nobody reads the rest of the output: that is no error to speak of.
fn is_broken_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// `kctl get pods | head -1`, in every command: `print!` has no other way to tell that its reader is gone than a panic.
fn end_quietly_with_the_reader() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let printing = |message: &str| message.starts_with("failed printing to std") && message.contains("Broken pipe");
        if panic.payload_as_str().is_some_and(printing) {
            std::process::exit(0);
        }
        report(panic);
    }));
}

#[cfg(test)]
mod kubectl_flags;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Kctl::command().debug_assert();
        switches::with_values(Kctl::command()).debug_assert();
    }
}
