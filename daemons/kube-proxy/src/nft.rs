//! A [`Difference`] as one transaction in nft's own language.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use crate::model::Family;
use crate::ruleset::{Action, Base, Chain, Difference, Is, Key, Match, Rule, SetKind, Verdict};

/// Our table, in each family.
pub const TABLE: &str = "kube-proxy";

/// Whether a transaction adds to the table or replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Difference,
    WholeTable,
}

struct Text {
    family: Family,
    out: String,
}

/// The transaction's text. Removed chains are emptied, not deleted: kernels before 6.2 refuse to delete a chain in the
/// transaction that removes the last map element pointing to it; see [`delete_chains`].
pub fn transaction(family: Family, difference: &Difference, scope: Scope) -> String {
    let mut text = Text { family, out: String::new() };
    let ip = text.ip();
    if scope == Scope::WholeTable {
        // Adding first makes deleting safe whether or not there was a table.
        text.line(format_args!("add table {ip} {TABLE}"));
        text.line(format_args!("delete table {ip} {TABLE}"));
    }
    text.line(format_args!("add table {ip} {TABLE} {{ comment \"rules for kube-proxy\" ; }}"));
    for (name, kind) in &difference.new_sets {
        text.add_set(name, *kind);
    }
    for name in &difference.new_chains {
        let base = difference.chains.get(name).and_then(|chain| chain.base);
        text.add_chain(name, base);
    }
    for name in difference.chains.keys().filter(|name| !difference.new_chains.contains(*name)).chain(&difference.removed_chains) {
        text.line(format_args!("flush chain {ip} {TABLE} {name}"));
    }
    text.elements("delete", difference.removed_elements.iter().map(|(set, key)| (*set, key, None)));
    for (name, chain) in &difference.chains {
        text.rules(name, chain);
    }
    text.elements("add", difference.elements.iter().map(|((set, key), verdict)| (*set, key, Some(verdict))));
    for name in &difference.removed_sets {
        text.line(format_args!("delete set {ip} {TABLE} {name}"));
    }
    text.out
}

/// Deletes emptied chains.
pub fn delete_chains<'a>(family: Family, chains: impl IntoIterator<Item = &'a String>) -> String {
    let mut text = Text { family, out: String::new() };
    let ip = text.ip();
    for name in chains {
        text.line(format_args!("delete chain {ip} {TABLE} {name}"));
    }
    text.out
}

/// Takes the whole table away.
pub fn delete_table(family: Family) -> String {
    let ip = Text { family, out: String::new() }.ip();
    format!("add table {ip} {TABLE}\ndelete table {ip} {TABLE}\n")
}

impl Text {
    fn ip(&self) -> &'static str {
        match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    fn address_type(&self) -> &'static str {
        match self.family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }

    fn line(&mut self, args: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(args);
        self.out.push('\n');
    }

    fn add_set(&mut self, name: &str, kind: SetKind) {
        let (ip, address) = (self.ip(), self.address_type());
        match kind {
            SetKind::Addresses => self.line(format_args!("add set {ip} {TABLE} {name} {{ type {address} ; }}")),
            SetKind::Clients { seconds } => self.line(format_args!(
                "add set {ip} {TABLE} {name} {{ type {address} ; flags dynamic,timeout ; timeout {seconds}s ; }}"
            )),
            SetKind::Hairpins => self
                .line(format_args!("add set {ip} {TABLE} {name} {{ type {address} . {address} . inet_proto . inet_service ; }}")),
            SetKind::Services => self
                .line(format_args!("add map {ip} {TABLE} {name} {{ type {address} . inet_proto . inet_service : verdict ; }}")),
            SetKind::Ports => {
                self.line(format_args!("add map {ip} {TABLE} {name} {{ type inet_proto . inet_service : verdict ; }}"));
            }
        }
    }

    fn add_chain(&mut self, name: &str, base: Option<Base>) {
        let ip = self.ip();
        match base {
            Some(Base { kind, hook, priority }) => {
                self.line(format_args!("add chain {ip} {TABLE} {name} {{ type {kind} hook {hook} priority {priority} ; }}"));
            }
            None => self.line(format_args!("add chain {ip} {TABLE} {name}")),
        }
    }

    fn rules(&mut self, chain_name: &str, chain: &Chain) {
        let ip = self.ip();
        for rule in &chain.rules {
            let rule = self.rule(rule);
            self.line(format_args!("add rule {ip} {TABLE} {chain_name} {rule}"));
        }
    }

    fn rule(&self, rule: &Rule) -> String {
        let parts: Vec<String> = rule.matches.iter().map(|m| self.condition(m)).chain([self.action(&rule.action)]).collect();
        parts.join(" ")
    }

    fn condition(&self, condition: &Match) -> String {
        let ip = self.ip();
        let not = |is: &Is| if *is == Is::Not { "!= " } else { "" };
        let list = |cidrs: &[crate::model::Cidr]| cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match condition {
            Match::New => "ct state new".into(),
            Match::Dnated => "ct status dnat".into(),
            Match::Protocol(protocol) => format!("meta l4proto {protocol}"),
            Match::DestinationLoopback(is) => match self.family {
                Family::V4 => format!("ip daddr {}127.0.0.0/8", not(is)),
                Family::V6 => format!("ip6 daddr {}::1", not(is)),
            },
            Match::DestinationIn(set) => format!("{ip} daddr @{set}"),
            Match::DestinationWithin(is, cidrs) => format!("{ip} daddr {}{{ {} }}", not(is), list(cidrs)),
            Match::SourceIn(set) => format!("{ip} saddr @{set}"),
            Match::SourceWithin(is, cidrs) => format!("{ip} saddr {}{{ {} }}", not(is), list(cidrs)),
            Match::Interface(is, name) => format!("iifname {}\"{name}\"", not(is)),
            Match::DestinationLocal => "fib daddr type local".into(),
            Match::SourceLocal => "fib saddr type local".into(),
            Match::Marked(bit) => format!("meta mark & {bit:#x} != 0"),
            Match::Hairpin(set) => format!("{ip} saddr . {ip} daddr . meta l4proto . th dport @{set}"),
        }
    }

    fn action(&self, action: &Action) -> String {
        let ip = self.ip();
        match action {
            Action::Jump(chain) => format!("jump {chain}"),
            Action::Goto(chain) => format!("goto {chain}"),
            Action::ByService(map) => format!("{ip} daddr . meta l4proto . th dport vmap @{map}"),
            Action::ByPort(map) => format!("meta l4proto . th dport vmap @{map}"),
            Action::Dnat(targets) => match targets.as_slice() {
                [(address, port)] => format!("dnat to {}", SocketAddr::new(*address, *port)),
                targets => {
                    let arms = targets.iter().enumerate().map(|(i, (address, port))| format!("{i} : {address} . {port}"));
                    let arms = arms.collect::<Vec<_>>().join(", ");
                    format!("dnat {ip} addr . port to numgen random mod {} map {{ {arms} }}", targets.len())
                }
            },
            Action::Balance(chains) => match chains.as_slice() {
                [chain] => format!("goto {chain}"),
                chains => {
                    let arms = chains.iter().enumerate().map(|(i, chain)| format!("{i} : goto {chain}"));
                    let arms = arms.collect::<Vec<_>>().join(", ");
                    format!("numgen random mod {} vmap {{ {arms} }}", chains.len())
                }
            },
            Action::Remember(set) => format!("update @{set} {{ {ip} saddr }}"),
            Action::Mark(bit) => format!("meta mark set meta mark | {bit:#x}"),
            Action::MasqueradeMarked(bit) => format!("meta mark set meta mark ^ {bit:#x} masquerade fully-random"),
            Action::Masquerade => "masquerade fully-random".into(),
            Action::Reject => "reject".into(),
            Action::Drop => "drop".into(),
        }
    }

    /// One command per set, however many elements.
    fn elements<'a>(&mut self, verb: &str, elements: impl Iterator<Item = (&'static str, &'a Key, Option<&'a Verdict>)>) {
        let mut by_set: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (set, key, verdict) in elements {
            let key = match key {
                Key::Address(address) => address.to_string(),
                Key::Hairpin(address, protocol, port) => format!("{address} . {address} . {protocol} . {port}"),
                Key::Service(address, protocol, port) => format!("{address} . {protocol} . {port}"),
                Key::Port(protocol, port) => format!("{protocol} . {port}"),
            };
            by_set.entry(set).or_default().push(match verdict {
                None | Some(Verdict::Member) => key,
                Some(Verdict::Goto(chain)) => format!("{key} : goto {chain}"),
                Some(Verdict::Drop) => format!("{key} : drop"),
            });
        }
        let ip = self.ip();
        for (set, members) in by_set {
            self.line(format_args!("{verb} element {ip} {TABLE} {set} {{ {} }}", members.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, ServiceName};
    use crate::ruleset::{Fragment, Ruleset};

    #[test]
    fn a_change_is_a_few_lines() {
        let mut rules = Ruleset::new(Family::V4, BTreeMap::new(), BTreeMap::new());
        let name = ServiceName { namespace: "n".into(), name: "s".into() };
        let with = |targets: &[(&str, u16)]| Fragment {
            chains: BTreeMap::from([(
                "c".to_owned(),
                Chain {
                    base: None,
                    rules: vec![Rule::new(
                        [Match::Protocol(Protocol::Tcp)],
                        Action::Dnat(targets.iter().map(|(ip, p)| (ip.parse().unwrap(), *p)).collect()),
                    )],
                },
            )]),
            client_sets: BTreeMap::new(),
            elements: BTreeMap::from([(
                ("service-ips", Key::Service("10.0.0.1".parse().unwrap(), Protocol::Tcp, 80)),
                Verdict::Goto("c".into()),
            )]),
        };
        rules.set_service(&name, with(&[("10.1.0.1", 8080)]));
        rules.difference();
        rules.set_service(&name, with(&[("10.1.0.1", 8080), ("10.1.0.2", 8080)]));
        assert_eq!(
            transaction(Family::V4, &rules.difference(), Scope::Difference),
            "add table ip kube-proxy { comment \"rules for kube-proxy\" ; }\n\
             flush chain ip kube-proxy c\n\
             add rule ip kube-proxy c meta l4proto tcp dnat ip addr . port to numgen random mod 2 map \
             { 0 : 10.1.0.1 . 8080, 1 : 10.1.0.2 . 8080 }\n"
        );
        rules.set_service(&name, Fragment::default());
        assert_eq!(
            transaction(Family::V4, &rules.difference(), Scope::Difference),
            "add table ip kube-proxy { comment \"rules for kube-proxy\" ; }\n\
             flush chain ip kube-proxy c\n\
             delete element ip kube-proxy service-ips { 10.0.0.1 . tcp . 80 }\n"
        );
    }
}
