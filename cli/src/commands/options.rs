//! `kctl options`: the flags that every command takes.

use clap::{Args, Command};

use crate::kube::Globals;

/// Lists the flags that every command takes
#[derive(Args, Clone, Debug)]
pub struct OptionsArgs {}

pub fn run() {
    println!("The following options can be passed to any command:\n");
    print!("{}", text(&Globals::augment_args(Command::new("kctl"))));
}

fn text(command: &Command) -> String {
    let mut out = String::new();
    for argument in command.get_arguments() {
        let Some(long) = argument.get_long() else { continue };
        let short = argument.get_short().map_or_else(String::new, |short| format!("-{short}, "));
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        out += &format!("    {short}--{long}=:\n\t{help}\n\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_global_flag_is_listed() {
        let text = text(&Globals::augment_args(Command::new("kctl")));
        assert!(text.contains("    -n, --namespace=:\n\tThe namespace of this request\n"), "{text}");
        assert!(text.contains("    --kubeconfig=:\n"));
    }
}
