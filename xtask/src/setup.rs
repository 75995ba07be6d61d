//! What the commands need on this machine: Debian packages, installed when they are missing.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::sh::run;

/// A package, and the program, or the file, that shows it is there.
const PACKAGES: &[(&str, &str)] = &[
    // etcd-client's build reads etcd's protocol definitions, and what these import.
    ("protobuf-compiler", "protoc"),
    ("libprotobuf-dev", "/usr/include/google/protobuf/descriptor.proto"),
    ("gcc", "cc"),
    ("etcd-server", "etcd"),
    ("systemd-container", "systemd-nspawn"),
    ("mmdebstrap", "mmdebstrap"),
    ("iproute2", "ip"),
    ("nftables", "nft"),
    ("util-linux", "nsenter"),
    ("bsdutils", "script"),
    ("python3-venv", "python3"),
];

fn there(program: &str) -> bool {
    if program.starts_with('/') {
        return std::path::Path::new(program).exists();
    }
    // sbin is not on every user's path.
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| std::path::Path::new(dir).join(program).exists())
}

/// Installs what is missing; needs root only then.
pub(crate) fn packages() -> Result<()> {
    let missing: Vec<&str> = PACKAGES.iter().filter(|(_, program)| !there(program)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = Command::new("apt-get").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !apt {
        bail!("these packages are missing, by their Debian names: {}", missing.join(" "));
    }
    run("apt-get", &["-qq", "update"])?;
    let mut arguments = vec!["-qq", "install", "--yes", "--no-install-recommends"];
    arguments.extend(missing);
    // Package scripts must neither ask nor start services.
    let environment = ["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"];
    run("env", &[&environment[..], &arguments[..]].concat())
}
