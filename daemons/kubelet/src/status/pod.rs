//! A pod's status: phase and conditions from its containers'. Pure.

use std::net::IpAddr;

use api::Kind as _;
use api::core::{ContainerState, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use api::metav1::Time;
use jiff::Timestamp;

use super::containers::{Seen, statuses};
use crate::pod::qos;
use crate::pod::spec::{self, RestartPolicy, Role};

/// Why a pod fails as a whole, whatever its containers do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub message: String,
}

/// The status that the kubelet tells of.
pub fn pod_status(seen: &Seen<'_>, host_ips: &[IpAddr], failure: Option<&Failure>, now: Timestamp) -> PodStatus {
    let pod = seen.pod;
    let main = statuses(seen, Role::Main);
    let init = statuses(seen, Role::Init);
    let ephemeral = statuses(seen, Role::Ephemeral);
    let told = seen.before.and_then(|b| b.phase.as_deref()).unwrap_or_default();
    let mut status = PodStatus { observed_generation: pod.meta().generation, ..PodStatus::default() };
    let phase = match (failure, told) {
        (Some(_), _) => "Failed",
        // An end is an end.
        (None, "Succeeded" | "Failed") => told,
        (None, _) => phase(pod, &init, &main, seen.ending),
    };
    status.phase = Some(phase.to_owned());
    if let Some(failure) = failure {
        status.reason = Some(failure.reason.clone());
        status.message = Some(failure.message.clone());
    } else if let Some(before) = seen.before {
        status.reason.clone_from(&before.reason);
        status.message.clone_from(&before.message);
    }
    status.host_ip = host_ips.first().map(ToString::to_string);
    status.host_ips = (!host_ips.is_empty()).then(|| host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect());
    let ips = pod_ips(seen, host_ips);
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
    status.start_time =
        seen.before.and_then(|b| b.start_time.clone()).or_else(|| Timestamp::from_second(now.as_second()).ok().map(Time));
    // The class never changes in a pod's life.
    status.qos_class = Some(qos::qos(pod).name().to_owned());
    status.conditions = Some(conditions(seen, &init, &main, phase, now));
    status.container_statuses = (!main.is_empty()).then_some(main);
    status.init_container_statuses = (!init.is_empty()).then_some(init);
    status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
    status
}

fn pod_ips(seen: &Seen<'_>, host_ips: &[IpAddr]) -> Vec<String> {
    if spec::host_network(seen.pod) {
        return host_ips.iter().map(ToString::to_string).collect();
    }
    let now = seen.view.ips();
    if !now.is_empty() {
        return now.to_vec();
    }
    // A pod that ends keeps its address in the record.
    let told = seen.before.and_then(|b| b.pod_ips.as_ref()).into_iter().flatten().map(|i| i.ip.clone());
    if seen.ending { told.collect() } else { Vec::new() }
}

fn terminated(state: &Option<ContainerState>) -> Option<&api::core::ContainerStateTerminated> {
    state.as_ref().and_then(|s| s.terminated.as_ref())
}

fn is_running(s: &ContainerStatus) -> bool {
    s.state.as_ref().is_some_and(|s| s.running.is_some())
}

/// Upstream's `getPhase`.
fn phase(pod: &Pod, init: &[ContainerStatus], main: &[ContainerStatus], ending: bool) -> &'static str {
    let policy = spec::restart_policy(pod);
    let (mut pending_init, mut failed_init) = (0, 0);
    for (container, status) in spec::init_containers(pod).iter().zip(init) {
        if spec::is_sidecar(container) {
            if is_running(status) {
                pending_init += usize::from(status.started != Some(true));
            } else if terminated(&status.state).is_none() && terminated(&status.last_state).is_none() {
                pending_init += 1;
            }
            continue;
        }
        match (terminated(&status.state), terminated(&status.last_state)) {
            (Some(t), _) => failed_init += usize::from(t.exit_code != 0),
            (None, Some(t)) if !is_running(status) => failed_init += usize::from(t.exit_code != 0),
            (None, _) => pending_init += 1,
        }
    }
    let (mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in main {
        if is_running(status) {
            running += 1;
        } else if let Some(t) = terminated(&status.state) {
            stopped += 1;
            succeeded += usize::from(t.exit_code == 0);
        } else if terminated(&status.last_state).is_some() {
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    if failed_init > 0 && policy == RestartPolicy::Never {
        return "Failed";
    }
    // A main container that was made means that initialization had been done.
    if pending_init > 0 && running + stopped == 0 {
        return if ending { "Failed" } else { "Pending" };
    }
    if ending && running == 0 && stopped > 0 {
        return if stopped == succeeded && waiting == 0 { "Succeeded" } else { "Failed" };
    }
    match () {
        () if waiting > 0 => "Pending",
        () if running > 0 => "Running",
        () if stopped > 0 => match policy {
            RestartPolicy::Always => "Running",
            _ if stopped == succeeded => "Succeeded",
            RestartPolicy::Never => "Failed",
            RestartPolicy::OnFailure => "Running",
        },
        () => "Pending",
    }
}

fn condition(
    seen: &Seen<'_>,
    kind: &str,
    ok: bool,
    reason: Option<&str>,
    message: Option<String>,
    now: Timestamp,
) -> PodCondition {
    let status = if ok { "True" } else { "False" };
    let old = seen.before.and_then(|b| b.conditions.as_ref()).into_iter().flatten().find(|c| c.type_ == kind);
    let since = old.filter(|o| o.status == status).and_then(|o| o.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        last_transition_time: since.or_else(|| Timestamp::from_second(now.as_second()).ok().map(Time)),
        last_probe_time: None,
        observed_generation: seen.pod.meta().generation,
    }
}

fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn conditions(
    seen: &Seen<'_>,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    phase: &str,
    now: Timestamp,
) -> Vec<PodCondition> {
    let make =
        |kind: &str, ok: bool, reason: Option<&str>, message: Option<String>| condition(seen, kind, ok, reason, message, now);
    let sandbox = seen.view.sandboxes.first().is_some_and(|s| s.ready && (s.host_network || !s.ips.is_empty()));
    let mut all = vec![make("PodReadyToStartContainers", sandbox, None, None)];

    let inits = spec::init_containers(seen.pod);
    let incomplete: Vec<&str> = inits
        .iter()
        .zip(init)
        .filter(|(c, s)| if spec::is_sidecar(c) { s.started != Some(true) } else { !s.ready })
        .map(|(c, _)| c.name.as_str())
        .collect();
    let begun = main.iter().any(|s| is_running(s) || terminated(&s.state).is_some() || terminated(&s.last_state).is_some());
    all.push(if phase == "Succeeded" {
        make("Initialized", true, Some("PodCompleted"), None)
    } else if incomplete.is_empty() || begun && inits.iter().zip(init).all(|(c, s)| spec::is_sidecar(c) || s.ready || begun) {
        make("Initialized", true, None, None)
    } else {
        let message = format!("containers with incomplete status: {}", names(&incomplete));
        make("Initialized", false, Some("ContainersNotInitialized"), Some(message))
    });

    let sidecars_unready = inits.iter().zip(init).filter(|(c, s)| spec::is_sidecar(c) && !s.ready).map(|(c, _)| c.name.as_str());
    let mains_unready = main.iter().filter(|s| !s.ready).map(|s| s.name.as_str());
    let unready: Vec<&str> = sidecars_unready.chain(mains_unready).collect();
    let finished = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => None,
    };
    let (containers_ready, reason, message) = match finished {
        Some(reason) => (false, Some(reason), None),
        None if unready.is_empty() => (true, None, None),
        None => (false, Some("ContainersNotReady"), Some(format!("containers with unready status: {}", names(&unready)))),
    };
    let gates = if containers_ready { closed_gates(seen.pod) } else { Vec::new() };
    all.push(if containers_ready && !gates.is_empty() {
        make("Ready", false, Some("ReadinessGatesNotReady"), Some(gates.join(", ")))
    } else {
        make("Ready", containers_ready, reason, message.clone())
    });
    all.push(make("ContainersReady", containers_ready, reason, message));
    all.push(make("PodScheduled", true, None, None));
    all
}

fn closed_gates(pod: &Pod) -> Vec<String> {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let gates = spec::spec(pod).readiness_gates.iter().flatten();
    gates
        .filter_map(|gate| match conditions.iter().find(|c| c.type_ == gate.condition_type) {
            None => Some(format!("corresponding condition of pod readiness gate \"{}\" does not exist.", gate.condition_type)),
            Some(c) if c.status != "True" => {
                Some(format!("the status of pod readiness gate \"{}\" is not \"True\", but {}", gate.condition_type, c.status))
            }
            Some(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::containers::Waiting;
    use super::*;
    use crate::runtime::view::{ContainerView, PodView, SandboxView, State};
    use serde_json::{Value, json};

    fn pod(policy: &str, inits: Value) -> Pod {
        Pod::decode_value(json!({"metadata": {"name": "p", "generation": 3}, "spec": {"restartPolicy": policy,
            "initContainers": inits, "containers": [{"name": "a", "image": "i"}]}}))
        .unwrap()
    }

    fn run(name: &str, state: State, exit_code: i32, restart_count: i32) -> ContainerView {
        ContainerView {
            id: format!("{name}{restart_count}"),
            name: name.into(),
            state,
            exit_code,
            restart_count,
            started_at: 1_000_000_000,
            ..Default::default()
        }
    }

    fn made(
        pod: &Pod,
        containers: Vec<ContainerView>,
        waiting: &[(&str, &str)],
        before: Option<&PodStatus>,
        ending: bool,
    ) -> PodStatus {
        let sandbox = SandboxView { ready: true, ips: vec!["10.0.0.2".into()], ..Default::default() };
        let view = PodView { sandboxes: vec![sandbox], containers };
        let waiting: BTreeMap<String, Waiting> =
            waiting.iter().map(|(n, r)| ((*n).to_owned(), Waiting { reason: (*r).to_owned(), message: "m".into() })).collect();
        let seen = Seen {
            pod,
            view: &view,
            waiting: &waiting,
            before,
            ready: &|_, _| true,
            started: &|_, _| true,
            runtime_name: "containerd",
            ending,
        };
        pod_status(&seen, &["1.2.3.4".parse().unwrap()], None, Timestamp::from_second(5).unwrap())
    }

    /// Phase, conditions that are true, and the state of the first container.
    fn line(s: &PodStatus) -> String {
        let conditions: Vec<&str> =
            s.conditions.iter().flatten().filter(|c| c.status == "True").map(|c| c.type_.as_str()).collect();
        let c = &s.container_statuses.as_ref().unwrap()[0];
        let state = c.state.as_ref().unwrap();
        let state = match (&state.waiting, &state.running, &state.terminated) {
            (Some(w), ..) => w.reason.clone().unwrap_or_default(),
            (_, Some(_), _) => "running".to_owned(),
            (.., Some(t)) => format!("exit {}", t.exit_code),
            _ => "?".to_owned(),
        };
        format!("{} {} | {}", s.phase.as_deref().unwrap(), state, conditions.join(" "))
    }

    const START: &str = "PodReadyToStartContainers";

    #[test]
    fn phases() {
        let p = pod("Always", json!([]));
        let check = |pod: &Pod, runs: Vec<ContainerView>, waiting: &[(&str, &str)], ending: bool, want: &str| {
            assert_eq!(line(&made(pod, runs, waiting, None, ending)), want.replace('^', START));
        };
        check(&p, vec![], &[], false, "Pending ContainerCreating | ^ Initialized PodScheduled");
        check(&p, vec![], &[("a", "ErrImagePull")], false, "Pending ErrImagePull | ^ Initialized PodScheduled");
        check(
            &p,
            vec![run("a", State::Running, 0, 0)],
            &[],
            false,
            "Running running | ^ Initialized Ready ContainersReady PodScheduled",
        );
        let crashed = || vec![run("a", State::Exited, 1, 1), run("a", State::Exited, 2, 0)];
        check(&p, crashed(), &[("a", "CrashLoopBackOff")], false, "Running CrashLoopBackOff | ^ Initialized PodScheduled");
        check(&p, crashed(), &[], false, "Running exit 1 | ^ Initialized PodScheduled");
        check(&p, crashed(), &[], true, "Failed exit 1 | ^ Initialized PodScheduled");
        let done = || vec![run("a", State::Exited, 0, 0)];
        check(&pod("Never", json!([])), done(), &[], false, "Succeeded exit 0 | ^ Initialized PodScheduled");
        check(&pod("OnFailure", json!([])), crashed(), &[], false, "Running exit 1 | ^ Initialized PodScheduled");
        check(&pod("Never", json!([])), crashed(), &[], false, "Failed exit 1 | ^ Initialized PodScheduled");
    }

    #[test]
    fn initialization() {
        let p = pod("Always", json!([{"name": "i", "image": "i"}]));
        assert_eq!(line(&made(&p, vec![], &[], None, false)), format!("Pending PodInitializing | {START} PodScheduled"));
        let status = made(&p, vec![run("i", State::Exited, 0, 0)], &[], None, false);
        assert_eq!(line(&status), format!("Pending PodInitializing | {START} Initialized PodScheduled"));
        let failed =
            made(&pod("Never", json!([{"name": "i", "image": "i"}])), vec![run("i", State::Exited, 1, 0)], &[], None, false);
        assert_eq!(failed.phase.as_deref(), Some("Failed"));
    }

    #[test]
    fn last_state_and_counts() {
        let p = pod("Always", json!([]));
        let s = made(&p, vec![run("a", State::Running, 0, 2), run("a", State::Exited, 7, 1)], &[], None, false);
        let c = &s.container_statuses.as_ref().unwrap()[0];
        assert_eq!((c.restart_count, c.container_id.as_deref()), (2, Some("containerd://a2")));
        assert_eq!(c.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 7);
        // The runtime forgot the earlier run; the record keeps it.
        let again = made(&p, vec![run("a", State::Running, 0, 2)], &[], Some(&s), false);
        assert_eq!(again.container_statuses, s.container_statuses);
        assert_eq!(again.conditions, s.conditions);
    }

    #[test]
    fn a_container_that_vanished_is_counted() {
        let p = pod("Always", json!([]));
        let s = made(&p, vec![run("a", State::Running, 0, 2)], &[], None, false);
        let lost = made(&p, vec![], &[], Some(&s), false);
        let c = &lost.container_statuses.as_ref().unwrap()[0];
        assert_eq!(c.restart_count, 3);
        assert_eq!(c.last_state.as_ref().unwrap().terminated.as_ref().unwrap().reason.as_deref(), Some("ContainerStatusUnknown"));
    }
}
