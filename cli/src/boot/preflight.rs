//! What must be right before anything is changed: every problem at once, each with what to do.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use host::process::CAP_SYS_RESOURCE;

use super::cluster::Cluster;
use super::ledger::Ledger;
use super::node;

const MEMORY_MIB_MIN: u64 = 900;
/// Port and who wants it.
const PORTS: &[(u16, &str)] = &[
    (2379, "etcd"),
    (2380, "etcd"),
    (6443, "kube-apiserver"),
    (10248, "kubelet"),
    (10249, "kube-proxy"),
    (10250, "kubelet"),
    (10256, "kube-proxy"),
    (10257, "kube-controller-manager"),
    (10259, "kube-scheduler"),
];

#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Nothing can go on with these.
    pub(crate) problems: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// systemd is not process 1 here: what to do instead, in one sentence.
pub(crate) const NO_SYSTEMD: &str = "systemd is not process 1 of this machine, and kctl init runs a cluster by systemd units: `kctl lab up` boots throw-away hosts that have it";

pub(crate) fn look(cluster: &Cluster, ledger: &Ledger) -> Findings {
    let mut findings = Findings::default();
    let problems = &mut findings.problems;
    if !rustix::process::geteuid().is_root() {
        problems.push("not root: run it with sudo".to_owned());
    }
    problems.extend(node::name(cluster).err());
    match node::address(cluster) {
        Err(problem) => problems.push(problem),
        Ok(address) => {
            for (what, network) in [("pods", cluster.network.pods), ("services", cluster.network.services)] {
                if network.contains(address) {
                    problems.push(format!(
                        "the host's address {address} lies in network.{what} ({network}): choose another network in --config"
                    ));
                }
            }
        }
    }
    // Once the cluster is there, its own daemons have the ports.
    if ledger.is_empty() {
        problems.extend(PORTS.iter().filter(|(port, _)| port_taken(*port)).filter(|(port, _)| !distribution_etcd(*port)).map(
            |(port, daemon)| {
                format!("port {port} is in use, and {daemon} needs it: `ss -ltnp 'sport = :{port}'` names the program")
            },
        ));
    }
    if let Some(mib) = memory_mib(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
        && mib < MEMORY_MIB_MIN
    {
        problems.push(format!("{mib} MiB of memory are too few: {MEMORY_MIB_MIN} MiB are the least"));
    }
    problems.extend(missing_kernel_features());
    if swap_is_on(&fs::read_to_string("/proc/swaps").unwrap_or_default()) {
        findings.warnings.push("swap is on: memory limits of pods will be less exact (swapoff -a switches it off)".to_owned());
    }
    if !host::process::may_have_capability(CAP_SYS_RESOURCE).unwrap_or(true) {
        findings.warnings.push(
            "this host lacks CAP_SYS_RESOURCE: pods keep the runtime's oom_score_adj (restrict_oom_score_adj is set)".to_owned(),
        );
    }
    findings
}

fn port_taken(port: u16) -> bool {
    matches!(TcpListener::bind(("0.0.0.0", port)), Err(error) if error.kind() == std::io::ErrorKind::AddrInUse)
}

/// The distribution starts its etcd when the package is installed; our unit takes its place.
fn distribution_etcd(port: u16) -> bool {
    let ours = Path::new("/etc/systemd/system/etcd.service").exists();
    matches!(port, 2379 | 2380) && !ours && fs::symlink_metadata("/run/systemd/units/invocation:etcd.service").is_ok()
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? / 1024)
}

/// The first line is a heading.
fn swap_is_on(swaps: &str) -> bool {
    swaps.lines().nth(1).is_some()
}

fn missing_kernel_features() -> Vec<String> {
    let mut missing = Vec::new();
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has_module = |name: &str| {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let index = fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).unwrap_or_default();
        index.contains(&format!("/{name}.ko"))
    };
    if !filesystems.lines().any(|l| l.ends_with("\toverlay")) && !has_module("overlay") {
        missing.push("the kernel has no overlayfs, which container images need".to_owned());
    }
    if !Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() && !has_module("br_netfilter") {
        missing.push("the kernel has no br_netfilter, which Services between pods of one node need".to_owned());
    }
    for controller in ["cpu", "memory", "pids"] {
        if !has_controller(controller) {
            missing.push(format!("the cgroup controller {controller} is not available: enable it on the kernel's command line"));
        }
    }
    missing
}

fn has_controller(name: &str) -> bool {
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    unified.split_whitespace().any(|c| c == name) || Path::new("/sys/fs/cgroup").join(name).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files() {
        assert_eq!(memory_mib("MemTotal:       24684184 kB\nMemFree: 1 kB\n"), Some(24105));
        assert!(!swap_is_on("Filename\tType\tSize\n"));
        assert!(swap_is_on("Filename\tType\tSize\n/dev/sda2 partition 1\n"));
    }
}
