//! What a namespace that ends says about what keeps it.

use std::collections::BTreeMap;

use api::core::NamespaceCondition;
use api::jiff::Timestamp;

use crate::clock::time;

/// What one pass over a namespace's content came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Why the server's resources are not all known.
    pub(super) discovery: Option<String>,
    pub(super) failures: Vec<String>,
    pub(super) remaining: Vec<Remaining>,
}

/// Objects that are still there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Remaining {
    /// `pods.`, `deployments.apps`.
    pub(super) resource: String,
    pub(super) count: usize,
    pub(super) finalizers: BTreeMap<String, usize>,
}

/// A condition's type, its reason and message when all is well, and those when it is not.
type Row = (&'static str, &'static str, &'static str, Option<(&'static str, String)>);

impl Found {
    pub(super) fn failed(&self) -> bool {
        self.discovery.is_some() || !self.failures.is_empty()
    }

    pub(super) fn summary(&self) -> String {
        self.discovery.iter().chain(&self.failures).cloned().collect::<Vec<_>>().join("; ")
    }

    pub(super) fn pods_remain(&self) -> bool {
        self.remaining.iter().any(|r| r.resource == "pods.")
    }

    fn conditions(&self) -> [Row; 5] {
        let content = (!self.failures.is_empty()).then(|| {
            let (count, list) = (self.failures.len(), self.failures.join(", "));
            ("ContentDeletionFailed", format!("Failed to delete all resource types, {count} remaining: {list}"))
        });
        let remaining = (!self.remaining.is_empty()).then(|| {
            let list: Vec<String> =
                self.remaining.iter().map(|r| format!("{} has {} resource instances", r.resource, r.count)).collect();
            ("SomeResourcesRemain", format!("Some resources are remaining: {}", list.join(", ")))
        });
        let mut by_finalizer: BTreeMap<&str, usize> = BTreeMap::new();
        for (finalizer, count) in self.remaining.iter().flat_map(|r| &r.finalizers) {
            *by_finalizer.entry(finalizer).or_default() += count;
        }
        let finalizers = (!by_finalizer.is_empty()).then(|| {
            let list: Vec<String> = by_finalizer.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
            let message = format!("Some content in the namespace has finalizers remaining: {}", list.join(", "));
            ("SomeFinalizersRemain", message)
        });
        [
            (
                "NamespaceDeletionDiscoveryFailure",
                "ResourcesDiscovered",
                "All resources successfully discovered",
                self.discovery.clone().map(|m| ("DiscoveryFailed", m)),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
                None,
            ),
            (
                "NamespaceDeletionContentFailure",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
                content,
            ),
            ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed", remaining),
            ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished", finalizers),
        ]
    }
}

/// Brings the five conditions up to date; times move only when a status does.
pub(super) fn update(conditions: &mut Vec<NamespaceCondition>, found: &Found, now: Timestamp) {
    for (kind, ok_reason, ok_message, problem) in found.conditions() {
        let (status, reason, message) = match problem {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", ok_reason, ok_message.to_owned()),
        };
        let mut new = NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(time(now)),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            None => conditions.push(new),
            Some(old) => {
                if old.status == new.status {
                    new.last_transition_time.clone_from(&old.last_transition_time);
                }
                *old = new;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_name_what_remains() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut conditions = Vec::new();
        let found = Found {
            remaining: vec![Remaining {
                resource: "pods.".into(),
                count: 2,
                finalizers: [("example.com/wait".to_owned(), 1)].into(),
            }],
            ..Found::default()
        };
        update(&mut conditions, &found, at(1));
        let text = |c: &[NamespaceCondition], i: usize| format!("{} {}", c[i].status, c[i].message.clone().unwrap());
        assert_eq!(conditions.len(), 5);
        assert_eq!(text(&conditions, 3), "True Some resources are remaining: pods. has 2 resource instances");
        assert_eq!(
            text(&conditions, 4),
            "True Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances"
        );
        update(&mut conditions, &Found::default(), at(9));
        assert_eq!(text(&conditions, 3), "False All content successfully removed");
        assert_eq!(conditions[3].last_transition_time, Some(time(at(9))));
        assert_eq!(conditions[0].last_transition_time, Some(time(at(1))));
    }
}
