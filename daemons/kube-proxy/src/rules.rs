//! Services and endpoints as rules. Pure: the same input gives the same [`Fragment`].
//!
//! The layout of chains and maps is upstream's nftables mode, so that whoever knows one reads the other: packets are dispatched
//! by verdict maps in constant time, whatever the number of Services.

use std::collections::BTreeMap;

use ring::digest;

use crate::model::{Choice, Cidr, Endpoint, Endpoints, Family, ServiceInfo, ServiceName, ServicePort, TrafficPolicy};
use crate::ruleset::{Action, Base, Chain, Fragment, Is, Key, Match, Rule, Ruleset, SetKind, Verdict};

const SERVICES: &str = "services";
const SERVICE_IPS: &str = "service-ips";
const SERVICE_NODEPORTS: &str = "service-nodeports";
const CLUSTER_IPS: &str = "cluster-ips";
const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
const SERVICE_CHECK: &str = "service-endpoints-check";
const NODEPORT_CHECK: &str = "nodeport-endpoints-check";
const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
const NO_ENDPOINT_NODEPORTS: &str = "no-endpoint-nodeports";
const REJECT: &str = "reject-chain";
const FIREWALL_IPS: &str = "firewall-ips";
const FIREWALL_CHECK: &str = "firewall-check";
const MASQUERADING: &str = "masquerading";
const HAIRPINS: &str = "hairpin-connections";

/// How traffic that comes from this node's pods is told from other traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalTraffic {
    /// Not at all: nothing is masqueraded for coming from elsewhere.
    #[default]
    Unknown,
    From(Vec<Cidr>),
    /// Interfaces of this name; a trailing `*` stands for any ending.
    Through(String),
}

impl LocalTraffic {
    fn matches(&self, is: Is, family: Family) -> Option<Match> {
        match self {
            Self::Unknown => None,
            Self::From(cidrs) => {
                let cidrs: Vec<Cidr> = cidrs.iter().copied().filter(|c| Family::of(c.address) == family).collect();
                (!cidrs.is_empty()).then_some(Match::SourceWithin(is, cidrs))
            }
            Self::Through(name) => Some(Match::Interface(is, name.clone())),
        }
    }
}

/// What the rules depend on besides Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    pub node: String,
    /// The node's zone, for topology hints.
    pub zone: String,
    pub local_traffic: LocalTraffic,
    pub masquerade_all: bool,
    pub mark: u32,
    /// Where NodePorts answer; empty: on every address of the node but loopback.
    pub node_port_addresses: Vec<Cidr>,
}

/// The table without any Service.
pub fn fixed(family: Family, around: &Surroundings) -> Ruleset {
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    let mut base = |name: &str, kind, hook, priority, rules: Vec<Rule>| {
        chains.insert(name.to_owned(), Chain { base: Some(Base { kind, hook, priority }), rules });
    };
    let check = |chain: &str| Rule::new([Match::New], Action::Jump(chain.to_owned()));
    let jump = |chain: &str| Rule::new([], Action::Jump(chain.to_owned()));
    let (dnat, filter, snat) = (-100, 0, 100);
    base("filter-prerouting-pre-dnat", "filter", "prerouting", dnat - 10, vec![check(FIREWALL_CHECK)]);
    base("filter-output-pre-dnat", "filter", "output", dnat - 10, vec![check(FIREWALL_CHECK)]);
    base("filter-input", "filter", "input", filter, vec![check(NODEPORT_CHECK), check(SERVICE_CHECK)]);
    base("filter-forward", "filter", "forward", filter, vec![check(SERVICE_CHECK), check(CLUSTER_IPS_CHECK)]);
    base("filter-output", "filter", "output", filter, vec![check(SERVICE_CHECK), check(CLUSTER_IPS_CHECK)]);
    base("nat-prerouting", "nat", "prerouting", dnat, vec![jump(SERVICES)]);
    base("nat-output", "nat", "output", dnat, vec![jump(SERVICES)]);
    base("nat-postrouting", "nat", "postrouting", snat, vec![jump(MASQUERADING)]);

    let mut plain = |name: &str, rules: Vec<Rule>| {
        chains.insert(name.to_owned(), Chain { base: None, rules });
    };
    let addresses: Vec<Cidr> = around.node_port_addresses.iter().copied().filter(|c| Family::of(c.address) == family).collect();
    let mut node_address = vec![Match::DestinationLocal, Match::DestinationLoopback(Is::Not)];
    if !around.node_port_addresses.is_empty() {
        node_address.push(Match::DestinationWithin(Is::Yes, addresses));
    }
    plain(REJECT, vec![Rule::new([], Action::Reject)]);
    plain(SERVICE_CHECK, vec![Rule::new([], Action::ByService(NO_ENDPOINT_SERVICES.into()))]);
    plain(NODEPORT_CHECK, vec![Rule::new(node_address.clone(), Action::ByPort(NO_ENDPOINT_NODEPORTS.into()))]);
    plain(FIREWALL_CHECK, vec![Rule::new([], Action::ByService(FIREWALL_IPS.into()))]);
    // A Service's address answers on its ports only; what is left over would be routed out of the cluster.
    plain(CLUSTER_IPS_CHECK, vec![Rule::new([Match::DestinationIn(CLUSTER_IPS.into())], Action::Reject)]);
    plain(
        MASQUERADING,
        vec![
            Rule::new([Match::Marked(around.mark)], Action::MasqueradeMarked(around.mark)),
            Rule::new([Match::Dnated, Match::Hairpin(HAIRPINS.into())], Action::Masquerade),
        ],
    );
    let mut services = Vec::new();
    let to_cluster_ip = Match::DestinationIn(CLUSTER_IPS.into());
    if around.masquerade_all {
        services.push(Rule::new([to_cluster_ip], Action::Mark(around.mark)));
    } else if let Some(foreign) = around.local_traffic.matches(Is::Not, family) {
        // Somebody outside may route the Service range to this node: the answer must come back through it.
        services.push(Rule::new([to_cluster_ip, foreign], Action::Mark(around.mark)));
    }
    services.push(Rule::new([], Action::ByService(SERVICE_IPS.into())));
    services.push(Rule::new(node_address, Action::ByPort(SERVICE_NODEPORTS.into())));
    plain(SERVICES, services);

    let sets = [
        (CLUSTER_IPS, SetKind::Addresses),
        (HAIRPINS, SetKind::Hairpins),
        (SERVICE_IPS, SetKind::Services),
        (SERVICE_NODEPORTS, SetKind::Ports),
        (NO_ENDPOINT_SERVICES, SetKind::Services),
        (NO_ENDPOINT_NODEPORTS, SetKind::Ports),
        (FIREWALL_IPS, SetKind::Services),
    ];
    Ruleset::new(family, chains, sets.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect())
}

/// The rules of one Service.
pub fn fragment(
    name: &ServiceName,
    info: &ServiceInfo,
    endpoints: &Endpoints,
    family: Family,
    around: &Surroundings,
) -> Fragment {
    let none = BTreeMap::new();
    let mut fragment = Fragment::default();
    for port in &info.ports {
        let of_port = endpoints.get(&(port.port_name.clone(), port.protocol)).unwrap_or(&none);
        let choice = Choice::of(port, of_port.values(), &around.node, &around.zone);
        PortRules { name, port, choice: &choice, family, around, into: &mut fragment }.write();
    }
    fragment
}

/// One Service port on its way into rules.
struct PortRules<'a> {
    name: &'a ServiceName,
    port: &'a ServicePort,
    choice: &'a Choice,
    family: Family,
    around: &'a Surroundings,
    into: &'a mut Fragment,
}

impl PortRules<'_> {
    /// `service-`, `local-` …: the kind of chain, then a hash and the names.
    fn chain_name(&self, kind: &str) -> String {
        let ServiceName { namespace, name } = self.name;
        let base = format!("{namespace}/{name}/{}/{}", self.port.protocol, self.port.port_name);
        format!("{kind}-{}-{base}", short_hash(&base))
    }

    /// Names of endpoint chains carry the timeout too: a set's timeout cannot be changed.
    fn endpoint_names(&self, endpoint: &Endpoint) -> (String, String) {
        let ServiceName { namespace, name } = self.name;
        let address = endpoint.ip.to_string().replace(':', ".");
        let base = format!("{namespace}/{name}/{}/{}__{address}/{}", self.port.protocol, self.port.port_name, endpoint.port);
        let seconds = self.port.affinity_seconds.unwrap_or(0);
        let hash = short_hash(&format!("{base}/{seconds}"));
        (format!("endpoint-{hash}-{base}"), format!("affinity-{hash}-{base}"))
    }

    fn add_chain(&mut self, name: String, rules: Vec<Rule>) {
        self.into.chains.insert(name, Chain { base: None, rules });
    }

    fn add_element(&mut self, set: &'static str, key: Key, verdict: Verdict) {
        self.into.elements.insert((set, key), verdict);
    }

    fn write(mut self) {
        let (port, choice) = (self.port, self.choice);
        let cluster_chain = self.chain_name("service");
        let local_chain = self.chain_name("local");
        let external_chain = self.chain_name("external");
        let local_only = |policy: TrafficPolicy| policy == TrafficPolicy::Local;
        let has_internal = choice.any && !(local_only(port.internal_policy) && choice.local.is_empty());
        let has_external = choice.any && !(local_only(port.external_policy) && choice.local.is_empty());
        let chain_of = |policy: TrafficPolicy| if local_only(policy) { &local_chain } else { &cluster_chain };
        // Nothing anywhere is an error for the client to see; nothing here is left to a retry elsewhere.
        let refuse = if choice.any { Verdict::Drop } else { Verdict::Goto(REJECT.into()) };

        if port.uses_cluster_endpoints() && !choice.cluster.is_empty() {
            let rules = self.balance(&choice.cluster);
            self.add_chain(cluster_chain.clone(), rules);
        }
        if port.uses_local_endpoints() && !choice.local.is_empty() {
            let rules = self.balance(&choice.local);
            self.add_chain(local_chain.clone(), rules);
        }
        for endpoint in choice.reachable().into_values() {
            if port.affinity_seconds.is_some() {
                self.endpoint_chain(endpoint);
            }
            if endpoint.local {
                self.add_element(HAIRPINS, Key::Hairpin(endpoint.ip, port.protocol, endpoint.port), Verdict::Member);
            }
        }

        self.add_element(CLUSTER_IPS, Key::Address(port.cluster_ip), Verdict::Member);
        let key = Key::Service(port.cluster_ip, port.protocol, port.port);
        if has_internal {
            self.add_element(SERVICE_IPS, key, Verdict::Goto(chain_of(port.internal_policy).clone()));
        } else {
            self.add_element(NO_ENDPOINT_SERVICES, key, refuse.clone());
        }

        if !port.externally_accessible() {
            return;
        }
        if choice.any {
            let onward = has_external.then(|| chain_of(port.external_policy));
            let rules = self.external_rules(&cluster_chain, onward);
            self.add_chain(external_chain.clone(), rules);
        }
        let external = port.external_ips.iter().chain(&port.load_balancer_ips);
        let services = external.map(|ip| (SERVICE_IPS, NO_ENDPOINT_SERVICES, Key::Service(*ip, port.protocol, port.port)));
        let node_port = port.node_port.map(|p| (SERVICE_NODEPORTS, NO_ENDPOINT_NODEPORTS, Key::Port(port.protocol, p)));
        for (dispatch, without, key) in services.chain(node_port) {
            if choice.any {
                self.add_element(dispatch, key.clone(), Verdict::Goto(external_chain.clone()));
            }
            if !has_external {
                self.add_element(without, key, refuse.clone());
            }
        }
        self.firewall();
    }

    /// To one of the endpoints; with affinity, to the one this client had before.
    ///
    /// The choice is an anonymous map, and the kernel takes a replaced rule's map away under a packet that has begun to walk the
    /// old rules: the packet finds nothing, passes by, and its connection is refused at the node. A last rule without a map gives
    /// it an endpoint all the same.
    fn balance(&self, endpoints: &[Endpoint]) -> Vec<Rule> {
        // A single endpoint needs no map.
        let choices = [endpoints, endpoints.get(..1).unwrap_or_default()].into_iter().take(endpoints.len().min(2));
        if self.port.affinity_seconds.is_none() {
            let targets = |choice: &[Endpoint]| choice.iter().map(|e| (e.ip, e.port)).collect();
            return choices.map(|c| Rule::new([Match::Protocol(self.port.protocol)], Action::Dnat(targets(c)))).collect();
        }
        let known = endpoints.iter().map(|e| {
            let (chain, set) = self.endpoint_names(e);
            Rule::new([Match::SourceIn(set)], Action::Goto(chain))
        });
        let chains = |choice: &[Endpoint]| choice.iter().map(|e| self.endpoint_names(e).0).collect();
        known.chain(choices.map(|c| Rule::new([], Action::Balance(chains(c))))).collect()
    }

    fn endpoint_chain(&mut self, endpoint: &Endpoint) {
        let (chain, set) = self.endpoint_names(endpoint);
        let to = Action::Dnat(vec![(endpoint.ip, endpoint.port)]);
        let rules = vec![Rule::new([], Action::Remember(set.clone())), Rule::new([Match::Protocol(self.port.protocol)], to)];
        self.into.client_sets.insert(set, self.port.affinity_seconds.unwrap_or(0));
        self.add_chain(chain, rules);
    }

    /// What comes in at an external address or node port.
    fn external_rules(&self, cluster_chain: &str, onward: Option<&String>) -> Vec<Rule> {
        let mark = Action::Mark(self.around.mark);
        let mut rules = Vec::new();
        if self.port.external_policy == TrafficPolicy::Cluster {
            // It may leave for another node, and must come back here.
            rules.push(Rule::new([], mark));
        } else {
            // Pods of this node and the node itself do not come from outside: for them any endpoint will do.
            let anywhere = || Action::Goto(cluster_chain.to_owned());
            if !self.choice.cluster.is_empty() {
                if let Some(ours) = self.around.local_traffic.matches(Is::Yes, self.family) {
                    rules.push(Rule::new([ours], anywhere()));
                }
                rules.push(Rule::new([Match::SourceLocal], mark));
                rules.push(Rule::new([Match::SourceLocal], anywhere()));
            }
        }
        rules.extend(onward.map(|chain| Rule::new([], Action::Goto(chain.clone()))));
        rules
    }

    /// `loadBalancerSourceRanges`.
    fn firewall(&mut self) {
        let port = self.port;
        if port.source_ranges.is_empty() || port.load_balancer_ips.is_empty() {
            return;
        }
        let chain = self.chain_name("firewall");
        let rule = Rule::new([Match::SourceWithin(Is::Not, port.source_ranges.clone())], Action::Drop);
        self.add_chain(chain.clone(), vec![rule]);
        for ip in &port.load_balancer_ips {
            self.add_element(FIREWALL_IPS, Key::Service(*ip, port.protocol, port.port), Verdict::Goto(chain.clone()));
        }
    }
}

/// Eight letters that tell names apart when the readable part is the same in two shapes.
fn short_hash(text: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let bits = hash.as_ref().iter().take(5).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (0..8).map(|i| ALPHABET[(bits >> (35 - 5 * i) & 31) as usize] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SliceInfo;
    use crate::trace::{Host, Outcome, Packet};
    use serde_json::{Value, json};

    struct Case {
        rules: Ruleset,
        host: Host,
    }

    fn around() -> Surroundings {
        Surroundings {
            node: "here".into(),
            zone: String::new(),
            local_traffic: LocalTraffic::From(vec!["10.244.0.0/16".parse().unwrap()]),
            masquerade_all: false,
            mark: 0x4000,
            node_port_addresses: Vec::new(),
        }
    }

    fn case(spec: Value, endpoints: Value) -> Case {
        let service = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec,
            "status": {"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}]}}});
        let info = ServiceInfo::of(&serde_json::from_value(service).unwrap(), Family::V4);
        let slice = json!({"metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints});
        let slice = SliceInfo::of(&serde_json::from_value(slice).unwrap(), "here").unwrap();
        let mut rules = fixed(Family::V4, &around());
        rules.set_service(&slice.service, fragment(&slice.service, &info, &slice.endpoints, Family::V4, &around()));
        Case { rules, host: Host::new(["192.168.0.1", "127.0.0.1"]) }
    }

    fn here(ip: &str) -> Value {
        json!({"addresses": [ip], "nodeName": "here", "conditions": {"ready": true}})
    }
    fn there(ip: &str) -> Value {
        json!({"addresses": [ip], "nodeName": "there", "conditions": {"ready": true}})
    }
    fn cluster_ip(more: Value) -> Value {
        let mut spec = json!({"clusterIP": "10.96.0.10", "ports": [{"port": 80}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    }
    fn node_port(policy: &str) -> Value {
        cluster_ip(json!({"type": "NodePort", "externalTrafficPolicy": policy, "ports": [{"port": 80, "nodePort": 30080}]}))
    }

    const POD: &str = "10.244.1.5";
    const OUTSIDE: &str = "1.2.3.4";
    const NODE: &str = "192.168.0.1";

    #[track_caller]
    fn check(case: &Case, from: &str, to: &str, expected: &str) {
        let packet = Packet::parse(from, to);
        let got = match case.host.send(&case.rules, &packet) {
            Outcome::To { endpoints, masquerade } => {
                format!("{}{}", endpoints.join(" "), if masquerade { " masqueraded" } else { "" })
            }
            other => format!("{other:?}").to_lowercase(),
        };
        assert_eq!(got, expected, "{from} -> {to}");
    }

    #[test]
    fn a_cluster_ip() {
        let c = case(cluster_ip(json!({})), json!([here("10.244.1.1"), there("10.244.2.1")]));
        check(&c, POD, "10.96.0.10:80", "10.244.1.1:8080 10.244.2.1:8080");
        check(&c, NODE, "10.96.0.10:80", "10.244.1.1:8080 10.244.2.1:8080 masqueraded");
        check(&c, OUTSIDE, "10.96.0.10:80", "10.244.1.1:8080 10.244.2.1:8080 masqueraded");
        check(&c, POD, "10.96.0.10:81", "rejected");
        check(&c, POD, "8.8.8.8:80", "untouched");
    }

    #[test]
    fn a_pod_reaches_itself_through_its_service() {
        let c = case(cluster_ip(json!({})), json!([here("10.244.1.1")]));
        check(&c, "10.244.1.1", "10.96.0.10:80", "10.244.1.1:8080 masqueraded");
        check(&c, POD, "10.96.0.10:80", "10.244.1.1:8080");
    }

    #[test]
    fn without_endpoints_the_client_hears_of_it() {
        let c = case(node_port("Cluster"), json!([]));
        check(&c, POD, "10.96.0.10:80", "rejected");
        check(&c, NODE, "10.96.0.10:80", "rejected");
        check(&c, OUTSIDE, "192.168.0.1:30080", "rejected");
        let unready = json!([{"addresses": ["10.244.1.1"], "conditions": {"ready": false, "serving": false}}]);
        check(&case(cluster_ip(json!({})), unready), POD, "10.96.0.10:80", "rejected");
    }

    #[test]
    fn node_ports() {
        let c = case(node_port("Cluster"), json!([there("10.244.2.1")]));
        check(&c, OUTSIDE, "192.168.0.1:30080", "10.244.2.1:8080 masqueraded");
        check(&c, NODE, "192.168.0.1:30080", "10.244.2.1:8080 masqueraded");
        check(&c, NODE, "127.0.0.1:30080", "untouched");
        check(&c, OUTSIDE, "192.168.0.99:30080", "untouched");
    }

    #[test]
    fn the_local_external_policy_keeps_the_source_address() {
        let c = case(node_port("Local"), json!([here("10.244.1.1"), there("10.244.2.1")]));
        check(&c, OUTSIDE, "192.168.0.1:30080", "10.244.1.1:8080");
        check(&c, POD, "192.168.0.1:30080", "10.244.1.1:8080 10.244.2.1:8080");
        check(&c, NODE, "192.168.0.1:30080", "10.244.1.1:8080 10.244.2.1:8080 masqueraded");
        let c = case(node_port("Local"), json!([there("10.244.2.1")]));
        check(&c, OUTSIDE, "192.168.0.1:30080", "dropped");
        check(&c, POD, "192.168.0.1:30080", "10.244.2.1:8080");
        check(&c, POD, "10.96.0.10:80", "10.244.2.1:8080");
    }

    #[test]
    fn the_local_internal_policy() {
        let spec = || cluster_ip(json!({"internalTrafficPolicy": "Local"}));
        check(&case(spec(), json!([here("10.244.1.1"), there("10.244.2.1")])), POD, "10.96.0.10:80", "10.244.1.1:8080");
        check(&case(spec(), json!([there("10.244.2.1")])), POD, "10.96.0.10:80", "dropped");
        check(&case(spec(), json!([])), POD, "10.96.0.10:80", "rejected");
    }

    #[test]
    fn external_ips_and_load_balancers() {
        let spec = json!({"externalIPs": ["5.5.5.5"], "type": "LoadBalancer", "loadBalancerSourceRanges": ["1.2.0.0/16"]});
        let c = case(cluster_ip(spec), json!([there("10.244.2.1")]));
        check(&c, OUTSIDE, "5.5.5.5:80", "10.244.2.1:8080 masqueraded");
        check(&c, OUTSIDE, "9.9.9.9:80", "10.244.2.1:8080 masqueraded");
        check(&c, "7.7.7.7", "9.9.9.9:80", "dropped");
        check(&c, "7.7.7.7", "5.5.5.5:80", "10.244.2.1:8080 masqueraded");
    }

    #[test]
    fn session_affinity_remembers() {
        let mut c = case(cluster_ip(json!({"sessionAffinity": "ClientIP"})), json!([here("10.244.1.1"), there("10.244.2.1")]));
        check(&c, POD, "10.96.0.10:80", "10.244.1.1:8080 10.244.2.1:8080");
        c.host.choose = 1;
        check(&c, POD, "10.96.0.10:80", "10.244.2.1:8080 10.244.1.1:8080");
        c.host.remember(&c.rules, &Packet::parse(POD, "10.96.0.10:80"));
        c.host.choose = 0;
        check(&c, POD, "10.96.0.10:80", "10.244.2.1:8080");
        check(&c, "10.244.1.6", "10.96.0.10:80", "10.244.1.1:8080 10.244.2.1:8080");
    }

    #[test]
    fn a_packet_between_two_states_of_the_rules_is_served() {
        let endpoints = || json!([here("10.244.1.1"), there("10.244.2.1")]);
        for more in [json!({}), json!({"sessionAffinity": "ClientIP"})] {
            let mut c = case(cluster_ip(more), endpoints());
            c.host.between_states = true;
            check(&c, POD, "10.96.0.10:80", "10.244.1.1:8080");
        }
        let mut c = case(node_port("Local"), endpoints());
        c.host.between_states = true;
        check(&c, OUTSIDE, "192.168.0.1:30080", "10.244.1.1:8080");
        check(&c, POD, "192.168.0.1:30080", "10.244.1.1:8080");
    }

    #[test]
    fn hashes_are_stable_and_plain() {
        assert_eq!(short_hash("a"), short_hash("a"));
        assert!(short_hash("b").chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
