//! The root file system that all hosts share: Debian with what a Kubernetes host needs, made once by mmdebstrap.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;

use super::state::{ROOT, remove_tree};

const SUITE: &str = "bookworm";

const PACKAGES: &[&str] = &[
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "dbus",
    "etcd-client",
    "etcd-server",
    "ethtool",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "less",
    "mount",
    "nftables",
    "procps",
    "runc",
    "socat",
    "systemd",
    "systemd-sysv",
    "udev",
    "util-linux",
];

/// Files beyond the packages. Inside nspawn the v1 cgroup controllers are read-only and /dev/kmsg is missing. How full the disk
/// is is a matter of the machine around the hosts: no node of theirs shall be closed for it.
const FILES: &[(&str, &str)] = &[
    (
        "etc/systemd/system/kctl-lab.service",
        "[Unit]\nDescription=What a kubelet needs and nspawn does not give\nDefaultDependencies=no\nBefore=sysinit.target\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/bin/sh -c 'for c in /sys/fs/cgroup/*/; do mount -o remount,bind,rw \"$c\" || true; done'\n\
         ExecStart=/bin/sh -c 'test -e /dev/kmsg || ln -s /dev/console /dev/kmsg'\n\
         ExecStart=/bin/mount --make-rshared /\n\n\
         [Install]\nWantedBy=sysinit.target\n",
    ),
    (
        "etc/default/kubelet",
        "KUBELET_EXTRA_ARGS=--eviction-hard=memory.available<100Mi,nodefs.available<0% --image-gc-high-threshold=100\n",
    ),
    ("etc/profile.d/kctl.sh", "test -r /etc/kubernetes/admin.conf && export KUBECONFIG=/etc/kubernetes/admin.conf\n"),
];

/// A host is switched on with nothing running: what shall run is for `kctl init` to decide.
const SETUP: &str = "systemctl enable -q systemd-networkd kctl-lab.service; systemctl disable -q etcd.service containerd.service; \
                     systemctl mask -q systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
                     fstrim.timer dpkg-db-backup.timer systemd-timesyncd.service; rm -f /etc/hostname; : > /etc/machine-id";

/// The directory of the root file system; made when it is missing or when its recipe has changed.
pub(super) fn ensure() -> Result<PathBuf> {
    fs::create_dir_all(ROOT)?;
    let lock = fs::File::create(Path::new(ROOT).join("base.lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).context("waiting for another kctl lab")?;
    let directory = Path::new(ROOT).join(format!("base-{}", recipe()));
    if directory.join("usr").is_dir() {
        return Ok(directory);
    }
    eprintln!("making the root file system of the hosts (once; about half a minute)");
    let unfinished = directory.with_extension("new");
    remove_tree(&unfinished)?;
    let made = make(&unfinished);
    if made.is_err() {
        let _ = remove_tree(&unfinished);
    }
    made?;
    fs::rename(&unfinished, &directory)?;
    Ok(directory)
}

fn make(directory: &Path) -> Result<()> {
    let output = Command::new("mmdebstrap")
        .args(["--quiet", "--format=directory", "--variant=minbase"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(SUITE)
        .arg(directory)
        .stdin(Stdio::null())
        .output()
        .context("running mmdebstrap (apt install mmdebstrap systemd-container)")?;
    if !output.status.success() {
        bail!("mmdebstrap failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    for (path, content) in FILES {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs::write(&path, content)?;
    }
    let status = Command::new("chroot").arg(directory).args(["/bin/sh", "-ec", SETUP]).stdin(Stdio::null()).status()?;
    if !status.success() {
        bail!("setting up the root file system failed");
    }
    Ok(())
}

/// Names the content: a change of the lists makes a new root file system.
fn recipe() -> String {
    let mut text = format!("{SUITE}\n{}\n{SETUP}\n", PACKAGES.join(" "));
    for (path, content) in FILES {
        text.push_str(path);
        text.push_str(content);
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref()[..6].iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn remove_all() -> Result<()> {
    for entry in fs::read_dir(ROOT)? {
        let path = entry?.path();
        if path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("base-")) {
            remove_tree(&path)?;
        }
    }
    Ok(())
}
