//! The cluster's zone: what a name means. Pure; follows the Kubernetes DNS specification 1.1.
//!
//! A [`Zone`] is changed Service by Service as the API changes, and asked for each query; nothing is rebuilt.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// The version of the specification that `dns-version` tells.
const SPECIFICATION: &str = "1.1.0";
/// Services keep their addresses; how long a client may.
const SERVICE_TTL: u32 = 30;
/// Endpoints come and go.
const ENDPOINT_TTL: u32 = 5;
/// What is not there may be there soon.
const NEGATIVE_TTL: u32 = 5;

/// Namespace and name of a Service.
pub type ServiceKey = (String, String);

/// A named port, with the protocol as DNS spells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub name: String,
    pub protocol: &'static str,
    pub number: u16,
}

/// A ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: IpAddr,
    /// The first label of its name: its hostname, or its address with dashes.
    pub label: String,
    pub ports: Vec<Port>,
}

/// A Service and its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Empty for a headless Service.
    pub cluster_ips: Vec<IpAddr>,
    /// `externalName`.
    pub alias: Option<Name>,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

impl ServiceEntry {
    fn is_headless(&self) -> bool {
        self.cluster_ips.is_empty() && self.alias.is_none()
    }
}

/// What the zone says of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Records {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// The name is an alias of one elsewhere.
    Alias {
        cname: Box<Record>,
        target: Name,
    },
    /// The name is there, but nothing of that type.
    NoData(Box<Record>),
    NoName(Box<Record>),
    /// A name of another zone.
    NotOurs,
}

#[derive(Clone, Debug)]
pub struct Zone {
    apex: Name,
    services: HashMap<ServiceKey, ServiceEntry>,
    namespaces: BTreeSet<String>,
    /// Who an address belongs to.
    owners: HashMap<IpAddr, BTreeSet<Name>>,
    /// Addresses of the Service this server stands behind.
    own_addresses: Vec<IpAddr>,
    own_service: ServiceKey,
    serial: u32,
}

/// An address as the first label of an endpoint or pod.
pub fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace([':', '.'], "-")
}

fn undashed(label: &str) -> Option<IpAddr> {
    let dots = label.replace('-', ".");
    dots.parse().ok().or_else(|| label.replace('-', ":").parse().ok())
}

/// What kind of name was asked for, as labels before the apex, rightmost first.
enum Place<'a> {
    Apex,
    /// A part of the tree that only holds others.
    Inner,
    Version,
    NameServer,
    Service {
        key: ServiceKey,
        rest: Vec<&'a str>,
    },
    Pod {
        namespace: &'a str,
        label: &'a str,
    },
    Nothing,
}

impl Zone {
    /// `own_service` is the Service this server stands behind, usually `kube-system/kube-dns`.
    pub fn new(apex: Name, own_service: ServiceKey) -> Self {
        Self {
            apex: apex.to_lowercase(),
            services: HashMap::new(),
            namespaces: BTreeSet::new(),
            owners: HashMap::new(),
            own_addresses: Vec::new(),
            own_service,
            serial: 1,
        }
    }

    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Addresses under which this server is known in the cluster.
    pub fn own_addresses(&self) -> &[IpAddr] {
        &self.own_addresses
    }

    pub fn set_namespace(&mut self, name: &str, present: bool) {
        if present {
            self.namespaces.insert(name.to_owned())
        } else {
            self.namespaces.remove(name)
        };
    }

    /// Replaces a Service; `None` removes it.
    pub fn set_service(&mut self, key: &ServiceKey, entry: Option<ServiceEntry>) {
        let before = self.services.remove(key);
        if before == entry {
            self.services.extend(entry.map(|e| (key.clone(), e)));
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        for (ip, name) in before.iter().flat_map(|e| self.reverse_names(key, e)).collect::<Vec<_>>() {
            if let Some(names) = self.owners.get_mut(&ip) {
                names.remove(&name);
                if names.is_empty() {
                    self.owners.remove(&ip);
                }
            }
        }
        for (ip, name) in entry.iter().flat_map(|e| self.reverse_names(key, e)).collect::<Vec<_>>() {
            self.owners.entry(ip).or_default().insert(name);
        }
        if *key == self.own_service {
            self.own_addresses = entry.as_ref().map(|e| e.cluster_ips.clone()).unwrap_or_default();
        }
        self.services.extend(entry.map(|e| (key.clone(), e)));
    }

    fn reverse_names(&self, key: &ServiceKey, entry: &ServiceEntry) -> Vec<(IpAddr, Name)> {
        let Some(service) = self.service_name(key) else { return Vec::new() };
        let own = entry.cluster_ips.iter().map(|ip| (*ip, service.clone()));
        let endpoints = entry.endpoints.iter().filter_map(|e| Some((e.ip, service.prepend_label(e.label.as_str()).ok()?)));
        own.chain(endpoints).collect()
    }

    /// `name.namespace.svc.<apex>`. API names are labels; `None` only for what could not be one.
    fn service_name(&self, (namespace, name): &ServiceKey) -> Option<Name> {
        let svc = self.apex.prepend_label("svc").ok()?;
        svc.prepend_label(namespace.as_str()).ok()?.prepend_label(name.as_str()).ok()
    }

    /// The zone's own record, which also says for how long "no" is true.
    pub fn soa(&self, zone: &Name) -> Record {
        let server = self.name_server();
        let hostmaster = self.apex.prepend_label("hostmaster").unwrap_or_else(|_| self.apex.clone());
        let soa = SOA::new(server, hostmaster, self.serial, 7200, 1800, 86400, NEGATIVE_TTL);
        Record::from_rdata(zone.clone(), NEGATIVE_TTL, RData::SOA(soa))
    }

    fn name_server(&self) -> Name {
        let dns = self.apex.prepend_label("dns").and_then(|n| n.prepend_label("ns"));
        dns.unwrap_or_else(|_| self.apex.clone())
    }

    /// Answers a question. `turn` rotates several addresses, so that clients that take the first spread.
    pub fn answer(&self, name: &Name, kind: RecordType, turn: usize) -> Answer {
        if let Some(answer) = self.reverse(name, kind) {
            return answer;
        }
        if !self.apex.zone_of(name) {
            return Answer::NotOurs;
        }
        let Ok(labels) = labels_before(name, &self.apex) else { return self.no_name() };
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match self.place(&labels) {
            Place::Apex => match kind {
                RecordType::SOA => self.records(vec![self.soa(&self.apex)]),
                RecordType::NS => {
                    let ns = Record::from_rdata(name.clone(), SERVICE_TTL, RData::NS(NS(self.name_server())));
                    let glue = addresses(&self.name_server(), &self.own_addresses, None, SERVICE_TTL);
                    Answer::Records { answers: vec![ns], additionals: glue }
                }
                _ => self.no_data(),
            },
            Place::Inner => self.no_data(),
            Place::Nothing => self.no_name(),
            Place::Version if kind == RecordType::TXT => {
                let text = RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()]));
                self.records(vec![Record::from_rdata(name.clone(), SERVICE_TTL, text)])
            }
            Place::Version => self.no_data(),
            Place::NameServer => self.found(addresses(name, &self.own_addresses, Some(kind), SERVICE_TTL)),
            Place::Pod { namespace, label } => match undashed(label) {
                Some(ip) if self.namespaces.contains(namespace) => self.found(addresses(name, &[ip], Some(kind), SERVICE_TTL)),
                _ => self.no_name(),
            },
            Place::Service { key, rest } => self.service(name, kind, &key, &rest, turn),
        }
    }

    fn place<'a>(&self, labels: &[&'a str]) -> Place<'a> {
        match labels {
            [] => Place::Apex,
            ["dns-version"] => Place::Version,
            ["dns", "ns"] => Place::NameServer,
            ["svc" | "pod" | "dns"] => Place::Inner,
            ["svc" | "pod", namespace] if self.namespaces.contains(*namespace) => Place::Inner,
            ["svc", namespace, name, rest @ ..] => {
                Place::Service { key: ((*namespace).to_owned(), (*name).to_owned()), rest: rest.to_vec() }
            }
            ["pod", namespace, label] => Place::Pod { namespace, label },
            _ => Place::Nothing,
        }
    }

    /// Names at and below a Service: `rest` is what stands before it, rightmost first.
    fn service(&self, name: &Name, kind: RecordType, key: &ServiceKey, rest: &[&str], turn: usize) -> Answer {
        let (Some(entry), Some(base)) = (self.services.get(key), self.service_name(key)) else { return self.no_name() };
        if let Some(target) = &entry.alias {
            if !rest.is_empty() {
                return self.no_name();
            }
            let cname = Record::from_rdata(name.clone(), SERVICE_TTL, RData::CNAME(CNAME(target.clone())));
            return Answer::Alias { cname: Box::new(cname), target: target.clone() };
        }
        match rest {
            // Without a single ready endpoint a headless Service is not there.
            [] if entry.is_headless() && entry.endpoints.is_empty() => self.no_name(),
            [] if kind == RecordType::SRV => self.srv(name, &base, entry, |_| true),
            [] if entry.is_headless() => {
                let mut ips: Vec<IpAddr> = entry.endpoints.iter().map(|e| e.ip).collect();
                ips.sort();
                ips.dedup();
                let by = turn % ips.len().max(1);
                ips.rotate_left(by);
                self.found(addresses(name, &ips, Some(kind), ENDPOINT_TTL))
            }
            [] => self.found(addresses(name, &entry.cluster_ips, Some(kind), SERVICE_TTL)),
            [protocol, port] if protocol.starts_with('_') && port.starts_with('_') => {
                let wanted = |p: &Port| p.protocol == &protocol[1..] && p.name == port[1..];
                if !entry.ports.iter().any(wanted) && !entry.endpoints.iter().flat_map(|e| &e.ports).any(wanted) {
                    return self.no_name();
                }
                if kind == RecordType::SRV { self.srv(name, &base, entry, wanted) } else { self.no_data() }
            }
            // `_tcp.service` holds ports.
            [protocol] if protocol.starts_with('_') => {
                if entry.ports.iter().any(|p| p.protocol == &protocol[1..]) {
                    self.no_data()
                } else {
                    self.no_name()
                }
            }
            [label] => {
                let of_label: Vec<&Endpoint> = entry.endpoints.iter().filter(|e| e.label == *label).collect();
                if of_label.is_empty() {
                    return self.no_name();
                }
                let ips: Vec<IpAddr> = of_label.iter().map(|e| e.ip).collect();
                self.found(addresses(name, &ips, Some(kind), ENDPOINT_TTL))
            }
            _ => self.no_name(),
        }
    }

    /// One record per port of a Service with an address; one per port and endpoint of a headless one.
    fn srv(&self, name: &Name, base: &Name, entry: &ServiceEntry, wanted: impl Fn(&Port) -> bool) -> Answer {
        let mut targets: Vec<(u16, Name)> = Vec::new();
        let mut additionals = Vec::new();
        let ttl = if entry.is_headless() { ENDPOINT_TTL } else { SERVICE_TTL };
        if entry.is_headless() {
            for endpoint in &entry.endpoints {
                let Ok(target) = base.prepend_label(endpoint.label.as_str()) else { continue };
                let ports: Vec<u16> = endpoint.ports.iter().filter(|p| wanted(p)).map(|p| p.number).collect();
                if !ports.is_empty() {
                    additionals.extend(addresses(&target, &[endpoint.ip], None, ttl));
                }
                targets.extend(ports.into_iter().map(|number| (number, target.clone())));
            }
        } else {
            targets.extend(entry.ports.iter().filter(|p| wanted(p)).map(|p| (p.number, base.clone())));
            additionals = addresses(base, &entry.cluster_ips, None, ttl);
        }
        if targets.is_empty() {
            return self.no_data();
        }
        let weight = (100 / targets.len()).max(1) as u16;
        let record = |(port, target)| Record::from_rdata(name.clone(), ttl, RData::SRV(SRV::new(0, weight, port, target)));
        Answer::Records { answers: targets.into_iter().map(record).collect(), additionals }
    }

    /// `in-addr.arpa` and `ip6.arpa` of addresses in the cluster; others belong to somebody else.
    fn reverse(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        let arpa = name.iter().next_back()?.eq_ignore_ascii_case(b"arpa");
        let ip = arpa.then(|| name.parse_arpa_name().ok()).flatten()?;
        let whole = ip.prefix_len() == if ip.addr().is_ipv4() { 32 } else { 128 };
        let owners = self.owners.get(&ip.addr()).filter(|_| whole)?;
        if kind != RecordType::PTR {
            return Some(Answer::NoData(Box::new(self.soa(name))));
        }
        let record = |owner: &Name| Record::from_rdata(name.clone(), ENDPOINT_TTL, RData::PTR(PTR(owner.clone())));
        Some(self.records(owners.iter().map(record).collect()))
    }

    fn records(&self, answers: Vec<Record>) -> Answer {
        Answer::Records { answers, additionals: Vec::new() }
    }

    fn found(&self, answers: Vec<Record>) -> Answer {
        if answers.is_empty() { self.no_data() } else { self.records(answers) }
    }

    fn no_data(&self) -> Answer {
        Answer::NoData(Box::new(self.soa(&self.apex)))
    }

    fn no_name(&self) -> Answer {
        Answer::NoName(Box::new(self.soa(&self.apex)))
    }
}

/// The lower-case labels before the apex, rightmost first.
fn labels_before(name: &Name, apex: &Name) -> Result<Vec<String>, std::str::Utf8Error> {
    let count = name.iter().len() - apex.iter().len();
    let mut labels = Vec::with_capacity(count);
    for label in name.iter().take(count) {
        labels.push(std::str::from_utf8(label)?.to_ascii_lowercase());
    }
    labels.reverse();
    Ok(labels)
}

/// Address records of the wanted type; of both, when it does not matter.
fn addresses(name: &Name, ips: &[IpAddr], wanted: Option<RecordType>, ttl: u32) -> Vec<Record> {
    ips.iter()
        .map(|ip| match ip {
            IpAddr::V4(v4) => RData::A(A(*v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
        })
        .filter(|data| wanted.is_none_or(|kind| kind == data.record_type() || kind == RecordType::ANY))
        .map(|data| Record::from_rdata(name.clone(), ttl, data))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let port = |name: &str, number| Port { name: name.into(), protocol: "tcp", number };
        let key = |ns: &str, name: &str| (ns.to_owned(), name.to_owned());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let endpoint = |address: &str, label: Option<&str>| Endpoint {
            ip: ip(address),
            label: label.map_or_else(|| dashed(ip(address)), str::to_owned),
            ports: vec![port("http", 8080)],
        };
        let mut zone = Zone::new(name("cluster.local."), key("kube-system", "kube-dns"));
        ["default", "kube-system", "empty"].into_iter().for_each(|ns| zone.set_namespace(ns, true));
        let service = |ips: &[&str], ports: Vec<Port>, endpoints: Vec<Endpoint>| ServiceEntry {
            cluster_ips: ips.iter().map(|i| ip(i)).collect(),
            alias: None,
            ports,
            endpoints,
        };
        zone.set_service(&key("kube-system", "kube-dns"), Some(service(&["10.96.0.10"], vec![], vec![])));
        let ports = vec![port("http", 80), port("https", 443)];
        zone.set_service(&key("default", "web"), Some(service(&["10.96.0.20"], ports, vec![endpoint("10.244.0.9", None)])));
        zone.set_service(&key("default", "dual"), Some(service(&["10.96.0.21", "fd00::21"], vec![port("", 80)], vec![])));
        let endpoints = vec![endpoint("10.244.0.5", Some("db-0")), endpoint("10.244.0.6", None)];
        zone.set_service(&key("default", "db"), Some(service(&[], vec![port("http", 8080)], endpoints)));
        zone.set_service(&key("default", "nobody"), Some(service(&[], vec![port("http", 8080)], vec![])));
        let alias = ServiceEntry { alias: Some(name("example.com.")), ..Default::default() };
        zone.set_service(&key("default", "ext"), Some(alias));
        zone
    }

    fn show(answer: Answer) -> String {
        let data = |records: &[Record]| records.iter().map(|r| r.data.to_string()).collect::<Vec<_>>().join(" | ");
        match answer {
            Answer::Records { answers, .. } => data(&answers),
            Answer::Alias { target, .. } => format!("alias {target}"),
            Answer::NoData(soa) => {
                assert_eq!(soa.record_type(), RecordType::SOA);
                "nodata".into()
            }
            Answer::NoName(soa) => {
                assert_eq!(soa.name.to_string(), "cluster.local.");
                "nxdomain".into()
            }
            Answer::NotOurs => "not ours".into(),
        }
    }

    #[test]
    fn names_and_what_they_mean() {
        use RecordType as T;
        let zone = zone();
        for (name, kind, expected) in [
            ("web.default.svc.cluster.local.", T::A, "10.96.0.20"),
            ("WEB.Default.svc.Cluster.LOCAL.", T::A, "10.96.0.20"),
            ("web.default.svc.cluster.local.", T::AAAA, "nodata"),
            ("web.default.svc.cluster.local.", T::MX, "nodata"),
            ("dual.default.svc.cluster.local.", T::AAAA, "fd00::21"),
            ("web.other.svc.cluster.local.", T::A, "nxdomain"),
            ("nope.default.svc.cluster.local.", T::A, "nxdomain"),
            ("example.com.default.svc.cluster.local.", T::A, "nxdomain"),
            ("example.com.", T::A, "not ours"),
            ("cluster.local.example.com.", T::A, "not ours"),
            ("_http._tcp.web.default.svc.cluster.local.", T::SRV, "0 100 80 web.default.svc.cluster.local."),
            ("_http._tcp.web.default.svc.cluster.local.", T::A, "nodata"),
            ("_http._udp.web.default.svc.cluster.local.", T::SRV, "nxdomain"),
            ("_nope._tcp.web.default.svc.cluster.local.", T::SRV, "nxdomain"),
            ("_tcp.web.default.svc.cluster.local.", T::SRV, "nodata"),
            (
                "web.default.svc.cluster.local.",
                T::SRV,
                "0 50 80 web.default.svc.cluster.local. | 0 50 443 web.default.svc.cluster.local.",
            ),
            ("db.default.svc.cluster.local.", T::A, "10.244.0.5 | 10.244.0.6"),
            ("db-0.db.default.svc.cluster.local.", T::A, "10.244.0.5"),
            ("10-244-0-6.db.default.svc.cluster.local.", T::A, "10.244.0.6"),
            ("10-244-0-9.web.default.svc.cluster.local.", T::A, "10.244.0.9"),
            ("10-244-0-7.db.default.svc.cluster.local.", T::A, "nxdomain"),
            (
                "_http._tcp.db.default.svc.cluster.local.",
                T::SRV,
                "0 50 8080 db-0.db.default.svc.cluster.local. | 0 50 8080 10-244-0-6.db.default.svc.cluster.local.",
            ),
            ("nobody.default.svc.cluster.local.", T::A, "nxdomain"),
            ("ext.default.svc.cluster.local.", T::A, "alias example.com."),
            ("10-1-2-3.default.pod.cluster.local.", T::A, "10.1.2.3"),
            ("fd00--7.default.pod.cluster.local.", T::AAAA, "fd00::7"),
            ("10-1-2-3.nope.pod.cluster.local.", T::A, "nxdomain"),
            ("hello.default.pod.cluster.local.", T::A, "nxdomain"),
            ("svc.cluster.local.", T::A, "nodata"),
            ("empty.svc.cluster.local.", T::A, "nodata"),
            ("nope.svc.cluster.local.", T::A, "nxdomain"),
            ("dns-version.cluster.local.", T::TXT, "1.1.0"),
            ("ns.dns.cluster.local.", T::A, "10.96.0.10"),
            ("cluster.local.", T::NS, "ns.dns.cluster.local."),
            ("cluster.local.", T::A, "nodata"),
            ("20.0.96.10.in-addr.arpa.", T::PTR, "web.default.svc.cluster.local."),
            ("5.0.244.10.in-addr.arpa.", T::PTR, "db-0.db.default.svc.cluster.local."),
            ("1.0.0.127.in-addr.arpa.", T::PTR, "not ours"),
            ("10.in-addr.arpa.", T::PTR, "not ours"),
        ] {
            let got = show(zone.answer(&Name::from_ascii(name).unwrap(), kind, 0));
            assert_eq!(got, expected, "{name} {kind}");
        }
    }

    #[test]
    fn addresses_take_turns() {
        let name = Name::from_ascii("db.default.svc.cluster.local.").unwrap();
        assert_eq!(show(zone().answer(&name, RecordType::A, 1)), "10.244.0.6 | 10.244.0.5");
    }

    #[test]
    fn a_service_that_goes_takes_its_reverse_names_along() {
        let mut zone = zone();
        let name = Name::from_ascii("5.0.244.10.in-addr.arpa.").unwrap();
        zone.set_service(&("default".into(), "db".into()), None);
        assert_eq!(zone.answer(&name, RecordType::PTR, 0), Answer::NotOurs);
        let before = zone.serial;
        zone.set_service(&("default".into(), "db".into()), None);
        assert_eq!(zone.serial, before);
    }
}
