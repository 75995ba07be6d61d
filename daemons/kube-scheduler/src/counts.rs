//! How many pods on each node match a query, kept up to date as pods come and go.
//!
//! Spreading and affinity ask the same few questions ("pods of this ReplicaSet, per node") for every pod of a workload. The
//! first pod pays a walk over all pods; from then on each placement costs one comparison per remembered query.

use std::collections::BTreeSet;
use std::sync::Arc;

use machinery::selector::LabelSelector;

use crate::affinity::{Labels, PodTerm};
use crate::pod::PodInfo;

/// Remembered queries; the one not asked for the longest goes first.
const COLUMNS_MAX: usize = 128;

/// Which pods to count: those that match every term.
#[derive(Clone, Debug, PartialEq)]
pub struct PodQuery {
    terms: Vec<QueryTerm>,
    /// Pods on their way out do not count (spreading), or they do (affinity).
    skip_deleting: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct QueryTerm {
    /// `None` is every namespace.
    namespaces: Option<BTreeSet<String>>,
    selector: Option<LabelSelector>,
}

impl PodQuery {
    /// Pods of one namespace, as spreading counts them.
    pub fn in_namespace(namespace: &str, selectors: &[LabelSelector]) -> Self {
        let namespaces = Some(BTreeSet::from([namespace.to_owned()]));
        let term = |s: &LabelSelector| QueryTerm { namespaces: namespaces.clone(), selector: Some(s.clone()) };
        Self { terms: selectors.iter().map(term).collect(), skip_deleting: true }
    }

    /// Pods that match all affinity terms. `resolve` lists the namespaces a namespace selector means today.
    pub fn of_terms<'a>(
        terms: impl IntoIterator<Item = &'a PodTerm>,
        resolve: impl Fn(&LabelSelector) -> Option<BTreeSet<String>>,
    ) -> Self {
        let terms = terms
            .into_iter()
            .map(|term| QueryTerm {
                namespaces: match term.namespace_selector.as_ref().map(&resolve) {
                    Some(None) => None,
                    Some(Some(selected)) => Some(&selected | &term.namespaces),
                    None => Some(term.namespaces.clone()),
                },
                selector: term.selector.clone(),
            })
            .collect();
        Self { terms, skip_deleting: false }
    }

    pub fn matches(&self, pod: &PodInfo) -> bool {
        let counts = !self.skip_deleting || !pod.wants.deleting;
        counts
            && !self.terms.is_empty()
            && self.terms.iter().all(|t| {
                t.namespaces.as_ref().is_none_or(|n| n.contains(&pod.key.namespace))
                    && t.selector.as_ref().is_some_and(|s| s.matches(&pod.wants.labels))
            })
    }
}

#[derive(Debug)]
struct Column {
    query: PodQuery,
    per_row: Arc<Vec<u32>>,
    asked: u64,
}

/// The remembered columns.
#[derive(Debug, Default)]
pub(crate) struct PodCounts {
    columns: Vec<Column>,
    clock: u64,
}

impl PodCounts {
    /// Matching pods per row; `pods` are the pods of each row, walked only when the query is new.
    pub(crate) fn get(&mut self, query: &PodQuery, pods: &[Vec<Arc<PodInfo>>]) -> Arc<Vec<u32>> {
        self.clock += 1;
        if let Some(column) = self.columns.iter_mut().find(|c| c.query == *query) {
            column.asked = self.clock;
            return Arc::clone(&column.per_row);
        }
        let count = |row: &Vec<Arc<PodInfo>>| row.iter().filter(|p| query.matches(p)).count() as u32;
        let per_row = Arc::new(pods.iter().map(count).collect());
        if self.columns.len() == COLUMNS_MAX
            && let Some(oldest) = (0..COLUMNS_MAX).min_by_key(|i| self.columns[*i].asked)
        {
            self.columns.swap_remove(oldest);
        }
        self.columns.push(Column { query: query.clone(), per_row: Arc::clone(&per_row), asked: self.clock });
        per_row
    }

    pub(crate) fn add(&mut self, row: usize, pod: &PodInfo) {
        self.adjust(row, pod, 1);
    }

    pub(crate) fn remove(&mut self, row: usize, pod: &PodInfo) {
        self.adjust(row, pod, -1);
    }

    fn adjust(&mut self, row: usize, pod: &PodInfo, by: i32) {
        for column in self.columns.iter_mut().filter(|c| c.query.matches(pod)) {
            let counts = Arc::make_mut(&mut column.per_row);
            if counts.len() <= row {
                counts.resize(row + 1, 0);
            }
            counts[row] = counts[row].saturating_add_signed(by);
        }
    }
}

/// Labels of a namespace that is not known (yet).
pub(crate) static NO_LABELS: Labels = Labels::new();
