//! `kctl status`: the tree of what makes the cluster; the exit code is its health.

use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use api::Kind as _;
use api::core::{Node, Pod};
use clap::Args;
use client::Client;
use host::systemd::Systemd;
use jiff::{SignedDuration, Timestamp};

use super::certificates;
use super::cluster::Cluster;
use super::runtime::Runtime;
use super::steps::system_pods;
use super::{node, paths, preflight};

/// Show the cluster's parts on this host: state, uptime, memory, certificates. Exit code 0 means healthy, 1 means not.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {}

/// A line below a heading.
struct Line {
    healthy: bool,
    name: String,
    state: String,
    details: Vec<String>,
}

pub(super) async fn run(_: StatusArgs) -> Result<ExitCode> {
    if !Systemd::is_booted() {
        anyhow::bail!("{}", preflight::NO_SYSTEMD);
    }
    let Ok(cluster) = Cluster::read(paths::CLUSTER_FILE.as_ref()) else {
        println!("no cluster: kctl init has not run on this host");
        return Ok(ExitCode::FAILURE);
    };
    let name = node::name(&cluster).map_err(anyhow::Error::msg)?;
    let pods = match Client::from_kubeconfig(paths::ADMIN_CONF.as_ref()) {
        Ok(client) => pods(&client, &name).await,
        Err(error) => vec![failed("API server", &format!("{error}"))],
    };
    let groups = [
        ("units", units(&cluster).await?),
        ("node and system pods", pods),
        ("certificates", certificate_lines(Timestamp::now())),
    ];
    let healthy = groups.iter().all(|(_, lines)| lines.iter().all(|line| line.healthy));
    let mut out = format!("cluster {} on node {name}, kctl {}\n", cluster.name, env!("CARGO_PKG_VERSION"));
    groups.iter().for_each(|(heading, lines)| tree(&mut out, heading, lines));
    out.push_str(if healthy { "healthy\n" } else { "NOT healthy\n" });
    // Whoever reads may stop reading (`| head`): the exit code still tells.
    let _ = std::io::stdout().write_all(out.as_bytes());
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tree(out: &mut String, heading: &str, lines: &[Line]) {
    out.push_str(heading);
    out.push('\n');
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    for (index, line) in lines.iter().enumerate() {
        let branch = if index + 1 == lines.len() { "└─" } else { "├─" };
        let mark = if line.healthy { "ok  " } else { "FAIL" };
        let details = line.details.iter().map(|d| format!("  {d}")).collect::<String>();
        out.push_str(&format!("{branch} {mark} {:<width$}  {}{details}\n", line.name, line.state));
    }
}

fn failed(name: &str, state: &str) -> Line {
    Line { healthy: false, name: name.to_owned(), state: state.to_owned(), details: Vec::new() }
}

async fn units(cluster: &Cluster) -> Result<Vec<Line>> {
    let systemd = Systemd::connect().await?;
    let runtime = Runtime::of_socket(&cluster.cri_socket)?;
    let mut lines = Vec::new();
    for unit in ["etcd.service", runtime.unit(), "kubelet.service", "kube-proxy.service", "kctl-certs.timer"] {
        let state = systemd.state(unit).await?;
        let mut details = Vec::new();
        if state.is_active() && state.active_since_us > 0 {
            let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
            details.push(format!("up {}", age(now_us.saturating_sub(state.active_since_us) / 1_000_000)));
        }
        details.extend(state.memory_bytes.map(|bytes| format!("{} MiB", bytes >> 20)));
        if state.restarts > 0 {
            details.push(format!("{} restarts", state.restarts));
        }
        lines.push(Line {
            healthy: state.is_active(),
            name: unit.to_owned(),
            state: format!("{} ({})", state.active, state.sub),
            details,
        });
    }
    Ok(lines)
}

async fn pods(client: &Client, name: &str) -> Vec<Line> {
    let mut lines = vec![match client.get::<Node>("", name).await {
        Ok(node) => node_line(&node, kubelet_since_us().await),
        Err(error) => failed("node", &error.to_string()),
    }];
    match system_pods(client, name).await {
        Ok(pods) => lines.extend(pods.into_iter().map(|pod| Line {
            healthy: pod.problem.is_none(),
            details: pod.pod.as_ref().map(pod_details).unwrap_or_default(),
            name: pod.name,
            state: pod.problem.unwrap_or_else(|| "ready".to_owned()),
        })),
        Err(error) => lines.push(failed("system pods", &format!("{error:#}"))),
    }
    lines
}

/// 0 when systemd can't tell.
async fn kubelet_since_us() -> u64 {
    let Ok(systemd) = Systemd::connect().await else { return 0 };
    systemd.state("kubelet.service").await.map_or(0, |state| state.active_since_us)
}

fn node_line(node: &Node, kubelet_since_us: u64) -> Line {
    let problem = super::steps::node_problem(node, kubelet_since_us);
    let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
    let details = info.map(|i| vec![i.kubelet_version.clone(), i.container_runtime_version.clone()]).unwrap_or_default();
    Line {
        healthy: problem.is_none(),
        name: format!("node {}", node.name()),
        state: problem.unwrap_or_else(|| "ready".to_owned()),
        details,
    }
}

fn pod_details(pod: &Pod) -> Vec<String> {
    let status = pod.status.clone().unwrap_or_default();
    let mut details = Vec::new();
    if let Some(start) = status.start_time {
        let seconds = Timestamp::now().duration_since(start.0).as_secs();
        details.push(format!("up {}", age(u64::try_from(seconds).unwrap_or(0))));
    }
    let restarts: i32 = status.container_statuses.unwrap_or_default().iter().map(|c| c.restart_count).sum();
    if restarts > 0 {
        details.push(format!("{restarts} restarts"));
    }
    details
}

fn certificate_lines(now: Timestamp) -> Vec<Line> {
    let mut lines: Vec<Line> = certificates::expiries()
        .into_iter()
        .map(|(path, end)| {
            let left = end.map_or(SignedDuration::ZERO, |end| end.duration_since(now));
            let state = match end {
                Some(end) if end > now => format!("until {} ({} days)", end.strftime("%Y-%m-%d"), left.as_hours() / 24),
                Some(end) => format!("ended {}", end.strftime("%Y-%m-%d")),
                None => "can't be read".to_owned(),
            };
            Line { healthy: left.is_positive(), name: path.display().to_string(), state, details: Vec::new() }
        })
        .collect();
    if lines.is_empty() {
        lines.push(failed(paths::PKI, "no certificates"));
    }
    lines
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        assert_eq!([age(5), age(65), age(3700), age(90_000)], ["5s", "1m", "1h1m", "1d1h"]);
    }
}
