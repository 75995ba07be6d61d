//! A container as the runtime is asked for it: pure.

use std::collections::HashMap;

use api::core::{Container, Pod};
use cri::v1;

use super::actions::container_hash;
use super::sandbox::{self, int64, label};
use crate::pod::env::expand;
use crate::pod::qos;
use crate::pod::spec;

pub mod annotation {
    pub const HASH: &str = "io.kubernetes.container.hash";
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
}

/// What the image says of who runs in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub username: String,
}

/// What a container's configuration depends on beside the pod.
#[derive(Clone, Debug, Default)]
pub struct ContainerContext {
    pub restart_count: i32,
    /// The image's id at the runtime.
    pub image: String,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<v1::Mount>,
    pub image_user: ImageUser,
    pub memory_capacity: i64,
    pub cpu_quota: bool,
    pub cgroup_v2: bool,
    pub seccomp_default: bool,
    pub seccomp_root: String,
    /// Of an ephemeral container: whose processes it joins.
    pub target: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    #[error("container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})")]
    RunAsRoot { pod: String, container: String },
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    ImageIsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    NonNumeric { user: String, pod: String, container: String },
}

pub fn config(pod: &Pod, container: &Container, context: &ContainerContext) -> Result<v1::ContainerConfig, SecurityError> {
    let attempt = u32::try_from(context.restart_count).unwrap_or(0);
    let lookup = |name: &str| context.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let expanded = |list: &Option<Vec<String>>| list.iter().flatten().map(|text| expand(text, lookup)).collect();
    let mut labels: HashMap<String, String> = sandbox::pod_labels(pod).into_iter().collect();
    labels.insert(label::CONTAINER_NAME.to_owned(), container.name.clone());
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt }),
        image: Some(v1::ImageSpec {
            image: context.image.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..v1::ImageSpec::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: context.env.iter().map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone() }).collect(),
        mounts: context.mounts.clone(),
        labels,
        annotations: annotations(pod, container, context),
        log_path: format!("{}/{attempt}.log", container.name),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(pod, container, context)),
            security_context: Some(security(pod, container, context)?),
        }),
        ..v1::ContainerConfig::default()
    })
}

fn annotations(pod: &Pod, container: &Container, context: &ContainerContext) -> HashMap<String, String> {
    let mut map = HashMap::from([
        (annotation::HASH.to_owned(), container_hash(container)),
        (annotation::RESTART_COUNT.to_owned(), context.restart_count.to_string()),
        (
            annotation::TERMINATION_MESSAGE_PATH.to_owned(),
            container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".to_owned()),
        ),
        (
            annotation::TERMINATION_MESSAGE_POLICY.to_owned(),
            container.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned()),
        ),
    ]);
    if let Some(grace) = spec::spec(pod).termination_grace_period_seconds {
        map.insert(annotation::TERMINATION_GRACE.to_owned(), grace.to_string());
    }
    map
}

fn resources(pod: &Pod, container: &Container, context: &ContainerContext) -> v1::LinuxContainerResources {
    let (requests, limits) = (qos::requests(container.resources.as_ref()), qos::limits(container.resources.as_ref()));
    let mut r = v1::LinuxContainerResources {
        cpu_shares: qos::cpu_shares(requests.cpu.unwrap_or(0)),
        memory_limit_in_bytes: limits.memory.unwrap_or(0),
        oom_score_adj: qos::oom_score_adj(pod, container, context.memory_capacity),
        ..v1::LinuxContainerResources::default()
    };
    if context.cpu_quota {
        r.cpu_period = qos::CPU_PERIOD;
        r.cpu_quota = qos::cpu_quota(limits.cpu).unwrap_or(0);
    }
    if context.cgroup_v2 {
        // One process out of memory takes its siblings along, as in a cgroup of v1.
        r.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    r
}

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn security(
    pod: &Pod,
    container: &Container,
    context: &ContainerContext,
) -> Result<v1::LinuxContainerSecurityContext, SecurityError> {
    let (own, of_pod) = (container.security_context.as_ref(), spec::spec(pod).security_context.as_ref());
    let run_as_user = own.and_then(|s| s.run_as_user).or(of_pod.and_then(|s| s.run_as_user));
    let run_as_group = own.and_then(|s| s.run_as_group).or(of_pod.and_then(|s| s.run_as_group));
    let non_root = own.and_then(|s| s.run_as_non_root).or(of_pod.and_then(|s| s.run_as_non_root)).unwrap_or(false);
    if non_root {
        verify_non_root(pod, container, run_as_user, &context.image_user)?;
    }
    let privileged = own.and_then(|s| s.privileged).unwrap_or(false);
    let unmasked = privileged || own.and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let profile = own.and_then(|s| s.seccomp_profile.as_ref()).or(of_pod.and_then(|s| s.seccomp_profile.as_ref()));
    let user = run_as_user.or(context.image_user.uid);
    let username = if user.is_none() { context.image_user.username.clone() } else { String::new() };
    let has_user = user.is_some() || !username.is_empty();
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: own.and_then(|s| s.capabilities.as_ref()).map(|c| v1::Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(sandbox::namespaces(pod, context.target.as_deref())),
        selinux_options: own.and_then(|s| s.se_linux_options.as_ref()).or(of_pod.and_then(|s| s.se_linux_options.as_ref())).map(
            |s| v1::SeLinuxOption {
                user: s.user.clone().unwrap_or_default(),
                role: s.role.clone().unwrap_or_default(),
                r#type: s.type_.clone().unwrap_or_default(),
                level: s.level.clone().unwrap_or_default(),
            },
        ),
        run_as_user: user.map(int64),
        run_as_username: username,
        run_as_group: run_as_group.filter(|_| has_user).map(int64),
        readonly_rootfs: own.and_then(|s| s.read_only_root_filesystem).unwrap_or(false),
        supplemental_groups: sandbox::supplemental_groups(pod),
        supplemental_groups_policy: sandbox::supplemental_policy(pod),
        no_new_privs: own.and_then(|s| s.allow_privilege_escalation) == Some(false) && !privileged,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(sandbox::seccomp(profile, context.seccomp_default && !privileged, &context.seccomp_root)),
        ..v1::LinuxContainerSecurityContext::default()
    })
}

fn verify_non_root(pod: &Pod, container: &Container, user: Option<i64>, image: &ImageUser) -> Result<(), SecurityError> {
    let names = || (spec::described(pod), container.name.clone());
    match (user, image.uid) {
        (Some(0), _) => {
            let (pod, container) = names();
            Err(SecurityError::RunAsRoot { pod, container })
        }
        (Some(_), _) => Ok(()),
        (None, Some(0)) => {
            let (pod, container) = names();
            Err(SecurityError::ImageIsRoot { pod, container })
        }
        (None, Some(_)) => Ok(()),
        (None, None) if image.username.is_empty() || image.username == "root" => {
            let (pod, container) = names();
            Err(SecurityError::ImageIsRoot { pod, container })
        }
        (None, None) => {
            let (pod, container) = names();
            Err(SecurityError::NonNumeric { user: image.username.clone(), pod, container })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Kind as _;
    use serde_json::{Value, json};

    fn made(pod_security: Value, container: Value, image: ImageUser) -> Result<v1::ContainerConfig, SecurityError> {
        let mut container = container;
        container["name"] = "c".into();
        let pod = Pod::decode_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod_security, "containers": [container]}}))
        .unwrap();
        let context = ContainerContext {
            env: vec![("A".into(), "1".into())],
            image_user: image,
            memory_capacity: 1 << 30,
            cpu_quota: true,
            ..ContainerContext::default()
        };
        config(&pod, &pod.spec.as_ref().unwrap().containers[0], &context)
    }

    fn security(c: v1::ContainerConfig) -> v1::LinuxContainerSecurityContext {
        c.linux.unwrap().security_context.unwrap()
    }

    #[test]
    fn commands_are_expanded() {
        let c = made(json!({}), json!({"command": ["echo"], "args": ["$(A)", "$(B)", "$$(A)"]}), ImageUser::default()).unwrap();
        assert_eq!(c.args, ["1", "$(B)", "$(A)"]);
        assert_eq!(c.log_path, "c/0.log");
    }

    #[test]
    fn limits() {
        let c =
            made(json!({}), json!({"resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}), ImageUser::default()).unwrap();
        let r = c.linux.unwrap().resources.unwrap();
        assert_eq!((r.cpu_shares, r.cpu_quota, r.memory_limit_in_bytes, r.oom_score_adj), (512, 50_000, 64 << 20, -997));
    }

    #[test]
    fn the_containers_own_context_wins() {
        let c = security(made(json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]}),
            json!({"securityContext": {"runAsUser": 5, "allowPrivilegeEscalation": false, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}}), ImageUser::default()).unwrap());
        assert_eq!((c.run_as_user.unwrap().value, c.run_as_group.unwrap().value, c.supplemental_groups), (5, 2, vec![3, 4]));
        assert!(c.no_new_privs && !c.masked_paths.is_empty());
        let c = security(made(json!({}), json!({"securityContext": {"privileged": true}}), ImageUser::default()).unwrap());
        assert!(c.privileged && c.masked_paths.is_empty() && c.readonly_paths.is_empty());
    }

    #[test]
    fn non_root_is_verified() {
        let image = |uid: Option<i64>, name: &str| ImageUser { uid, username: name.into() };
        for (user, image, ok) in [
            (None, image(Some(0), ""), false),
            (None, image(Some(7), ""), true),
            (None, image(None, ""), false),
            (None, image(None, "www"), false),
            (Some(0), image(Some(7), ""), false),
            (Some(9), image(None, "www"), true),
        ] {
            let result = made(json!({"runAsNonRoot": true, "runAsUser": user}), json!({}), image.clone());
            assert_eq!(result.is_ok(), ok, "{user:?} {image:?}: {result:?}");
        }
    }
}
