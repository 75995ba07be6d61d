//! When a step failed: the last words of the component behind it, and what they mean.

use std::fs;
use std::path::PathBuf;

use super::paths::POD_LOGS;

const LINES: usize = 12;

/// Who speaks when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    Unit(&'static str),
    /// All static pods and the kubelet that runs them.
    ControlPlane,
}

/// A part of a log line, and what to do when it appears.
const HINTS: &[(&str, &str)] = &[
    ("address already in use", "another program has the port: `ss -ltnp` names it"),
    ("no space left on device", "the disk is full: `df -h /var`"),
    ("node.kubernetes.io/disk-pressure", "the node's disk is nearly full, and nothing new is started on it: `df -h /var/lib`"),
    ("node.kubernetes.io/memory-pressure", "the node is short of memory, and nothing new is started on it: `free -m`"),
    ("permission denied", "a file or socket is not accessible: is another security module at work (`dmesg | tail`)?"),
    ("x509: certificate has expired", "a certificate expired: `kctl certs ls`, `kctl certs renew`; is the clock right?"),
    ("certificate is not valid yet", "the clock is behind the certificate's beginning: set the time and run init again"),
    ("unknown flag", "the daemon does not know a flag: look at daemons.*.arguments of the configuration"),
    ("unexpected argument", "the daemon does not know a flag: look at daemons.*.arguments of the configuration"),
    ("cgroup", "the kubelet and the runtime must agree on the cgroup driver (systemd), and the controllers must be writable"),
    ("can't get final child's PID", "containers may not lower oom_score_adj here: containerd needs restrict_oom_score_adj"),
    ("failed to load cni", "no pod network is configured: look at /etc/cni/net.d"),
    ("connection refused", "a component that others wait for does not listen; its own lines are the ones to read"),
    ("running with swap on is not supported", "switch swap off, or set failSwapOn: false"),
    ("imagepullbackoff", "an image is not in the runtime: `kctl image load FILE`"),
    ("errimageneverpull", "an image is not in the runtime: `kctl image load FILE`"),
];

pub(crate) struct Diagnosis {
    pub(crate) component: String,
    pub(crate) lines: Vec<String>,
}

pub(crate) async fn last_words(component: Component) -> Vec<Diagnosis> {
    match component {
        Component::Unit(unit) => vec![of_unit(unit).await],
        Component::ControlPlane => {
            let mut all: Vec<_> = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"].map(of_pod).into();
            all.push(of_unit("kubelet.service").await);
            all
        }
    }
}

async fn of_unit(unit: &str) -> Diagnosis {
    Diagnosis { component: unit.to_owned(), lines: host::journal::tail(unit, LINES as u32).await }
}

/// From the kubelet's log files: the API server may be what failed.
fn of_pod(name: &str) -> Diagnosis {
    let lines = newest_log(name).and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let lines: Vec<&str> = lines.lines().collect();
    let lines = lines[lines.len().saturating_sub(LINES)..].iter().map(|line| without_prefix(line).to_owned()).collect();
    Diagnosis { component: name.to_owned(), lines }
}

/// `/var/log/pods/kube-system_NAME-NODE_UID/NAME/N.log`
fn newest_log(name: &str) -> Option<PathBuf> {
    let prefix = format!("kube-system_{name}-");
    let pods = fs::read_dir(POD_LOGS).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    pods.filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&prefix)))
        .filter_map(|pod| fs::read_dir(pod.join(name)).ok())
        .flat_map(|logs| logs.filter_map(|log| Some(log.ok()?.path())))
        .max_by_key(|log| fs::metadata(log).and_then(|m| m.modified()).ok())
}

/// A CRI log line without time, stream and tag.
fn without_prefix(line: &str) -> &str {
    let mut parts = line.splitn(4, ' ');
    let is_cri = parts.nth(1).is_some_and(|stream| stream == "stdout" || stream == "stderr");
    if is_cri { parts.nth(1).unwrap_or(line) } else { line }
}

pub(crate) fn hints(lines: &[String]) -> Vec<&'static str> {
    let text = lines.join("\n").to_lowercase();
    HINTS.iter().filter(|(pattern, _)| text.contains(&pattern.to_lowercase())).map(|(_, hint)| *hint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cri_prefix() {
        assert_eq!(without_prefix("2026-01-02T03:04:05Z stderr F listen tcp: bind"), "listen tcp: bind");
        assert_eq!(without_prefix("plain words of a daemon here"), "plain words of a daemon here");
    }

    #[test]
    fn hints_by_pattern() {
        let lines = ["listen tcp :6443: bind: Address already in use".to_owned()];
        assert!(hints(&lines)[0].contains("another program has the port"));
        assert!(hints(&["all is well".to_owned()]).is_empty());
    }
}
