//! Reboot: everything comes back by itself. Init again: nothing changes. Reset: the host is as before. Init, killed at
//! several steps, completes when it is run again.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{healthy, node_port};
use crate::load::get;
use crate::world::{World, eventually};

/// Lists what `kctl init` may touch: files (not their times), units, interfaces, routes, rules, mounts, cgroups, processes.
/// What the system itself keeps changing (logs, caches, state of package managers and of timers) is left out.
const SNAPSHOT: &str = r#"
find /etc /opt /srv /usr/local /var/lib "$HOME" -xdev \( -path /var/lib/systemd -o -path /var/lib/apt -o -path /var/lib/dpkg \
  -o -path /var/lib/private -o -path "$HOME/.kube" -o -name machine-id \) -prune -o -printf 'file %y %m %u:%g %p %l\n'
find /etc -xdev -type f ! -name machine-id ! -name ld.so.cache -exec sha256sum {} + | sed 's/^/content /'
find /run -maxdepth 1 -printf 'run %y %f\n' | grep -vE 'run . (run|lock|log|user|mount|utmp|initctl|dbus|systemd|udev|tmpfiles.d|credentials|host|sudo|agetty.reload|shm|.*\.pid)$' || true
systemctl list-unit-files --no-legend --no-pager | awk '{print "unit", $1, $2}'
systemctl list-units --type=service,socket,timer --state=active,failed --no-legend --no-pager --plain | awk '{print "active", $1}' | grep -vE 'user@|user-runtime|session-|run-|systemd-(tmpfiles-clean|journal-flush)' || true
ip -o link | awk -F': ' '{sub(/@.*/, "", $2); print "link", $2}'
ip route show table all | sed 's/^/route /' | grep -v 'fe80\|ff00\|::' || true
nft list ruleset | sed 's/^/nft /'
awk '{print "mount", $5}' /proc/self/mountinfo
find /sys/fs/cgroup -maxdepth 3 -type d -name 'kube*' -printf 'cgroup %p\n'
ps -eo comm= | grep -E '^(kube|etcd|containerd|cluster-dns|pause|kctl)' | sed 's/^/process /' || true
"#;

fn snapshot(world: &World) -> Result<BTreeSet<String>> {
    Ok(world.script(SNAPSHOT)?.lines().map(str::to_owned).collect())
}

fn snapshot_path(world: &World) -> std::path::PathBuf {
    world.cache.join(format!("{}-before.txt", world.lab))
}

/// The host before its first init, kept for the comparison.
pub(super) fn record(world: &World) -> Result<()> {
    std::fs::create_dir_all(&world.cache)?;
    let lines: Vec<String> = snapshot(world)?.into_iter().collect();
    std::fs::write(snapshot_path(world), lines.join("\n"))?;
    Ok(())
}

pub(super) fn run(world: &World) -> Result<()> {
    world.lab(&["reboot", &world.node])?;
    healthy(world, Duration::from_secs(180)).context("after a reboot")?;
    let address = node_port(world)?;
    eventually("the workload after a reboot", Duration::from_secs(120), || get(address).map(drop))?;

    let again = world.kctl(&["init"])?;
    ensure!(again.contains("nothing to do") || again.contains("no changes"), "a second init says:\n{again}");

    let before: BTreeSet<String> = std::fs::read_to_string(snapshot_path(world))?.lines().map(str::to_owned).collect();
    println!("{}", world.kctl(&["reset", "--yes"])?);
    let after = snapshot(world)?;
    let left: Vec<_> = after.difference(&before).collect();
    let missing: Vec<_> = before.difference(&after).collect();
    ensure!(left.is_empty() && missing.is_empty(), "after reset, left over: {left:#?}, missing: {missing:#?}");

    for seconds in KILLED_AFTER {
        let status = world.host_output(&["timeout", "--signal=KILL", seconds, "kctl", "init"])?.status;
        // timeout(1) ends as its command did. 0 is an init that was faster.
        let killed = status.signal() == Some(9) || status.code() == Some(137);
        ensure!(killed || status.success(), "kctl init, to be killed after {seconds} s, ended with {status}");
    }
    world.kctl(&["init"]).context("init after reset and after being killed")?;
    healthy(world, Duration::from_secs(5))
}

/// In seconds: while certificates are made, while units start, while the API server comes up, while add-ons are applied.
const KILLED_AFTER: [&str; 4] = ["0.3", "1", "2", "4"];
