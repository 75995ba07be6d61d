//! A pod's sandbox as the runtime is asked for it: pure.

use std::collections::HashMap;

use api::Kind as _;
use api::core::{Pod, SeccompProfile};
use cri::v1;

use crate::pod::dns::DnsConfig;
use crate::pod::qos;
use crate::pod::spec;

pub mod label {
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
}

/// What the sandbox's configuration depends on beside the pod.
#[derive(Clone, Debug, Default)]
pub struct SandboxContext {
    pub attempt: u32,
    pub hostname: String,
    pub dns: DnsConfig,
    pub log_directory: String,
    pub cgroup_parent: String,
    pub cpu_quota: bool,
}

pub fn config(pod: &Pod, context: &SandboxContext) -> v1::PodSandboxConfig {
    let mut labels: HashMap<String, String> = pod.meta().labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(pod_labels(pod));
    let host_network = spec::host_network(pod);
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt: context.attempt,
        }),
        hostname: if host_network { String::new() } else { context.hostname.clone() },
        log_directory: context.log_directory.clone(),
        dns_config: Some(v1::DnsConfig {
            servers: context.dns.servers.clone(),
            searches: context.dns.searches.clone(),
            options: context.dns.options.clone(),
        }),
        port_mappings: if host_network { Vec::new() } else { port_mappings(pod) },
        labels,
        annotations: pod.meta().annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(linux(pod, context)),
        windows: None,
    }
}

pub fn pod_labels(pod: &Pod) -> [(String, String); 3] {
    [
        (label::POD_NAME.to_owned(), pod.name().to_owned()),
        (label::POD_NAMESPACE.to_owned(), pod.namespace().to_owned()),
        (label::POD_UID.to_owned(), pod.uid().to_owned()),
    ]
}

fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let ports = spec::spec(pod).containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let host_port = p.host_port.filter(|n| *n > 0)?;
            let protocol = match p.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp,
                Some("SCTP") => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            };
            Some(v1::PortMapping {
                protocol: protocol.into(),
                container_port: p.container_port,
                host_port,
                host_ip: p.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

fn linux(pod: &Pod, context: &SandboxContext) -> v1::LinuxPodSandboxConfig {
    let own = spec::spec(pod).security_context.as_ref();
    let sysctls = own.and_then(|s| s.sysctls.as_ref()).into_iter().flatten();
    let amounts = qos::pod_amounts(pod, qos::requests);
    let limits = qos::pod_limits(pod);
    let privileged =
        spec::containers(pod).iter().any(|(_, c)| c.security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false));
    let run_as_user = own.and_then(|s| s.run_as_user);
    v1::LinuxPodSandboxConfig {
        cgroup_parent: context.cgroup_parent.clone(),
        security_context: Some(v1::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(pod, None)),
            run_as_user: run_as_user.map(int64),
            // A group alone is refused by the runtime.
            run_as_group: own.and_then(|s| s.run_as_group).filter(|_| run_as_user.is_some()).map(int64),
            supplemental_groups: supplemental_groups(pod),
            supplemental_groups_policy: supplemental_policy(pod),
            privileged,
            // The sandbox's own process does nothing: always the default profile.
            seccomp: Some(v1::SecurityProfile {
                profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
                localhost_ref: String::new(),
            }),
            ..v1::LinuxSandboxSecurityContext::default()
        }),
        sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
        overhead: Some(v1::LinuxContainerResources::default()),
        resources: Some(v1::LinuxContainerResources {
            cpu_shares: qos::cpu_shares(amounts.cpu.unwrap_or(0)),
            cpu_period: if context.cpu_quota { qos::CPU_PERIOD } else { 0 },
            cpu_quota: qos::cpu_quota(limits.cpu).filter(|_| context.cpu_quota).unwrap_or(0),
            memory_limit_in_bytes: limits.memory.unwrap_or(0),
            ..v1::LinuxContainerResources::default()
        }),
    }
}

/// The namespaces of a container; `target` is the container whose processes an ephemeral one joins.
pub fn namespaces(pod: &Pod, target: Option<&str>) -> v1::NamespaceOption {
    let spec = spec::spec(pod);
    let mode = |host: Option<bool>, other| if host == Some(true) { v1::NamespaceMode::Node } else { other };
    let shared = if spec.share_process_namespace == Some(true) { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Container };
    let pid = if target.is_some() { v1::NamespaceMode::Target } else { mode(spec.host_pid, shared) };
    v1::NamespaceOption {
        network: mode(spec.host_network, v1::NamespaceMode::Pod).into(),
        pid: pid.into(),
        ipc: mode(spec.host_ipc, v1::NamespaceMode::Pod).into(),
        target_id: target.unwrap_or_default().to_owned(),
        userns_options: None,
    }
}

pub fn supplemental_groups(pod: &Pod) -> Vec<i64> {
    let Some(own) = &spec::spec(pod).security_context else { return Vec::new() };
    own.fs_group.iter().chain(own.supplemental_groups.iter().flatten()).copied().collect()
}

pub fn supplemental_policy(pod: &Pod) -> i32 {
    let own = spec::spec(pod).security_context.as_ref();
    match own.and_then(|s| s.supplemental_groups_policy.as_deref()) {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict.into(),
        _ => v1::SupplementalGroupsPolicy::Merge.into(),
    }
}

pub fn int64(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

/// A seccomp profile for the runtime; without one: the default when that is configured, else none.
pub fn seccomp(profile: Option<&SeccompProfile>, default: bool, root: &str) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => (ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", Some(name))) if !name.is_empty() => (ProfileType::Localhost, format!("{root}/{name}")),
        // An unreadable profile must never mean none (CVE-2023-2431).
        Some(("Localhost", _)) => (ProfileType::RuntimeDefault, String::new()),
        Some(_) => (ProfileType::Unconfined, String::new()),
        None if default => (ProfileType::RuntimeDefault, String::new()),
        None => (ProfileType::Unconfined, String::new()),
    };
    v1::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(spec: serde_json::Value) -> v1::PodSandboxConfig {
        let pod = Pod::decode_value(
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}}, "spec": spec}),
        )
        .unwrap();
        config(&pod, &SandboxContext { hostname: "p".into(), ..SandboxContext::default() })
    }

    #[test]
    fn an_ordinary_pod() {
        let c = made(
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]}]}),
        );
        assert_eq!((c.hostname.as_str(), c.labels["a"].as_str(), c.labels[label::POD_UID].as_str()), ("p", "b", "u"));
        assert_eq!(c.port_mappings.len(), 1);
        let security = c.linux.unwrap().security_context.unwrap();
        let ns = security.namespace_options.unwrap();
        assert_eq!(
            (ns.network(), ns.pid(), ns.ipc()),
            (v1::NamespaceMode::Pod, v1::NamespaceMode::Container, v1::NamespaceMode::Pod)
        );
        assert!(!security.privileged);
    }

    #[test]
    fn a_pod_in_the_hosts_namespaces() {
        let c = made(json!({"hostNetwork": true, "hostPID": true, "hostIPC": true, "containers": [
            {"name": "c", "securityContext": {"privileged": true}, "ports": [{"containerPort": 80, "hostPort": 80}]}]}));
        assert_eq!((c.hostname.as_str(), c.port_mappings.len()), ("", 0));
        let security = c.linux.unwrap().security_context.unwrap();
        let ns = security.namespace_options.unwrap();
        assert_eq!(
            (ns.network(), ns.pid(), ns.ipc()),
            (v1::NamespaceMode::Node, v1::NamespaceMode::Node, v1::NamespaceMode::Node)
        );
        assert!(security.privileged);
    }
}
