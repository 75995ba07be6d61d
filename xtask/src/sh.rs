//! Running programs, with what is run told first.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    // This crate lies one directory below it.
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// Where cargo puts programs.
pub(crate) fn programs() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("x86_64-unknown-linux-gnu/debug")
}

pub(crate) fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[S]) -> Result<()> {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).current_dir(root());
    let line = format!("{command:?}").replace('"', "");
    eprintln!("+ {line}");
    let status = command.status().with_context(|| format!("starting {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}
