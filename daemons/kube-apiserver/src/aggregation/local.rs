//! The APIServices of what this server serves itself, and the order of groups in discovery. Pure.

use serde_json::{Value, json};

pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// How an APIService is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// Brought in at start; who changes it later is not contradicted.
    OnStart,
    /// Kept as it should be: the definition that it stands for is there.
    Always,
}

impl Managed {
    pub fn label(self) -> &'static str {
        match self {
            Self::OnStart => "onstart",
            Self::Always => "true",
        }
    }
}

/// (group, version, priority of the group, priority of the version): those of upstream, so that clients list groups in its order.
const PRIORITIES: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18000, 1),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1alpha1", 16700, 9),
    ("admissionregistration.k8s.io", "v1beta1", 16700, 12),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("apps", "v1", 17800, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("certificates.k8s.io", "v1alpha1", 17300, 1),
    ("certificates.k8s.io", "v1beta1", 17300, 9),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("coordination.k8s.io", "v1alpha2", 16500, 12),
    ("coordination.k8s.io", "v1beta1", 16500, 13),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("internal.apiserver.k8s.io", "v1alpha1", 16000, 9),
    ("networking.k8s.io", "v1", 17200, 15),
    ("networking.k8s.io", "v1beta1", 17200, 9),
    ("node.k8s.io", "v1", 16300, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("resource.k8s.io", "v1", 16200, 21),
    ("resource.k8s.io", "v1alpha3", 16200, 1),
    ("resource.k8s.io", "v1beta1", 16200, 9),
    ("resource.k8s.io", "v1beta2", 16200, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("scheduling.k8s.io", "v1alpha2", 16600, 2),
    ("storage.k8s.io", "v1", 16800, 15),
    ("storage.k8s.io", "v1alpha1", 16800, 1),
    ("storage.k8s.io", "v1beta1", 16800, 9),
    ("storagemigration.k8s.io", "v1beta1", 15800, 9),
];

const CUSTOM: (i64, i64) = (1000, 100);

/// The priorities of a built-in group and version; none for those of custom resources.
pub fn builtin_priorities(group: &str, version: &str) -> Option<(i64, i64)> {
    let found = PRIORITIES.iter().find(|(g, v, ..)| *g == group && *v == version);
    found.map(|(_, _, group, version)| (*group, *version))
}

/// The priorities of whatever this server serves.
pub fn priorities(group: &str, version: &str) -> (i64, i64) {
    builtin_priorities(group, version).unwrap_or(CUSTOM)
}

/// `v1.apps`; the core group's is `v1.`.
pub fn name(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// The APIService of a group and version of this server.
pub fn api_service(group: &str, version: &str, managed: Managed) -> Value {
    let (group_priority, version_priority) = priorities(group, version);
    let mut spec = json!({"version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority});
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name(group, version), "labels": {MANAGED: managed.label()}}, "spec": spec})
}

/// What to do about one APIService.
#[derive(Debug, PartialEq)]
pub enum Step {
    Keep,
    Create(Value),
    Update(Value),
    Delete,
}

/// Compares what should be with what is. Objects that others made stay as they are.
pub fn decide(wanted: Option<&Value>, there: Option<&Value>) -> Step {
    let managed = |object: &Value| machinery::meta::label(object, MANAGED).map(str::to_owned);
    match (wanted, there) {
        (Some(wanted), None) => Step::Create(wanted.clone()),
        (Some(wanted), Some(there)) => {
            if managed(there).is_none() || (managed(there) == managed(wanted) && there["spec"] == wanted["spec"]) {
                return Step::Keep;
            }
            let mut new = there.clone();
            new["spec"] = wanted["spec"].clone();
            new["metadata"]["labels"][MANAGED] = wanted["metadata"]["labels"][MANAGED].clone();
            Step::Update(new)
        }
        (None, Some(there)) if managed(there).as_deref() == Some(Managed::Always.label()) => Step::Delete,
        (None, _) => Step::Keep,
    }
}

#[cfg(test)]
mod tests {
    use schema::Serving;

    use super::*;

    #[test]
    fn what_is_kept() {
        let wanted = api_service("example.com", "v1", Managed::Always);
        assert_eq!(wanted["metadata"]["name"], "v1.example.com");
        assert_eq!(
            wanted["spec"],
            json!({"group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100})
        );
        assert_eq!(decide(Some(&wanted), None), Step::Create(wanted.clone()));
        assert_eq!(decide(Some(&wanted), Some(&wanted)), Step::Keep);
        assert_eq!(decide(None, Some(&wanted)), Step::Delete);
        let mut changed = wanted.clone();
        changed["spec"]["versionPriority"] = json!(1);
        assert_eq!(decide(Some(&wanted), Some(&changed)), Step::Update(wanted.clone()));
        // Somebody's own is left alone.
        changed["metadata"]["labels"] = json!({});
        assert_eq!(decide(Some(&wanted), Some(&changed)), Step::Keep);
        assert_eq!(decide(None, Some(&changed)), Step::Keep);
        assert_eq!(decide(None, Some(&api_service("apps", "v1", Managed::OnStart))), Step::Keep);
    }

    #[test]
    fn every_built_in_version_has_its_place() {
        let all = Serving::with(schema::builtin().on_request().iter().copied());
        for resource in all.resources() {
            let is_own = resource.group == GROUP_ITSELF;
            assert!(is_own || builtin_priorities(&resource.group, &resource.version).is_some(), "{}", resource.api_version());
        }
    }

    /// The group of APIServices is served without being registered.
    const GROUP_ITSELF: &str = "apiregistration.k8s.io";
}
