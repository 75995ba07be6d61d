//! `kctl plugin list`, and plugins themselves: programs named `kubectl-NAME` (or `kctl-NAME`) in PATH.

use std::{
    ffi::OsString,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use crate::kube::{Error, Result};

const PREFIXES: [&str; 2] = ["kctl-", "kubectl-"];

/// Shows programs that are commands too: kubectl-NAME or kctl-NAME in PATH
#[derive(Args, Clone, Debug)]
pub struct PluginArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Lists them
    List {
        /// Only their names
        #[arg(long)]
        name_only: bool,
    },
}

pub fn run(args: PluginArgs) -> Result<()> {
    let What::List { name_only } = args.what;
    let found = installed();
    if found.is_empty() {
        return Err(Error::message("unable to find any kctl plugins in your PATH"));
    }
    println!("The following compatible plugins are available:\n");
    for path in found {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("{}", if name_only { name } else { path.display().to_string() });
    }
    Ok(())
}

fn directories() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn installed() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in directories() {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let named = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        found.extend(paths.into_iter().filter(|path| named(path) && is_program(path)));
    }
    found
}

/// Becomes the plugin that the words name, if there is one; the longest name wins. Returns only if there is none, or it
/// can't be started.
pub fn become_plugin(words: &[OsString]) -> Option<std::io::Error> {
    let names: Vec<String> = words
        .iter()
        .map_while(|word| word.to_str().filter(|word| !word.starts_with('-') && !word.contains('/')))
        .map(|word| word.replace('-', "_"))
        .collect();
    for count in (1..=names.len()).rev() {
        let name = names[..count].join("-");
        for directory in directories() {
            let found = PREFIXES.iter().map(|prefix| directory.join(format!("{prefix}{name}"))).find(|path| is_program(path));
            if let Some(path) = found {
                return Some(std::process::Command::new(path).args(&words[count..]).exec());
            }
        }
    }
    None
}
