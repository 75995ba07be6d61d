//! DefaultPreemption: which less important pods to remove so that a pod fits. Pure: the victims are named, not removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::bits::Bits;
use crate::cycle::{Nominated, filter};
use crate::diagnosis::Diagnosis;
use crate::framework::{Cure, Cycle, Verdicts};
use crate::nodes::{NodeTable, Row};
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::random::Random;
use crate::world::World;

const PLUGIN: &str = crate::plugins::DEFAULT_PREEMPTION;
/// A tenth of the nodes, but no fewer than this, are tried.
const CANDIDATES_MIN: usize = 100;

/// A node and the pods that must go, most important first.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub node: String,
    pub victims: Vec<Arc<PodInfo>>,
    /// Victims whose removal breaks a PodDisruptionBudget.
    pub violations: usize,
}

/// Finds the candidate that does the least harm, or says why preempting does not help.
pub fn preempt(
    profile: &Profile,
    pod: &PodInfo,
    nodes: &mut NodeTable,
    world: &World,
    nominated: &Nominated,
    failed: &Verdicts,
    random: &mut Random,
) -> Result<Candidate, String> {
    if !pod.wants.may_preempt {
        return Err("preemption: not eligible due to preemptionPolicy=Never.".into());
    }
    let promised = nominated.get(&pod.uid).and_then(|(node, _)| nodes.row(node));
    if promised.is_some_and(|row| waits_for_victims(pod, nodes, row, failed)) {
        return Err("preemption: not eligible due to a terminating pod on the nominated node.".into());
    }
    let potential: Vec<Row> = failed.curable().collect();
    let wanted = (nodes.len() / 10).max(CANDIDATES_MIN);
    let offset = random.below(potential.len());
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut verdicts = Verdicts::new(nodes.live().clone());
    for row in potential.iter().cycle().skip(offset).take(potential.len()) {
        match victims_on(profile, pod, nodes, world, nominated, *row, &mut verdicts) {
            Some(candidate) => candidates.push(candidate),
            None => continue,
        }
        if candidates.len() >= wanted && candidates.iter().any(|c| c.violations == 0) {
            break;
        }
    }
    if let Some(best) = least_harm(candidates) {
        return Ok(best);
    }
    let tried = potential.len();
    let absent = Some(("Preemption is not helpful for scheduling".to_owned(), nodes.len() - tried));
    Err(format!("preemption: {}", Diagnosis { node_count: nodes.len(), verdicts, absent, ..Default::default() }))
}

/// Pods already told to go for this pod's sake are still there: do not remove more.
fn waits_for_victims(pod: &PodInfo, nodes: &NodeTable, row: Row, failed: &Verdicts) -> bool {
    if failed.rejection(row).is_some_and(|r| r.cure == Cure::None) {
        return false;
    }
    nodes.pods(row).iter().any(|p| p.wants.priority < pod.wants.priority && p.wants.deleting && p.state.preempted)
}

/// Removes everything less important from the node, then lets back what the pod can live with.
fn victims_on(
    profile: &Profile,
    pod: &PodInfo,
    nodes: &mut NodeTable,
    world: &World,
    nominated: &Nominated,
    row: Row,
    verdicts: &mut Verdicts,
) -> Option<Candidate> {
    let name = nodes.name(row).to_owned();
    let mut potential: Vec<Arc<PodInfo>> =
        nodes.pods(row).iter().filter(|p| p.wants.priority < pod.wants.priority).cloned().collect();
    if potential.is_empty() {
        verdicts.reject(row, PLUGIN, Cure::None, "No preemption victims found for incoming pod");
        return None;
    }
    potential.sort_by_key(|p| importance(p));
    let guests: Vec<_> = nominated
        .values()
        .filter(|(node, guest)| *node == name && guest.uid != pod.uid && guest.wants.priority >= pod.wants.priority)
        .map(|(_, guest)| Arc::clone(guest))
        .collect();

    // The table is changed and put back: nothing else looks at it meanwhile.
    guests.iter().for_each(|guest| nodes.add_pod(guest, &name));
    potential.iter().for_each(|victim| {
        nodes.remove_pod(&victim.uid, &name);
    });
    let only = Bits::from_iter([row]);
    let judge = |nodes: &NodeTable| filter(profile, &Cycle { pod, nodes, world }, only.clone());
    let empty = judge(nodes);
    let fits = !empty.feasible().is_empty();

    let mut victims = Vec::new();
    let mut violations = 0;
    if fits {
        let (violating, other) = split_by_budgets(&potential, world);
        for (victim, violates) in violating.iter().map(|v| (v, true)).chain(other.iter().map(|v| (v, false))) {
            nodes.add_pod(victim, &name);
            if judge(nodes).feasible().is_empty() {
                nodes.remove_pod(&victim.uid, &name);
                victims.push(Arc::clone(victim));
                violations += usize::from(violates);
            }
        }
    } else if let Some(rejection) = empty.rejection(row) {
        verdicts.reject_with(row, rejection.clone());
    }
    let removed: &[Arc<PodInfo>] = if fits { &victims } else { &potential };
    removed.iter().for_each(|victim| nodes.add_pod(victim, &name));
    guests.iter().for_each(|guest| {
        nodes.remove_pod(&guest.uid, &name);
    });
    victims.sort_by_key(|p| importance(p));
    (!victims.is_empty()).then_some(Candidate { node: name, victims, violations })
}

/// Higher priority first, then whoever runs longer.
fn importance(pod: &PodInfo) -> (i64, Timestamp) {
    (-i64::from(pod.wants.priority), pod.state.started.unwrap_or(Timestamp::MAX))
}

type Pods = Vec<Arc<PodInfo>>;

/// Pods whose removal a budget does not allow, and the others; in the given order.
fn split_by_budgets(pods: &[Arc<PodInfo>], world: &World) -> (Pods, Pods) {
    let mut left: BTreeMap<(&str, usize), i32> = BTreeMap::new();
    let (mut violating, mut other) = (Vec::new(), Vec::new());
    for pod in pods {
        let mut violates = false;
        for (index, budget) in world.budgets(&pod.key.namespace).enumerate() {
            if pod.wants.labels.is_empty()
                || !budget.selector.matches(&pod.wants.labels)
                || budget.already_disrupted.contains(&pod.key.name)
            {
                continue;
            }
            let left = left.entry((&pod.key.namespace, index)).or_insert(budget.allowed);
            *left -= 1;
            violates |= *left < 0;
        }
        if violates { violating.push(Arc::clone(pod)) } else { other.push(Arc::clone(pod)) }
    }
    (violating, other)
}

/// Fewest broken budgets, then the lowest highest victim, the least priority in sum, the fewest pods, the youngest.
fn least_harm(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|c| {
        let highest = c.victims.first().map_or(0, |v| v.wants.priority);
        let sum: i64 = c.victims.iter().map(|v| i64::from(v.wants.priority) + i64::from(i32::MAX) + 1).sum();
        let important = c.victims.iter().filter(|v| v.wants.priority == highest);
        let earliest = important.filter_map(|v| v.state.started).min().unwrap_or(Timestamp::MAX);
        (c.violations, highest, sum, c.victims.len(), std::cmp::Reverse(earliest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Lab, node, pod};

    fn check(lab: &mut Lab, pod: PodInfo, expected: Result<(&str, &[&str]), &str>) {
        let failed = match lab.place(&pod) {
            Ok(placement) => panic!("{} fits on {}", pod.key, placement.node),
            Err(diagnosis) => diagnosis.verdicts,
        };
        let before = format!("{:?}", lab.nodes.cpu);
        let got = preempt(&lab.profile, &pod, &mut lab.nodes, &lab.world, &Nominated::new(), &failed, &mut Random::new(1));
        assert_eq!(format!("{:?}", lab.nodes.cpu), before, "the table is as it was");
        let got = got.map(|c| (c.node, c.victims.iter().map(|v| v.key.name.clone()).collect::<Vec<_>>()));
        let expected = expected
            .map(|(node, victims)| (node.to_owned(), victims.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>()))
            .map_err(str::to_owned);
        assert_eq!(got, expected);
    }

    #[test]
    fn as_few_and_as_unimportant_as_possible() {
        let mut lab = Lab::new([node("a").cpu("4"), node("b").cpu("4")]);
        lab.put(pod("a-low").cpu("2").priority(1), "a");
        lab.put(pod("a-mid").cpu("2").priority(5), "a");
        lab.put(pod("b-mid").cpu("4").priority(5), "b");
        check(&mut lab, pod("vip").cpu("2").priority(10).info(), Ok(("a", &["a-low"])));
        check(&mut lab, pod("vip").cpu("4").priority(10).info(), Ok(("b", &["b-mid"])));
    }

    #[test]
    fn a_broken_budget_is_the_last_resort() {
        let mut lab = Lab::new([node("a").cpu("2"), node("b").cpu("2")]);
        lab.put(pod("guarded").cpu("2").label("app", "x"), "a");
        lab.put(pod("plain").cpu("2").priority(5), "b");
        lab.budget("x", &[("app", "x")], 0);
        check(&mut lab, pod("vip").cpu("1").priority(10).info(), Ok(("b", &["plain"])));
    }

    #[test]
    fn why_it_does_not_help() {
        let mut lab = Lab::new([node("a").cpu("2"), node("b").cpu("8").taint("x", "NoSchedule")]);
        lab.put(pod("same").cpu("2"), "a");
        check(
            &mut lab,
            pod("p").cpu("1").info(),
            Err("preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, \
                 1 Preemption is not helpful for scheduling."),
        );
        check(
            &mut lab,
            pod("p").cpu("3").info(),
            Err("preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."),
        );
        check(
            &mut lab,
            pod("p").cpu("1").priority(9).never_preempts().info(),
            Err("preemption: not eligible due to preemptionPolicy=Never."),
        );
    }
}
