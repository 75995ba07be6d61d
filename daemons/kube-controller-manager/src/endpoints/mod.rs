//! endpointslice-controller, endpoints-controller and endpointslice-mirroring-controller: which addresses stand behind a
//! Service.

mod batching;
pub(crate) mod legacy;
pub(crate) mod mirror;
mod selectors;
pub(crate) mod slice;
mod slices;

use std::net::IpAddr;

use api::IntOrString;
use api::core::{ObjectReference, Pod, Service, ServicePort};

use crate::context::Context;
use crate::pod;

pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
pub(crate) const SLICE_MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Tells consumers such as kube-proxy that nothing is to be done for it.
pub(crate) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Whether endpoints of the Service come from pods at all.
fn is_selecting(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|s| s.type_.as_deref() != Some("ExternalName") && s.selector.is_some())
}

fn has_cluster_ip(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    ip.is_some_and(|ip| !ip.is_empty() && ip != "None")
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.publish_not_ready_addresses == Some(true))
}

/// The addresses of a pod in their usual form; none once it has run to its end.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    if pod::is_finished(pod) {
        return Vec::new();
    }
    let status = pod.status.as_ref();
    let ips = status.and_then(|s| s.pod_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.as_str());
    let mut ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
    if ips.is_empty() {
        ips.extend(status.and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse::<IpAddr>().ok()));
    }
    ips
}

/// The port a Service's port leads to in this pod; `None` when the pod has no port of that name.
fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let protocol = protocol(port.protocol.as_deref());
    let found = ports.find(|p| p.name.as_ref() == Some(name) && self::protocol(p.protocol.as_deref()) == protocol);
    found.map(|p| p.container_port)
}

fn protocol(protocol: Option<&str>) -> &str {
    protocol.unwrap_or("TCP")
}

/// The name by which DNS gives a headless Service's pod.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let belongs = spec.subdomain.is_some()
        && spec.subdomain == service.metadata.name
        && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.clone().filter(|h| belongs && !h.is_empty())
}

fn target_ref(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The pods that a Service selects.
fn selected_pods(ctx: &Context, service: &Service) -> Vec<Pod> {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let pods = ctx.informers.pods.list_namespace(namespace);
    let matches = |labels: &std::collections::BTreeMap<String, String>| {
        selector.is_some_and(|s| s.iter().all(|(k, v)| labels.get(k) == Some(v)))
    };
    pods.iter().filter(|p| matches(&p.labels)).filter_map(client::informer::logged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::{Container, ContainerPort, PodSpec};

    #[test]
    fn a_port_is_found_by_number_or_name() {
        let container = |ports: &[(&str, &str, i32)], restart: Option<&str>| Container {
            ports: Some(
                ports
                    .iter()
                    .map(|(name, protocol, port)| ContainerPort {
                        name: Some((*name).into()),
                        protocol: Some((*protocol).into()),
                        container_port: *port,
                        ..ContainerPort::default()
                    })
                    .collect(),
            ),
            restart_policy: restart.map(str::to_owned),
            ..Container::default()
        };
        let pod = Pod {
            spec: Some(PodSpec {
                containers: vec![container(&[("web", "TCP", 8080), ("dns", "UDP", 53)], None)],
                init_containers: Some(vec![
                    container(&[("setup", "TCP", 1)], None),
                    container(&[("proxy", "TCP", 15001)], Some("Always")),
                ]),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        let check = |target: Option<IntOrString>, protocol: &str, want| {
            let port = ServicePort { port: 80, target_port: target, protocol: Some(protocol.into()), ..ServicePort::default() };
            assert_eq!(target_port(&pod, &port), want);
        };
        let named = |n: &str| Some(IntOrString::String(n.into()));
        check(None, "TCP", Some(80));
        check(Some(IntOrString::Int(81)), "TCP", Some(81));
        check(named("web"), "TCP", Some(8080));
        check(named("web"), "UDP", None);
        check(named("dns"), "UDP", Some(53));
        check(named("proxy"), "TCP", Some(15001));
        check(named("setup"), "TCP", None);
    }
}
