//! Cluster addresses and node ports of Services: which are taken, which one comes next. Pure: the caller brings all
//! Services and writes one at a time.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use machinery::field::{FieldError, Path};
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

/// `--service-cluster-ip-range` and `--service-node-port-range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// The first is the primary family.
    pub ranges: Vec<Cidr>,
    pub node_ports: RangeInclusive<u16>,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

/// A range that is not written as one.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a range of addresses such as 10.96.0.0/12")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (base, bits) = text.trim().split_once('/')?;
            let base: IpAddr = base.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            (bits <= if base.is_ipv4() { 32 } else { 128 }).then(|| Self { base, bits }.masked())
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl Cidr {
    fn host_bits(self) -> u32 {
        (if self.base.is_ipv4() { 32 } else { 128 }) - u32::from(self.bits)
    }

    fn number(self) -> u128 {
        match self.base {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        }
    }

    fn masked(self) -> Self {
        let kept = if self.host_bits() >= 128 { 0 } else { (self.number() >> self.host_bits()) << self.host_bits() };
        Self { base: self.address(kept), ..self }
    }

    fn address(self, number: u128) -> IpAddr {
        match self.base {
            // Numbers of this family came from 32 bits.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }

    /// How many addresses can be given: not the first, and in IPv4 not the last.
    fn usable(self) -> u128 {
        let all = if self.host_bits() >= 64 { 1 << 64 } else { 1u128 << self.host_bits() };
        all.saturating_sub(if self.base.is_ipv4() { 2 } else { 1 })
    }

    /// The n-th address that can be given, from 0. The server itself has number 0.
    pub fn nth(self, n: u128) -> IpAddr {
        self.address(self.number() + 1 + n)
    }

    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.base.is_ipv4() && Self { base: address, bits: self.bits }.masked().base == self.base
    }

    pub fn family(self) -> &'static str {
        if self.base.is_ipv4() { "IPv4" } else { "IPv6" }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// The start of a range is kept for addresses that users choose.
fn reserved(usable: u128) -> u128 {
    const MIN: u128 = 16;
    const MAX: u128 = 256;
    const STEP: u128 = 16;
    if usable <= MIN { 0 } else { (usable / STEP).clamp(MIN, MAX) }
}

type PortKey = (u16, String);

#[derive(Default)]
struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<PortKey>,
}

impl Taken {
    fn of(services: &[Value], except: &Value) -> Self {
        let mut taken = Self::default();
        for service in services.iter().filter(|service| !same_object(service, except)) {
            taken.addresses.extend(cluster_ips(service).iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
            for port in ports(service) {
                taken.ports.extend(node_port(port).map(|number| (number, protocol(port))));
            }
            taken.ports.extend(health_port(service).map(|number| (number, "TCP".to_owned())));
        }
        taken
    }

    fn port_is_free(&self, port: u16, protocol: &str) -> bool {
        !self.ports.contains(&(port, protocol.to_owned()))
    }
}

impl ServiceNetwork {
    /// Gives a new or changed Service what it needs and does not have, and refuses what others have.
    pub fn allocate(&self, services: &[Value], service: &mut Value, old: Option<&Value>, random: u64) -> Result<(), Status> {
        let mut taken = Taken::of(services, service);
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
        if let Some(old) = old {
            keep_numbers(service, old);
        }
        if kind == "ExternalName" {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                meta::remove_path(service, &["spec", field]);
            }
            return Ok(());
        }
        self.addresses(&mut taken, service, random)?;
        if kind == "NodePort" || kind == "LoadBalancer" {
            self.node_ports(&mut taken, service, random)?;
        } else if old.is_some_and(|old| matches!(old["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer"))) {
            release_ports(service, old);
        }
        Ok(())
    }

    fn addresses(&self, taken: &mut Taken, service: &mut Value, random: u64) -> Result<(), Status> {
        let mut wanted = cluster_ips(service);
        if is_bare_headless(service, &wanted) {
            // Its endpoints are written by hand, in whichever family.
            set_addresses(service, &["None".to_owned()], &["IPv4".to_owned(), "IPv6".to_owned()]);
            meta::set_path(service, &["spec", "ipFamilyPolicy"], json!("RequireDualStack"));
            return Ok(());
        }
        let families = self.families(service, &wanted)?;
        if wanted.first().is_some_and(|ip| ip == "None") {
            set_addresses(service, &["None".to_owned()], &families);
            return Ok(());
        }
        wanted.resize(families.len(), String::new());
        let path = Path::new("spec").child("clusterIPs");
        let mut given = Vec::new();
        for (index, (family, wanted)) in families.iter().zip(&wanted).enumerate() {
            let Some(range) = self.ranges.iter().find(|range| range.family() == family) else { continue };
            let address = if wanted.is_empty() {
                next_address(*range, taken, random)
                    .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?
            } else {
                let invalid = |detail: String| invalid(service, FieldError::invalid(&path, json!(cluster_ips(service)), detail));
                let Ok(address) = wanted.parse::<IpAddr>() else {
                    let path = path.index(index);
                    return Err(self::invalid(
                        service,
                        FieldError::invalid(
                            &path,
                            wanted.as_str(),
                            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                        ),
                    ));
                };
                if !range.contains(address) {
                    return Err(invalid(format!(
                        "failed to allocate IP {address}: the provided network does not match the current range"
                    )));
                }
                if taken.addresses.contains(&address) {
                    return Err(invalid(format!("failed to allocate IP {address}: provided IP is already allocated")));
                }
                address
            };
            taken.addresses.insert(address);
            given.push(address.to_string());
        }
        set_addresses(service, &given, &families);
        Ok(())
    }

    /// The families a Service has, in order.
    fn families(&self, service: &mut Value, wanted: &[String]) -> Result<Vec<String>, Status> {
        let asked: Vec<String> =
            service["spec"]["ipFamilies"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let policy = service["spec"]["ipFamilyPolicy"].as_str().unwrap_or("SingleStack").to_owned();
        let served: Vec<&str> = self.ranges.iter().map(|range| range.family()).collect();
        let of_address = |ip: &String| ip.parse::<IpAddr>().ok().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned());
        let mut families = if asked.is_empty() { wanted.iter().filter_map(of_address).collect() } else { asked };
        let path = Path::new("spec").child("ipFamilies");
        if let Some(unserved) = families.iter().find(|family| !served.contains(&family.as_str())) {
            let detail = "not configured on this cluster";
            return Err(invalid(service, FieldError::invalid(&path.index(0), unserved.as_str(), detail)));
        }
        if families.is_empty() {
            families.extend(served.first().map(|family| (*family).to_owned()));
        }
        match policy.as_str() {
            "RequireDualStack" | "PreferDualStack" => {
                let other = served.iter().find(|family| !families.iter().any(|f| f == *family));
                if families.len() < 2 {
                    families.extend(other.map(|family| (*family).to_owned()));
                }
                if policy == "RequireDualStack" && families.len() < 2 {
                    let path = Path::new("spec").child("ipFamilyPolicy");
                    let detail = "this cluster is not configured for dual-stack services";
                    return Err(invalid(service, FieldError::invalid(&path, policy, detail)));
                }
            }
            _ => families.truncate(1),
        }
        meta::set_path(service, &["spec", "ipFamilyPolicy"], json!(policy));
        Ok(families)
    }

    fn node_ports(&self, taken: &mut Taken, service: &mut Value, random: u64) -> Result<(), Status> {
        let allocates = service["spec"]["type"] != "LoadBalancer" || service["spec"]["allocateLoadBalancerNodePorts"] != false;
        let copy = service.clone();
        let Some(ports) = service["spec"]["ports"].as_array_mut() else { return Ok(()) };
        let mut own: HashSet<PortKey> = HashSet::new();
        for (index, port) in ports.iter_mut().enumerate() {
            let path = Path::new("spec").child("ports").index(index).child("nodePort");
            let protocol = protocol(port);
            let number = match node_port(port) {
                Some(number) => {
                    if !self.node_ports.contains(&number) {
                        let (first, last) = (self.node_ports.start(), self.node_ports.end());
                        let detail =
                            format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
                        return Err(invalid(&copy, FieldError::invalid(&path, number, detail)));
                    }
                    let free = taken.port_is_free(number, &protocol) && !own.contains(&(number, protocol.clone()));
                    if !free {
                        return Err(invalid(&copy, FieldError::invalid(&path, number, "provided port is already allocated")));
                    }
                    number
                }
                None if !allocates => continue,
                None => self
                    .next_port(taken, &own, &protocol, random.wrapping_add(index as u64))
                    .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?,
            };
            own.insert((number, protocol));
            meta::as_object_mut(port).insert("nodePort".to_owned(), json!(number));
        }
        taken.ports.extend(own);
        self.health_check_port(taken, service, random)
    }

    /// Load balancers with local traffic ask nodes for their health on a port of its own.
    fn health_check_port(&self, taken: &Taken, service: &mut Value, random: u64) -> Result<(), Status> {
        let needed = service["spec"]["type"] == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local";
        if !needed {
            return Ok(());
        }
        let path = Path::new("spec").child("healthCheckNodePort");
        let number = match health_port(service) {
            Some(number) if taken.port_is_free(number, "TCP") => number,
            Some(number) => {
                return Err(invalid(service, FieldError::invalid(&path, number, "provided port is already allocated")));
            }
            None => self
                .next_port(taken, &HashSet::new(), "TCP", random.rotate_left(17))
                .ok_or_else(|| Status::internal("failed to allocate a healthCheckNodePort: range is full"))?,
        };
        meta::set_path(service, &["spec", "healthCheckNodePort"], json!(number));
        Ok(())
    }

    fn next_port(&self, taken: &Taken, own: &HashSet<PortKey>, protocol: &str, random: u64) -> Option<u16> {
        let (first, size) = (u64::from(*self.node_ports.start()), self.node_ports.len() as u64);
        let free = |port: &u16| {
            // Free for every protocol first: a port that means one thing is easier to read.
            ["TCP", "UDP", "SCTP"].iter().all(|p| taken.port_is_free(*port, p) && !own.contains(&(*port, (*p).to_owned())))
        };
        let mut candidates = (0..size).filter_map(|i| u16::try_from(first + (random.wrapping_add(i)) % size).ok());
        candidates.clone().find(free).or_else(|| {
            candidates.find(|port| taken.port_is_free(*port, protocol) && !own.contains(&(*port, protocol.to_owned())))
        })
    }
}

fn next_address(range: Cidr, taken: &Taken, random: u64) -> Option<IpAddr> {
    let usable = range.usable();
    let low = reserved(usable);
    let free = |n: u128| {
        let address = range.nth(n);
        (!taken.addresses.contains(&address)).then_some(address)
    };
    let upper = usable - low;
    // The set of taken addresses is finite: one of the first `taken + 1` candidates is free, if any is.
    let tries = upper.min(taken.addresses.len() as u128 + 1);
    let high = (0..tries).find_map(|i| free(low + (u128::from(random) + i) % upper));
    // The server's own address, number 0, is never given.
    high.or_else(|| (1..low).find_map(free))
}

/// Headless, without a selector, and silent about families.
fn is_bare_headless(service: &Value, wanted: &[String]) -> bool {
    let spec = &service["spec"];
    let said = |field: &str| !spec[field].is_null() && spec[field].as_array().is_none_or(|list| !list.is_empty());
    let decided = spec["ipFamilyPolicy"] == "RequireDualStack" && spec["ipFamilies"].as_array().is_some_and(|f| f.len() == 2);
    wanted.first().is_some_and(|ip| ip == "None")
        && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty)
        && (decided || (!said("ipFamilyPolicy") && !said("ipFamilies")))
}

fn invalid(service: &Value, error: FieldError) -> Status {
    Status::invalid("Service", meta::name(service), vec![error])
}

fn same_object(a: &Value, b: &Value) -> bool {
    meta::namespace(a) == meta::namespace(b) && meta::name(a) == meta::name(b)
}

/// `clusterIPs`, or what `clusterIP` alone says.
fn cluster_ips(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let many: Vec<String> =
        spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    match spec["clusterIP"].as_str().filter(|ip| !ip.is_empty()) {
        Some(one) if many.is_empty() => vec![one.to_owned()],
        _ => many,
    }
}

fn set_addresses(service: &mut Value, addresses: &[String], families: &[String]) {
    meta::set_path(service, &["spec", "clusterIP"], json!(addresses.first()));
    meta::set_path(service, &["spec", "clusterIPs"], json!(addresses));
    meta::set_path(service, &["spec", "ipFamilies"], json!(families));
}

fn ports(service: &Value) -> &[Value] {
    service["spec"]["ports"].as_array().map_or(&[], Vec::as_slice)
}

fn node_port(port: &Value) -> Option<u16> {
    port["nodePort"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

fn health_port(service: &Value) -> Option<u16> {
    service["spec"]["healthCheckNodePort"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

fn protocol(port: &Value) -> String {
    port["protocol"].as_str().unwrap_or("TCP").to_owned()
}

/// A change that does not speak of addresses and ports keeps them: clients send what they know.
fn keep_numbers(service: &mut Value, old: &Value) {
    let was_external = old["spec"]["type"] == "ExternalName";
    let is_external = service["spec"]["type"] == "ExternalName";
    if !was_external && !is_external {
        if service["spec"]["clusterIP"].as_str().unwrap_or_default().is_empty() && cluster_ips(service).is_empty() {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !old["spec"][field].is_null() && service["spec"][field].is_null() {
                    meta::set_path(service, &["spec", field], old["spec"][field].clone());
                }
            }
        }
        keep_node_ports(service, old);
    }
}

fn keep_node_ports(service: &mut Value, old: &Value) {
    if !matches!(service["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        return;
    }
    let before: Vec<(Value, String, u16)> =
        ports(old).iter().filter_map(|port| Some((port["port"].clone(), protocol(port), node_port(port)?))).collect();
    let used: HashSet<u16> = ports(service).iter().filter_map(node_port).collect();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if node_port(port).is_none() {
            let same =
                before.iter().find(|(number, p, node)| *number == port["port"] && *p == protocol(port) && !used.contains(node));
            if let Some((_, _, node)) = same {
                meta::as_object_mut(port).insert("nodePort".to_owned(), json!(node));
            }
        }
    }
}

/// A Service that no longer has node ports gives them up, unless the client says otherwise.
fn release_ports(service: &mut Value, old: Option<&Value>) {
    let before: HashSet<u16> = old.map(|old| ports(old).iter().filter_map(node_port).collect()).unwrap_or_default();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if node_port(port).is_some_and(|number| before.contains(&number)) {
            meta::as_object_mut(port).remove("nodePort");
        }
    }
    meta::remove_path(service, &["spec", "healthCheckNodePort"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(range: &str) -> ServiceNetwork {
        ServiceNetwork { ranges: vec![range.parse().unwrap()], node_ports: 30000..=30003 }
    }

    fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec})
    }

    fn allocate(others: &[Value], mut new: Value, old: Option<&Value>) -> Result<Value, String> {
        network("10.96.0.0/24").allocate(others, &mut new, old, 7).map(|()| new["spec"].clone()).map_err(|s| s.to_string())
    }

    #[test]
    fn ranges() {
        let cidr: Cidr = "10.96.0.7/12".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.96.0.0/12");
        assert_eq!(cidr.nth(0).to_string(), "10.96.0.1");
        assert!(cidr.contains("10.111.255.255".parse().unwrap()) && !cidr.contains("10.112.0.0".parse().unwrap()));
        assert_eq!("fd00::/112".parse::<Cidr>().unwrap().nth(1).to_string(), "fd00::2");
        assert!("10.96.0.0".parse::<Cidr>().is_err() && "10.96.0.0/33".parse::<Cidr>().is_err());
    }

    #[test]
    fn a_service_gets_an_address() {
        let spec = allocate(&[], service("a", json!({"ports": [{"port": 80}]})), None).unwrap();
        assert_eq!((&spec["clusterIP"], &spec["clusterIPs"]), (&json!("10.96.0.24"), &json!(["10.96.0.24"])));
        assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
        let other = service("a", spec);
        let next = allocate(std::slice::from_ref(&other), service("b", json!({})), None).unwrap();
        assert_eq!(next["clusterIP"], "10.96.0.25");
        let headless = allocate(&[], service("h", json!({"clusterIP": "None", "selector": {"a": "b"}})), None).unwrap();
        assert_eq!((&headless["clusterIPs"], &headless["ipFamilies"]), (&json!(["None"]), &json!(["IPv4"])));
        let taken = allocate(&[other], service("b", json!({"clusterIP": "10.96.0.24"})), None).unwrap_err();
        assert!(taken.ends_with("failed to allocate IP 10.96.0.24: provided IP is already allocated"), "{taken}");
        assert!(allocate(&[], service("b", json!({"clusterIP": "10.97.0.1"})), None).unwrap_err().contains("does not match"));
    }

    #[test]
    fn a_full_range_says_so_and_never_gives_the_first() {
        let small = network("10.0.0.0/30");
        let mut first = service("a", json!({}));
        small.allocate(&[], &mut first, None, 0).unwrap();
        let mut all = vec![first];
        for i in 0..4 {
            let mut next = service(&format!("s{i}"), json!({}));
            match small.allocate(&all, &mut next, None, 0) {
                Ok(()) => all.push(next),
                Err(status) => {
                    assert!(status.to_string().contains("range is full"));
                    return;
                }
            }
        }
        panic!("two addresses served six services");
    }

    #[test]
    fn node_ports() {
        let port = json!({"port": 80, "protocol": "TCP"});
        let a = allocate(&[], service("a", json!({"type": "NodePort", "ports": [port]})), None).unwrap();
        assert_eq!(a["ports"][0]["nodePort"], 30003);
        let a = service("a", a);
        let b = allocate(std::slice::from_ref(&a), service("b", json!({"type": "NodePort", "ports": [port]})), None).unwrap();
        assert_eq!(b["ports"][0]["nodePort"], 30000);
        let wanted = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30003}]});
        assert!(allocate(std::slice::from_ref(&a), service("b", wanted), None).unwrap_err().contains("already allocated"));
        let outside = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]});
        assert!(allocate(&[], service("b", outside), None).unwrap_err().contains("valid ports is 30000-30003"));
    }

    #[test]
    fn an_update_keeps_or_gives_up() {
        let old = service(
            "a",
            json!({"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ports": [{"port": 80, "nodePort": 30001}]}),
        );
        let same = allocate(&[], service("a", json!({"type": "NodePort", "ports": [{"port": 80}]})), Some(&old)).unwrap();
        assert_eq!((&same["clusterIP"], &same["ports"][0]["nodePort"]), (&json!("10.96.0.9"), &json!(30001)));
        let mut plain = old.clone();
        plain["spec"]["type"] = json!("ClusterIP");
        assert_eq!(allocate(&[], plain, Some(&old)).unwrap()["ports"], json!([{"port": 80}]));
        let mut external = old.clone();
        external["spec"]["type"] = json!("ExternalName");
        assert!(allocate(&[], external, Some(&old)).unwrap().get("clusterIP").is_none());
    }
}
