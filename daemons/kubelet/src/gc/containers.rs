//! Which dead containers and sandboxes go: pure.

use std::collections::{BTreeMap, BTreeSet};

use cri::v1::{ContainerState, PodSandboxState};

use crate::runtime::client::Listed;

/// Ids to remove: containers first, then sandboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) containers: Vec<String>,
    pub(super) sandboxes: Vec<String>,
}

/// Of a pod that is there, the newest dead run of each container stays (its log and its exit code are asked for), and the
/// newest sandbox; of a pod that is gone, nothing does.
pub(super) fn decide(listed: &[Listed], pods: &BTreeSet<String>) -> Plan {
    let mut newest_dead: BTreeMap<(&str, &str), &Listed> = BTreeMap::new();
    let mut newest_sandbox: BTreeMap<&str, &Listed> = BTreeMap::new();
    let dead =
        |c: &Listed| c.state == ContainerState::ContainerExited as i32 || c.state == ContainerState::ContainerUnknown as i32;
    for item in listed.iter().filter(|l| pods.contains(&l.pod_uid)) {
        if item.sandbox {
            let newest = newest_sandbox.entry(&item.pod_uid).or_insert(item);
            if item.created_at > newest.created_at {
                *newest = item;
            }
        } else if dead(item) {
            let newest = newest_dead.entry((&item.pod_uid, &item.name)).or_insert(item);
            if item.created_at > newest.created_at {
                *newest = item;
            }
        }
    }
    let kept: BTreeSet<&str> =
        newest_dead.values().map(|c| c.id.as_str()).chain(newest_sandbox.values().map(|s| s.id.as_str())).collect();
    let mut plan = Plan::default();
    for container in listed.iter().filter(|l| !l.sandbox && dead(l) && !kept.contains(l.id.as_str())) {
        plan.containers.push(container.id.clone());
    }
    let removed: BTreeSet<&str> = plan.containers.iter().map(String::as_str).collect();
    let in_use: BTreeSet<&str> =
        listed.iter().filter(|l| !l.sandbox && !removed.contains(l.id.as_str())).map(|l| l.sandbox_id.as_str()).collect();
    for sandbox in listed.iter().filter(|l| l.sandbox) {
        let dead = sandbox.state != PodSandboxState::SandboxReady as i32;
        if dead && !kept.contains(sandbox.id.as_str()) && !in_use.contains(sandbox.id.as_str()) {
            plan.sandboxes.push(sandbox.id.clone());
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, pod: &str, name: &str, created_at: i64, state: i32) -> Listed {
        Listed {
            id: id.into(),
            pod_uid: pod.into(),
            pod_name: pod.into(),
            pod_namespace: "ns".into(),
            name: name.into(),
            state,
            sandbox: name.is_empty(),
            created_at,
            sandbox_id: if name.is_empty() { id.into() } else { format!("s-{pod}") },
            attempt: 0,
            image: String::new(),
        }
    }

    const RUNNING: i32 = ContainerState::ContainerRunning as i32;
    const EXITED: i32 = ContainerState::ContainerExited as i32;
    const READY: i32 = PodSandboxState::SandboxReady as i32;
    const NOT_READY: i32 = PodSandboxState::SandboxNotready as i32;

    fn check(listed: &[Listed], containers: &[&str], sandboxes: &[&str]) {
        let plan = decide(listed, &BTreeSet::from(["p".to_owned()]));
        assert_eq!(
            (plan.containers, plan.sandboxes),
            (containers.iter().map(|s| s.to_string()).collect(), sandboxes.iter().map(|s| s.to_string()).collect())
        );
    }

    #[test]
    fn the_newest_dead_run_of_each_container_stays() {
        check(
            &[
                item("s-p", "p", "", 1, READY),
                item("a1", "p", "a", 1, EXITED),
                item("a2", "p", "a", 2, EXITED),
                item("a3", "p", "a", 3, RUNNING),
                item("b1", "p", "b", 1, EXITED),
            ],
            &["a1"],
            &[],
        );
    }

    #[test]
    fn of_a_pod_that_is_gone_nothing_stays() {
        check(&[item("s-q", "q", "", 1, NOT_READY), item("a1", "q", "a", 1, EXITED)], &["a1"], &["s-q"]);
    }

    #[test]
    fn what_runs_is_not_touched() {
        check(&[item("s-q", "q", "", 1, READY), item("a1", "q", "a", 1, RUNNING)], &[], &[]);
        // Its sandbox died, the container did not yet.
        check(&[item("s-q", "q", "", 1, NOT_READY), item("a1", "q", "a", 1, RUNNING)], &[], &[]);
    }

    #[test]
    fn an_older_sandbox_goes_when_its_containers_are_gone() {
        check(&[item("s-old", "p", "", 1, NOT_READY), item("s-p", "p", "", 2, READY)], &[], &["s-old"]);
        check(&[item("s-p", "p", "", 1, NOT_READY), item("s-new", "p", "", 2, READY), item("a1", "p", "a", 1, EXITED)], &[], &[]);
    }
}
