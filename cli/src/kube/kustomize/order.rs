//! Upstream's "legacy" order, which is its default: what others need comes first, webhooks last.

use super::Item;

const FIRST: &[&str] = &[
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: &[&str] = &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

fn rank(kind: &str) -> usize {
    let last = LAST.iter().position(|other| *other == kind).map(|at| FIRST.len() + 1 + at);
    FIRST.iter().position(|other| *other == kind).or(last).unwrap_or(FIRST.len())
}

pub fn sort(items: &mut [Item]) {
    items.sort_by_cached_key(|item| {
        let object = &item.object;
        let (group, version) = match machinery::meta::api_version(object).split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (String::new(), machinery::meta::api_version(object).to_owned()),
        };
        let name = machinery::meta::name(object).to_owned();
        (rank(item.kind()), group, version, item.kind().to_owned(), machinery::meta::namespace(object).to_owned(), name)
    });
}
