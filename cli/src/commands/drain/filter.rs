//! Which pods of a node a drain deletes: the filters of kubectl's drain package, in their order.

use std::collections::BTreeMap;

use jiff::Timestamp;
use machinery::meta;
use serde_json::Value;

/// What the flags allow.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub force: bool,
    pub ignore_daemon_sets: bool,
    pub delete_empty_dir: bool,
    /// Pods that are being deleted for longer are left out; 0 leaves none out.
    pub skip_deleted_after: i64,
}

/// What is known of the daemon set that a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonSet {
    /// The pod belongs to none, or is over.
    None,
    Found,
    Missing(String),
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delete,
    DeleteWarned(&'static str),
    Leave,
    LeaveWarned(&'static str),
    Refuse(String),
}

/// The pods of a node after the filters.
#[derive(Debug, Default)]
pub struct Filtered {
    pub deleted: Vec<Value>,
    warned: BTreeMap<String, Vec<String>>,
    refused: BTreeMap<String, Vec<String>>,
}

impl Filtered {
    pub fn add(&mut self, pod: Value, verdict: Verdict) {
        let key = meta::key(&pod);
        match verdict {
            Verdict::Delete => self.deleted.push(pod),
            Verdict::DeleteWarned(about) => {
                self.warned.entry(about.into()).or_default().push(key);
                self.deleted.push(pod);
            }
            Verdict::Leave => {}
            Verdict::LeaveWarned(about) => self.warned.entry(about.into()).or_default().push(key),
            Verdict::Refuse(about) => self.refused.entry(about).or_default().push(key),
        }
    }

    pub fn warnings(&self) -> Option<String> {
        let lines: Vec<String> = self.warned.iter().map(|(about, pods)| format!("{about}: {}", pods.join(", "))).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    pub fn errors(&self) -> Vec<String> {
        self.refused.iter().map(|(about, pods)| format!("cannot delete {about}: {}", pods.join(", "))).collect()
    }
}

fn finished(pod: &Value) -> bool {
    let phase = &pod["status"]["phase"];
    phase == "Succeeded" || phase == "Failed"
}

/// The name of the daemon set that would start the pod again.
pub fn daemon_set_of(pod: &Value) -> Option<&str> {
    let owner = meta::controller_of(pod).filter(|_| !finished(pod))?;
    (owner["kind"] == "DaemonSet" && owner["apiVersion"] == "apps/v1").then(|| owner["name"].as_str())?
}

/// Whether a pod's deletion began more than `seconds` ago. Never when `seconds` is 0.
pub fn deleted_for(pod: &Value, seconds: i64, now: Timestamp) -> bool {
    let since = meta::deletion_timestamp(pod).and_then(|text| machinery::time::parse(text).ok());
    seconds > 0 && since.is_some_and(|since| now.as_second() - since.as_second() > seconds)
}

/// The first filter that keeps a pod decides; else the last one, which is about controllers.
pub fn verdict(pod: &Value, daemon_set: &DaemonSet, rules: &Rules, now: Timestamp) -> Verdict {
    if deleted_for(pod, rules.skip_deleted_after, now) {
        return Verdict::Leave;
    }
    match daemon_set {
        DaemonSet::Missing(_) if rules.force => {}
        DaemonSet::Missing(about) | DaemonSet::Unknown(about) => return Verdict::Refuse(about.clone()),
        DaemonSet::Found if rules.ignore_daemon_sets => return Verdict::LeaveWarned("ignoring DaemonSet-managed Pods"),
        DaemonSet::Found => return Verdict::Refuse("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)".into()),
        DaemonSet::None => {}
    }
    if meta::annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return Verdict::Leave;
    }
    if finished(pod) {
        return Verdict::Delete;
    }
    let local = pod["spec"]["volumes"].as_array().into_iter().flatten().any(|volume| !volume["emptyDir"].is_null());
    if local && !rules.delete_empty_dir {
        return Verdict::Refuse("Pods with local storage (use --delete-emptydir-data to override)".into());
    }
    match (meta::controller_of(pod), rules.force) {
        (Some(_), _) => Verdict::Delete,
        (None, true) => Verdict::DeleteWarned("deleting Pods that declare no controller"),
        (None, false) => Verdict::Refuse("Pods that declare no controller (use --force to override)".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        let owner = json!([{"kind": "ReplicaSet", "apiVersion": "apps/v1", "name": "r", "controller": true}]);
        json!({"metadata": {"name": "a", "namespace": "x", "ownerReferences": owner}, "spec": {}, "status": {"phase": "Running"}})
    }

    #[test]
    fn each_pod_has_a_verdict() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let check = |change: &dyn Fn(&mut Value), set: DaemonSet, rules: Rules, want: Verdict| {
            let mut pod = pod();
            change(&mut pod);
            assert_eq!(verdict(&pod, &set, &rules, now), want, "{pod} {rules:?}");
        };
        let none = || Rules::default();
        let force = || Rules { force: true, ..Rules::default() };
        let refuse = |text: &str| Verdict::Refuse(text.into());
        check(&|_| {}, DaemonSet::None, none(), Verdict::Delete);
        let alone = |pod: &mut Value| pod["metadata"]["ownerReferences"] = json!([]);
        check(&alone, DaemonSet::None, none(), refuse("Pods that declare no controller (use --force to override)"));
        check(&alone, DaemonSet::None, force(), Verdict::DeleteWarned("deleting Pods that declare no controller"));
        let done = |pod: &mut Value| pod["status"]["phase"] = "Failed".into();
        check(&|pod| (alone(pod), done(pod)).0, DaemonSet::None, none(), Verdict::Delete);
        let local = |pod: &mut Value| pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        check(&local, DaemonSet::None, force(), refuse("Pods with local storage (use --delete-emptydir-data to override)"));
        check(&local, DaemonSet::None, Rules { delete_empty_dir: true, ..none() }, Verdict::Delete);
        let mirror = |pod: &mut Value| pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "h"});
        check(&mirror, DaemonSet::None, none(), Verdict::Leave);
        check(&|_| {}, DaemonSet::Found, force(), refuse("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"));
        let ignore = Rules { ignore_daemon_sets: true, ..none() };
        check(&|_| {}, DaemonSet::Found, ignore, Verdict::LeaveWarned("ignoring DaemonSet-managed Pods"));
        check(&|_| {}, DaemonSet::Missing("gone".into()), none(), refuse("gone"));
        check(&|_| {}, DaemonSet::Missing("gone".into()), force(), Verdict::Delete);
        let deleted = |pod: &mut Value| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:59:00Z".into();
        check(&deleted, DaemonSet::None, Rules { skip_deleted_after: 59, ..none() }, Verdict::Leave);
        check(&deleted, DaemonSet::None, Rules { skip_deleted_after: 60, ..none() }, Verdict::Delete);
    }

    #[test]
    fn what_is_alike_is_said_once() {
        let mut filtered = Filtered::default();
        filtered.add(pod(), Verdict::DeleteWarned("w"));
        filtered.add(pod(), Verdict::LeaveWarned("w"));
        filtered.add(pod(), Verdict::Refuse("r".into()));
        assert_eq!(filtered.deleted.len(), 1);
        assert_eq!(filtered.warnings().as_deref(), Some("w: x/a, x/a"));
        assert_eq!(filtered.errors(), ["cannot delete r: x/a"]);
    }
}
