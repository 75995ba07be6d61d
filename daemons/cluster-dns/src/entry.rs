//! Services and EndpointSlices as zone entries. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::core::Service;
use api::discovery::EndpointSlice;
use hickory_proto::rr::Name;

use crate::zone::{Endpoint, Port, ServiceEntry, dashed};

fn protocol(text: Option<&str>) -> &'static str {
    match text {
        Some("UDP") => "udp",
        Some("SCTP") => "sctp",
        _ => "tcp",
    }
}

fn number(port: Option<i32>) -> Option<u16> {
    port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
}

/// What a Service and its slices say. `None` for a Service without a meaning in DNS.
pub fn entry(service: &Service, slices: &[EndpointSlice]) -> Option<ServiceEntry> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().filter_map(|p| {
        let name = p.name.clone().unwrap_or_default();
        Some(Port { name, protocol: protocol(p.protocol.as_deref()), number: number(Some(p.port))? })
    });
    let ports = ports.collect();
    if spec.type_.as_deref() == Some("ExternalName") {
        let mut alias = Name::from_ascii(spec.external_name.as_deref()?).ok()?;
        alias.set_fqdn(true);
        return Some(ServiceEntry { alias: Some(alias), ports, ..Default::default() });
    }
    let single = spec.cluster_ip.clone().map(|ip| vec![ip]);
    let listed = spec.cluster_ips.clone().filter(|ips| !ips.is_empty()).or(single).unwrap_or_default();
    let cluster_ips: Vec<IpAddr> = listed.iter().filter_map(|ip| ip.parse().ok()).collect();
    // Not headless, and no address yet: about to get one.
    if cluster_ips.is_empty() && !listed.iter().any(|ip| ip == "None") {
        return None;
    }
    Some(ServiceEntry { cluster_ips, alias: None, ports, endpoints: endpoints(slices) })
}

/// Ready endpoints of all slices, each address once.
fn endpoints(slices: &[EndpointSlice]) -> Vec<Endpoint> {
    let mut all: BTreeMap<(IpAddr, String), Endpoint> = BTreeMap::new();
    for slice in slices.iter().filter(|s| s.address_type != "FQDN") {
        let ports: Vec<Port> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                let name = p.name.clone().unwrap_or_default();
                Some(Port { name, protocol: protocol(p.protocol.as_deref()), number: number(p.port)? })
            })
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            if endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(false) {
                continue;
            }
            for ip in endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok()) {
                let label = endpoint.hostname.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| dashed(ip));
                let label = label.to_ascii_lowercase();
                let entry = all.entry((ip, label.clone())).or_insert_with(|| Endpoint { ip, label, ports: Vec::new() });
                entry.ports.extend(ports.iter().cloned());
                entry.ports.sort();
                entry.ports.dedup();
            }
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: Value, endpoints: Value) -> Option<ServiceEntry> {
        let service = serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec})).unwrap();
        let slice = json!({"metadata": {"name": "s-1"}, "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints});
        entry(&service, &[serde_json::from_value(slice).unwrap()])
    }

    #[test]
    fn only_ready_endpoints_have_names() {
        let endpoints = json!([
            {"addresses": ["10.0.0.1"], "hostname": "a"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
        ]);
        let entry = read(json!({"clusterIP": "None"}), endpoints).unwrap();
        let labels: Vec<_> = entry.endpoints.iter().map(|e| e.label.as_str()).collect();
        assert_eq!(labels, ["a", "10-0-0-2"]);
        assert_eq!(entry.endpoints[0].ports[0].number, 8080);
    }

    #[test]
    fn external_names_and_services_without_an_address_yet() {
        let entry = read(json!({"type": "ExternalName", "externalName": "example.com"}), json!([])).unwrap();
        assert_eq!(entry.alias.unwrap().to_string(), "example.com.");
        assert_eq!(read(json!({"ports": [{"port": 80}]}), json!([])), None);
    }
}
