//! Whether the node takes a pod that was bound to it: the scheduler may have decided on an older view. Pure.

use std::collections::BTreeMap;

use api::core::Pod;

use crate::pod::qos;
use crate::pod::spec;
use crate::status::pod::Failure;

/// What the node has, in thousandths of CPUs and bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub cpu_milli: i64,
    pub memory: i64,
    pub pods: usize,
    /// `None` while the node object is not known.
    pub labels: Option<BTreeMap<String, String>>,
}

type Port = (String, String, i32);

fn host_ports(pod: &Pod) -> Vec<Port> {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let ports = spec::spec(pod).containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let number = p.host_port.filter(|n| *n > 0)?;
            let ip = p.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
            Some((p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), ip, number))
        })
        .collect()
}

fn conflict(a: &Port, b: &Port) -> bool {
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || any(&a.1) || any(&b.1))
}

/// `others` are the pods that the node has taken already and that have not ended.
pub fn admit(pod: &Pod, others: &[std::sync::Arc<Pod>], room: &Room) -> Result<(), Failure> {
    let reject = |reason: &str, message: String| {
        Err(Failure { reason: reason.to_owned(), message: format!("Pod was rejected: {message}") })
    };
    if spec::is_static(pod) {
        // What a file says is to run, runs: there is nobody to place it elsewhere.
        return Ok(());
    }
    let wants = host_ports(pod);
    if others.iter().flat_map(|o| host_ports(o)).any(|taken| wants.iter().any(|w| conflict(w, &taken))) {
        return reject(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports".to_owned(),
        );
    }
    if let Some(labels) = &room.labels {
        let selector = spec::spec(pod).node_selector.iter().flatten();
        if !selector.into_iter().all(|(k, v)| labels.get(k) == Some(v)) {
            return reject(
                "NodeAffinity",
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".to_owned(),
            );
        }
    }
    if spec::is_critical(pod) {
        return Ok(());
    }
    if others.len() + 1 > room.pods {
        let message =
            format!("Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {}", others.len(), room.pods);
        return reject("OutOfpods", message);
    }
    let asked = qos::pod_amounts(pod, qos::requests);
    let used = others.iter().map(|o| qos::pod_amounts(o, qos::requests));
    let (used_cpu, used_memory) = used.fold((0, 0), |(c, m), a| (c + a.cpu.unwrap_or(0), m + a.memory.unwrap_or(0)));
    for (name, asked, used, capacity) in [
        ("cpu", asked.cpu.unwrap_or(0), used_cpu, room.cpu_milli),
        ("memory", asked.memory.unwrap_or(0), used_memory, room.memory),
    ] {
        if asked > 0 && asked + used > capacity {
            let message =
                format!("Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}");
            return reject(&format!("OutOf{name}"), message);
        }
    }
    Ok(())
}

/// The sysctls that a pod may set without the node's leave.
const SAFE_SYSCTLS: [&str; 9] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
];

/// Refuses sysctls that are neither safe nor allowed, and those of a namespace that the pod shares with the host.
pub fn sysctls(pod: &Pod, allowed: &[String]) -> Result<(), Failure> {
    let reject = |message: String| Err(Failure { reason: "SysctlForbidden".to_owned(), message });
    let list = spec::spec(pod).security_context.as_ref().and_then(|s| s.sysctls.as_ref());
    for sysctl in list.into_iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        };
        let safe = SAFE_SYSCTLS.contains(&name.as_str()) || name == "net.ipv4.tcp_keepalive_probes";
        if !safe && !allowed.iter().any(matches) {
            return reject(format!("forbidden sysctl: \"{name}\" not allowlisted"));
        }
        if name.starts_with("net.") && spec::host_network(pod) {
            return reject(format!("forbidden sysctl: \"{name}\" not allowed with host net enabled"));
        }
        if name.starts_with("kernel.") && spec::spec(pod).host_ipc == Some(true) {
            return reject(format!("forbidden sysctl: \"{name}\" not allowed with host ipc enabled"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Kind as _;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod(spec: Value) -> Pod {
        Pod::decode_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn reason(spec: Value, others: &[Arc<Pod>]) -> Option<String> {
        let labels = Some([("disk".to_owned(), "ssd".to_owned())].into());
        let room = Room { cpu_milli: 2000, memory: 1 << 30, pods: 2, labels };
        admit(&pod(spec), others, &room).err().map(|f| f.reason)
    }

    #[test]
    fn what_is_refused() {
        let with_port = |port: i32, ip: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": port, "hostIP": ip}]}]});
        let cpu = |amount: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]});
        let taken = [Arc::new(pod(with_port(80, "")))];
        assert_eq!(reason(with_port(80, "1.2.3.4"), &taken).as_deref(), Some("NodePorts"));
        assert_eq!(reason(with_port(81, ""), &taken), None);
        assert_eq!(reason(cpu("2"), &[]), None);
        assert_eq!(reason(cpu("3"), &[]).as_deref(), Some("OutOfcpu"));
        assert_eq!(reason(cpu("1500m"), &[Arc::new(pod(cpu("1")))]).as_deref(), Some("OutOfcpu"));
        let two = [taken[0].clone(), taken[0].clone()];
        assert_eq!(reason(cpu("1m"), &two).as_deref(), Some("OutOfpods"));
        assert_eq!(reason(json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), &[]).as_deref(), Some("NodeAffinity"));
    }

    #[test]
    fn unsafe_sysctls() {
        let with = |name: &str| pod(json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}));
        assert!(sysctls(&with("net.ipv4.tcp_syncookies"), &[]).is_ok());
        assert!(sysctls(&with("kernel.msgmax"), &[]).is_err());
        assert!(sysctls(&with("kernel.msgmax"), &["kernel.msg*".to_owned()]).is_ok());
    }
}
