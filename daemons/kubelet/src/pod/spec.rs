//! Questions about a pod's specification that many parts ask.

use api::core::{Container, EphemeralContainer, Pod, PodSpec};
use api::metav1::Time;
use k8s_openapi::Metadata as _;

/// Which list of the specification a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Init,
    Main,
    Ephemeral,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(spec(pod).restart_policy.as_deref())
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

/// An init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The policy that holds for a container that is not an init container with `restartPolicy: Always`.
pub fn container_policy(pod: &Pod, container: &Container) -> RestartPolicy {
    match container.restart_policy.as_deref() {
        Some(own) => RestartPolicy::parse(Some(own)),
        None => restart_policy(pod),
    }
}

/// Whether a container that ended with `exit_code` is to run again: its own rules first, then its policy.
pub fn restarts_after(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.as_deref().unwrap_or_default() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
        let matched = match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if matched && rule.action == "Restart" {
            return true;
        }
    }
    match container_policy(pod, container) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// All containers with their role, as `Container`s.
pub fn containers(pod: &Pod) -> Vec<(Role, std::borrow::Cow<'_, Container>)> {
    use std::borrow::Cow;
    let init = init_containers(pod).iter().map(|c| (Role::Init, Cow::Borrowed(c)));
    let main = spec(pod).containers.iter().map(|c| (Role::Main, Cow::Borrowed(c)));
    let ephemeral = ephemeral_containers(pod).iter().map(|c| (Role::Ephemeral, Cow::Owned(ephemeral_as_container(c))));
    init.chain(main).chain(ephemeral).collect()
}

pub fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<(Role, std::borrow::Cow<'a, Container>)> {
    containers(pod).into_iter().find(|(_, c)| c.name == name)
}

/// An ephemeral container has the fields of a container, without those it may not have.
pub fn ephemeral_as_container(e: &EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        name: e.name.clone(),
        resources: e.resources.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// `metadata.annotations[key]`.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata().annotations.as_ref()?.get(key).map(String::as_str)
}

pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

/// Read from a file, not from the API.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|s| s != "api")
}

/// The API's picture of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// Never evicted nor preempted: static, mirror, or of system priority.
pub fn is_critical(pod: &Pod) -> bool {
    const SYSTEM_CRITICAL: i32 = 2_000_000_000;
    is_static(pod) || is_mirror(pod) || spec(pod).priority.is_some_and(|p| p >= SYSTEM_CRITICAL)
}

/// `namespace/name`, for logs.
pub fn full_name(pod: &Pod) -> String {
    use api::Kind as _;
    format!("{}/{}", pod.namespace(), pod.name())
}

/// `NAME_NAMESPACE(UID)`, as upstream's messages name a pod.
pub fn described(pod: &Pod) -> String {
    use api::Kind as _;
    format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid())
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn deletion_timestamp(pod: &Pod) -> Option<&Time> {
    pod.metadata().deletion_timestamp.as_ref()
}
