//! [`NodeTable`]: every node as a row, every property as a column, changed in place as nodes and pods change.
//!
//! A filter reads one column from top to bottom; a label, a taint or a port is answered from an index over rows. Nothing here
//! is rebuilt for a scheduling cycle, and nothing here decides.
//!
//! **Invariant:** a pod's requests are in the columns exactly once, from [`NodeTable::add_pod`] to [`NodeTable::remove_pod`].

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::Kind;
use api::core::{Node, Taint};

use crate::affinity::{Labels, NodeRequirement, NodeTerm, NodeTest};
use crate::bits::Bits;
use crate::counts::{PodCounts, PodQuery};
use crate::pod::{PodInfo, normalized_image};
use crate::resources::{Resources, value};

pub type Row = usize;

/// One resource over all rows.
#[derive(Clone, Debug, Default)]
pub struct Column {
    pub allocatable: Vec<i64>,
    pub used: Vec<i64>,
}

impl Column {
    fn grow(&mut self, rows: usize) {
        self.allocatable.resize(rows, 0);
        self.used.resize(rows, 0);
    }

    fn take(&mut self, row: Row, amount: i64) {
        self.used[row] = self.used[row].saturating_add(amount);
    }
}

/// An image some nodes hold.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub size: i64,
    pub rows: Bits,
}

/// The rows of one label key: all that carry it, and by value.
#[derive(Clone, Debug, Default)]
struct LabelIndex {
    any: Bits,
    values: HashMap<String, Vec<u32>>,
}

/// The domains of a topology key, numbered, and which one each row is in.
#[derive(Clone, Debug)]
pub struct Domains {
    of_row: Vec<u32>,
    count: usize,
}

impl Domains {
    const NONE: u32 = u32::MAX;

    pub fn of(&self, row: Row) -> Option<usize> {
        self.of_row.get(row).filter(|d| **d != Self::NONE).map(|d| *d as usize)
    }

    /// Something for each domain.
    pub fn each<T: Clone>(&self, value: T) -> Vec<T> {
        vec![value; self.count]
    }
}

/// What of a node changed, in the terms plugins wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeDelta {
    pub added: bool,
    pub labels: bool,
    pub taints: bool,
    pub allocatable: bool,
}

impl NodeDelta {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

#[derive(Debug, Default)]
pub struct NodeTable {
    names: Vec<String>,
    rows: HashMap<String, Row>,
    free: Vec<Row>,
    /// Rows that have a Node; a row may also exist for pods whose node is not (or no longer) known.
    live: Bits,

    pub cpu: Column,
    pub memory: Column,
    pub ephemeral_storage: Column,
    pub pod_count: Column,
    pub scalar: BTreeMap<String, Column>,
    /// As scoring counts: containers without requests are not free.
    pub scored_cpu: Vec<i64>,
    pub scored_memory: Vec<i64>,

    pub unschedulable: Bits,
    taints: Vec<(Taint, Bits)>,
    row_taints: Vec<Vec<Taint>>,
    labels: Vec<Labels>,
    label_index: HashMap<String, LabelIndex>,
    images: HashMap<String, Image>,
    row_images: Vec<Vec<String>>,

    pods: Vec<Vec<Arc<PodInfo>>>,
    /// Rows per taken (protocol, port); a row stands once for each of its pods.
    ports: HashMap<(String, i32), Vec<Row>>,
    /// Pods with affinity terms of their own, by UID: few, and asked about for every other pod.
    affine: BTreeMap<String, (Row, Arc<PodInfo>)>,
    counts: RefCell<PodCounts>,
}

impl NodeTable {
    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub fn live(&self) -> &Bits {
        &self.live
    }

    pub fn row(&self, name: &str) -> Option<Row> {
        self.rows.get(name).copied().filter(|row| self.live.contains(*row))
    }

    pub fn name(&self, row: Row) -> &str {
        &self.names[row]
    }

    pub fn labels(&self, row: Row) -> &Labels {
        &self.labels[row]
    }

    pub fn pods(&self, row: Row) -> &[Arc<PodInfo>] {
        &self.pods[row]
    }

    /// Distinct taints and the rows that carry them.
    pub fn taints(&self) -> impl Iterator<Item = (&Taint, &Bits)> {
        self.taints.iter().map(|(taint, rows)| (taint, rows))
    }

    pub fn row_taints(&self, row: Row) -> &[Taint] {
        &self.row_taints[row]
    }

    pub fn image(&self, name: &str) -> Option<&Image> {
        self.images.get(name)
    }

    pub fn rows_with_port(&self, protocol: &str, port: i32) -> &[Row] {
        self.ports.get(&(protocol.to_owned(), port)).map_or(&[], Vec::as_slice)
    }

    /// Placed pods that have pod (anti-)affinity terms.
    pub fn affine_pods(&self) -> impl Iterator<Item = (Row, &PodInfo)> {
        self.affine.values().map(|(row, pod)| (*row, pod.as_ref()))
    }

    /// Matching pods per row.
    pub fn count(&self, query: &PodQuery) -> Arc<Vec<u32>> {
        self.counts.borrow_mut().get(query, &self.pods)
    }

    fn row_or_new(&mut self, name: &str) -> Row {
        if let Some(row) = self.rows.get(name) {
            return *row;
        }
        let row = self.free.pop().unwrap_or_else(|| {
            let rows = self.names.len() + 1;
            self.names.push(String::new());
            for column in [&mut self.cpu, &mut self.memory, &mut self.ephemeral_storage, &mut self.pod_count] {
                column.grow(rows);
            }
            self.scalar.values_mut().for_each(|c| c.grow(rows));
            self.scored_cpu.resize(rows, 0);
            self.scored_memory.resize(rows, 0);
            self.row_taints.resize(rows, Vec::new());
            self.labels.resize(rows, Labels::new());
            self.row_images.resize(rows, Vec::new());
            self.pods.resize(rows, Vec::new());
            rows - 1
        });
        self.names[row] = name.to_owned();
        self.rows.insert(name.to_owned(), row);
        row
    }

    fn release_if_unused(&mut self, row: Row) {
        if !self.live.contains(row) && self.pods[row].is_empty() {
            self.rows.remove(&std::mem::take(&mut self.names[row]));
            self.free.push(row);
        }
    }

    /// Adds a node or brings its row up to date.
    pub fn set_node(&mut self, node: &Node) -> NodeDelta {
        let row = self.row_or_new(node.name());
        let mut delta = NodeDelta { added: !self.live.contains(row), ..Default::default() };
        self.live.insert(row);

        let none = BTreeMap::new();
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref()).unwrap_or(&none);
        delta.allocatable =
            self.set_allocatable(row, &Resources::from_list(allocatable), allocatable.get("pods").map_or(0, value));

        let spec = node.spec.clone().unwrap_or_default();
        let unschedulable = spec.unschedulable.unwrap_or(false);
        delta.taints |= unschedulable != self.unschedulable.contains(row);
        if unschedulable {
            self.unschedulable.insert(row)
        } else {
            self.unschedulable.remove(row)
        }
        delta.taints |= self.set_taints(row, spec.taints.unwrap_or_default());
        delta.labels = self.set_labels(row, node.meta().labels.clone().unwrap_or_default());

        let images = node.status.iter().flat_map(|s| s.images.iter().flatten());
        let images: Vec<(String, i64)> =
            images.flat_map(|i| i.names.iter().flatten().map(|n| (normalized_image(n), i.size_bytes.unwrap_or(0)))).collect();
        self.set_images(row, images);
        delta
    }

    /// Forgets a node; pods bound to it keep their row until they are gone too.
    pub fn remove_node(&mut self, name: &str) -> bool {
        let Some(row) = self.row(name) else { return false };
        self.live.remove(row);
        self.set_allocatable(row, &Resources::default(), 0);
        self.unschedulable.remove(row);
        self.set_taints(row, Vec::new());
        self.set_labels(row, Labels::new());
        self.set_images(row, Vec::new());
        self.release_if_unused(row);
        true
    }

    fn set_allocatable(&mut self, row: Row, to: &Resources, pods: i64) -> bool {
        let rows = self.names.len();
        let mut changed = false;
        let mut set = |column: &mut Column, amount: i64| {
            changed |= column.allocatable[row] != amount;
            column.allocatable[row] = amount;
        };
        set(&mut self.cpu, to.milli_cpu);
        set(&mut self.memory, to.memory);
        set(&mut self.ephemeral_storage, to.ephemeral_storage);
        set(&mut self.pod_count, pods);
        for (name, column) in &mut self.scalar {
            set(column, to.scalar.get(name).copied().unwrap_or(0));
        }
        for (name, amount) in &to.scalar {
            if !self.scalar.contains_key(name) {
                let mut column = Column::default();
                column.grow(rows);
                set(&mut column, *amount);
                self.scalar.insert(name.clone(), column);
            }
        }
        changed
    }

    fn set_taints(&mut self, row: Row, to: Vec<Taint>) -> bool {
        // When a taint was added says nothing about who tolerates it.
        let to: Vec<Taint> = to.into_iter().map(|t| Taint { time_added: None, ..t }).collect();
        if self.row_taints[row] == to {
            return false;
        }
        for (_, rows) in &mut self.taints {
            rows.remove(row);
        }
        for taint in &to {
            match self.taints.iter_mut().find(|(t, _)| t == taint) {
                Some((_, rows)) => rows.insert(row),
                None => self.taints.push((taint.clone(), Bits::from_iter([row]))),
            }
        }
        self.taints.retain(|(_, rows)| !rows.is_empty());
        self.row_taints[row] = to;
        true
    }

    fn set_labels(&mut self, row: Row, to: Labels) -> bool {
        let from = std::mem::take(&mut self.labels[row]);
        if from == to {
            self.labels[row] = to;
            return false;
        }
        for (key, value) in &from {
            if to.get(key) == Some(value) {
                continue;
            }
            let Some(index) = self.label_index.get_mut(key) else { continue };
            index.any.remove(row);
            if let Some(rows) = index.values.get_mut(value) {
                rows.retain(|r| *r as usize != row);
                if rows.is_empty() {
                    index.values.remove(value);
                }
            }
            if index.values.is_empty() {
                self.label_index.remove(key);
            }
        }
        for (key, value) in &to {
            if from.get(key) != Some(value) {
                let index = self.label_index.entry(key.clone()).or_default();
                index.any.insert(row);
                index.values.entry(value.clone()).or_default().push(row as u32);
            }
        }
        self.labels[row] = to;
        true
    }

    fn set_images(&mut self, row: Row, to: Vec<(String, i64)>) {
        for name in std::mem::take(&mut self.row_images[row]) {
            if let Some(image) = self.images.get_mut(&name) {
                image.rows.remove(row);
                if image.rows.is_empty() && !to.iter().any(|(n, _)| *n == name) {
                    self.images.remove(&name);
                }
            }
        }
        for (name, size) in to {
            let image = self.images.entry(name.clone()).or_default();
            image.size = size;
            image.rows.insert(row);
            self.row_images[row].push(name);
        }
    }

    /// Puts a pod on the node it names.
    pub fn add_pod(&mut self, pod: &Arc<PodInfo>, node: &str) {
        let row = self.row_or_new(node);
        self.charge(row, pod, 1);
        for port in &pod.wants.host_ports {
            self.ports.entry((port.protocol.clone(), port.port)).or_default().push(row);
        }
        if pod.wants.affinity.is_some() {
            self.affine.insert(pod.uid.clone(), (row, Arc::clone(pod)));
        }
        self.counts.get_mut().add(row, pod);
        self.pods[row].push(Arc::clone(pod));
    }

    /// Takes a pod off its node; false when it was not there.
    pub fn remove_pod(&mut self, uid: &str, node: &str) -> bool {
        let Some(row) = self.rows.get(node).copied() else { return false };
        let Some(at) = self.pods[row].iter().position(|p| p.uid == uid) else { return false };
        let pod = self.pods[row].swap_remove(at);
        self.charge(row, &pod, -1);
        for port in &pod.wants.host_ports {
            let key = (port.protocol.clone(), port.port);
            if let Some(rows) = self.ports.get_mut(&key) {
                if let Some(at) = rows.iter().position(|r| *r == row) {
                    rows.swap_remove(at);
                }
                if rows.is_empty() {
                    self.ports.remove(&key);
                }
            }
        }
        self.affine.remove(uid);
        self.counts.get_mut().remove(row, &pod);
        self.release_if_unused(row);
        true
    }

    fn charge(&mut self, row: Row, pod: &PodInfo, times: i64) {
        let request = &pod.wants.request;
        self.cpu.take(row, times * request.exact.milli_cpu);
        self.memory.take(row, times * request.exact.memory);
        self.ephemeral_storage.take(row, times * request.exact.ephemeral_storage);
        self.pod_count.take(row, times);
        self.scored_cpu[row] += times * request.scored_milli_cpu;
        self.scored_memory[row] += times * request.scored_memory;
        for (name, amount) in &request.exact.scalar {
            let rows = self.names.len();
            let column = self.scalar.entry(name.clone()).or_default();
            column.grow(rows);
            column.take(row, times * amount);
        }
    }

    /// Rows whose labels are all of these.
    pub fn select(&self, labels: &Labels) -> Bits {
        let mut rows = self.live.clone();
        for (key, value) in labels {
            rows.intersect(&self.rows_with_label(key, value));
        }
        rows
    }

    fn rows_with_label(&self, key: &str, value: &str) -> Bits {
        let rows = self.label_index.get(key).and_then(|index| index.values.get(value));
        rows.into_iter().flatten().map(|row| *row as usize).collect()
    }

    /// Rows with this label key.
    pub fn rows_with_key(&self, key: &str) -> Bits {
        self.label_index.get(key).map(|index| index.any.clone()).unwrap_or_default()
    }

    /// The rows by their value of a label key.
    pub fn domains(&self, key: &str) -> Domains {
        let mut of_row = vec![Domains::NONE; self.names.len()];
        let mut count = 0;
        for rows in self.label_index.get(key).into_iter().flat_map(|index| index.values.values()) {
            rows.iter().for_each(|row| of_row[*row as usize] = count as u32);
            count += 1;
        }
        Domains { of_row, count }
    }

    /// Rows that meet a whole term.
    pub fn select_term(&self, term: &NodeTerm) -> Bits {
        if term.is_empty() {
            return Bits::default();
        }
        let mut rows = self.live.clone();
        for requirement in &term.labels {
            rows.intersect(&self.select_requirement(requirement));
        }
        if let Some(names) = term.named_nodes() {
            rows.intersect(&names.iter().filter_map(|n| self.row(n)).collect());
        }
        if !term.fields.is_empty() {
            let named = |row: &Row| term.fields.iter().all(|f| f.key == "metadata.name" && f.test.matches(Some(self.name(*row))));
            rows = rows.iter().filter(named).collect();
        }
        rows
    }

    fn select_requirement(&self, requirement: &NodeRequirement) -> Bits {
        let with = |matches: &dyn Fn(&str) -> bool| -> Bits {
            let index = self.label_index.get(&requirement.key);
            let values = index.iter().flat_map(|i| &i.values).filter(|(value, _)| matches(value));
            values.flat_map(|(_, rows)| rows).map(|row| *row as usize).collect()
        };
        let without = |rows: &Bits| {
            let mut rest = self.live.clone();
            rest.subtract(rows);
            rest
        };
        match &requirement.test {
            NodeTest::In(values) => {
                let mut rows = Bits::default();
                values.iter().for_each(|v| rows.union(&self.rows_with_label(&requirement.key, v)));
                rows
            }
            NodeTest::NotIn(values) => {
                let mut rows = Bits::default();
                values.iter().for_each(|v| rows.union(&self.rows_with_label(&requirement.key, v)));
                without(&rows)
            }
            NodeTest::Exists => self.rows_with_key(&requirement.key),
            NodeTest::DoesNotExist => without(&self.rows_with_key(&requirement.key)),
            test @ (NodeTest::Gt(_) | NodeTest::Lt(_)) => with(&|value| test.matches(Some(value))),
            NodeTest::Invalid => Bits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};

    fn names(table: &NodeTable, rows: &Bits) -> Vec<String> {
        rows.iter().map(|r| table.name(r).to_owned()).collect()
    }

    #[test]
    fn pods_are_charged_once_and_given_back() {
        let mut table = NodeTable::default();
        table.set_node(&node("a").cpu("4").build());
        let p = Arc::new(pod("p").cpu("1500m").host_port(80).info());
        table.add_pod(&p, "a");
        let row = table.row("a").unwrap();
        assert_eq!((table.cpu.allocatable[row], table.cpu.used[row], table.pod_count.used[row]), (4000, 1500, 1));
        assert_eq!(table.rows_with_port("TCP", 80), [row]);
        assert!(table.remove_pod(&p.uid, "a"));
        assert!(!table.remove_pod(&p.uid, "a"));
        assert_eq!((table.cpu.used[row], table.pod_count.used[row]), (0, 0));
        assert!(table.rows_with_port("TCP", 80).is_empty());
    }

    #[test]
    fn a_pod_may_arrive_before_its_node_and_outlive_it() {
        let mut table = NodeTable::default();
        let p = Arc::new(pod("p").cpu("1").info());
        table.add_pod(&p, "late");
        assert_eq!((table.len(), table.row("late")), (0, None));
        assert!(table.set_node(&node("late").cpu("2").build()).added);
        assert_eq!(table.cpu.used[table.row("late").unwrap()], 1000);
        assert!(table.remove_node("late"));
        assert!(table.remove_pod(&p.uid, "late"));
        table.set_node(&node("other").cpu("2").build());
        assert_eq!(table.cpu.used[table.row("other").unwrap()], 0, "the row was free again");
    }

    #[test]
    fn labels_answer_terms() {
        let mut table = NodeTable::default();
        table.set_node(&node("a").label("zone", "x").label("gen", "3").build());
        table.set_node(&node("b").label("zone", "y").label("gen", "7").build());
        table.set_node(&node("c").build());
        let select = |key: &str, test: NodeTest| {
            let requirement = NodeRequirement { key: key.into(), test };
            names(&table, &table.select_term(&NodeTerm { labels: vec![requirement], fields: vec![] }))
        };
        assert_eq!(select("zone", NodeTest::In(vec!["x".into(), "y".into()])), ["a", "b"]);
        assert_eq!(select("zone", NodeTest::NotIn(vec!["x".into()])), ["b", "c"]);
        assert_eq!(select("zone", NodeTest::DoesNotExist), ["c"]);
        assert_eq!(select("gen", NodeTest::Gt(3)), ["b"]);
        assert_eq!(names(&table, &table.select(&Labels::from([("zone".into(), "y".into())]))), ["b"]);
    }

    #[test]
    fn only_what_matters_is_a_change() {
        let mut table = NodeTable::default();
        assert!(table.set_node(&node("a").cpu("1").build()).added);
        assert!(table.set_node(&node("a").cpu("1").build()).is_empty());
        assert!(table.set_node(&node("a").cpu("2").build()).allocatable);
        assert!(table.set_node(&node("a").cpu("2").label("x", "y").build()).labels);
        assert!(table.set_node(&node("a").cpu("2").label("x", "y").taint("t", "NoSchedule").build()).taints);
        assert!(table.set_node(&node("a").cpu("2").label("x", "y").build()).taints);
        assert_eq!(table.taints().count(), 0);
    }
}
