//! What the proxy knows: Services port by port, and endpoints. Read once from API objects; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use api::Kind;
use api::core::Service;
use api::discovery::EndpointSlice;

/// An IP family. Each has its own nftables table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" | "" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Namespace and name of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A CIDR block, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    pub address: IpAddr,
    pub bits: u8,
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a CIDR block");
        let (address, bits) = text.trim().split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        if bits > if address.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        Ok(Self { address: mask(address, bits), bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Cidr {
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.address.is_ipv4() && mask(ip, self.bits) == self.address
    }
}

fn mask(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// Which endpoints traffic may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficPolicy {
    Cluster,
    Local,
}

/// One port of a Service, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for a Service's only port.
    pub port_name: String,
    pub protocol: Protocol,
    pub cluster_ip: IpAddr,
    pub port: u16,
    pub node_port: Option<u16>,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    pub source_ranges: Vec<Cidr>,
    /// `sessionAffinity: ClientIP`: for how many seconds.
    pub affinity_seconds: Option<u32>,
    pub internal_policy: TrafficPolicy,
    pub external_policy: TrafficPolicy,
}

impl ServicePort {
    pub fn externally_accessible(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    pub fn uses_cluster_endpoints(&self) -> bool {
        // Also behind the local policy: traffic from the node itself goes anywhere.
        self.internal_policy == TrafficPolicy::Cluster || self.externally_accessible()
    }

    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_policy == TrafficPolicy::Local
            || (self.external_policy == TrafficPolicy::Local && self.externally_accessible())
    }
}

/// A Service, as far as a proxy cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceInfo {
    pub ports: Vec<ServicePort>,
    /// Where load balancers ask whether this node has endpoints.
    pub health_check_port: Option<u16>,
}

/// Another proxy serves Services with this label.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

impl ServiceInfo {
    /// The Service's ports in one family; none when it has no address there.
    pub fn of(service: &Service, family: Family) -> Self {
        let empty = Self::default();
        let Some(spec) = &service.spec else { return empty };
        let foreign = service.meta().labels.as_ref().is_some_and(|l| l.contains_key(OTHER_PROXY));
        if foreign || spec.type_.as_deref() == Some("ExternalName") {
            return empty;
        }
        let parse = |list: &Option<Vec<String>>| -> Vec<IpAddr> {
            let ips = list.iter().flatten().filter_map(|ip| ip.parse().ok());
            ips.filter(|ip| Family::of(*ip) == family).collect()
        };
        let cluster_ips = match &spec.cluster_ips {
            Some(ips) => parse(&Some(ips.clone())),
            None => parse(&spec.cluster_ip.clone().map(|ip| vec![ip])),
        };
        let Some(cluster_ip) = cluster_ips.first().copied() else { return empty };
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let ingress = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
        let load_balancer_ips: Vec<IpAddr> = ingress
            .into_iter()
            .flatten()
            .filter(|i| kind == "LoadBalancer" && i.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
            .filter_map(|i| i.ip.as_ref()?.parse().ok())
            .filter(|ip| Family::of(*ip) == family)
            .collect();
        let policy = |text: &Option<String>| match text.as_deref() {
            Some("Local") => TrafficPolicy::Local,
            _ => TrafficPolicy::Cluster,
        };
        let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let configured = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
            configured.and_then(|s| u32::try_from(s).ok()).unwrap_or(10_800)
        });
        let source_ranges = spec.load_balancer_source_ranges.iter().flatten();
        let source_ranges: Vec<Cidr> =
            source_ranges.filter_map(|r| r.parse().ok()).filter(|c: &Cidr| Family::of(c.address) == family).collect();
        let external_policy = policy(&spec.external_traffic_policy);
        let number = |port: i32| u16::try_from(port).ok().filter(|p| *p != 0);
        let ports = spec.ports.iter().flatten().filter_map(|p| {
            Some(ServicePort {
                port_name: p.name.clone().unwrap_or_default(),
                protocol: Protocol::parse(p.protocol.as_deref())?,
                cluster_ip,
                port: number(p.port)?,
                node_port: p.node_port.and_then(number).filter(|_| matches!(kind, "NodePort" | "LoadBalancer")),
                external_ips: parse(&spec.external_ips),
                load_balancer_ips: load_balancer_ips.clone(),
                source_ranges: source_ranges.clone(),
                affinity_seconds,
                internal_policy: policy(&spec.internal_traffic_policy),
                external_policy,
            })
        });
        Self {
            ports: ports.collect(),
            health_check_port: spec
                .health_check_node_port
                .and_then(number)
                .filter(|_| external_policy == TrafficPolicy::Local && kind == "LoadBalancer"),
        }
    }
}

/// An endpoint's address, port and state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// On this node.
    pub local: bool,
    pub zone_hints: BTreeSet<String>,
    pub node_hints: BTreeSet<String>,
}

/// Endpoints by port name and protocol.
pub type Endpoints = BTreeMap<(String, Protocol), BTreeMap<(IpAddr, u16), Endpoint>>;

/// An EndpointSlice: whose it is, in which family, and its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceInfo {
    pub service: ServiceName,
    pub family: Family,
    pub endpoints: Endpoints,
}

impl SliceInfo {
    /// `None` for slices that belong to no Service, or hold names instead of addresses.
    pub fn of(slice: &EndpointSlice, node: &str) -> Option<Self> {
        let service = slice.meta().labels.as_ref()?.get("kubernetes.io/service-name")?.clone();
        let family = match slice.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return None,
        };
        let mut endpoints = Endpoints::new();
        for port in slice.ports.iter().flatten() {
            let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0) else { continue };
            let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { continue };
            let of_port = endpoints.entry((port.name.clone().unwrap_or_default(), protocol)).or_default();
            for endpoint in slice.endpoints.iter().flatten() {
                let address = endpoint.addresses.first().and_then(|a| a.parse::<IpAddr>().ok());
                let Some(ip) = address.filter(|ip| Family::of(*ip) == family && is_plausible(*ip)) else { continue };
                let conditions = endpoint.conditions.clone().unwrap_or_default();
                let ready = conditions.ready.unwrap_or(true);
                let hints = endpoint.hints.clone().unwrap_or_default();
                let read = Endpoint {
                    ip,
                    port: number,
                    ready,
                    serving: conditions.serving.unwrap_or(ready),
                    terminating: conditions.terminating.unwrap_or(false),
                    local: endpoint.node_name.as_deref() == Some(node),
                    zone_hints: hints.for_zones.into_iter().flatten().map(|z| z.name).collect(),
                    node_hints: hints.for_nodes.into_iter().flatten().map(|n| n.name).collect(),
                };
                of_port.insert((ip, number), read);
            }
        }
        Some(Self { service: ServiceName { namespace: slice.namespace().to_owned(), name: service }, family, endpoints })
    }
}

/// Endpoints never point at the node's own loopback or at link-local services such as cloud metadata
/// (CVE-2021-25737): the API server refuses them, and a proxy must not depend on that.
fn is_plausible(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local)
}

/// The endpoints that traffic of each policy goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub cluster: Vec<Endpoint>,
    pub local: Vec<Endpoint>,
    /// There is a usable endpoint somewhere: without local ones, traffic is dropped, not rejected.
    pub any: bool,
}

impl Choice {
    /// Ready endpoints; where there are none, those that still serve while they terminate (KEP-1669). Hints narrow them to this
    /// node or zone when every endpoint has some and one of them is meant (KEP-2433, KEP-3015).
    pub fn of<'a>(port: &ServicePort, endpoints: impl Iterator<Item = &'a Endpoint> + Clone, node: &str, zone: &str) -> Self {
        let ready = || endpoints.clone().filter(|e| e.ready);
        let draining = || endpoints.clone().filter(|e| !e.ready && e.serving && e.terminating);
        let mut choice = Self::default();
        if port.uses_cluster_endpoints() {
            let hinted: Option<Vec<Endpoint>> = {
                let by_node = ready().all(|e| !e.node_hints.is_empty()) && ready().any(|e| e.node_hints.contains(node));
                let by_zone = ready().all(|e| !e.zone_hints.is_empty()) && ready().any(|e| e.zone_hints.contains(zone));
                match (by_node, by_zone) {
                    (true, _) => Some(ready().filter(|e| e.node_hints.contains(node)).cloned().collect()),
                    (_, true) => Some(ready().filter(|e| e.zone_hints.contains(zone)).cloned().collect()),
                    _ => None,
                }
            };
            choice.cluster = hinted.unwrap_or_else(|| ready().cloned().collect());
            if choice.cluster.is_empty() {
                choice.cluster = draining().cloned().collect();
            }
            choice.any = !choice.cluster.is_empty();
        }
        if port.uses_local_endpoints() {
            choice.local = ready().filter(|e| e.local).cloned().collect();
            if choice.local.is_empty() {
                choice.local = draining().filter(|e| e.local).cloned().collect();
            }
            choice.any |= ready().next().is_some() || draining().next().is_some();
        }
        choice
    }

    /// Everything reachable from here, each once.
    pub fn reachable(&self) -> BTreeMap<(IpAddr, u16), &Endpoint> {
        self.cluster.iter().chain(&self.local).map(|e| ((e.ip, e.port), e)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cidrs() {
        let cidr: Cidr = "10.244.3.7/16".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.244.0.0/16");
        assert!(cidr.contains("10.244.9.9".parse().unwrap()) && !cidr.contains("10.245.0.0".parse().unwrap()));
        assert!("fd00::/8".parse::<Cidr>().unwrap().contains("fd12::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("1.2.3.4".parse().unwrap()));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/8; flush ruleset"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }

    fn service(spec: serde_json::Value) -> ServiceInfo {
        let object = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec});
        ServiceInfo::of(&serde_json::from_value(object).unwrap(), Family::V4)
    }

    #[test]
    fn services_without_an_address_here_have_no_ports() {
        let ports = json!([{"port": 80}]);
        for spec in [
            json!({"clusterIP": "None", "ports": ports}),
            json!({"type": "ExternalName", "externalName": "x", "ports": ports}),
            json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"], "ports": ports}),
        ] {
            assert_eq!(service(spec), ServiceInfo::default());
        }
        let info =
            service(json!({"clusterIPs": ["fd00::1", "10.0.0.1"], "clusterIP": "fd00::1", "ports": ports, "type": "NodePort"}));
        assert_eq!(info.ports[0].cluster_ip.to_string(), "10.0.0.1");
    }

    #[test]
    fn a_node_port_of_a_cluster_ip_service_is_ignored() {
        let info = service(json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30000}]}));
        assert_eq!(info.ports[0].node_port, None);
    }

    fn slice(endpoints: serde_json::Value) -> SliceInfo {
        let object = json!({"metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints});
        SliceInfo::of(&serde_json::from_value(object).unwrap(), "here").unwrap()
    }

    #[test]
    fn dangerous_addresses_are_no_endpoints() {
        let info = slice(json!([{"addresses": ["127.0.0.1"]}, {"addresses": ["169.254.169.254"]}, {"addresses": ["10.0.0.1"]}]));
        assert_eq!(info.endpoints[&(String::new(), Protocol::Tcp)].len(), 1);
    }

    #[test]
    fn ready_first_then_draining() {
        let port = |policy: &str| {
            let spec = json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}], "internalTrafficPolicy": policy});
            service(spec).ports.remove(0)
        };
        let choose = |policy: &str, endpoints: serde_json::Value| {
            let info = slice(endpoints);
            Choice::of(&port(policy), info.endpoints[&(String::new(), Protocol::Tcp)].values(), "here", "z1")
        };
        let ips = |list: &[Endpoint]| list.iter().map(|e| e.ip.to_string()).collect::<Vec<_>>();
        let draining = json!({"ready": false, "serving": true, "terminating": true});
        let both = json!([{"addresses": ["10.1.0.1"], "nodeName": "here", "conditions": draining},
                          {"addresses": ["10.1.0.2"], "nodeName": "there", "conditions": {"ready": true}}]);
        let choice = choose("Cluster", both.clone());
        assert_eq!((ips(&choice.cluster), choice.any), (vec!["10.1.0.2".to_owned()], true));
        let choice = choose("Local", both);
        assert_eq!((ips(&choice.local), choice.any), (vec!["10.1.0.1".to_owned()], true));
        let choice = choose("Cluster", json!([{"addresses": ["10.1.0.1"], "conditions": draining}]));
        assert_eq!(ips(&choice.cluster), ["10.1.0.1"]);
        let choice = choose("Cluster", json!([{"addresses": ["10.1.0.1"], "conditions": {"ready": false}}]));
        assert_eq!(choice, Choice::default());
        let hint = |zone: &str| json!({"forZones": [{"name": zone}]});
        let choice = choose(
            "Cluster",
            json!([{"addresses": ["10.1.0.1"], "hints": hint("z1")}, {"addresses": ["10.1.0.2"], "hints": hint("z2")}]),
        );
        assert_eq!(ips(&choice.cluster), ["10.1.0.1"]);
        let choice = choose("Cluster", json!([{"addresses": ["10.1.0.1"], "hints": hint("z1")}, {"addresses": ["10.1.0.2"]}]));
        assert_eq!(ips(&choice.cluster), ["10.1.0.1", "10.1.0.2"]);
    }
}
