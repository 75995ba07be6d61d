//! The packet filter's rules as a value: chains, sets and maps of one table, made by [`crate::rules`], loaded by
//! [`crate::writer`].
//!
//! A [`Ruleset`] remembers what changed since it was last written, so that a transaction holds only the difference.
//!
//! **Invariant:** names and addresses in here are made from parsed values (addresses, numbers, API names of `[a-z0-9-]`): no
//! text of an API object reaches the packet filter unchecked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{Cidr, Family, Protocol, ServiceName};

pub type ChainName = String;
pub type SetName = String;

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub kind: &'static str,
    pub hook: &'static str,
    pub priority: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub action: Action,
}

impl Rule {
    pub fn new(matches: impl Into<Vec<Match>>, action: Action) -> Self {
        Self { matches: matches.into(), action }
    }
}

/// A condition on a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The first packet of a connection.
    New,
    /// Its destination was changed by us.
    Dnated,
    Protocol(Protocol),
    DestinationLoopback(Is),
    DestinationIn(SetName),
    DestinationWithin(Is, Vec<Cidr>),
    SourceIn(SetName),
    SourceWithin(Is, Vec<Cidr>),
    /// Came in through an interface of this name; a trailing `*` stands for any ending.
    Interface(Is, String),
    /// An address of this host.
    DestinationLocal,
    SourceLocal,
    Marked(u32),
    /// An endpoint talking to itself through a Service.
    Hairpin(SetName),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Yes,
    Not,
}

/// What is done to a packet that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Jump(ChainName),
    Goto(ChainName),
    /// By destination address, protocol and port.
    ByService(SetName),
    /// By protocol and port.
    ByPort(SetName),
    /// To one of these, by chance.
    Dnat(Vec<(IpAddr, u16)>),
    /// To one of these chains, by chance.
    Balance(Vec<ChainName>),
    /// Notes the source address.
    Remember(SetName),
    Mark(u32),
    /// Takes the mark away and masquerades.
    MasqueradeMarked(u32),
    Masquerade,
    Reject,
    Drop,
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    Addresses,
    /// Filled by packets; entries time out.
    Clients {
        seconds: u32,
    },
    Hairpins,
    Services,
    Ports,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Address(IpAddr),
    Hairpin(IpAddr, Protocol, u16),
    Service(IpAddr, Protocol, u16),
    Port(Protocol, u16),
}

/// What a map says of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// A member of a set, not of a map.
    Member,
    Goto(ChainName),
    Drop,
}

/// The part of the rules that one Service stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    pub chains: BTreeMap<ChainName, Chain>,
    pub client_sets: BTreeMap<SetName, u32>,
    pub elements: BTreeMap<(&'static str, Key), Verdict>,
}

/// The whole table of a family.
#[derive(Clone, Debug)]
pub struct Ruleset {
    pub family: Family,
    chains: BTreeMap<ChainName, Chain>,
    sets: BTreeMap<SetName, SetKind>,
    /// Two Services may want one element (an external IP and port, a pod behind both): the first by name has it.
    elements: BTreeMap<(&'static str, Key), BTreeMap<ServiceName, Verdict>>,
    fragments: BTreeMap<ServiceName, Fragment>,
    pending: Pending,
}

/// How things were when last written, for all that was touched since.
#[derive(Clone, Debug, Default)]
struct Pending {
    chains: BTreeMap<ChainName, Option<Chain>>,
    sets: BTreeMap<SetName, Option<SetKind>>,
    elements: BTreeMap<(&'static str, Key), Option<Verdict>>,
}

/// The difference to what was last written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub new_sets: BTreeMap<SetName, SetKind>,
    pub new_chains: BTreeSet<ChainName>,
    /// Chains whose rules are written anew.
    pub chains: BTreeMap<ChainName, Chain>,
    pub removed_elements: BTreeSet<(&'static str, Key)>,
    pub elements: BTreeMap<(&'static str, Key), Verdict>,
    pub removed_chains: BTreeSet<ChainName>,
    pub removed_sets: BTreeSet<SetName>,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Ruleset {
    /// A table with its fixed parts and no Services.
    pub fn new(family: Family, chains: BTreeMap<ChainName, Chain>, sets: BTreeMap<SetName, SetKind>) -> Self {
        Self { family, chains, sets, elements: BTreeMap::new(), fragments: BTreeMap::new(), pending: Pending::default() }
    }

    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.get(name)
    }

    /// For tests that follow a packet.
    #[cfg(test)]
    pub(crate) fn element(&self, set: &str, key: &Key) -> Option<&Verdict> {
        let (_, wanted) = self.elements.iter().find(|((name, k), _)| *name == set && k == key)?;
        wanted.values().next()
    }

    pub fn service_count(&self) -> usize {
        self.fragments.len()
    }

    /// Replaces what a Service stands for; an empty fragment removes it.
    pub fn set_service(&mut self, name: &ServiceName, fragment: Fragment) {
        let before = self.fragments.remove(name).unwrap_or_default();
        if before != fragment {
            for (chain, old) in &before.chains {
                if fragment.chains.get(chain) != Some(old) {
                    self.pending.chains.entry(chain.clone()).or_insert_with(|| Some(old.clone()));
                    self.chains.remove(chain);
                }
            }
            for (chain, new) in &fragment.chains {
                if before.chains.get(chain) != Some(new) {
                    self.pending.chains.entry(chain.clone()).or_insert(None);
                    self.chains.insert(chain.clone(), new.clone());
                }
            }
            self.update_client_sets(&before, &fragment);
            self.update_elements(name, &before, &fragment);
        }
        if fragment != Fragment::default() {
            self.fragments.insert(name.clone(), fragment);
        }
    }

    fn update_client_sets(&mut self, before: &Fragment, after: &Fragment) {
        for (set, seconds) in &before.client_sets {
            if after.client_sets.get(set) != Some(seconds) {
                self.pending.sets.entry(set.clone()).or_insert(Some(SetKind::Clients { seconds: *seconds }));
                self.sets.remove(set);
            }
        }
        for (set, seconds) in &after.client_sets {
            if before.client_sets.get(set) != Some(seconds) {
                self.pending.sets.entry(set.clone()).or_insert(None);
                self.sets.insert(set.clone(), SetKind::Clients { seconds: *seconds });
            }
        }
    }

    fn update_elements(&mut self, name: &ServiceName, before: &Fragment, after: &Fragment) {
        let touched = before.elements.iter().filter(|(k, v)| after.elements.get(k) != Some(v));
        let touched = touched.chain(after.elements.iter().filter(|(k, v)| before.elements.get(k) != Some(v)));
        let keys: BTreeSet<_> = touched.map(|(key, _)| key.clone()).collect();
        for key in keys {
            let wanted = self.elements.entry(key.clone()).or_default();
            self.pending.elements.entry(key.clone()).or_insert_with(|| wanted.values().next().cloned());
            match after.elements.get(&key) {
                Some(verdict) => wanted.insert(name.clone(), verdict.clone()),
                None => wanted.remove(name),
            };
            if wanted.is_empty() {
                self.elements.remove(&key);
            }
        }
    }

    /// What changed since the last call of this or of `everything`.
    pub fn difference(&mut self) -> Difference {
        let pending = std::mem::take(&mut self.pending);
        let mut difference = Difference::default();
        for (name, before) in pending.chains {
            match (before, self.chains.get(&name)) {
                (Some(_), None) => {
                    difference.removed_chains.insert(name);
                }
                (before, Some(now)) if before.as_ref() != Some(now) => {
                    if before.is_none() {
                        difference.new_chains.insert(name.clone());
                    }
                    difference.chains.insert(name, now.clone());
                }
                _ => {}
            }
        }
        for (name, before) in pending.sets {
            match (before, self.sets.get(&name)) {
                (Some(_), None) => {
                    difference.removed_sets.insert(name);
                }
                (before, Some(now)) if before != Some(*now) => {
                    difference.new_sets.insert(name, *now);
                }
                _ => {}
            }
        }
        for (key, before) in pending.elements {
            let now = self.elements.get(&key).and_then(|wanted| wanted.values().next());
            if before.as_ref() == now {
                continue;
            }
            if before.is_some() {
                difference.removed_elements.insert(key.clone());
            }
            if let Some(now) = now {
                difference.elements.insert(key, now.clone());
            }
        }
        difference
    }

    /// The whole table, as if nothing had been written.
    pub fn everything(&mut self) -> Difference {
        self.pending = Pending::default();
        Difference {
            new_sets: self.sets.clone(),
            new_chains: self.chains.keys().cloned().collect(),
            chains: self.chains.clone(),
            elements: self.elements.iter().filter_map(|(k, w)| Some((k.clone(), w.values().next()?.clone()))).collect(),
            ..Difference::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(ip: &str, chain: &str) -> Fragment {
        let rule = Rule::new([], Action::Dnat(vec![("10.1.0.1".parse().unwrap(), 80)]));
        Fragment {
            chains: BTreeMap::from([(chain.to_owned(), Chain { base: None, rules: vec![rule] })]),
            client_sets: BTreeMap::new(),
            elements: BTreeMap::from([(
                ("service-ips", Key::Service(ip.parse().unwrap(), Protocol::Tcp, 80)),
                Verdict::Goto(chain.to_owned()),
            )]),
        }
    }

    fn name(name: &str) -> ServiceName {
        ServiceName { namespace: "n".into(), name: name.into() }
    }

    #[test]
    fn only_the_difference() {
        let mut rules = Ruleset::new(Family::V4, BTreeMap::new(), BTreeMap::new());
        rules.set_service(&name("a"), fragment("10.0.0.1", "a"));
        let first = rules.difference();
        assert_eq!((first.new_chains.len(), first.elements.len()), (1, 1));
        rules.set_service(&name("a"), fragment("10.0.0.1", "a"));
        assert!(rules.difference().is_empty());
        rules.set_service(&name("a"), Fragment::default());
        rules.set_service(&name("a"), fragment("10.0.0.1", "a"));
        assert!(rules.difference().is_empty(), "gone and back between two writes");
        rules.set_service(&name("a"), fragment("10.0.0.2", "a"));
        let moved = rules.difference();
        assert_eq!((moved.removed_elements.len(), moved.elements.len(), moved.chains.len()), (1, 1, 0));
        rules.set_service(&name("a"), Fragment::default());
        let gone = rules.difference();
        assert_eq!((gone.removed_elements.len(), gone.removed_chains.len()), (1, 1));
        assert_eq!(rules.service_count(), 0);
    }

    #[test]
    fn one_element_wanted_twice_survives_the_first_leaving() {
        let mut rules = Ruleset::new(Family::V4, BTreeMap::new(), BTreeMap::new());
        rules.set_service(&name("a"), fragment("10.0.0.1", "a"));
        rules.set_service(&name("b"), fragment("10.0.0.1", "b"));
        let both = rules.difference();
        assert_eq!(both.elements.values().collect::<Vec<_>>(), [&Verdict::Goto("a".into())]);
        rules.set_service(&name("a"), Fragment::default());
        let left = rules.difference();
        assert_eq!(left.elements.values().collect::<Vec<_>>(), [&Verdict::Goto("b".into())]);
        assert_eq!(left.removed_elements.len(), 1);
    }
}
