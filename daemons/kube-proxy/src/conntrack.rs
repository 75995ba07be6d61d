//! Forgets UDP flows that lead to endpoints which are gone: without a handshake nothing else would end them.
//!
//! Which flows are stale is decided by [`is_stale`], pure; the kernel's table is read and changed through netlink.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::model::{Endpoints, Family, Protocol, ServiceInfo};
use crate::netlink::{Ask, Netfilter, attribute, put_nested};

/// Frontends of UDP Services, and the endpoints that still serve behind each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UdpServices {
    by_address: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    by_node_port: BTreeMap<u16, BTreeSet<SocketAddr>>,
}

impl UdpServices {
    /// Adds a Service. Without any endpoint its flows stay: there is nowhere better for them to go.
    pub(crate) fn add(&mut self, info: &ServiceInfo, endpoints: &Endpoints) {
        for port in info.ports.iter().filter(|p| p.protocol == Protocol::Udp) {
            let of_port = endpoints.get(&(port.port_name.clone(), port.protocol));
            let serving = of_port.into_iter().flat_map(BTreeMap::values).filter(|e| e.serving);
            let serving: BTreeSet<SocketAddr> = serving.map(|e| SocketAddr::new(e.ip, e.port)).collect();
            if serving.is_empty() {
                continue;
            }
            for ip in [port.cluster_ip].iter().chain(&port.external_ips).chain(&port.load_balancer_ips) {
                self.by_address.insert(SocketAddr::new(*ip, port.port), serving.clone());
            }
            if let Some(node_port) = port.node_port {
                self.by_node_port.insert(node_port, serving.clone());
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_address.is_empty() && self.by_node_port.is_empty()
    }

    /// The flow goes to one of the Services, and its answers come from something that is no endpoint of it.
    fn is_stale(&self, flow: &Flow) -> bool {
        let serving = self.by_address.get(&flow.destination).or_else(|| self.by_node_port.get(&flow.destination.port()));
        serving.is_some_and(|endpoints| !endpoints.contains(&flow.answers_from))
    }
}

/// A tracked UDP flow.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Flow {
    destination: SocketAddr,
    answers_from: SocketAddr,
    /// The tuple that identifies it, as the kernel wrote it.
    original: Vec<u8>,
}

const CT_GET: u16 = 0x0101;
const CT_DELETE: u16 = 0x0102;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const UDP: u8 = 17;

/// Addresses and ports of a tuple.
struct Tuple {
    source: SocketAddr,
    destination: SocketAddr,
    protocol: u8,
}

impl Tuple {
    fn parse(body: &[u8]) -> Option<Self> {
        let (ip, proto) = (attribute(body, TUPLE_IP)?, attribute(body, TUPLE_PROTO)?);
        let address = |v4: u16, v6: u16| -> Option<IpAddr> {
            match (attribute(ip, v4), attribute(ip, v6)) {
                (Some(bytes), _) => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
                (None, Some(bytes)) => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
                (None, None) => None,
            }
        };
        let port = |kind: u16| attribute(proto, kind).and_then(|b| Some(u16::from_be_bytes(b.try_into().ok()?))).unwrap_or(0);
        Some(Self {
            source: SocketAddr::new(address(1, 3)?, port(2)),
            destination: SocketAddr::new(address(2, 4)?, port(3)),
            protocol: *attribute(proto, 1)?.first()?,
        })
    }
}

fn parse_flow(attributes: &[u8]) -> Option<Flow> {
    let original = attribute(attributes, TUPLE_ORIG)?;
    let (there, back) = (Tuple::parse(original)?, Tuple::parse(attribute(attributes, TUPLE_REPLY)?)?);
    (there.protocol == UDP).then(|| Flow {
        destination: there.destination,
        answers_from: back.source,
        original: original.to_vec(),
    })
}

/// Forgets the stale flows; returns how many.
pub(crate) async fn clean(family: Family, services: &UdpServices) -> io::Result<usize> {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    let family = if family == Family::V4 { AF_INET } else { AF_INET6 };
    let mut socket = Netfilter::open(0)?;
    let entries = socket.call(CT_GET, family, Ask::Dump, &[]).await?;
    let mut forgotten = 0;
    for flow in entries.iter().filter_map(|m| parse_flow(&m.attributes)).filter(|f| services.is_stale(f)) {
        let mut request = Vec::new();
        put_nested(&mut request, TUPLE_ORIG, &flow.original);
        match socket.call(CT_DELETE, family, Ask::Do, &request).await {
            Ok(_) => forgotten += 1,
            // It ended by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SliceInfo;
    use serde_json::json;

    #[test]
    fn flows_to_endpoints_that_are_gone_are_stale() {
        let service = json!({"metadata": {"name": "dns", "namespace": "n"}, "spec": {"type": "NodePort", "clusterIP": "10.96.0.10",
            "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]}});
        let info = ServiceInfo::of(&serde_json::from_value(service).unwrap(), Family::V4);
        let slice = json!({"metadata": {"name": "dns-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "dns"}},
            "addressType": "IPv4", "ports": [{"port": 53, "protocol": "UDP"}], "endpoints": [{"addresses": ["10.244.0.2"]}]});
        let slice = SliceInfo::of(&serde_json::from_value(slice).unwrap(), "here").unwrap();
        let mut services = UdpServices::default();
        services.add(&info, &slice.endpoints);
        let check = |to: &str, from: &str, stale: bool| {
            let flow = Flow { destination: to.parse().unwrap(), answers_from: from.parse().unwrap(), original: vec![] };
            assert_eq!(services.is_stale(&flow), stale, "{to} answered by {from}");
        };
        check("10.96.0.10:53", "10.244.0.2:53", false);
        check("10.96.0.10:53", "10.244.0.9:53", true);
        check("10.96.0.10:53", "10.96.0.10:53", true);
        check("192.168.0.1:30053", "10.244.0.9:53", true);
        check("8.8.8.8:53", "8.8.8.8:53", false);
        let mut without = UdpServices::default();
        without.add(&info, &Endpoints::new());
        assert!(without.is_empty());
    }
}
