//! What is to be done for a pod, given its specification and what the runtime has: pure.
//!
//! The rules are those of upstream's `computePodActions`: a sandbox that is gone or has lost its address takes everything
//! with it; init containers run one after the other, those with `restartPolicy: Always` stay; only then do the others start.

use std::collections::BTreeMap;

use api::core::{Container, Pod};

use super::view::{ContainerView, PodView, State};
use crate::pod::spec::{self, RestartPolicy, Role};
use crate::probe::Verdict;

/// Why a container is killed, for the event and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub name: String,
    pub message: String,
    pub reason: KillReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// The pod ends, or its definition changed.
    Other,
    Unknown,
    StartupProbe,
    LivenessProbe,
}

/// The plan for one pod. Indexes are those of the specification's lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Kill all that runs, the sandbox too.
    pub kill_pod: bool,
    pub create_sandbox: bool,
    /// The sandbox to use when none is created.
    pub sandbox_id: String,
    /// Of the sandbox that is created.
    pub attempt: u32,
    pub init_to_start: Vec<usize>,
    pub main_to_start: Vec<usize>,
    pub ephemeral_to_start: Vec<usize>,
    pub to_kill: BTreeMap<String, Kill>,
}

impl Actions {
    pub fn is_empty(&self) -> bool {
        !self.kill_pod
            && !self.create_sandbox
            && self.init_to_start.is_empty()
            && self.main_to_start.is_empty()
            && self.ephemeral_to_start.is_empty()
            && self.to_kill.is_empty()
    }
}

/// What the probes found of a container, by its id; `None` before the first answer.
pub trait Probes {
    fn startup(&self, container_id: &str) -> Option<Verdict>;
    fn liveness(&self, container_id: &str) -> Option<Verdict>;
}

/// The hash by which a change of a container's definition is seen. Only what can't be changed in place counts.
pub fn container_hash(container: &Container) -> String {
    const OFFSET: u32 = 2_166_136_261;
    const PRIME: u32 = 16_777_619;
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    format!("{:x}", bytes.fold(OFFSET, |h, b| (h ^ u32::from(b)).wrapping_mul(PRIME)))
}

/// Whether a new sandbox is needed, which attempt it would be, and the id of the newest one.
fn sandbox_changed(pod: &Pod, view: &PodView) -> (bool, u32, String) {
    let Some(newest) = view.sandboxes.first() else { return (true, 0, String::new()) };
    let ready = view.sandboxes.iter().filter(|s| s.ready).count();
    let next = newest.attempt + 1;
    if ready > 1 || !newest.ready {
        return (true, next, newest.id.clone());
    }
    if newest.host_network != spec::host_network(pod) {
        return (true, next, String::new());
    }
    if !spec::host_network(pod) && newest.ips.is_empty() {
        return (true, next, newest.id.clone());
    }
    (false, newest.attempt, newest.id.clone())
}

/// Whether a main container that does not run is to be started.
pub fn should_start(pod: &Pod, container: &Container, view: &PodView) -> bool {
    match view.container(&container.name) {
        None => true,
        Some(c) => match c.state {
            State::Running => false,
            // Unknown and created containers never ran, as far as is known.
            State::Unknown | State::Created => true,
            State::Exited => spec::restarts_after(pod, container, c.exit_code),
        },
    }
}

fn succeeded(container: &Container, view: &PodView) -> bool {
    view.container(&container.name).is_some_and(|c| c.state == State::Exited && c.exit_code == 0)
}

/// The plan. `None` probes mean that no answer came yet.
pub fn compute(pod: &Pod, view: &PodView, probes: &dyn Probes) -> Actions {
    let (create, attempt, sandbox_id) = sandbox_changed(pod, view);
    let mut actions = Actions { kill_pod: create, create_sandbox: create, sandbox_id, attempt, ..Actions::default() };
    if create {
        with_new_sandbox(pod, view, &mut actions);
        return actions;
    }
    for (i, ephemeral) in spec::ephemeral_containers(pod).iter().enumerate() {
        if view.container(&ephemeral.name).is_none() {
            actions.ephemeral_to_start.push(i);
        }
    }
    let initialized = init_containers(pod, view, probes, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    let mut kept = 0;
    for (i, container) in spec::spec(pod).containers.iter().enumerate() {
        if main_container(pod, i, container, view, probes, &mut actions) {
            kept += 1;
        }
    }
    if kept == 0 && actions.main_to_start.is_empty() {
        actions.kill_pod = true;
        actions.init_to_start.clear();
    }
    actions
}

fn with_new_sandbox(pod: &Pod, view: &PodView, actions: &mut Actions) {
    let policy = spec::restart_policy(pod);
    if policy == RestartPolicy::Never && actions.attempt != 0 && !view.containers.is_empty() {
        // It ran and is not to run again.
        actions.create_sandbox = false;
        return;
    }
    let containers = &spec::spec(pod).containers;
    let to_start: Vec<usize> = (0..containers.len())
        .filter(|i| {
            let run_once = spec::container_policy(pod, &containers[*i]) == RestartPolicy::OnFailure;
            !(run_once && succeeded(&containers[*i], view))
        })
        .collect();
    if to_start.is_empty() && containers.iter().any(|c| view.container(&c.name).is_some()) {
        actions.create_sandbox = false;
        return;
    }
    if spec::init_containers(pod).is_empty() {
        actions.main_to_start = to_start;
    } else {
        actions.init_to_start = vec![0];
    }
}

/// Plans for one main container; true when it is kept as it is.
fn main_container(
    pod: &Pod,
    index: usize,
    container: &Container,
    view: &PodView,
    probes: &dyn Probes,
    actions: &mut Actions,
) -> bool {
    let name = &container.name;
    let Some(c) = view.container(name).filter(|c| c.state == State::Running) else {
        if should_start(pod, container, view) {
            actions.main_to_start.push(index);
            if let Some(c) = view.container(name).filter(|c| c.state == State::Unknown) {
                kill_unknown(c, "Container", actions);
            }
        }
        return false;
    };
    let (mut message, reason, mut restart) = if c.hash != container_hash(container) {
        (format!("Container {name} definition changed"), KillReason::Other, true)
    } else if probes.liveness(&c.id) == Some(Verdict::Failure) {
        (format!("Container {name} failed liveness probe"), KillReason::LivenessProbe, false)
    } else if probes.startup(&c.id) == Some(Verdict::Failure) {
        (format!("Container {name} failed startup probe"), KillReason::StartupProbe, false)
    } else {
        return true;
    };
    // A killed container ends with a failure; rules on exit codes speak when it has one.
    restart |= spec::container_policy(pod, container) != RestartPolicy::Never;
    if restart {
        message.push_str(", will be restarted");
        actions.main_to_start.push(index);
    }
    actions.to_kill.insert(c.id.clone(), Kill { name: name.clone(), message, reason });
    false
}

fn kill_unknown(c: &ContainerView, what: &str, actions: &mut Actions) {
    let message = format!("{what} is in \"{}\" state, try killing it before restart", c.state.text());
    actions.to_kill.insert(c.id.clone(), Kill { name: c.name.clone(), message, reason: KillReason::Unknown });
}

/// Plans for the init containers; true when the main containers may run.
fn init_containers(pod: &Pod, view: &PodView, probes: &dyn Probes, actions: &mut Actions) -> bool {
    let inits = spec::init_containers(pod);
    if inits.is_empty() {
        return true;
    }
    // A main container that was created means that initialization was done, also when what did it is forgotten by now.
    let mut initialized = spec::spec(pod)
        .containers
        .iter()
        .any(|c| view.container(&c.name).is_some_and(|v| matches!(v.state, State::Created | State::Running)));
    let mut later_seen = initialized;
    let may_restart = spec::restart_policy(pod) != RestartPolicy::Never;
    let last = inits.len() - 1;
    // From the last to the first: the newest that was started tells how far initialization got.
    for i in (0..inits.len()).rev() {
        let container = &inits[i];
        let sidecar = spec::is_sidecar(container);
        let Some(c) = view.container(&container.name) else {
            if later_seen && sidecar {
                actions.init_to_start.push(i);
            }
            continue;
        };
        if later_seen && !sidecar {
            continue;
        }
        match (c.state, sidecar) {
            (State::Created, _) => actions.init_to_start.push(i),
            (State::Running, false) => {}
            (State::Running, true) => {
                running_sidecar(i, container, c, probes, actions, &mut initialized, later_seen, i == last);
            }
            (State::Exited, true) => actions.init_to_start.push(i),
            (State::Exited, false) if c.exit_code != 0 || c.reason == "OOMKilled" => {
                let restart = if container.restart_policy.is_some() || container.restart_policy_rules.is_some() {
                    spec::restarts_after(pod, container, c.exit_code)
                } else {
                    may_restart
                };
                if !restart {
                    actions.kill_pod = true;
                    actions.init_to_start.clear();
                    return false;
                }
                actions.init_to_start.push(i);
            }
            (State::Exited, false) if i == last => initialized = true,
            (State::Exited, false) => actions.init_to_start.push(i + 1),
            (State::Unknown, _) => {
                if !sidecar && !may_restart {
                    actions.kill_pod = true;
                    actions.init_to_start.clear();
                    return false;
                }
                kill_unknown(c, "Init container", actions);
                actions.init_to_start.push(i);
            }
        }
        later_seen = true;
    }
    if !later_seen {
        actions.init_to_start.push(0);
    }
    actions.init_to_start.reverse();
    initialized
}

#[expect(clippy::too_many_arguments, reason = "the state of one walk")]
fn running_sidecar(
    index: usize,
    container: &Container,
    c: &ContainerView,
    probes: &dyn Probes,
    actions: &mut Actions,
    initialized: &mut bool,
    later_seen: bool,
    is_last: bool,
) {
    let name = &container.name;
    let mut restart = |what: &str, reason: KillReason| {
        let message = format!("Init container {name} {what}");
        actions.to_kill.insert(c.id.clone(), Kill { name: name.clone(), message, reason });
        actions.init_to_start.push(index);
    };
    if container.startup_probe.is_some() {
        match probes.startup(&c.id) {
            Some(Verdict::Success) => {}
            Some(Verdict::Failure) => return restart("failed startup probe", KillReason::StartupProbe),
            None => return,
        }
    }
    if is_last {
        *initialized = true;
    } else if !later_seen {
        actions.init_to_start.push(index + 1);
    }
    if c.hash != container_hash(container) {
        let message = format!("Init container {name} definition changed");
        actions.to_kill.insert(c.id.clone(), Kill { name: name.clone(), message, reason: KillReason::Other });
        actions.init_to_start.push(index);
    } else if container.liveness_probe.is_some() && probes.liveness(&c.id) == Some(Verdict::Failure) {
        let message = format!("Init container {name} failed liveness probe");
        actions.to_kill.insert(c.id.clone(), Kill { name: name.clone(), message, reason: KillReason::LivenessProbe });
        actions.init_to_start.push(index);
    }
}

/// The containers of a pod that ends, in groups that are killed together: first the main and ephemeral ones, then the
/// sidecars, last started first.
pub fn kill_order(pod: &Pod, view: &PodView) -> Vec<Vec<ContainerView>> {
    let roles = spec::containers(pod);
    let role = |name: &str| roles.iter().find(|(_, c)| c.name == name).map(|(r, c)| (*r, spec::is_sidecar(c)));
    let alive = |c: &&ContainerView| matches!(c.state, State::Running | State::Unknown);
    let (sidecars, others): (Vec<_>, Vec<_>) =
        view.containers.iter().filter(alive).cloned().partition(|c| role(&c.name) == Some((Role::Init, true)));
    let mut groups = Vec::new();
    if !others.is_empty() {
        groups.push(others);
    }
    for init in spec::init_containers(pod).iter().rev().filter(|c| spec::is_sidecar(c)) {
        let group: Vec<ContainerView> = sidecars.iter().filter(|c| c.name == init.name).cloned().collect();
        if !group.is_empty() {
            groups.push(group);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    struct Fixed(Option<Verdict>, Option<Verdict>);
    impl Probes for Fixed {
        fn startup(&self, _: &str) -> Option<Verdict> {
            self.0
        }
        fn liveness(&self, _: &str) -> Option<Verdict> {
            self.1
        }
    }
    const QUIET: Fixed = Fixed(None, None);

    fn pod(policy: &str, inits: Value, names: &[&str]) -> Pod {
        use api::Kind as _;
        let containers: Vec<Value> = names.iter().map(|n| json!({"name": n, "image": "i"})).collect();
        Pod::decode_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"restartPolicy": policy, "initContainers": inits, "containers": containers}}))
        .unwrap()
    }

    fn container(name: &str, state: State, exit_code: i32) -> ContainerView {
        let hash = container_hash(&Container { name: name.into(), image: Some("i".into()), ..Container::default() });
        ContainerView { id: format!("id-{name}"), name: name.into(), state, exit_code, hash, ..ContainerView::default() }
    }

    fn ready(containers: Vec<ContainerView>) -> PodView {
        let sandbox = SandboxView { id: "s".into(), ready: true, ips: vec!["10.0.0.2".into()], ..SandboxView::default() };
        PodView { sandboxes: vec![sandbox], containers }
    }

    use super::super::view::SandboxView;

    /// What a plan says, in a line.
    fn line(a: &Actions) -> String {
        let kills: Vec<&str> = a.to_kill.keys().map(String::as_str).collect();
        format!(
            "{}{}init{:?} main{:?} kill{kills:?}",
            if a.kill_pod { "KILLPOD " } else { "" },
            if a.create_sandbox { format!("SANDBOX#{} ", a.attempt) } else { String::new() },
            a.init_to_start,
            a.main_to_start
        )
    }

    #[track_caller]
    fn check(pod: &Pod, view: &PodView, probes: &Fixed, want: &str) {
        assert_eq!(line(&compute(pod, view, probes)), want);
    }

    #[test]
    fn sandboxes() {
        let p = pod("Always", json!([]), &["a", "b"]);
        check(&p, &PodView::default(), &QUIET, "KILLPOD SANDBOX#0 init[] main[0, 1] kill[]");
        let mut v = ready(vec![container("a", State::Running, 0), container("b", State::Running, 0)]);
        check(&p, &v, &QUIET, "init[] main[] kill[]");
        v.sandboxes[0].ready = false;
        check(&p, &v, &QUIET, "KILLPOD SANDBOX#1 init[] main[0, 1] kill[]");
        v.sandboxes[0].ready = true;
        v.sandboxes[0].ips.clear();
        check(&p, &v, &QUIET, "KILLPOD SANDBOX#1 init[] main[0, 1] kill[]");
        v.sandboxes[0].attempt = 4;
        v.sandboxes[0].ready = false;
        check(&p, &v, &QUIET, "KILLPOD SANDBOX#5 init[] main[0, 1] kill[]");
    }

    #[test]
    fn a_lost_sandbox_of_a_pod_that_is_done_is_not_made_again() {
        let mut v = ready(vec![container("a", State::Exited, 0)]);
        v.sandboxes[0].ready = false;
        check(&pod("Never", json!([]), &["a"]), &v, &QUIET, "KILLPOD init[] main[] kill[]");
        check(&pod("OnFailure", json!([]), &["a"]), &v, &QUIET, "KILLPOD init[] main[] kill[]");
        check(&pod("Always", json!([]), &["a"]), &v, &QUIET, "KILLPOD SANDBOX#1 init[] main[0] kill[]");
    }

    #[test]
    fn restart_policies() {
        for (policy, code, want) in [
            ("Always", 0, "init[] main[0] kill[]"),
            ("Always", 1, "init[] main[0] kill[]"),
            ("OnFailure", 0, "KILLPOD init[] main[] kill[]"),
            ("OnFailure", 1, "init[] main[0] kill[]"),
            ("Never", 0, "KILLPOD init[] main[] kill[]"),
            ("Never", 1, "KILLPOD init[] main[] kill[]"),
        ] {
            check(&pod(policy, json!([]), &["a"]), &ready(vec![container("a", State::Exited, code)]), &QUIET, want);
        }
        let two = ready(vec![container("a", State::Running, 0), container("b", State::Exited, 1)]);
        check(&pod("Never", json!([]), &["a", "b"]), &two, &QUIET, "init[] main[] kill[]");
        check(&pod("Always", json!([]), &["a", "b"]), &two, &QUIET, "init[] main[1] kill[]");
    }

    #[test]
    fn probes_and_changes_kill() {
        let running = ready(vec![container("a", State::Running, 0)]);
        let failed = Fixed(None, Some(Verdict::Failure));
        check(&pod("Always", json!([]), &["a"]), &running, &failed, "init[] main[0] kill[\"id-a\"]");
        check(
            &pod("Never", json!([]), &["a"]),
            &running,
            &failed,
            "init[] main[] kill[\"id-a\"]".replace("init", "KILLPOD init").as_str(),
        );
        let mut changed = running.clone();
        changed.containers[0].hash = "0".into();
        let plan = compute(&pod("Always", json!([]), &["a"]), &changed, &QUIET);
        assert_eq!(plan.to_kill["id-a"].message, "Container a definition changed, will be restarted");
    }

    #[test]
    fn init_containers_run_in_order() {
        let p = pod("Always", json!([{"name": "i1", "image": "i"}, {"name": "i2", "image": "i"}]), &["a"]);
        check(&p, &PodView::default(), &QUIET, "KILLPOD SANDBOX#0 init[0] main[] kill[]");
        check(&p, &ready(vec![]), &QUIET, "init[0] main[] kill[]");
        check(&p, &ready(vec![container("i1", State::Running, 0)]), &QUIET, "init[] main[] kill[]");
        check(&p, &ready(vec![container("i1", State::Exited, 0)]), &QUIET, "init[1] main[] kill[]");
        check(&p, &ready(vec![container("i1", State::Exited, 1)]), &QUIET, "init[0] main[] kill[]");
        let done = vec![container("i2", State::Exited, 0), container("i1", State::Exited, 0)];
        check(&p, &ready(done), &QUIET, "init[] main[0] kill[]");
        check(&p, &ready(vec![container("i2", State::Exited, 0)]), &QUIET, "init[] main[0] kill[]");
        check(&p, &ready(vec![container("a", State::Running, 0)]), &QUIET, "init[] main[] kill[]");
        let never = pod("Never", json!([{"name": "i1", "image": "i"}]), &["a"]);
        check(&never, &ready(vec![container("i1", State::Exited, 1)]), &QUIET, "KILLPOD init[] main[] kill[]");
    }

    #[test]
    fn sidecars_stay_beside_the_others() {
        let inits =
            json!([{"name": "side", "image": "i", "restartPolicy": "Always", "startupProbe": {}}, {"name": "i2", "image": "i"}]);
        let p = pod("Always", inits, &["a"]);
        let side = || container("side", State::Running, 0);
        check(&p, &ready(vec![side()]), &QUIET, "init[] main[] kill[]");
        let started = Fixed(Some(Verdict::Success), None);
        check(&p, &ready(vec![side()]), &started, "init[1] main[] kill[]");
        check(&p, &ready(vec![side()]), &Fixed(Some(Verdict::Failure), None), "init[0] main[] kill[\"id-side\"]");
        let i2 = || container("i2", State::Exited, 0);
        check(&p, &ready(vec![i2(), side()]), &started, "init[] main[0] kill[]");
        let dead = container("side", State::Exited, 0);
        check(&p, &ready(vec![container("a", State::Running, 0), i2(), dead]), &started, "init[0] main[] kill[]");
    }

    #[test]
    fn rules_on_exit_codes() {
        use api::Kind as _;
        let p = Pod::decode_value(json!({"metadata": {}, "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i",
            "restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]}}))
        .unwrap();
        check(&p, &ready(vec![container("a", State::Exited, 42)]), &QUIET, "init[] main[0] kill[]");
        check(&p, &ready(vec![container("a", State::Exited, 1)]), &QUIET, "KILLPOD init[] main[] kill[]");
    }

    #[test]
    fn sidecars_end_after_the_others_last_first() {
        let inits = json!([{"name": "s1", "image": "i", "restartPolicy": "Always"}, {"name": "s2", "image": "i", "restartPolicy": "Always"}]);
        let p = pod("Always", inits, &["a"]);
        let running = |n: &str| container(n, State::Running, 0);
        let groups = kill_order(&p, &ready(vec![running("a"), running("s2"), running("s1"), container("old", State::Exited, 0)]));
        let names: Vec<Vec<&str>> = groups.iter().map(|g| g.iter().map(|c| c.name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["a"], vec!["s2"], vec!["s1"]]);
    }
}
