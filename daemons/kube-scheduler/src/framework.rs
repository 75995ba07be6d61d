//! The extension points: what a [`Plugin`] may say about a pod and the nodes.
//!
//! Names and order are upstream's (scheduling framework, KEP-624); the shape is not: a plugin is asked once per pod for all nodes,
//! not once per pod and node, so that it can read a column of the node table instead of visiting nodes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::affinity::Labels;
use crate::bits::Bits;
use crate::event::ClusterEvent;
use crate::nodes::{NodeTable, Row};
use crate::pod::PodInfo;
use crate::world::World;

/// The best and worst a plugin may give a node.
pub const SCORE_MAX: i64 = 100;

/// One attempt to place one pod: what plugins look at.
pub struct Cycle<'a> {
    pub pod: &'a PodInfo,
    pub nodes: &'a NodeTable,
    pub world: &'a World,
}

impl Cycle<'_> {
    /// Labels of the pod's namespace.
    pub fn namespace_labels(&self) -> &Labels {
        self.world.namespace_labels(&self.pod.key.namespace)
    }
}

/// Could removing pods from the node change the answer?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Preempting other pods may help (`Unschedulable`).
    Preemption,
    /// Nothing the scheduler can do helps (`UnschedulableAndUnresolvable`).
    None,
}

pub type Reason = Cow<'static, str>;

/// Why a plugin turned nodes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: &'static str,
    pub cure: Cure,
    pub reasons: Vec<Reason>,
}

/// The nodes still possible, and for every other node the first plugin that rejected it.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    feasible: Bits,
    /// Per row, an index into `rejections` plus one; 0 is a row that was not rejected.
    rejected: Vec<u16>,
    /// Distinct rejections; many nodes share one.
    rejections: Vec<Rejection>,
}

impl Verdicts {
    pub fn new(feasible: Bits) -> Self {
        Self { feasible, ..Default::default() }
    }

    pub fn feasible(&self) -> &Bits {
        &self.feasible
    }

    pub fn reject(&mut self, row: Row, plugin: &'static str, cure: Cure, reason: &'static str) {
        self.reject_with(row, Rejection { plugin, cure, reasons: vec![Cow::Borrowed(reason)] });
    }

    pub fn reject_with(&mut self, row: Row, rejection: Rejection) {
        self.feasible.remove(row);
        // Latest first: a plugin rejects many nodes for one reason.
        let index = match self.rejections.iter().rposition(|r| *r == rejection) {
            Some(index) => index,
            None => {
                self.rejections.push(rejection);
                self.rejections.len() - 1
            }
        };
        self.mark(row, index);
    }

    fn mark(&mut self, row: Row, rejection: usize) {
        if self.rejected.len() <= row {
            self.rejected.resize(row + 1, 0);
        }
        self.rejected[row] = rejection as u16 + 1;
    }

    /// Rejects every node still possible that is not in `rows`.
    pub fn keep_only(&mut self, rows: &Bits, plugin: &'static str, cure: Cure, reason: &'static str) {
        let mut out = self.feasible.clone();
        out.subtract(rows);
        self.reject_all(&out, plugin, cure, reason);
    }

    /// Rejects those of `rows` that are still possible.
    pub fn reject_all(&mut self, rows: &Bits, plugin: &'static str, cure: Cure, reason: &'static str) {
        let mut out = rows.clone();
        out.intersect(&self.feasible);
        if out.is_empty() {
            return;
        }
        self.feasible.subtract(&out);
        self.rejections.push(Rejection { plugin, cure, reasons: vec![Cow::Borrowed(reason)] });
        let index = self.rejections.len() - 1;
        out.iter().for_each(|row| self.mark(row, index));
    }

    pub fn rejection(&self, row: Row) -> Option<&Rejection> {
        let index = self.rejected.get(row)?.checked_sub(1)?;
        Some(&self.rejections[index as usize])
    }

    /// Rejected nodes, each with its rejection.
    pub fn rejected(&self) -> impl Iterator<Item = (Row, &Rejection)> {
        (0..self.rejected.len()).filter_map(|row| Some((row, self.rejection(row)?)))
    }

    /// Rejected nodes on which preemption might help.
    pub fn curable(&self) -> impl Iterator<Item = Row> {
        self.rejected().filter(|(_, r)| r.cure == Cure::Preemption).map(|(row, _)| row)
    }

    pub fn plugins(&self) -> BTreeSet<&'static str> {
        self.rejected().map(|(_, r)| r.plugin).collect()
    }

    /// A node must pass in both; where both rejected it, the reason is this one's.
    pub fn also(&mut self, other: &Self) {
        for (row, rejection) in other.rejected() {
            if self.feasible.contains(row) {
                self.reject_with(row, rejection.clone());
            }
        }
    }

    /// How many nodes gave each reason.
    pub fn histogram(&self) -> BTreeMap<Reason, usize> {
        let mut counts = BTreeMap::new();
        for (_, rejection) in self.rejected() {
            for reason in &rejection.reasons {
                *counts.entry(reason.clone()).or_default() += 1;
            }
        }
        counts
    }
}

/// A pod that cannot be placed whatever the nodes look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreFilterRejection {
    pub plugin: &'static str,
    pub message: String,
}

/// What a plugin says before nodes are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreFilter {
    All,
    /// Only these nodes can be possible; the others are not even counted one by one.
    Only(BTreeSet<String>),
    None(String),
}

/// Scores of the feasible nodes, in the order of the list given to [`Plugin::score`].
pub type Scores = Vec<i64>;

/// A named part of the scheduler's judgement. All methods are pure.
pub trait Plugin: Send + Sync + std::fmt::Debug {
    fn name(&self) -> &'static str;

    /// A reason to keep the pod out of the queue altogether.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Option<String> {
        None
    }

    fn pre_filter(&self, _cycle: &Cycle<'_>) -> PreFilter {
        PreFilter::All
    }

    /// Rejects nodes that cannot take the pod.
    fn filter(&self, _cycle: &Cycle<'_>, _verdicts: &mut Verdicts) {}

    /// 0 to [`SCORE_MAX`] for each feasible node, already normalised; `None` when the plugin has no preference.
    fn score(&self, _cycle: &Cycle<'_>, _feasible: &[Row]) -> Option<Scores> {
        None
    }

    /// Whether a pod this plugin rejected may pass after the event.
    fn wakes(&self, _event: &ClusterEvent, _pod: &PodInfo) -> bool {
        true
    }
}

/// Scales so that the highest becomes [`SCORE_MAX`]; reversed, the lowest counts most.
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        *score = match (most, reverse) {
            (0, true) => SCORE_MAX,
            (0, false) => *score,
            (_, false) => SCORE_MAX * *score / most,
            (_, true) => SCORE_MAX - SCORE_MAX * *score / most,
        };
    }
}
