//! One scheduling cycle: filter, score, choose. Pure; the same table, pod and seed give the same node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::bits::Bits;
use crate::diagnosis::Diagnosis;
use crate::framework::{Cycle, PreFilter, Verdicts};
use crate::nodes::{NodeTable, Row};
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::random::Random;
use crate::world::World;

/// The node chosen for a pod, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub row: Row,
    pub node: String,
    pub feasible: usize,
    /// What each plugin gave the chosen node, weighted.
    pub scores: BTreeMap<&'static str, i64>,
}

/// Pods that preemption has promised a node, by UID.
pub type Nominated = BTreeMap<String, (String, Arc<PodInfo>)>;

/// Finds the best node for the pod.
pub fn place(
    profile: &Profile,
    pod: &PodInfo,
    nodes: &mut NodeTable,
    world: &World,
    nominated: &Nominated,
    random: &mut Random,
) -> Result<Placement, Box<Diagnosis>> {
    if nodes.is_empty() {
        return Err(Box::default());
    }
    let verdicts = feasible(profile, pod, nodes, world, nominated)?;
    let cycle = Cycle { pod, nodes, world };
    let rows: Vec<Row> = verdicts.feasible().iter().collect();
    let Some(first) = rows.first() else {
        let plugins = verdicts.plugins();
        return Err(Box::new(Diagnosis { node_count: nodes.len(), verdicts, plugins, ..Default::default() }));
    };
    // A node promised by an earlier preemption is taken when it fits: its pods were removed for this.
    let promised = nominated.get(&pod.uid).and_then(|(node, _)| nodes.row(node)).filter(|row| rows.contains(row));
    let (row, scores) = match promised {
        Some(row) => (row, BTreeMap::new()),
        None if rows.len() == 1 => (*first, BTreeMap::new()),
        None => best(profile, &cycle, &rows, random),
    };
    Ok(Placement { row, node: nodes.name(row).to_owned(), feasible: rows.len(), scores })
}

/// Runs pre-filters and filters. Pods nominated to a node that are at least as important count as if they were there, and the
/// pod must fit with and without them: they may still go elsewhere.
pub fn feasible(
    profile: &Profile,
    pod: &PodInfo,
    nodes: &mut NodeTable,
    world: &World,
    nominated: &Nominated,
) -> Result<Verdicts, Box<Diagnosis>> {
    let all = nodes.live().clone();
    let candidates = pre_filter(profile, &Cycle { pod, nodes, world }, all)?;
    let guests: Vec<_> = nominated
        .values()
        .filter(|(_, guest)| guest.uid != pod.uid && guest.wants.priority >= pod.wants.priority)
        .cloned()
        .collect();
    let without = filter(profile, &Cycle { pod, nodes, world }, candidates.rows.clone());
    let mut verdicts = without;
    if !guests.is_empty() {
        guests.iter().for_each(|(node, guest)| nodes.add_pod(guest, node));
        let with = filter(profile, &Cycle { pod, nodes, world }, candidates.rows.clone());
        guests.iter().for_each(|(node, guest)| {
            nodes.remove_pod(&guest.uid, node);
        });
        verdicts.also(&with);
    }
    if verdicts.feasible().is_empty() && candidates.excluded > 0 {
        let mut plugins = verdicts.plugins();
        plugins.extend(&candidates.by);
        let by: Vec<&str> = candidates.by.iter().copied().collect();
        let absent = Some((format!("node(s) didn't satisfy plugin(s) [{}]", by.join(" ")), candidates.excluded));
        return Err(Box::new(Diagnosis { node_count: nodes.len(), verdicts, absent, plugins, ..Default::default() }));
    }
    Ok(verdicts)
}

/// The nodes pre-filters leave, how many they excluded, and who did.
struct Candidates {
    rows: Bits,
    excluded: usize,
    by: BTreeSet<&'static str>,
}

fn pre_filter(profile: &Profile, cycle: &Cycle<'_>, mut rows: Bits) -> Result<Candidates, Box<Diagnosis>> {
    let mut by = BTreeSet::new();
    let reject = |message: String, plugins: BTreeSet<&'static str>| {
        Box::new(Diagnosis { node_count: cycle.nodes.len(), pre_filter: message, plugins, ..Default::default() })
    };
    for plugin in profile.plugins() {
        match plugin.pre_filter(cycle) {
            PreFilter::All => {}
            PreFilter::None(message) => return Err(reject(message, BTreeSet::from([plugin.name()]))),
            PreFilter::Only(names) => {
                by.insert(plugin.name());
                rows.intersect(&names.iter().filter_map(|name| cycle.nodes.row(name)).collect());
            }
        }
    }
    Ok(Candidates { excluded: cycle.nodes.len() - rows.len(), rows, by })
}

/// Runs the filters over the candidates.
pub fn filter(profile: &Profile, cycle: &Cycle<'_>, candidates: Bits) -> Verdicts {
    let mut verdicts = Verdicts::new(candidates);
    for plugin in profile.plugins() {
        if verdicts.feasible().is_empty() {
            break;
        }
        plugin.filter(cycle, &mut verdicts);
    }
    verdicts
}

/// The row with the highest weighted score; among equals, any.
fn best(profile: &Profile, cycle: &Cycle<'_>, rows: &[Row], random: &mut Random) -> (Row, BTreeMap<&'static str, i64>) {
    let mut totals = vec![0_i64; rows.len()];
    let mut parts = Vec::new();
    for (plugin, weight) in profile.scorers() {
        if let Some(mut scores) = plugin.score(cycle, rows) {
            for (total, score) in totals.iter_mut().zip(&mut scores) {
                *score *= weight;
                *total += *score;
            }
            parts.push((plugin.name(), scores));
        }
    }
    let most = totals.iter().copied().max().unwrap_or(0);
    let ties = totals.iter().filter(|t| **t == most).count();
    let chosen = random.below(ties);
    let at = totals.iter().enumerate().filter(|(_, t)| **t == most).map(|(at, _)| at).nth(chosen).unwrap_or(0);
    (rows[at], parts.into_iter().map(|(name, scores)| (name, scores[at])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Lab, node, pod};

    fn check(lab: &mut Lab, pod: PodInfo, expected: Result<&str, &str>) {
        let got = lab.place(&pod).map(|p| p.node).map_err(|d| d.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn of_4_12_and_16_cpus_a_pod_of_10_lands_on_the_16() {
        let mut lab = Lab::new([node("a").cpu("4"), node("b").cpu("12"), node("c").cpu("16")]);
        let big = pod("big").cpu("10");
        let verdicts = feasible(&lab.profile, &big.info(), &mut lab.nodes, &lab.world, &Nominated::new()).unwrap();
        let names: Vec<_> = verdicts.feasible().iter().map(|r| lab.nodes.name(r).to_owned()).collect();
        assert_eq!(names, ["b", "c"], "the node with 4 is never a candidate");
        check(&mut lab, big.info(), Ok("c"));
        check(&mut lab, pod("huge").cpu("17").info(), Err("0/3 nodes are available: 3 Insufficient cpu."));
    }

    #[test]
    fn reasons_as_upstream_words_them() {
        let mut lab = Lab::new([
            node("small").cpu("1"),
            node("t1").cpu("8").taint("a", "NoSchedule"),
            node("t2").cpu("8").taint("b", "NoExecute"),
            node("cordoned").cpu("8").unschedulable(),
        ]);
        check(
            &mut lab,
            pod("p").cpu("2").info(),
            Err("0/4 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable, 2 node(s) had untolerated taint(s)."),
        );
        check(&mut lab, pod("p").cpu("2").toleration("a").info(), Ok("t1"));
        check(
            &mut lab,
            pod("p").selector("disk", "ssd").toleration("a").toleration("b").info(),
            Err("0/4 nodes are available: 1 node(s) were unschedulable, 3 node(s) didn't match Pod's node affinity/selector."),
        );
        check(&mut Lab::new([]), pod("p").info(), Err("no nodes available to schedule pods"));
    }

    #[test]
    fn host_ports_and_pod_counts_are_per_node() {
        let mut lab = Lab::new([node("a").cpu("8"), node("b").cpu("8").pods(1)]);
        lab.put(pod("x").host_port(80), "a");
        check(&mut lab, pod("y").host_port(80).info(), Ok("b"));
        lab.put(pod("y").host_port(80), "b");
        check(
            &mut lab,
            pod("z").host_port(80).info(),
            Err("0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."),
        );
        check(&mut lab, pod("w").info(), Ok("a"));
        lab.nodes.set_node(&node("a").cpu("8").unschedulable().build());
        check(&mut lab, pod("v").info(), Err("0/2 nodes are available: 1 Too many pods, 1 node(s) were unschedulable."));
    }

    #[test]
    fn a_daemon_pod_is_told_of_its_own_node_only() {
        let mut lab = Lab::new([node("a").cpu("1"), node("b").cpu("8"), node("c").cpu("8")]);
        check(
            &mut lab,
            pod("d").cpu("2").pinned("a").info(),
            Err("0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."),
        );
    }

    #[test]
    fn pods_of_a_workload_spread_over_nodes() {
        let mut lab = Lab::new([node("a").cpu("8"), node("b").cpu("8"), node("c").cpu("8")]);
        lab.service("web", &[("app", "web")]);
        let mut used = BTreeSet::new();
        for i in 0..3 {
            let p = pod(&format!("web-{i}")).label("app", "web");
            let placement = lab.place(&p.info()).unwrap();
            lab.put(p, &placement.node);
            used.insert(placement.node);
        }
        assert_eq!(used.len(), 3);
    }

    #[test]
    fn hard_spreading_over_zones() {
        let mut lab =
            Lab::new([node("a").cpu("8").label("zone", "1"), node("b").cpu("8").label("zone", "2"), node("c").cpu("8")]);
        let p = |name: &str| pod(name).label("app", "x").spread("zone", 1, &[("app", "x")]);
        lab.put(p("one"), "a");
        check(&mut lab, p("two").info(), Ok("b"));
        lab.nodes.remove_node("b");
        lab.put(p("two"), "a");
        check(&mut lab, p("three").info(), Ok("a"));
        lab.nodes.set_node(&node("b").cpu("1").label("zone", "2").build());
        check(
            &mut lab,
            p("four").cpu("2").info(),
            Err("0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints, \
                 1 node(s) didn't match pod topology spread constraints (missing required label)."),
        );
    }

    #[test]
    fn affinity_and_anti_affinity() {
        let mut lab = Lab::new([node("a").cpu("8").label("zone", "1"), node("b").cpu("8").label("zone", "2")]);
        let lonely = |name: &str| pod(name).label("app", "db").anti_affinity("zone", &[("app", "db")]);
        lab.put(lonely("db-1"), "a");
        check(&mut lab, lonely("db-2").info(), Ok("b"));
        lab.put(lonely("db-2"), "b");
        check(&mut lab, lonely("db-3").info(), Err("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."));
        check(
            &mut lab,
            pod("other").label("app", "db").info(),
            Err("0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules."),
        );
        lab.put(pod("cache").label("app", "cache"), "b");
        check(&mut lab, pod("web").affinity("zone", &[("app", "cache")]).info(), Ok("b"));
        check(
            &mut lab,
            pod("web").affinity("zone", &[("app", "none")]).info(),
            Err("0/2 nodes are available: 2 node(s) didn't match pod affinity rules."),
        );
        // The first of a group that wants to be together may start anywhere.
        assert!(lab.place(&pod("first").label("app", "new").affinity("zone", &[("app", "new")]).info()).is_ok());
    }

    #[test]
    fn a_nominated_pod_keeps_its_place() {
        let mut lab = Lab::new([node("a").cpu("4")]);
        let vip = Arc::new(pod("vip").cpu("3").priority(10).info());
        let nominated = Nominated::from([(vip.uid.clone(), ("a".to_owned(), Arc::clone(&vip)))]);
        let mut place = |p: PodInfo| {
            place(&lab.profile, &p, &mut lab.nodes, &lab.world, &nominated, &mut Random::new(1))
                .map(|p| p.node)
                .map_err(|d| d.to_string())
        };
        assert_eq!(place(pod("p").cpu("2").info()), Err("0/1 nodes are available: 1 Insufficient cpu.".into()));
        assert_eq!(place(pod("p").cpu("2").priority(11).info()), Ok("a".into()));
        assert_eq!(place((*vip).clone()), Ok("a".into()));
    }

    #[test]
    fn soft_taints_and_images_sway() {
        let mut lab = Lab::new([node("a").cpu("8").taint("x", "PreferNoSchedule"), node("b").cpu("8")]);
        check(&mut lab, pod("p").info(), Ok("b"));
        let mut lab = Lab::new([node("a").cpu("8"), node("b").cpu("8").image("big:1", 900 << 20)]);
        check(&mut lab, pod("p").image("big:1").info(), Ok("b"));
    }
}
