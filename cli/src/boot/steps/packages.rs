//! What the distribution gives: etcd, the runtime, runc, CNI plugins, packet filter tools.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::boot::context::Context;
use crate::boot::ledger::Effect;
use crate::boot::plan::Check;

const DIRECTORIES: &[&str] =
    &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/cni", "/opt/cni/bin"];

/// A program and Debian's package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("runc", "runc"),
    ("bridge", "containernetworking-plugins"),
    ("host-local", "containernetworking-plugins"),
    ("portmap", "containernetworking-plugins"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("mount", "mount"),
];

pub(super) async fn check(context: &Context) -> Result<Check> {
    let missing = missing(context);
    Ok(Check::of(missing.into_iter().map(|package| format!("{package} is missing")).collect()))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    let missing = missing(context);
    if find("apt-get").is_none() {
        bail!(
            "this distribution has no apt-get; install what has the contents of Debian's {} and run kctl init again",
            missing.join(", ")
        );
    }
    context.note(Effect::Packages { names: missing.iter().map(|p| (*p).to_owned()).collect() })?;
    let install = || apt(&["install", "--yes", "--no-install-recommends"], &missing);
    if install().await.is_err() {
        // The lists may be old or absent.
        apt(&["update"], &[]).await?;
        install().await?;
    }
    Ok(())
}

fn missing(context: &Context) -> Vec<&'static str> {
    let runtime = (context.runtime.unit().trim_end_matches(".service"), context.runtime.package());
    let mut missing: Vec<&str> = Vec::new();
    let etcd = context.cluster.etcd_binary.is_none().then_some(("etcd", "etcd-server"));
    for (program, package) in PROGRAMS.iter().copied().chain([runtime]).chain(etcd) {
        if find(program).is_none() && !missing.contains(&package) {
            missing.push(package);
        }
    }
    missing
}

pub(super) fn find(program: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(program)).find(|path| path.is_file())
}

async fn apt(arguments: &[&str], packages: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "Dpkg::Options::=--force-confold"])
        .args(arguments)
        .args(packages)
        .stdin(Stdio::null())
        .output()
        .await
        .context("running apt-get")?;
    if !output.status.success() {
        bail!("apt-get {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
