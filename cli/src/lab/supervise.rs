//! The process that keeps one host running: mounts its disk, starts nspawn, starts it again when the host reboots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;
use rustix::mount::MountFlags;

use super::cgroup;
use super::node::Node;
use super::state::Lab;

/// nspawn's exit code when the host asked for a reboot.
const REBOOT: i32 = 133;

/// Runs in a mount namespace of its own.
pub(super) fn run(lab: &Lab, name: &str) -> Result<ExitCode> {
    let node = lab.node(name)?;
    let bridge = lab.network()?.bridge;
    let lock = fs::File::create(node.lock_path())?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).context("another supervisor runs this host")?;
    let _ = rustix::process::setsid();
    let cgroups = cgroup::directories(&lab.name, name)?;
    fs::write(node.directory.join("cgroups.json"), serde_json::to_vec(&cgroups)?)?;
    cgroup::enter(&cgroups)?;
    let root = mount(&node)?;
    configure(&node, lab, &root)?;
    loop {
        let mut child = nspawn(&node, &bridge, &root)?.spawn().context("running systemd-nspawn (package systemd-container)")?;
        fs::write(node.pid_path(), child.id().to_string())?;
        if child.wait()?.code() != Some(REBOOT) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn mount(node: &Node) -> Result<PathBuf> {
    let root = node.directory.join("merged");
    let base = PathBuf::from(fs::read_to_string(node.directory.join("base"))?);
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        base.display(),
        node.directory.join("upper").display(),
        node.directory.join("work").display()
    );
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("overlay", &root, "overlay", MountFlags::empty(), options.as_c_str())
        .context("mounting the host's disk")?;
    Ok(root)
}

/// What differs from host to host.
fn configure(node: &Node, lab: &Lab, root: &Path) -> Result<()> {
    let gateway = lab.network()?.gateway();
    fs::write(root.join("etc/hostname"), format!("{}\n", node.name))?;
    fs::write(root.join("etc/hosts"), format!("127.0.0.1 localhost\n{} {}\n", node.address, node.name))?;
    let network = format!("[Match]\nName=host0\n[Network]\nAddress={}/24\nGateway={gateway}\n", node.address);
    fs::create_dir_all(root.join("etc/systemd/network"))?;
    fs::write(root.join("etc/systemd/network/10-lab.network"), network)?;
    if let Ok(resolv) = fs::read("/etc/resolv.conf") {
        let _ = fs::remove_file(root.join("etc/resolv.conf"));
        fs::write(root.join("etc/resolv.conf"), resolv)?;
    }
    Ok(())
}

fn nspawn(node: &Node, bridge: &str, root: &Path) -> Result<Command> {
    // Overlayfs can't have its upper layer on an overlay: what stacks layers itself gets directories of the real disk.
    let bind = |from: &str, to: &str| format!("--bind={}:{to}", node.directory.join(from).display());
    let mut command = Command::new("systemd-nspawn");
    command
        .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "yes")
        .args(["--quiet", "--boot", "--register=no", "--keep-unit", "--private-users=no", "--capability=all"])
        .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only"])
        .arg("--system-call-filter=add_key keyctl bpf perf_event_open")
        .arg(format!("--machine={}-{}", node.lab, node.name))
        .arg(format!("--hostname={}", node.name))
        .arg(format!("--network-bridge={bridge}"))
        .arg("--directory")
        .arg(root)
        .arg(bind("containerd", "/var/lib/containerd"))
        .arg(bind("containers", "/var/lib/containers"))
        .arg(format!("--bind-ro={}:/usr/local/bin/kctl", node.program_path().display()));
    Ok(command)
}
