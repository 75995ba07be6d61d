//! Sends a packet through a [`Ruleset`], as the kernel would: what tests compare is where it arrives, not how rules read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::model::Protocol;
use crate::ruleset::{Action, Is, Key, Match, Rule, Ruleset, Verdict};

/// The first packet of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    source: IpAddr,
    destination: SocketAddr,
    protocol: Protocol,
}

impl Packet {
    pub(crate) fn parse(from: &str, to: &str) -> Self {
        Self { source: from.parse().unwrap(), destination: to.parse().unwrap(), protocol: Protocol::Tcp }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// To one of these.
    To {
        endpoints: Vec<String>,
        masquerade: bool,
    },
    Untouched,
    Rejected,
    Dropped,
}

/// The host whose kernel holds the rules.
#[derive(Debug)]
pub(crate) struct Host {
    addresses: BTreeSet<IpAddr>,
    clients: RefCell<BTreeSet<(String, IpAddr)>>,
    /// Which of several endpoints chance picks.
    pub(crate) choose: usize,
    remembers: bool,
    /// The packet began to walk rules that are replaced under it.
    pub(crate) between_states: bool,
}

enum Flow {
    Next,
    Stop(Outcome),
    /// Accepted; nothing more happens in this hook.
    Done,
}

struct Walk<'a> {
    host: &'a Host,
    rules: &'a Ruleset,
    packet: &'a Packet,
    destination: SocketAddr,
    endpoints: Vec<(IpAddr, u16)>,
    mark: u32,
    masquerade: bool,
}

impl Host {
    pub(crate) fn new<const N: usize>(addresses: [&str; N]) -> Self {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Self { addresses, clients: RefCell::default(), choose: 0, remembers: false, between_states: false }
    }

    /// Sends a packet for its effect on affinity.
    pub(crate) fn remember(&mut self, rules: &Ruleset, packet: &Packet) {
        self.remembers = true;
        self.send(rules, packet);
        self.remembers = false;
    }

    pub(crate) fn send(&self, rules: &Ruleset, packet: &Packet) -> Outcome {
        let mut walk = Walk {
            host: self,
            rules,
            packet,
            destination: packet.destination,
            endpoints: Vec::new(),
            mark: 0,
            masquerade: false,
        };
        let from_here = self.addresses.contains(&packet.source);
        let (pre, nat) =
            if from_here { ("filter-output-pre-dnat", "nat-output") } else { ("filter-prerouting-pre-dnat", "nat-prerouting") };
        for chain in [pre, nat] {
            if let Flow::Stop(outcome) = walk.chain(chain) {
                return outcome;
            }
        }
        let hook = match (from_here, self.addresses.contains(&walk.destination.ip())) {
            (true, _) => "filter-output",
            (false, true) => "filter-input",
            (false, false) => "filter-forward",
        };
        for chain in [hook, "nat-postrouting"] {
            if let Flow::Stop(outcome) = walk.chain(chain) {
                return outcome;
            }
        }
        if walk.endpoints.is_empty() {
            return Outcome::Untouched;
        }
        let endpoints = walk.endpoints.iter().map(|(ip, port)| SocketAddr::new(*ip, *port).to_string()).collect();
        Outcome::To { endpoints, masquerade: walk.masquerade }
    }
}

impl Walk<'_> {
    fn chain(&mut self, name: &str) -> Flow {
        let chain = self.rules.chain(name).unwrap_or_else(|| panic!("no chain {name}"));
        for rule in &chain.rules {
            if !rule.matches.iter().all(|m| self.matches(m)) {
                continue;
            }
            match self.act(rule) {
                Flow::Next => {}
                other => return other,
            }
        }
        Flow::Next
    }

    fn act(&mut self, rule: &Rule) -> Flow {
        let verdict = |walk: &mut Self, set: &str, key: Key| match walk.rules.element(set, &key) {
            Some(Verdict::Goto(chain)) => match walk.chain(&chain.clone()) {
                Flow::Next => Flow::Done,
                other => other,
            },
            Some(Verdict::Drop) => Flow::Stop(Outcome::Dropped),
            Some(Verdict::Member) => panic!("{set} is no map"),
            None => Flow::Next,
        };
        let (destination, protocol) = (self.destination, self.packet.protocol);
        match &rule.action {
            Action::Jump(chain) => self.chain(chain),
            Action::Goto(chain) => match self.chain(chain) {
                Flow::Next => Flow::Done,
                other => other,
            },
            Action::ByService(set) => verdict(self, set, Key::Service(destination.ip(), protocol, destination.port())),
            Action::ByPort(set) => verdict(self, set, Key::Port(protocol, destination.port())),
            // An anonymous map of a rule that is being replaced holds nothing any more.
            Action::Dnat(targets) if self.host.between_states && targets.len() > 1 => Flow::Next,
            Action::Balance(chains) if self.host.between_states && chains.len() > 1 => Flow::Next,
            Action::Dnat(targets) => {
                for target in targets {
                    if !self.endpoints.contains(target) {
                        self.endpoints.push(*target);
                    }
                }
                let first = self.endpoints[0];
                self.destination = SocketAddr::new(first.0, first.1);
                Flow::Done
            }
            Action::Balance(chains) => {
                // All of them can happen; the chosen one comes first.
                let rotated = (0..chains.len()).map(|i| &chains[(i + self.host.choose) % chains.len()]);
                for chain in rotated.take(if self.host.remembers { 1 } else { chains.len() }) {
                    self.chain(chain);
                }
                Flow::Done
            }
            Action::Remember(set) => {
                if self.host.remembers {
                    self.host.clients.borrow_mut().insert((set.clone(), self.packet.source));
                }
                Flow::Next
            }
            Action::Mark(bit) => {
                self.mark |= bit;
                Flow::Next
            }
            Action::MasqueradeMarked(bit) => {
                self.mark &= !bit;
                self.masquerade = true;
                Flow::Done
            }
            Action::Masquerade => {
                self.masquerade = true;
                Flow::Done
            }
            Action::Reject => Flow::Stop(Outcome::Rejected),
            Action::Drop => Flow::Stop(Outcome::Dropped),
        }
    }

    fn matches(&self, condition: &Match) -> bool {
        let (source, destination) = (self.packet.source, self.destination.ip());
        let is = |is: Is, value: bool| (is == Is::Yes) == value;
        match condition {
            Match::New => true,
            Match::Dnated => !self.endpoints.is_empty(),
            Match::Protocol(protocol) => self.packet.protocol == *protocol,
            Match::DestinationLoopback(wanted) => is(*wanted, destination.is_loopback()),
            Match::DestinationIn(set) => self.rules.element(set, &Key::Address(destination)).is_some(),
            Match::DestinationWithin(wanted, cidrs) => is(*wanted, cidrs.iter().any(|c| c.contains(destination))),
            Match::SourceIn(set) => self.host.clients.borrow().contains(&(set.clone(), source)),
            Match::SourceWithin(wanted, cidrs) => is(*wanted, cidrs.iter().any(|c| c.contains(source))),
            Match::Interface(..) => panic!("packets have no interface here"),
            Match::DestinationLocal => self.host.addresses.contains(&destination),
            Match::SourceLocal => self.host.addresses.contains(&source),
            Match::Marked(bit) => self.mark & bit != 0,
            Match::Hairpin(set) => {
                let key = Key::Hairpin(destination, self.packet.protocol, self.destination.port());
                source == destination && self.rules.element(set, &key).is_some()
            }
        }
    }
}
