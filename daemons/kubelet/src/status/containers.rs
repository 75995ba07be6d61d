//! `containerStatuses` from what the runtime has: pure.

use std::collections::BTreeMap;

use api::core::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod,
    VolumeMountStatus,
};
use api::metav1::Time;
use jiff::Timestamp;

use crate::pod::spec::{self, RestartPolicy, Role};
use crate::runtime::actions::should_start;
use crate::runtime::view::{ContainerView, PodView, State};

/// Why a container does not run yet, from the last attempt to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// What the statuses of a pod are made of.
pub struct Seen<'a> {
    pub pod: &'a Pod,
    pub view: &'a PodView,
    /// By container name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// The statuses that were told before.
    pub before: Option<&'a api::core::PodStatus>,
    /// By container id: readiness and whether it has started, from the probes.
    pub ready: &'a dyn Fn(&Container, &str) -> bool,
    pub started: &'a dyn Fn(&Container, &str) -> bool,
    /// `containerd`, `cri-o`.
    pub runtime_name: &'a str,
    /// No container will be started any more.
    pub ending: bool,
}

pub fn time(nanos: i64) -> Option<Time> {
    if nanos <= 0 {
        return None;
    }
    // Seconds are what the wire has; the fraction would make equal times differ.
    Timestamp::from_second(nanos / 1_000_000_000).ok().map(Time)
}

pub fn statuses(seen: &Seen<'_>, role: Role) -> Vec<ContainerStatus> {
    let mut all: Vec<ContainerStatus> =
        spec::containers(seen.pod).iter().filter(|(r, _)| *r == role).map(|(_, c)| one(seen, role, c)).collect();
    if role != Role::Init {
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
    all
}

fn before<'a>(seen: &Seen<'a>, role: Role, name: &str) -> Option<&'a ContainerStatus> {
    let status = seen.before?;
    let list = match role {
        Role::Init => &status.init_container_statuses,
        Role::Main => &status.container_statuses,
        Role::Ephemeral => &status.ephemeral_container_statuses,
    };
    list.iter().flatten().find(|s| s.name == name)
}

fn one(seen: &Seen<'_>, role: Role, container: &Container) -> ContainerStatus {
    let (newest, older) = seen.view.runs(&container.name);
    let old = before(seen, role, &container.name);
    let Some(newest) = newest else { return unseen(seen, role, container, old) };
    let id = |id: &str| format!("{}://{id}", seen.runtime_name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: if newest.image.is_empty() { container.image.clone().unwrap_or_default() } else { newest.image.clone() },
        image_id: newest.image_ref.clone(),
        container_id: Some(id(&newest.id)),
        restart_count: newest.restart_count,
        state: Some(state(newest, seen.runtime_name)),
        last_state: older
            .filter(|o| o.state == State::Exited)
            .map(|o| terminated_state(o, seen.runtime_name))
            .or_else(|| kept_last_state(old, &id(&newest.id)))
            .or_else(|| Some(ContainerState::default())),
        ..ContainerStatus::default()
    };
    if newest.state == State::Created {
        status.state = Some(waiting("ContainerCreating", ""));
    }
    // What could not be started waits, with the reason; its last run moves to lastState.
    if newest.state != State::Running && !seen.ending {
        let restarts = match role {
            Role::Main => should_start(seen.pod, container, seen.view),
            Role::Init if spec::is_sidecar(container) => true,
            Role::Init => newest.exit_code != 0 && spec::restart_policy(seen.pod) != RestartPolicy::Never,
            Role::Ephemeral => newest.state != State::Exited,
        };
        if restarts && let Some(why) = seen.waiting.get(&container.name) {
            if newest.state == State::Exited {
                status.last_state = Some(terminated_state(newest, seen.runtime_name));
            }
            status.state = Some(waiting(&why.reason, &why.message));
        }
    }
    let running = newest.state == State::Running;
    let plain_init = role == Role::Init && !spec::is_sidecar(container);
    status.ready = if plain_init {
        newest.state == State::Exited && newest.exit_code == 0
    } else {
        running && role != Role::Ephemeral && (seen.ready)(container, &newest.id)
    };
    status.started =
        Some(if plain_init || role == Role::Ephemeral { false } else { running && (seen.started)(container, &newest.id) });
    resources(container, running, &mut status);
    status.volume_mounts = volume_mounts(container);
    status
}

/// The mounts in force.
fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_deref().filter(|m| !m.is_empty())?;
    let status = |m: &api::core::VolumeMount| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only.filter(|r| *r),
        // What was asked for if possible is told as it came out; this runtime has no recursion.
        recursive_read_only: (m.read_only == Some(true))
            .then(|| if m.recursive_read_only.as_deref() == Some("Enabled") { "Enabled" } else { "Disabled" }.to_owned()),
        ..VolumeMountStatus::default()
    };
    Some(mounts.iter().map(status).collect())
}

/// The resources in force: those that were asked for, as nothing resizes running containers here.
fn resources(container: &Container, running: bool, status: &mut ContainerStatus) {
    let Some(asked) = container.resources.as_ref().filter(|_| running) else { return };
    if asked.requests.is_some() || asked.limits.is_some() {
        status.allocated_resources = asked.requests.clone();
        status.resources = Some(asked.clone());
    }
}

/// A last state whose container the runtime has forgotten, as long as the newest container is the one it was told with.
fn kept_last_state(old: Option<&ContainerStatus>, id: &str) -> Option<ContainerState> {
    let old = old.filter(|o| o.container_id.as_deref() == Some(id))?;
    old.last_state.clone().filter(|s| s.terminated.is_some())
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: text(reason), message: text(message) }),
        ..ContainerState::default()
    }
}

/// The status of a container that the runtime does not know: not made yet, or forgotten.
fn unseen(seen: &Seen<'_>, role: Role, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
    let default_reason = if role == Role::Ephemeral || spec::init_containers(seen.pod).is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    let plain = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(default_reason, "")),
        last_state: Some(ContainerState::default()),
        started: Some(false),
        ..ContainerStatus::default()
    };
    let fresh = || {
        let mut status = plain.clone();
        if let Some(why) = seen.waiting.get(&container.name) {
            status.state = Some(waiting(&why.reason, &why.message));
        }
        status
    };
    let Some(old) = old else { return fresh() };
    let state = old.state.clone().unwrap_or_default();
    if state.terminated.is_some()
        && (seen.ending || role == Role::Init || spec::container_policy(seen.pod, container) == RestartPolicy::Never)
    {
        // Its end was told; that the runtime forgot it changes nothing.
        return ContainerStatus { ready: old.ready && role == Role::Init, started: Some(false), ..old.clone() };
    }
    if state.running.is_some() || seen.ending {
        let lost = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some(if seen.ending {
                "The container could not be located when the pod was terminated".to_owned()
            } else {
                "The container could not be located when the pod was deleted.  The container used to be Running".to_owned()
            }),
            container_id: old.container_id.clone(),
            ..ContainerStateTerminated::default()
        };
        let lost = ContainerState { terminated: Some(lost), ..ContainerState::default() };
        if seen.ending {
            return ContainerStatus { state: Some(lost), ready: false, started: Some(false), ..old.clone() };
        }
        return ContainerStatus { last_state: Some(lost), restart_count: old.restart_count + 1, ..fresh() };
    }
    ContainerStatus {
        restart_count: old.restart_count,
        last_state: state
            .terminated
            .map_or_else(|| old.last_state.clone(), |t| Some(ContainerState { terminated: Some(t), ..Default::default() })),
        ..fresh()
    }
}

fn state(view: &ContainerView, runtime_name: &str) -> ContainerState {
    match view.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: time(view.started_at) }),
            ..ContainerState::default()
        },
        State::Exited => terminated_state(view, runtime_name),
        State::Created => waiting("ContainerCreating", ""),
        State::Unknown => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                container_id: Some(format!("{runtime_name}://{}", view.id)),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        },
    }
}

fn terminated_state(view: &ContainerView, runtime_name: &str) -> ContainerState {
    let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: view.exit_code,
            reason: text(&view.reason),
            message: text(&view.message),
            started_at: time(view.started_at),
            finished_at: time(view.finished_at),
            container_id: Some(format!("{runtime_name}://{}", view.id)),
            signal: None,
        }),
        ..ContainerState::default()
    }
}
