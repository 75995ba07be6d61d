//! Which addresses and ports others have.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use serde_json::Value;

use super::fields::{cluster_ips, health_port, node_port, ports, protocol, same_object};

/// A number that one Service has at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Number {
    Address(IpAddr),
    /// A port on every node, and its protocol.
    Port(u16, String),
}

#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub(super) addresses: HashSet<IpAddr>,
    pub(super) ports: HashSet<(u16, String)>,
}

impl Taken {
    /// By all Services except that one.
    pub fn of(services: &[Value], except: &Value) -> Self {
        let mut taken = Self::default();
        let others = services.iter().filter(|service| !same_object(service, except));
        others.flat_map(numbers).for_each(|number| taken.insert(number));
        taken
    }

    pub fn insert(&mut self, number: Number) {
        match number {
            Number::Address(address) => _ = self.addresses.insert(address),
            Number::Port(port, protocol) => _ = self.ports.insert((port, protocol)),
        }
    }

    pub(super) fn port_is_free(&self, port: u16, protocol: &str) -> bool {
        !self.ports.contains(&(port, protocol.to_owned()))
    }
}

/// The numbers that a Service has.
pub fn numbers(service: &Value) -> BTreeSet<Number> {
    let addresses = cluster_ips(service).into_iter().filter_map(|ip| ip.parse().ok()).map(Number::Address);
    let of_ports = ports(service).iter().filter_map(|port| Some(Number::Port(node_port(port)?, protocol(port))));
    let health = health_port(service).map(|port| Number::Port(port, "TCP".to_owned()));
    addresses.chain(of_ports).chain(health).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_of_a_service() {
        let service = json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "healthCheckNodePort": 30002,
            "ports": [{"nodePort": 30001, "protocol": "UDP"}, {"port": 1}]}});
        assert_eq!(numbers(&service).len(), 4);
        assert!(numbers(&json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}})).is_empty());
        let taken = Taken::of(&[service], &json!({"metadata": {"name": "other"}}));
        assert!(taken.port_is_free(30001, "TCP") && !taken.port_is_free(30001, "UDP") && !taken.port_is_free(30002, "TCP"));
    }
}
