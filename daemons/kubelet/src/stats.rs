//! CPU and memory of the node, pods and containers: `/stats/summary` and `/metrics/resource`.

use std::fmt::Write as _;

use api::Kind as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::node::machine;

/// What one container uses.
struct Usage {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    cpu_nanos: u64,
    memory_bytes: u64,
    at: i64,
    started_at: i64,
}

async fn usages(agent: &Agent) -> Vec<Usage> {
    let stats = match agent.runtime.list_container_stats().await {
        Ok(stats) => stats,
        Err(error) => {
            tracing::debug!(%error, "reading containers' statistics");
            return Vec::new();
        }
    };
    let pods = agent.pods();
    let mut all = Vec::new();
    for s in stats {
        let Some(id) = s.attributes.as_ref().map(|a| a.id.as_str()) else { continue };
        let found = pods.iter().find_map(|(pod, shown)| Some((pod, shown.view.running().find(|c| c.id == id)?)));
        let Some((pod, container)) = found else { continue };
        let cpu = s.cpu.unwrap_or_default();
        let memory = s.memory.unwrap_or_default();
        all.push(Usage {
            namespace: pod.namespace().to_owned(),
            pod: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            container: container.name.clone(),
            cpu_nanos: cpu.usage_core_nano_seconds.map_or(0, |v| v.value),
            memory_bytes: memory.working_set_bytes.map_or(0, |v| v.value),
            at: cpu.timestamp,
            started_at: container.started_at,
        });
    }
    all
}

/// CPU seconds that the whole node has used, in nanoseconds, from /proc/stat.
fn node_cpu_nanos() -> u64 {
    const NANOS_PER_TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    // All but idle and waiting for I/O, without guests, which are in "user" already.
    let busy: u64 = ticks.iter().take(8).enumerate().filter(|(i, _)| *i != 3 && *i != 4).map(|(_, t)| t).sum();
    busy * NANOS_PER_TICK
}

fn node_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let used = machine::meminfo(&info, "MemTotal") - machine::meminfo(&info, "MemAvailable");
    u64::try_from(used).unwrap_or(0)
}

pub async fn summary(agent: &Agent) -> Value {
    let usages = usages(agent).await;
    let now = Timestamp::now();
    let time = |nanos: i64| Timestamp::from_nanosecond(nanos.into()).unwrap_or(now).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let now_text = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut pods = Vec::new();
    for (pod, shown) in agent.pods() {
        let own: Vec<&Usage> = usages.iter().filter(|u| u.uid == pod.uid()).collect();
        if own.is_empty() {
            continue;
        }
        let (cpu, memory): (u64, u64) = (own.iter().map(|u| u.cpu_nanos).sum(), own.iter().map(|u| u.memory_bytes).sum());
        let containers: Vec<Value> = own
            .iter()
            .map(|u| {
                json!({
                    "name": u.container, "startTime": time(u.started_at),
                    "cpu": {"time": time(u.at), "usageCoreNanoSeconds": u.cpu_nanos},
                    "memory": {"time": time(u.at), "workingSetBytes": u.memory_bytes},
                })
            })
            .collect();
        pods.push(json!({
            "podRef": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
            "startTime": shown.status.start_time,
            "containers": containers,
            "cpu": {"time": now_text, "usageCoreNanoSeconds": cpu},
            "memory": {"time": now_text, "workingSetBytes": memory},
        }));
    }
    json!({
        "node": {
            "nodeName": agent.config.node_name,
            "cpu": {"time": now_text, "usageCoreNanoSeconds": node_cpu_nanos()},
            "memory": {
                "time": now_text, "workingSetBytes": node_memory(),
                "availableBytes": u64::try_from(agent.machine.memory_bytes).unwrap_or(0).saturating_sub(node_memory()),
            },
        },
        "pods": pods,
    })
}

#[expect(clippy::cast_precision_loss, reason = "seconds from nanoseconds")]
pub async fn resource_metrics(agent: &Agent) -> String {
    let usages = usages(agent).await;
    let mut out = String::new();
    let now = Timestamp::now().as_millisecond();
    let head = |out: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
    };
    head(
        &mut out,
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    );
    let labels = |u: &Usage| format!("container=\"{}\",namespace=\"{}\",pod=\"{}\"", u.container, u.namespace, u.pod);
    for u in &usages {
        let _ =
            writeln!(out, "container_cpu_usage_seconds_total{{{}}} {} {}", labels(u), u.cpu_nanos as f64 / 1e9, u.at / 1_000_000);
    }
    head(&mut out, "container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes");
    for u in &usages {
        let _ = writeln!(out, "container_memory_working_set_bytes{{{}}} {} {}", labels(u), u.memory_bytes, u.at / 1_000_000);
    }
    head(&mut out, "container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds");
    for u in &usages {
        let _ = writeln!(out, "container_start_time_seconds{{{}}} {}", labels(u), u.started_at as f64 / 1e9);
    }
    head(&mut out, "node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds");
    let _ = writeln!(out, "node_cpu_usage_seconds_total {} {now}", node_cpu_nanos() as f64 / 1e9);
    head(&mut out, "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes");
    let _ = writeln!(out, "node_memory_working_set_bytes {} {now}", node_memory());
    let mut pods: std::collections::BTreeMap<(&str, &str), (u64, u64)> = std::collections::BTreeMap::new();
    for u in &usages {
        let sum = pods.entry((&u.namespace, &u.pod)).or_default();
        *sum = (sum.0 + u.cpu_nanos, sum.1 + u.memory_bytes);
    }
    head(&mut out, "pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds");
    for ((namespace, pod), (cpu, _)) in &pods {
        let _ =
            writeln!(out, "pod_cpu_usage_seconds_total{{namespace=\"{namespace}\",pod=\"{pod}\"}} {} {now}", *cpu as f64 / 1e9);
    }
    head(&mut out, "pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes");
    for ((namespace, pod), (_, memory)) in &pods {
        let _ = writeln!(out, "pod_memory_working_set_bytes{{namespace=\"{namespace}\",pod=\"{pod}\"}} {memory} {now}");
    }
    head(&mut out, "resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise");
    let _ = writeln!(out, "resource_scrape_error 0");
    out
}
