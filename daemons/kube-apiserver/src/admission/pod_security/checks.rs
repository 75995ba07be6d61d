//! The rules of the Pod Security Standards, each from the version of Kubernetes that brought it; worded as upstream's
//! `policy` package.

use std::collections::BTreeSet;

use machinery::pod::containers;
use serde_json::{Map, Value};

use super::policy::{Level, LevelVersion};

/// A pod, or the template of one.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub annotations: Option<&'a Map<String, Value>>,
    pub spec: &'a Value,
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub reason: String,
    detail: String,
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

/// All violations in one line.
pub(super) fn details(violations: &[Violation]) -> String {
    violations.iter().map(|v| format!("{} ({})", v.reason, v.detail)).collect::<Vec<_>>().join(", ")
}

pub(super) fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|v| v.reason.as_str()).collect::<Vec<_>>().join(", ")
}

type Run = fn(Pod<'_>) -> Option<Violation>;

struct Check {
    id: &'static str,
    level: Level,
    /// From which minor version which rule counts, oldest first.
    versions: &'static [(u32, Run)],
    /// The baseline rule that this one makes superfluous.
    overrides: &'static str,
}

const fn baseline(id: &'static str, versions: &'static [(u32, Run)]) -> Check {
    Check { id, level: Level::Baseline, versions, overrides: "" }
}

const fn restricted(id: &'static str, overrides: &'static str, versions: &'static [(u32, Run)]) -> Check {
    Check { id, level: Level::Restricted, versions, overrides }
}

/// In upstream's order: baseline, then restricted, each by name.
const CHECKS: &[Check] = &[
    baseline("appArmorProfile", &[(0, app_armor)]),
    baseline("capabilities_baseline", &[(0, capabilities_baseline)]),
    baseline("hostNamespaces", &[(0, host_namespaces)]),
    baseline("hostPathVolumes", &[(0, host_path_volumes)]),
    baseline("hostPorts", &[(0, host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, host_probes)]),
    baseline("privileged", &[(0, privileged)]),
    baseline("procMount", &[(0, proc_mount), (35, |pod| unless_user_namespace(pod, proc_mount))]),
    baseline("seLinuxOptions", &[(0, |pod| se_linux(pod, &SE_LINUX_TYPES[1..])), (31, |pod| se_linux(pod, SE_LINUX_TYPES))]),
    baseline("seccompProfile_baseline", &[(0, seccomp_annotations), (19, |pod| seccomp(pod, false))]),
    baseline(
        "sysctls",
        &[
            (0, |pod| sysctls(pod, &SYSCTLS[..5])),
            (27, |pod| sysctls(pod, &SYSCTLS[..6])),
            (29, |pod| sysctls(pod, &SYSCTLS[..10])),
            (32, |pod| sysctls(pod, SYSCTLS)),
        ],
    ),
    baseline("windowsHostProcess", &[(0, host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        "",
        &[(8, privilege_escalation), (25, |pod| unless_windows(pod, privilege_escalation))],
    ),
    restricted(
        "capabilities_restricted",
        "capabilities_baseline",
        &[(22, capabilities_restricted), (25, |pod| unless_windows(pod, capabilities_restricted))],
    ),
    restricted("procMount_restricted", "procMount", &[(35, proc_mount)]),
    restricted("restrictedVolumes", "hostPathVolumes", &[(0, restricted_volumes)]),
    restricted("runAsNonRoot", "", &[(0, run_as_non_root), (35, |pod| unless_user_namespace(pod, run_as_non_root))]),
    restricted("runAsUser", "", &[(23, run_as_user), (35, |pod| unless_user_namespace(pod, run_as_user))]),
    restricted(
        "seccompProfile_restricted",
        "seccompProfile_baseline",
        &[(19, |pod| seccomp(pod, true)), (25, |pod| unless_windows(pod, |pod| seccomp(pod, true)))],
    ),
];

/// Everything that is wrong with the pod at that level.
pub(super) fn evaluate(policy: LevelVersion, pod: Pod<'_>) -> Vec<Violation> {
    let version = policy.version.unwrap_or(u32::MAX);
    let run = |check: &Check| check.versions.iter().rev().find(|(since, _)| *since <= version).map(|(_, run)| *run);
    let counts: Vec<(&Check, Run)> =
        CHECKS.iter().filter(|check| check.level <= policy.level).filter_map(|check| Some((check, run(check)?))).collect();
    counts
        .iter()
        .filter(|(check, _)| !counts.iter().any(|(other, _)| other.overrides == check.id))
        .filter_map(|(_, run)| run(pod))
        .collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn quoted<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// `container "a"`, `containers "a", "b"`
fn named_containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", names.len()), quoted(names))
}

/// The names of the containers of which that holds.
fn containers_where<'a>(pod: Pod<'a>, mut holds: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
    containers::each(pod.spec).filter(|(_, c)| holds(c)).map(|(_, container)| text(container, "/name")).collect()
}

/// `pod and containers "a", "b"`: who set something that may not be set.
fn setters(pod_is_bad: bool, containers: &[&str]) -> Option<String> {
    let pod = pod_is_bad.then(|| "pod".to_owned());
    let containers = (!containers.is_empty()).then(|| named_containers(containers));
    let all: Vec<String> = pod.into_iter().chain(containers).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn unless_windows(pod: Pod<'_>, check: Run) -> Option<Violation> {
    // Validation refuses these fields in pods for Windows.
    if text(pod.spec, "/os/name") == "windows" { None } else { check(pod) }
}

fn unless_user_namespace(pod: Pod<'_>, check: Run) -> Option<Violation> {
    // Root of a user namespace is nobody on the host (KEP-127).
    if pod.spec["hostUsers"] == false { None } else { check(pod) }
}

fn app_armor(pod: Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut bad = BTreeSet::new();
    let mut is_bad = |holder: &Value| {
        let profile = text(holder, "/securityContext/appArmorProfile/type");
        let set = holder.pointer("/securityContext/appArmorProfile").is_some_and(Value::is_object);
        let forbidden = set && !matches!(profile, "RuntimeDefault" | "Localhost");
        if forbidden {
            bad.insert(profile.to_owned());
        }
        forbidden
    };
    let by_pod = is_bad(pod.spec);
    let by_containers = containers_where(pod, is_bad);
    let annotations: BTreeSet<String> = pod
        .annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, value)| {
            key.starts_with(ANNOTATION) && !value.is_empty() && *value != "runtime/default" && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let by_annotations = (!annotations.is_empty()).then(|| plural("annotation", annotations.len()));
    let all: Vec<String> = setters(by_pod, &by_containers).into_iter().chain(by_annotations).collect();
    if all.is_empty() {
        return None;
    }
    let values: Vec<String> = bad.into_iter().chain(annotations).collect();
    let detail = format!("{} must not set AppArmor profile type to {}", all.join(" and "), quoted(&values));
    violation(&plural("forbidden AppArmor profile", values.len()), detail)
}

fn capabilities_baseline(pod: Pod<'_>) -> Option<Violation> {
    const ALLOWED: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (containers, added) = adding_others(pod, ALLOWED);
    if containers.is_empty() {
        return None;
    }
    violation("non-default capabilities", must_not_add(&containers, &added))
}

/// The containers that add capabilities other than these, and which.
fn adding_others<'a>(pod: Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let mut added = BTreeSet::new();
    let containers = containers_where(pod, |container| {
        let add = items(container, "/securityContext/capabilities/add").iter().filter_map(Value::as_str);
        let others: Vec<&str> = add.filter(|capability| !allowed.contains(capability)).collect();
        added.extend(others.iter().copied());
        !others.is_empty()
    });
    (containers, added)
}

fn must_not_add(containers: &[&str], added: &BTreeSet<&str>) -> String {
    format!("{} must not include {} in securityContext.capabilities.add", named_containers(containers), quoted(added))
}

fn capabilities_restricted(pod: Pod<'_>) -> Option<Violation> {
    let keeping = containers_where(pod, |container| {
        !items(container, "/securityContext/capabilities/drop").iter().any(|capability| capability == "ALL")
    });
    let (adding, added) = adding_others(pod, &["NET_BIND_SERVICE"]);
    let keeping = (!keeping.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named_containers(&keeping)));
    let adding = (!adding.is_empty()).then(|| must_not_add(&adding, &added));
    let all: Vec<String> = keeping.into_iter().chain(adding).collect();
    if all.is_empty() { None } else { violation("unrestricted capabilities", all.join("; ")) }
}

fn host_namespaces(pod: Pod<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].iter().filter(|field| pod.spec[**field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

fn host_path_volumes(pod: Pod<'_>) -> Option<Violation> {
    let volumes: Vec<&str> = items(pod.spec, "/volumes")
        .iter()
        .filter(|volume| !volume["hostPath"].is_null())
        .map(|volume| text(volume, "/name"))
        .collect();
    if volumes.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", volumes.len()), quoted(volumes)))
}

fn host_ports(pod: Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let containers = containers_where(pod, |container| {
        let own = items(container, "/ports").iter().filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0);
        let own: Vec<String> = own.map(|port| port.to_string()).collect();
        let any = !own.is_empty();
        ports.extend(own);
        any
    });
    if containers.is_empty() {
        return None;
    }
    let uses = if containers.len() == 1 { "uses" } else { "use" };
    let list = ports.iter().cloned().collect::<Vec<_>>().join(", ");
    violation("hostPort", format!("{} {uses} {} {list}", named_containers(&containers), plural("hostPort", ports.len())))
}

fn host_probes(pod: Pod<'_>) -> Option<Violation> {
    const HANDLERS: &[&str] =
        &["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    let mut hosts = BTreeSet::new();
    let containers: BTreeSet<&str> = containers_where(pod, |container| {
        let before = hosts.len();
        let own: Vec<&str> = HANDLERS
            .iter()
            .flat_map(|handler| ["httpGet", "tcpSocket"].map(|kind| text(container, &format!("{handler}/{kind}/host"))))
            .filter(|host| !host.is_empty())
            .collect();
        hosts.extend(own.iter().copied());
        hosts.len() > before || !own.is_empty()
    })
    .into_iter()
    .collect();
    if containers.is_empty() {
        return None;
    }
    let names: Vec<&str> = containers.into_iter().collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let detail =
        format!("{} {uses} {} {}", named_containers(&names), plural("probe or lifecycle host", hosts.len()), quoted(hosts));
    violation("probe or lifecycle host", detail)
}

fn privileged(pod: Pod<'_>) -> Option<Violation> {
    let containers = containers_where(pod, |container| container["securityContext"]["privileged"] == true);
    if containers.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", named_containers(&containers)))
}

fn proc_mount(pod: Pod<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let containers = containers_where(pod, |container| {
        let kind = container["securityContext"]["procMount"].as_str().filter(|kind| *kind != "Default");
        kinds.extend(kind);
        kind.is_some()
    });
    if containers.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.procMount to {}", named_containers(&containers), quoted(kinds));
    violation("procMount", detail)
}

/// The first is allowed since 1.31.
const SE_LINUX_TYPES: &[&str] = &["container_engine_t", "", "container_t", "container_init_t", "container_kvm_t"];

fn se_linux(pod: Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |holder: &Value| {
        let Some(options) = holder.pointer("/securityContext/seLinuxOptions").filter(|options| options.is_object()) else {
            return false;
        };
        let kind = text(options, "/type");
        let bad_kind = !allowed.contains(&kind);
        if bad_kind {
            types.insert(kind.to_owned());
        }
        let (sets_user, sets_role) = (!text(options, "/user").is_empty(), !text(options, "/role").is_empty());
        user |= sets_user;
        role |= sets_role;
        bad_kind || sets_user || sets_role
    };
    let by_pod = is_bad(pod.spec);
    let by_containers = containers_where(pod, is_bad);
    let who = setters(by_pod, &by_containers)?;
    let kinds = (!types.is_empty()).then(|| format!("{} {}", plural("type", types.len()), quoted(&types)));
    let user = user.then(|| "user may not be set".to_owned());
    let role = role.then(|| "role may not be set".to_owned());
    let what: Vec<String> = kinds.into_iter().chain(user).chain(role).collect();
    violation("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; ")))
}

/// Before fields there were annotations.
fn seccomp_annotations(pod: Pod<'_>) -> Option<Violation> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let of_containers = containers::each(pod.spec).map(|(_, container)| format!("{CONTAINER}{}", text(container, "/name")));
    let forbidden: BTreeSet<String> = std::iter::once(POD.to_owned())
        .chain(of_containers)
        .filter_map(|key| {
            let value = pod.annotations?.get(&key)?.as_str()?;
            let allowed = matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
            (!allowed).then(|| format!("{key}={value:?}"))
        })
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let list = forbidden.iter().cloned().collect::<Vec<_>>().join(", ");
    violation("seccompProfile", format!("forbidden {} {list}", plural("annotation", forbidden.len())))
}

fn seccomp(pod: Pod<'_>, required: bool) -> Option<Violation> {
    let profile = |holder: &Value| {
        let profile = holder.pointer("/securityContext/seccompProfile").filter(|profile| profile.is_object())?;
        Some(text(profile, "/type").to_owned())
    };
    let mut bad = BTreeSet::new();
    let mut is_bad = |holder: &Value| {
        let kind = profile(holder).filter(|kind| !matches!(kind.as_str(), "RuntimeDefault" | "Localhost"));
        let forbidden = kind.is_some();
        bad.extend(kind);
        forbidden
    };
    let by_pod = is_bad(pod.spec);
    let by_containers = containers_where(pod, is_bad);
    if let Some(who) = setters(by_pod, &by_containers) {
        let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(bad));
        return violation("seccompProfile", detail);
    }
    if !required || profile(pod.spec).is_some() {
        return None;
    }
    let silent = containers_where(pod, |container| profile(container).is_none());
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named_containers(&silent)
    );
    violation("seccompProfile", detail)
}

/// In the order in which they were allowed: five at first, then one in 1.27, four in 1.29, two in 1.32.
const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn sysctls(pod: Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let names = items(pod.spec, "/securityContext/sysctls").iter().map(|sysctl| text(sysctl, "/name"));
    let forbidden: Vec<&str> = names.filter(|name| !allowed.contains(name)).collect();
    if forbidden.is_empty() { None } else { violation("forbidden sysctls", forbidden.join(", ")) }
}

fn host_process(pod: Pod<'_>) -> Option<Violation> {
    let is_bad = |holder: &Value| holder["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let who = setters(is_bad(pod.spec), &containers_where(pod, is_bad))?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn privilege_escalation(pod: Pod<'_>) -> Option<Violation> {
    let containers = containers_where(pod, |container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if containers.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named_containers(&containers));
    violation("allowPrivilegeEscalation != false", detail)
}

fn restricted_volumes(pod: Pod<'_>) -> Option<Violation> {
    const ALLOWED: &[&str] =
        &["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"];
    let mut kinds = BTreeSet::new();
    let mut volumes = Vec::new();
    for volume in items(pod.spec, "/volumes") {
        let sources = || volume.as_object().into_iter().flatten().filter(|(field, v)| *field != "name" && !v.is_null());
        if !sources().any(|(field, _)| ALLOWED.contains(&field.as_str())) {
            kinds.insert(sources().next().map_or("unknown", |(field, _)| field.as_str()));
            volumes.push(text(volume, "/name"));
        }
    }
    if volumes.is_empty() {
        return None;
    }
    let uses = if volumes.len() == 1 { "uses" } else { "use" };
    let detail = format!(
        "{} {} {uses} {} {}",
        plural("volume", volumes.len()),
        quoted(&volumes),
        plural("restricted volume type", kinds.len()),
        quoted(kinds)
    );
    violation("restricted volume types", detail)
}

fn run_as_non_root(pod: Pod<'_>) -> Option<Violation> {
    let setting = |holder: &Value| holder["securityContext"]["runAsNonRoot"].as_bool();
    let is_bad = |holder: &Value| setting(holder) == Some(false);
    if let Some(who) = setters(is_bad(pod.spec), &containers_where(pod, is_bad)) {
        return violation("runAsNonRoot != true", format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if setting(pod.spec) == Some(true) {
        return None;
    }
    let silent = containers_where(pod, |container| setting(container).is_none());
    if silent.is_empty() {
        return None;
    }
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", named_containers(&silent));
    violation("runAsNonRoot != true", detail)
}

fn run_as_user(pod: Pod<'_>) -> Option<Violation> {
    let is_bad = |holder: &Value| holder["securityContext"]["runAsUser"] == 0;
    let who = setters(is_bad(pod.spec), &containers_where(pod, is_bad))?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

#[cfg(test)]
mod tests;
