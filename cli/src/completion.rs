//! `kctl completion SHELL`: the script that a shell loads. It asks `kctl` itself for candidates, so that names of kinds,
//! objects, namespaces, containers and contexts come live.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::env::{EnvCompleter, Shells};

/// Print the completion script for a shell.
///
/// Load it with `source <(kctl completion bash)`, `source <(kctl completion zsh)` or `kctl completion fish | source`.
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// bash, zsh or fish
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

pub(crate) fn run(args: &CompletionArgs, command: Command) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(&script(&args.shell, &command)?)?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: &str, command: &Command) -> anyhow::Result<Vec<u8>> {
    let shells = Shells::builtins();
    let completer: &dyn EnvCompleter = shells.completer(shell).ok_or_else(|| anyhow::anyhow!("unknown shell {shell:?}"))?;
    let name = command.get_name();
    let mut script = Vec::new();
    completer.write_registration("COMPLETE", name, name, name, &mut script)?;
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run with `KCTL_UPDATE=1` to write them anew.
    #[test]
    fn the_scripts_in_completions_are_up_to_date() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../completions");
        for (shell, file) in [("bash", "kctl.bash"), ("zsh", "_kctl"), ("fish", "kctl.fish")] {
            let script = script(shell, &Command::new("kctl")).unwrap();
            let path = dir.join(file);
            if std::env::var_os("KCTL_UPDATE").is_some() {
                std::fs::write(&path, &script).unwrap();
            }
            let stored = std::fs::read(&path).unwrap_or_default();
            assert_eq!(stored, script, "{} is stale: KCTL_UPDATE=1 cargo test -p kctl", path.display());
        }
    }
}
