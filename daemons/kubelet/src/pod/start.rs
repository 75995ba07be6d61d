//! Doing what the plan says: sandboxes and containers are started and killed here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::Kind as _;
use api::core::{Container, Pod, Secret};
use client::events::EventType;
use cri::v1;
use jiff::Timestamp;

use super::env::Objects;
use super::spec::{self, Role};
use super::worker::Worker;
use super::{dns, env, hosts, refs};
use crate::probe::{self, run::Target};
use crate::runtime::actions::{self, Actions, KillReason};
use crate::runtime::backoff;
use crate::runtime::container::{self, ContainerContext, annotation};
use crate::runtime::hooks;
use crate::runtime::sandbox::{self, SandboxContext};
use crate::runtime::view::{ContainerView, PodView, State};
use crate::status::containers::Waiting;
use crate::volume::mounts::{self, OwnFiles};
use crate::volume::payload::{self, Sources};
use crate::volume::{self, Claims, Ready};

/// Why a container was not started: the reason and message of its status.
#[derive(Debug)]
struct StartError {
    reason: &'static str,
    message: String,
}

/// What the containers of a pod are made from.
struct Prepared {
    volumes: BTreeMap<String, Ready>,
    objects: Objects,
    services: Vec<api::core::Service>,
    secrets: Vec<Secret>,
}

pub(super) async fn apply(worker: &mut Worker, plan: &Actions, view: &PodView) -> Result<(), String> {
    let pod = worker.pod.clone();
    if plan.kill_pod {
        if plan.create_sandbox && !plan.sandbox_id.is_empty() {
            worker.event(None, EventType::Normal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
        }
        kill_pod(worker, view, None).await?;
        if !plan.create_sandbox {
            return Ok(());
        }
    } else {
        for (id, kill) in &plan.to_kill {
            let Some(c) = view.containers.iter().find(|c| c.id == *id) else { continue };
            let spec = spec::find_container(&pod, &kill.name).map(|(_, c)| c.into_owned());
            let kind = match kill.reason {
                KillReason::LivenessProbe => Some(probe::Kind::Liveness),
                KillReason::StartupProbe => Some(probe::Kind::Startup),
                KillReason::Other | KillReason::Unknown => None,
            };
            let grace = spec.as_ref().zip(kind).and_then(|(s, k)| probe::grace_override(s, k));
            kill_container(worker, spec.as_ref(), c, &kill.message, grace).await?;
        }
    }
    // Files of volumes follow their sources while the pod runs.
    let prepared = prepare(worker, view).await?;
    let nothing_to_start = !plan.create_sandbox
        && plan.init_to_start.is_empty()
        && plan.main_to_start.is_empty()
        && plan.ephemeral_to_start.is_empty();
    if nothing_to_start {
        return Ok(());
    }
    let (sandbox_id, ips, config) = sandbox(worker, plan, view).await?;
    start_containers(worker, plan, view, &prepared, &sandbox_id, &ips, &config).await
}

/// How often a container that waits for its back-off is looked at.
const WAITING: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

async fn start_containers(
    worker: &mut Worker,
    plan: &Actions,
    view: &PodView,
    prepared: &Prepared,
    sandbox_id: &str,
    ips: &[String],
    config: &v1::PodSandboxConfig,
) -> Result<(), String> {
    let pod = worker.pod.clone();
    let init = spec::init_containers(&pod);
    let main = &spec::spec(&pod).containers;
    let ephemeral = spec::ephemeral_containers(&pod);
    let mut list: Vec<(Role, Cow<'_, Container>, Option<String>)> = Vec::new();
    for i in &plan.ephemeral_to_start {
        let e = &ephemeral[*i];
        list.push((Role::Ephemeral, Cow::Owned(spec::ephemeral_as_container(e)), e.target_container_name.clone()));
    }
    list.extend(plan.init_to_start.iter().filter_map(|i| init.get(*i)).map(|c| (Role::Init, Cow::Borrowed(c), None)));
    list.extend(plan.main_to_start.iter().map(|i| (Role::Main, Cow::Borrowed(&main[*i]), None)));
    let mut failed = None;
    for (role, container, target) in list {
        let target = target.filter(|t| !t.is_empty()).and_then(|t| view.container(&t)).map(|c| c.id.clone());
        let result = start_one(worker, &container, target, view, prepared, sandbox_id, ips, config).await;
        let init_failed = role == Role::Init && result.is_err();
        match result {
            Ok(()) => {
                worker.waiting.remove(&container.name);
            }
            Err(error) => {
                let message = format!("{}: {}", error.reason, error.message);
                let waits = matches!(error.reason, "CrashLoopBackOff" | "ImagePullBackOff");
                worker
                    .waiting
                    .insert(container.name.clone(), Waiting { reason: error.reason.to_owned(), message: error.message });
                // Who waits is no failure: it is looked at again when the wait is over.
                if waits {
                    worker.look_again_within(WAITING);
                } else {
                    failed = Some(message);
                }
            }
        }
        if init_failed {
            // Those after it wait for it.
            break;
        }
    }
    failed.map_or(Ok(()), Err)
}

// --- what comes before the sandbox ---

async fn prepare(worker: &Worker, view: &PodView) -> Result<Prepared, String> {
    let (agent, pod) = (&worker.agent, &worker.pod);
    if !spec::host_network(pod)
        && let Some(reason) = agent.network_error.load_full()
    {
        let message = format!("network is not ready: {reason}");
        worker.event(None, EventType::Warning, "NetworkNotReady", message.clone());
        return Err(message);
    }
    if let Err(error) = agent.cgroups.ensure_pod(pod).await {
        let message = format!("unable to ensure pod container exists: {}", daemon::chain(&error));
        worker.event(None, EventType::Warning, "FailedCreatePodContainer", message.clone());
        return Err(message);
    }
    let objects = fetch_objects(worker).await?;
    let mount_failed = |text: String| {
        worker.event(None, EventType::Warning, "FailedMount", text.clone());
        text
    };
    let mut sources =
        Sources { around: agent.surroundings(pod_ips(worker, view)), objects: objects.clone(), ..Sources::default() };
    let keys = payload::tokens(pod);
    if !keys.is_empty() {
        let Some(api) = agent.api() else {
            return Err(mount_failed("a token needs an API server, and there is none".to_owned()));
        };
        for key in keys {
            let token = api.tokens.get(pod, &key, Timestamp::now()).await.map_err(|e| {
                mount_failed(format!("MountVolume.SetUp failed for volume of service account tokens : {}", daemon::chain(&e)))
            })?;
            sources.tokens.insert(key, token);
        }
    }
    let claims = claims(worker).await?;
    let (root, shared) = (agent.config.root_dir.clone(), pod.clone());
    let made = tokio::task::spawn_blocking(move || volume::set_up(&root, &shared, &sources, &claims)).await;
    let volumes = match made {
        Ok(Ok(volumes)) => volumes,
        Ok(Err(errors)) => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            texts.iter().for_each(|t| worker.event(None, EventType::Warning, "FailedMount", t.clone()));
            return Err(texts.join("; "));
        }
        Err(panic) => return Err(panic.to_string()),
    };
    let services = agent.api().map(|api| api.services.parsed()).unwrap_or_default();
    let secrets = pull_secrets(worker, &objects);
    Ok(Prepared { volumes, objects, services, secrets })
}

fn pod_ips(worker: &Worker, view: &PodView) -> Vec<String> {
    if spec::host_network(&worker.pod) {
        return worker.agent.host_ips.load().iter().map(ToString::to_string).collect();
    }
    view.ips().to_vec()
}

async fn fetch_objects(worker: &Worker) -> Result<Objects, String> {
    let pod = &worker.pod;
    let refs = refs::references(pod);
    let mut objects = Objects::default();
    if refs.config_maps.is_empty() && refs.secrets.is_empty() {
        return Ok(objects);
    }
    if spec::is_static(pod) {
        return Err("a static pod may not refer to ConfigMaps or Secrets".to_owned());
    }
    let Some(api) = worker.agent.api() else { return Err("there is no API server to ask for objects".to_owned()) };
    let namespace = pod.namespace();
    api.config_maps.set(pod.uid(), namespace, &refs.config_maps);
    api.secrets.set(pod.uid(), namespace, &refs.secrets);
    for name in refs.config_maps {
        let found = api.config_maps.get(namespace, &name).await.map_err(|e| e.to_string())?;
        objects.config_maps.insert(name, found);
    }
    for name in refs.secrets {
        let found = api.secrets.get(namespace, &name).await.map_err(|e| e.to_string())?;
        objects.secrets.insert(name, found);
    }
    Ok(objects)
}

fn pull_secrets(worker: &Worker, objects: &Objects) -> Vec<Secret> {
    let names = spec::spec(&worker.pod).image_pull_secrets.iter().flatten().map(|r| r.name.as_str());
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match objects.secrets.get(name).cloned().flatten() {
            Some(secret) => found.push(secret),
            None => missing.push(name.to_owned()),
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        worker.event(None, EventType::Warning, "FailedToRetrieveImagePullSecret", message);
    }
    found
}

/// Where the pod's claims lead. Volumes that lie on this host are all that is supported.
async fn claims(worker: &Worker) -> Result<Claims, String> {
    use api::core::{PersistentVolume, PersistentVolumeClaim};
    let pod = &worker.pod;
    let mut claims = Claims::new();
    let names = spec::spec(pod).volumes.iter().flatten().filter_map(|v| volume::claim_name(pod, v));
    for name in names.collect::<Vec<_>>() {
        let Some(api) = worker.agent.api() else { return Err("there is no API server to ask for claims".to_owned()) };
        let claim = match api.client.get::<PersistentVolumeClaim>(pod.namespace(), &name).await {
            Ok(claim) => claim,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.to_string()),
        };
        let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let Some(volume) = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|_| bound) else {
            claims.insert(name.clone(), Err(format!("PVC {}/{name} is not bound", pod.namespace())));
            continue;
        };
        let volume = api.client.get::<PersistentVolume>("", &volume).await.map_err(|e| e.to_string())?;
        let spec = volume.spec.unwrap_or_default();
        let path = spec.host_path.map(|h| h.path).or(spec.local.map(|l| l.path));
        let ready = path.map(|p| Ready { path: PathBuf::from(p), read_only: false });
        claims.insert(name, ready.ok_or_else(|| "only hostPath and local persistent volumes are supported".to_owned()));
    }
    Ok(claims)
}

// --- the sandbox ---

/// The sandbox to use, its addresses, and its configuration; a new one when the plan says so.
async fn sandbox(worker: &Worker, plan: &Actions, view: &PodView) -> Result<(String, Vec<String>, v1::PodSandboxConfig), String> {
    let (agent, pod) = (&worker.agent, &worker.pod);
    let host = tokio::fs::read_to_string(&agent.config.resolv_conf).await.unwrap_or_default();
    let (hostname, _) = hosts::hostname(pod, &agent.config.cluster_domain);
    let log_directory = agent.log_dir(pod);
    let context = SandboxContext {
        attempt: plan.attempt,
        hostname: if spec::host_network(pod) { String::new() } else { hostname },
        dns: dns::pod_dns(pod, &agent.config.cluster_dns, &agent.config.cluster_domain, &dns::parse(&host)),
        log_directory: log_directory.to_string_lossy().into_owned(),
        cgroup_parent: agent.cgroups.parent(pod),
        cpu_quota: agent.config.cpu_quota,
    };
    let config = sandbox::config(pod, &context);
    if !plan.create_sandbox {
        let ips = if spec::host_network(pod) { pod_ips(worker, view) } else { view.ips().to_vec() };
        return Ok((plan.sandbox_id.clone(), ips, config));
    }
    let failed = |message: String| {
        let message = format!("Failed to create pod sandbox: {message}");
        worker.event(None, EventType::Warning, "FailedCreatePodSandBox", message.clone());
        message
    };
    tokio::fs::create_dir_all(&log_directory).await.map_err(|e| failed(e.to_string()))?;
    let handler = runtime_handler(worker).await.map_err(failed)?;
    let id = agent.runtime.run_sandbox(config.clone(), &handler).await.map_err(|e| failed(e.to_string()))?;
    let made = agent.runtime.sandbox(&id).await.map_err(|e| {
        let message = format!("Unable to get pod sandbox status: {e}");
        worker.event(None, EventType::Warning, "FailedPodSandBoxStatus", message.clone());
        message
    })?;
    let ips = if spec::host_network(pod) { pod_ips(worker, view) } else { made.ips };
    Ok((id, ips, config))
}

/// The runtime's handler of the pod's RuntimeClass.
async fn runtime_handler(worker: &Worker) -> Result<String, String> {
    let Some(class) = spec::spec(&worker.pod).runtime_class_name.as_deref().filter(|c| !c.is_empty()) else {
        return Ok(String::new());
    };
    let api = worker.agent.api().ok_or("there is no API server to ask for the RuntimeClass")?;
    let class = api.client.get::<api::node::RuntimeClass>("", class).await.map_err(|e| e.to_string())?;
    Ok(class.handler)
}

/// The pod's /etc/hosts, written when its content changed.
fn write_hosts(worker: &Worker, ips: &[String]) -> std::io::Result<PathBuf> {
    let (agent, pod) = (&worker.agent, &worker.pod);
    let directory = volume::pod_dir(&agent.config.root_dir, pod.uid());
    std::fs::create_dir_all(&directory)?;
    let text = if spec::host_network(pod) {
        hosts::host_network_hosts(pod, &std::fs::read_to_string("/etc/hosts").unwrap_or_default())
    } else {
        let (hostname, domain) = hosts::hostname(pod, &agent.config.cluster_domain);
        hosts::pod_hosts(pod, ips, &hostname, &domain)
    };
    let path = directory.join("etc-hosts");
    // In place: containers have the file itself mounted.
    if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
        std::fs::write(&path, text)?;
    }
    Ok(path)
}

// --- containers ---

#[expect(clippy::too_many_arguments, reason = "what a container is made from")]
async fn start_one(
    worker: &mut Worker,
    container: &Container,
    target: Option<String>,
    view: &PodView,
    prepared: &Prepared,
    sandbox_id: &str,
    ips: &[String],
    config: &v1::PodSandboxConfig,
) -> Result<(), StartError> {
    check_backoff(worker, container, view)?;
    let name = container.name.as_str();
    let image = {
        let worker = &*worker;
        let tell = |kind: EventType, reason: &str, message: String| worker.event(Some(name), kind, reason, message);
        let images = &worker.agent.images;
        let found = images.ensure(&worker.agent.runtime, &worker.pod, container, &prepared.secrets, config, &tell).await;
        found.map_err(|e| {
            if e.reason != "ImagePullBackOff" {
                tell(EventType::Warning, "Failed", format!("Error: {}", e.reason));
            }
            StartError { reason: e.reason, message: e.message }
        })?
    };
    let restart_count = next_restart_count(worker, container, view);
    let created = create(worker, container, target, prepared, sandbox_id, ips, config, &image, restart_count).await;
    let id = created.inspect_err(|e| worker.event(Some(name), EventType::Warning, "Failed", format!("Error: {}", e.message)))?;
    worker.event(Some(name), EventType::Normal, "Created", "Container created");
    if let Err(error) = worker.agent.runtime.start_container(&id).await {
        worker.event(Some(name), EventType::Warning, "Failed", format!("Error: {error}"));
        return Err(StartError { reason: "RunContainerError", message: error.to_string() });
    }
    worker.event(Some(name), EventType::Normal, "Started", "Container started");
    link_log(&worker.pod, container, &id, &worker.agent.log_dir(&worker.pod).join(format!("{name}/{restart_count}.log")));
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.clone()) else { return Ok(()) };
    let target = Target { container_id: id.clone(), pod_ip: ips.first().and_then(|ip| ip.parse().ok()) };
    let forever = Duration::from_secs(24 * 3600);
    if let Err(message) = hooks::run(&hook, &worker.pod, container, &target, &worker.agent.runtime, forever).await {
        worker.event(Some(name), EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
        tracing::warn!(container = name, "{message}");
        if let Ok(c) = worker.agent.runtime.container(&id).await {
            let _ = kill_container(worker, Some(container), &c, "FailedPostStartHook", None).await;
        }
        return Err(StartError { reason: "PostStartHookError", message });
    }
    Ok(())
}

/// A container that ended waits before it runs again, longer each time.
fn check_backoff(worker: &mut Worker, container: &Container, view: &PodView) -> Result<(), StartError> {
    let last = view.containers.iter().find(|c| c.name == container.name && c.state == State::Exited);
    let Some(last) = last else { return Ok(()) };
    let ended = Timestamp::from_nanosecond(last.finished_at.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    let key = format!("{}_{}", container.name, actions::container_hash(container));
    let now = Timestamp::now();
    match worker.crash.until(&key, ended, now) {
        Some(until) => {
            worker.next = Some(worker.next.map_or(until, |n| n.min(until)));
            let described = spec::described(&worker.pod);
            let name = &container.name;
            worker.event(
                Some(name),
                EventType::Warning,
                "BackOff",
                format!("Back-off restarting failed container {name} in pod {described}"),
            );
            let delay = backoff::print(worker.crash.delay(&key));
            let message = format!("back-off {delay} restarting failed container={name} pod={described}");
            Err(StartError { reason: "CrashLoopBackOff", message })
        }
        None => {
            worker.crash.next(&key, ended, now);
            Ok(())
        }
    }
}

fn next_restart_count(worker: &Worker, container: &Container, view: &PodView) -> i32 {
    if let Some(last) = view.container(&container.name) {
        return last.restart_count + 1;
    }
    // The runtime may have forgotten what the API still has.
    let status = worker.pod.status.as_ref();
    let lists = status.map(|s| [&s.container_statuses, &s.init_container_statuses]);
    let told = lists.into_iter().flatten().flat_map(|l| l.iter().flatten()).find(|s| s.name == container.name);
    told.filter(|s| s.container_id.as_ref().is_some_and(|id| !id.is_empty())).map_or(0, |s| s.restart_count + 1)
}

#[expect(clippy::too_many_arguments, reason = "what a container is made from")]
async fn create(
    worker: &Worker,
    container: &Container,
    target: Option<String>,
    prepared: &Prepared,
    sandbox_id: &str,
    ips: &[String],
    config: &v1::PodSandboxConfig,
    image: &crate::runtime::images::Present,
    restart_count: i32,
) -> Result<String, StartError> {
    let (agent, pod) = (&worker.agent, &worker.pod);
    let config_error = |message: String| StartError { reason: "CreateContainerConfigError", message };
    let around = agent.surroundings(ips.to_vec());
    let env = env::environment(pod, container, &prepared.services, &prepared.objects, &around)
        .map_err(|e| config_error(e.to_string()))?;
    let hosts = write_hosts(worker, ips).map_err(|e| config_error(format!("writing the pod's hosts file: {e}")))?;
    let termination_log = termination_log(&agent.config.root_dir, pod, container, restart_count)
        .map_err(|e| config_error(format!("making the file for the termination message: {e}")))?;
    let own = OwnFiles { hosts: Some(hosts), termination_log: Some(termination_log) };
    let mounts = {
        let (root, pod, container) = (agent.config.root_dir.clone(), pod.clone(), container.clone());
        let (volumes, env) = (prepared.volumes.clone(), env.clone());
        let made = tokio::task::spawn_blocking(move || mounts::mounts(&root, &pod, &container, &volumes, &env, &own)).await;
        made.map_err(|e| config_error(e.to_string()))?.map_err(|e| config_error(daemon::chain(&e)))?
    };
    let context = ContainerContext {
        restart_count,
        image: image.id.clone(),
        env,
        mounts,
        image_user: image.user.clone(),
        memory_capacity: agent.machine.memory_bytes,
        cpu_quota: agent.config.cpu_quota,
        cgroup_v2: agent.cgroups.v2,
        seccomp_default: agent.config.seccomp_default,
        seccomp_root: agent.config.root_dir.join("seccomp").to_string_lossy().into_owned(),
        target,
    };
    let made = container::config(pod, container, &context).map_err(|e| config_error(e.to_string()))?;
    let created = agent.runtime.create_container(sandbox_id, made, config.clone()).await;
    created.map_err(|e| StartError { reason: "CreateContainerError", message: e.to_string() })
}

/// A fresh file that the container may write to, whoever it runs as.
fn termination_log(root: &Path, pod: &Pod, container: &Container, restart_count: i32) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = volume::pod_dir(root, pod.uid()).join("containers").join(&container.name);
    std::fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{restart_count}"));
    std::fs::write(&path, b"")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    Ok(path)
}

const LOG_LINKS: &str = "/var/log/containers";

/// The link by which log collectors find a container's log: `POD_NAMESPACE_CONTAINER-ID.log`.
fn link_log(pod: &Pod, container: &Container, id: &str, log: &Path) {
    let link = Path::new(LOG_LINKS).join(format!("{}_{}_{}-{id}.log", pod.name(), pod.namespace(), container.name));
    let made = std::fs::create_dir_all(LOG_LINKS).and_then(|()| std::os::unix::fs::symlink(log, &link));
    if let Err(error) = made {
        tracing::debug!(link = %link.display(), %error, "linking a log");
    }
}

/// Removes the links to a pod's logs.
pub(super) fn remove_log_links(pod: &Pod) {
    let prefix = format!("{}_{}_", pod.name(), pod.namespace());
    for entry in std::fs::read_dir(LOG_LINKS).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(&prefix);
        let of_pod = std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains(pod.uid()));
        if ours && of_pod {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

// --- killing ---

/// Kills all that runs of a pod: containers in their order, then the sandbox. `grace` is for all of them together.
pub(super) async fn kill_pod(worker: &Worker, view: &PodView, grace: Option<i64>) -> Result<(), String> {
    let pod = worker.pod.clone();
    let begun = Instant::now();
    for group in actions::kill_order(&pod, view) {
        let spent = i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX);
        let left = grace.map(|g| (g - spent).max(0));
        let kills = group.iter().map(|c| {
            let spec = spec::find_container(&pod, &c.name).map(|(_, c)| c.into_owned());
            async move { kill_container(worker, spec.as_ref(), c, &format!("Stopping container {}", c.name), left).await }
        });
        for result in futures::future::join_all(kills).await {
            result?;
        }
    }
    for s in view.sandboxes.iter().filter(|s| s.ready) {
        worker.agent.runtime.stop_sandbox(&s.id).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The preStop hook, the signal, and after the grace the kill.
async fn kill_container(
    worker: &Worker,
    spec: Option<&Container>,
    c: &ContainerView,
    message: &str,
    grace: Option<i64>,
) -> Result<(), String> {
    const MIN: i64 = 2;
    let pod = &worker.pod;
    let recorded = || c.annotations.get(annotation::TERMINATION_GRACE).and_then(|v| v.parse::<i64>().ok());
    let own = spec::spec(pod).termination_grace_period_seconds;
    let deletion = pod.meta().deletion_grace_period_seconds;
    let total = grace.or(deletion).or(own).or_else(recorded).unwrap_or(30).max(0);
    worker.event(Some(&c.name), EventType::Normal, "Killing", message);
    let begun = Instant::now();
    if let Some(spec) = spec
        && let Some(hook) = spec.lifecycle.as_ref().and_then(|l| l.pre_stop.clone())
        && total > 0
    {
        let sandbox = worker.agent.runtime.sandbox(&c.sandbox_id).await.ok();
        let ip = match sandbox {
            Some(s) if !s.host_network => s.ips.first().and_then(|ip| ip.parse().ok()),
            _ => worker.agent.host_ips.load().first().copied(),
        };
        let target = Target { container_id: c.id.clone(), pod_ip: ip };
        let limit = Duration::from_secs(u64::try_from(total).unwrap_or(0));
        let run = hooks::run(&hook, pod, spec, &target, &worker.agent.runtime, limit);
        match tokio::time::timeout(limit, run).await {
            Ok(Ok(())) => {}
            Ok(Err(text)) => {
                tracing::warn!(container = c.name, "{text}");
                worker.event(Some(&c.name), EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
            }
            Err(_) => tracing::warn!(container = c.name, "the preStop hook did not end within the grace period"),
        }
    }
    let spent = i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX);
    // A deletion with a grace of nothing means now; else a container gets a moment.
    let left = if total == 0 { 0 } else { (total - spent).max(MIN) };
    let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
    worker.agent.runtime.stop_container(&c.id, left).await.map_err(|e| e.to_string())
}
