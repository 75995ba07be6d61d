//! `kctl lab`: throw-away Linux hosts with real systemd on this machine, for trying things and for end-to-end tests.
//!
//! A host is a systemd-nspawn container: an overlay over one shared root file system made by mmdebstrap, its own network
//! namespace on a private bridge, its own cgroups. All mounts live in the mount namespace of the host's supervisor, so
//! that they vanish with it; [`down`] leaves no process, mount, interface or rule.

mod base;
mod cgroup;
mod network;
mod node;
mod state;
mod supervise;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use self::node::Node;
use self::state::Lab;

/// Throw-away Linux hosts with systemd (systemd-nspawn).
#[derive(Args, Debug)]
pub(crate) struct LabArgs {
    /// Several labs can exist side by side.
    #[arg(long, global = true, default_value = "lab", value_name = "LAB")]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot hosts; those that run already are left alone.
    Up {
        /// How many hosts the lab shall have.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
        nodes: u8,
    },
    /// List the hosts.
    Ls,
    /// Run a command in a host; its exit code is returned.
    Exec {
        node: String,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Open a shell in a host.
    Shell { node: String },
    /// Put an OCI archive into the container runtime of each host.
    Load { image: std::path::PathBuf },
    /// Reboot a host and wait until it is up again.
    Reboot { node: String },
    /// Switch a host off at once, as if its power failed; its disk stays.
    Kill { node: String },
    /// Remove all hosts, their disks and the network.
    Down,
    /// Also remove the kept root file systems.
    Clean,
    /// What runs a host until it is switched off (started by `up`).
    #[command(hide = true)]
    Supervise { node: String },
}

pub(crate) fn run(args: LabArgs) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("kctl lab needs root: it makes namespaces, a bridge and mounts");
    }
    let lab = Lab::named(&args.name)?;
    match args.command {
        Command::Up { nodes } => up(&lab, nodes)?,
        Command::Ls => ls(&lab)?,
        Command::Exec { node, command } => return lab.node(&node)?.exec(&command),
        Command::Shell { node } => return lab.node(&node)?.exec(&["/bin/bash".into(), "-l".into()]),
        Command::Load { image } => load(&lab, &image)?,
        Command::Reboot { node } => lab.node(&node)?.reboot()?,
        Command::Kill { node } => lab.node(&node)?.kill()?,
        Command::Down => down(&lab)?,
        Command::Clean => {
            down(&lab)?;
            base::remove_all()?;
        }
        Command::Supervise { node } => return supervise::run(&lab, &node),
    }
    Ok(ExitCode::SUCCESS)
}

fn up(lab: &Lab, count: u8) -> Result<()> {
    let root = base::ensure()?;
    let network = lab.network()?;
    network.up().context("making the lab's network")?;
    let mut started = Vec::new();
    for number in 1..=count {
        let node = lab.create_node(number, &network)?;
        if node.leader().is_none() {
            node.start(&root)?;
            started.push(node);
        }
    }
    for node in &started {
        node.wait_booted()?;
        eprintln!("{} is up: {}", node.name, node.address);
    }
    if started.is_empty() {
        eprintln!("all {count} hosts are up already");
    }
    Ok(())
}

fn ls(lab: &Lab) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "NAME   ADDRESS         STATE")?;
    for node in lab.nodes()? {
        let state = if node.leader().is_some() { "running" } else { "off" };
        writeln!(out, "{:<6} {:<15} {state}", node.name, node.address)?;
    }
    Ok(())
}

fn load(lab: &Lab, image: &std::path::Path) -> Result<()> {
    let running: Vec<Node> = lab.nodes()?.into_iter().filter(|n| n.leader().is_some()).collect();
    if running.is_empty() {
        bail!("no host of the lab runs: kctl lab up");
    }
    for node in running {
        let file = std::fs::File::open(image).with_context(|| format!("opening {}", image.display()))?;
        let status = node.command(&["kctl", "image", "load", "-"])?.stdin(file).status()?;
        if !status.success() {
            bail!("loading {} into {} failed", image.display(), node.name);
        }
    }
    Ok(())
}

fn down(lab: &Lab) -> Result<()> {
    let mut problems = Vec::new();
    for node in lab.nodes()? {
        if let Err(error) = node.remove() {
            problems.push(format!("{}: {error:#}", node.name));
        }
    }
    if problems.is_empty() {
        lab.network()?.down()?;
        lab.remove()?;
        return Ok(());
    }
    bail!("some hosts could not be removed:\n  {}", problems.join("\n  "))
}
