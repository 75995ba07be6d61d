//! NodeResourcesFit and NodeResourcesBalancedAllocation: room on the node, and using it evenly.

use crate::event::ClusterEvent;
use crate::framework::{Cure, Cycle, Plugin, Rejection, SCORE_MAX, Scores, Verdicts};
use crate::nodes::{Column, Row};
use crate::pod::PodInfo;

/// What makes a node with room better than another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FitStrategy {
    /// The emptier the better.
    #[default]
    LeastAllocated,
    /// The fuller the better.
    MostAllocated,
}

#[derive(Debug, Default)]
pub struct NodeResourcesFit {
    pub strategy: FitStrategy,
}

/// One resource that the pod asks for: how much, its column, and what is said when there is too little.
struct Demand<'a> {
    amount: i64,
    column: Option<&'a Column>,
    reason: String,
}

impl Demand<'_> {
    /// Allocatable and used, on this node.
    fn on(&self, row: Row) -> (i64, i64) {
        self.column.map_or((0, 0), |c| (c.allocatable[row], c.used[row]))
    }
}

fn demands<'a>(cycle: &'a Cycle<'_>) -> Vec<Demand<'a>> {
    let (asked, nodes) = (&cycle.pod.wants.request.exact, cycle.nodes);
    let fixed = [
        (asked.milli_cpu, &nodes.cpu, "cpu"),
        (asked.memory, &nodes.memory, "memory"),
        (asked.ephemeral_storage, &nodes.ephemeral_storage, "ephemeral-storage"),
    ];
    let fixed = fixed.into_iter().map(|(amount, column, name)| (amount, Some(column), name));
    let scalar = asked.scalar.iter().map(|(name, amount)| (*amount, nodes.scalar.get(name), name.as_str()));
    fixed
        .chain(scalar)
        .filter(|(amount, ..)| *amount > 0)
        .map(|(amount, column, name)| Demand { amount, column, reason: format!("Insufficient {name}") })
        .collect()
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, cycle: &Cycle<'_>, verdicts: &mut Verdicts) {
        let demands = demands(cycle);
        let rows: Vec<Row> = verdicts.feasible().iter().collect();
        let pods = &cycle.nodes.pod_count;
        for row in rows {
            let full = pods.used[row] + 1 > pods.allocatable[row];
            let short = |d: &&Demand<'_>| {
                let (allocatable, used) = d.on(row);
                d.amount > allocatable - used
            };
            if !full && !demands.iter().any(|d| short(&d)) {
                continue;
            }
            let mut reasons = Vec::new();
            if full {
                reasons.push("Too many pods".into());
            }
            let mut cure = Cure::Preemption;
            for demand in demands.iter().filter(short) {
                reasons.push(demand.reason.clone().into());
                if demand.amount > demand.on(row).0 {
                    cure = Cure::None;
                }
            }
            verdicts.reject_with(row, Rejection { plugin: self.name(), cure, reasons });
        }
    }

    fn score(&self, cycle: &Cycle<'_>, feasible: &[Row]) -> Option<Scores> {
        let (nodes, request) = (cycle.nodes, &cycle.pod.wants.request);
        let part = |asked: i64, capacity: i64| match self.strategy {
            _ if capacity == 0 => None,
            FitStrategy::LeastAllocated => Some(((capacity - asked).max(0)) * SCORE_MAX / capacity),
            FitStrategy::MostAllocated => Some(asked.min(capacity) * SCORE_MAX / capacity),
        };
        let score = |row: &Row| {
            let parts = [
                part(nodes.scored_cpu[*row] + request.scored_milli_cpu, nodes.cpu.allocatable[*row]),
                part(nodes.scored_memory[*row] + request.scored_memory, nodes.memory.allocatable[*row]),
            ];
            let weight = parts.iter().flatten().count() as i64;
            if weight == 0 { 0 } else { parts.iter().flatten().sum::<i64>() / weight }
        };
        Some(feasible.iter().map(score).collect())
    }

    fn wakes(&self, event: &ClusterEvent, pod: &PodInfo) -> bool {
        match event {
            ClusterEvent::Node { delta, .. } => delta.added || delta.allocatable,
            ClusterEvent::PodGone(gone) | ClusterEvent::PodShrunk(gone) => {
                // Something the pod is short of may have come free; a place in the pod count always has.
                matches!(event, ClusterEvent::PodGone(_))
                    || !gone.wants.request.exact.is_zero() && !pod.wants.request.exact.is_zero()
            }
            _ => false,
        }
    }
}

/// Prefers nodes on which CPU and memory are used in like measure, and stay so with the pod.
#[derive(Debug)]
pub(crate) struct BalancedAllocation;

/// 100 when both fractions are equal, 50 when one is full and the other empty.
fn balance(used: [i64; 2], capacity: [i64; 2]) -> i64 {
    let fraction = |i: usize| (used[i] as f64 / capacity[i] as f64).min(1.0);
    let deviation = if capacity[0] == 0 || capacity[1] == 0 { 0.0 } else { ((fraction(0) - fraction(1)) / 2.0).abs() };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, cycle: &Cycle<'_>, feasible: &[Row]) -> Option<Scores> {
        // Pods that ask for nothing change no balance; scoring them would pile them onto one node.
        if cycle.pod.is_best_effort() {
            return None;
        }
        let (nodes, asked) = (cycle.nodes, &cycle.pod.wants.request.exact);
        let score = |row: &Row| {
            let capacity = [nodes.cpu.allocatable[*row], nodes.memory.allocatable[*row]];
            let used = [nodes.cpu.used[*row], nodes.memory.used[*row]];
            let with = [used[0] + asked.milli_cpu, used[1] + asked.memory];
            SCORE_MAX / 2 + (SCORE_MAX / 2 + balance(with, capacity) - balance(used, capacity)) / 2
        };
        Some(feasible.iter().map(score).collect())
    }

    fn wakes(&self, _event: &ClusterEvent, _pod: &PodInfo) -> bool {
        false
    }
}
