//! Revisions and the annotations that a Deployment and its ReplicaSets share. `kubectl rollout history` and `undo` read them.

use std::collections::BTreeMap;

use api::apps::{Deployment, ReplicaSet};
use api::core::PodTemplateSpec;

use crate::template;

pub(super) const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Written by clients of a long gone API: the revision to go back to.
pub(super) const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The revisions a ReplicaSet has had, as text.
const HISTORY_LENGTH_MAX: usize = 2000;

/// Annotations that stay with the object they are on.
fn is_own(key: &str) -> bool {
    [LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, ROLLBACK_TO].contains(&key)
}

/// The revision a ReplicaSet carries; 0 when it carries none, `None` when it is not a number.
pub(super) fn of(set: &ReplicaSet) -> Option<i64> {
    match annotation(set, REVISION) {
        None => Some(0),
        Some(text) => text.parse().ok(),
    }
}

pub(super) fn annotation<'a>(set: &'a ReplicaSet, key: &str) -> Option<&'a str> {
    set.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A count kept in an annotation.
pub(super) fn count(set: &ReplicaSet, key: &str) -> Option<i32> {
    annotation(set, key)?.parse().ok().filter(|n| *n >= 0)
}

pub(super) fn set_counts(set: &mut ReplicaSet, desired: i32, max: i32) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.into(), desired.to_string());
    annotations.insert(MAX_REPLICAS.into(), max.to_string());
}

/// The highest revision among `sets`.
pub(super) fn max<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    sets.into_iter().filter_map(of).max().unwrap_or(0).max(0)
}

/// The second highest revision, which is the one before; 0 when there is none.
pub(super) fn last<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    let mut all: Vec<i64> = sets.into_iter().filter_map(of).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.get(1).copied().unwrap_or(0)
}

/// Gives the newest ReplicaSet the Deployment's annotations and, unless it has a higher one already, `revision`. The
/// revision it had until now goes into its history.
pub(super) fn sync_newest(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !is_own(key) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let had = annotations.get(REVISION).cloned();
    let old = match had.as_deref() {
        None | Some("") => 0,
        Some(text) => match text.parse::<i64>() {
            Ok(old) => old,
            Err(_) => return, // someone wrote there what is no number: leave it
        },
    };
    if old >= revision {
        return;
    }
    annotations.insert(REVISION.into(), revision.to_string());
    if let Some(had) = had {
        let history = annotations.get(REVISION_HISTORY).map(String::as_str).unwrap_or_default();
        if let Some(history) = append_history(history, &had) {
            annotations.insert(REVISION_HISTORY.into(), history);
        }
    }
}

/// The history with one more entry, the oldest dropped until it fits.
fn append_history(history: &str, revision: &str) -> Option<String> {
    let mut entries: Vec<&str> = history.split(',').filter(|e| !e.is_empty()).collect();
    entries.push(revision);
    let length = |e: &[&str]| e.iter().map(|s| s.len() + 1).sum::<usize>().saturating_sub(1);
    let mut start = 0;
    while length(&entries[start..]) > HISTORY_LENGTH_MAX {
        start += 1;
    }
    (start < entries.len()).then(|| entries[start..].join(","))
}

/// The Deployment's annotations after going back to `set`.
pub(super) fn annotations_from(deployment: &Deployment, set: &ReplicaSet) -> BTreeMap<String, String> {
    let own = deployment.metadata.annotations.iter().flatten().filter(|(k, _)| is_own(k));
    let theirs = set.metadata.annotations.iter().flatten().filter(|(k, _)| !is_own(k));
    own.chain(theirs).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The template without the label that only ReplicaSets' templates have.
pub(super) fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(meta) = &mut template.metadata {
        if let Some(labels) = &mut meta.labels {
            labels.remove(TEMPLATE_HASH_LABEL);
        }
        // Absent and empty mean the same.
        meta.labels.take_if(|l| l.is_empty());
        meta.annotations.take_if(|a| a.is_empty());
    }
    template.metadata.take_if(|m| *m == api::metav1::ObjectMeta::default());
    template
}

/// Whether a ReplicaSet runs the Deployment's template.
pub(super) fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let plain = |t: &PodTemplateSpec| template::canonical(&without_hash(t));
    let wanted = deployment.spec.as_ref().map(|s| plain(&s.template));
    let has = set.spec.as_ref().and_then(|s| s.template.as_ref()).map(plain);
    has.is_some() && has == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(annotations: &[(&str, &str)]) -> ReplicaSet {
        let mut set = ReplicaSet::default();
        set.metadata.annotations = Some(annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        set
    }

    #[test]
    fn the_newest_gets_the_next_revision_and_remembers_its_old_ones() {
        let mut deployment = Deployment::default();
        deployment.metadata.annotations =
            Some([("kubernetes.io/change-cause".into(), "edit".into()), (LAST_APPLIED.into(), "{}".into())].into());
        let check = |before: &[(&str, &str)], revision, after: &[(&str, &str)]| {
            let mut s = set(before);
            sync_newest(&deployment, &mut s, revision);
            let mut want = set(after);
            want.metadata.annotations.as_mut().unwrap().insert("kubernetes.io/change-cause".into(), "edit".into());
            assert_eq!(s, want, "{before:?}");
        };
        check(&[], 1, &[(REVISION, "1")]);
        check(&[(REVISION, "1")], 1, &[(REVISION, "1")]);
        check(&[(REVISION, "5")], 3, &[(REVISION, "5")]);
        check(&[(REVISION, "1")], 3, &[(REVISION, "3"), (REVISION_HISTORY, "1")]);
        check(&[(REVISION, "3"), (REVISION_HISTORY, "1")], 5, &[(REVISION, "5"), (REVISION_HISTORY, "1,3")]);
        check(&[(REVISION, "x")], 5, &[(REVISION, "x")]);
    }

    #[test]
    fn history_is_bounded() {
        let long = vec!["1234567"; 250].join(",");
        let next = append_history(&long, "7654321").unwrap();
        assert!(next.len() <= HISTORY_LENGTH_MAX && next.ends_with(",7654321"));
    }

    #[test]
    fn the_last_revision_is_the_second_highest() {
        let sets = [set(&[(REVISION, "4")]), set(&[(REVISION, "7")]), set(&[(REVISION, "2")])];
        assert_eq!((last(&sets), max(&sets)), (4, 7));
        assert_eq!(last(&sets[..1]), 0);
    }
}
