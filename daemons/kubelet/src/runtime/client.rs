//! The runtime's calls, with deadlines, turned into the kubelet's own terms.

use std::collections::HashMap;
use std::time::Duration;

use cri::tonic::{Code, Request, Status};
use cri::v1;
use cri::{Channel, ImageServiceClient, RuntimeServiceClient};

use super::container::annotation;
use super::sandbox::label;
use super::view::{ContainerView, PodView, SandboxView, State};

/// A call that failed: what was asked for, and the runtime's own words.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    pub call: &'static str,
    pub code: Code,
    pub message: String,
}

impl RuntimeError {
    pub fn new(call: &'static str, status: &Status) -> Self {
        // As upstream prints what came over gRPC: messages of events and conditions look the same.
        let message = format!("rpc error: code = {:?} desc = {}", status.code(), status.message());
        Self { call, code: status.code(), message }
    }

    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound || self.message.contains("not found") && self.code == Code::Unknown
    }

    pub fn is_unsupported(&self) -> bool {
        self.code == Code::Unimplemented || self.code == Code::Unknown && self.message.contains("not implemented")
    }
}

pub type Result<T> = std::result::Result<T, RuntimeError>;

/// The runtime and image services. Clones share the connection.
#[derive(Clone)]
pub struct Runtime {
    channel: Channel,
    images: Channel,
    timeout: Duration,
}

/// A container, as listed for all pods at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub pod_uid: String,
    pub pod_name: String,
    pub pod_namespace: String,
    pub name: String,
    pub state: i32,
    pub sandbox: bool,
    pub created_at: i64,
    pub sandbox_id: String,
    pub attempt: u32,
    pub image: String,
}

macro_rules! call {
    ($self:ident, $client:ident, $channel:ident, $method:ident, $request:expr, $timeout:expr) => {{
        const LIMIT: usize = 64 << 20;
        let mut client = $client::new($self.$channel.clone()).max_decoding_message_size(LIMIT);
        let mut request = Request::new($request);
        request.set_timeout($timeout);
        let exchange = client.$method(request);
        match tokio::time::timeout($timeout + Duration::from_secs(1), exchange).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(RuntimeError::new(stringify!($method), &status)),
            Err(_) => Err(RuntimeError::new(stringify!($method), &Status::deadline_exceeded("context deadline exceeded"))),
        }
    }};
}

macro_rules! runtime {
    ($self:ident.$method:ident($request:expr)) => {
        call!($self, RuntimeServiceClient, channel, $method, $request, $self.timeout)
    };
    ($self:ident.$method:ident($request:expr), $timeout:expr) => {
        call!($self, RuntimeServiceClient, channel, $method, $request, $timeout)
    };
}

macro_rules! image {
    ($self:ident.$method:ident($request:expr)) => {
        call!($self, ImageServiceClient, images, $method, $request, $self.timeout)
    };
    ($self:ident.$method:ident($request:expr), $timeout:expr) => {
        call!($self, ImageServiceClient, images, $method, $request, $timeout)
    };
}

/// Images may be large and lines slow; a pod that is deleted drops the call.
const PULL_TIMEOUT: Duration = Duration::from_secs(3600);

impl Runtime {
    pub fn new(channel: Channel, images: Channel, timeout: Duration) -> Self {
        Self { channel, images, timeout }
    }

    pub async fn version(&self) -> Result<v1::VersionResponse> {
        runtime!(self.version(v1::VersionRequest { version: "0.1.0".to_owned() }))
    }

    pub async fn status(&self) -> Result<v1::RuntimeStatus> {
        Ok(runtime!(self.status(v1::StatusRequest { verbose: false }))?.status.unwrap_or_default())
    }

    /// The cgroup driver of the runtime; `None` when it does not tell.
    pub async fn cgroup_driver(&self) -> Result<Option<crate::config::CgroupDriver>> {
        match runtime!(self.runtime_config(v1::RuntimeConfigRequest {})) {
            Ok(config) => Ok(config.linux.map(|l| match l.cgroup_driver() {
                v1::CgroupDriver::Systemd => crate::config::CgroupDriver::Systemd,
                v1::CgroupDriver::Cgroupfs => crate::config::CgroupDriver::Cgroupfs,
            })),
            Err(error) if error.is_unsupported() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells the runtime the node's pod network, for those that configure it themselves.
    pub async fn set_pod_cidr(&self, cidr: &str) -> Result<()> {
        let network = v1::NetworkConfig { pod_cidr: cidr.to_owned() };
        let request =
            v1::UpdateRuntimeConfigRequest { runtime_config: Some(v1::RuntimeConfig { network_config: Some(network) }) };
        runtime!(self.update_runtime_config(request)).map(drop)
    }

    pub async fn run_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String> {
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        // Twice as long: the network plugins run in it.
        Ok(runtime!(self.run_pod_sandbox(request), self.timeout * 2)?.pod_sandbox_id)
    }

    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        gone_is_done(runtime!(self.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() })))
    }

    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        gone_is_done(runtime!(self.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() })))
    }

    pub async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(runtime!(self.create_container(request))?.container_id)
    }

    pub async fn start_container(&self, id: &str) -> Result<()> {
        runtime!(self.start_container(v1::StartContainerRequest { container_id: id.to_owned() })).map(drop)
    }

    /// Ends a container: its stop signal, and after `grace` the kill.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout };
        gone_is_done(runtime!(self.stop_container(request), self.timeout + grace))
    }

    pub async fn remove_container(&self, id: &str) -> Result<()> {
        gone_is_done(runtime!(self.remove_container(v1::RemoveContainerRequest { container_id: id.to_owned() })))
    }

    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        runtime!(self.reopen_container_log(v1::ReopenContainerLogRequest { container_id: id.to_owned() })).map(drop)
    }

    pub async fn exec_sync(&self, id: &str, cmd: Vec<String>, timeout: Duration) -> Result<v1::ExecSyncResponse> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: seconds };
        runtime!(self.exec_sync(request), if timeout.is_zero() { PULL_TIMEOUT } else { timeout + Duration::from_secs(2) })
    }

    pub async fn exec(&self, request: v1::ExecRequest) -> Result<String> {
        Ok(runtime!(self.exec(request))?.url)
    }

    pub async fn attach(&self, request: v1::AttachRequest) -> Result<String> {
        Ok(runtime!(self.attach(request))?.url)
    }

    pub async fn port_forward(&self, request: v1::PortForwardRequest) -> Result<String> {
        Ok(runtime!(self.port_forward(request))?.url)
    }

    pub async fn list_container_stats(&self) -> Result<Vec<v1::ContainerStats>> {
        Ok(runtime!(self.list_container_stats(v1::ListContainerStatsRequest { filter: None }))?.stats)
    }

    /// Events of containers; an error at once where the runtime has none.
    pub async fn events(&self) -> Result<cri::tonic::Streaming<v1::ContainerEventResponse>> {
        let mut client = RuntimeServiceClient::new(self.channel.clone());
        match client.get_container_events(v1::GetEventsRequest {}).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(RuntimeError::new("get_container_events", &status)),
        }
    }

    /// All sandboxes and containers on the node.
    pub async fn list_all(&self) -> Result<Vec<Listed>> {
        let sandboxes = runtime!(self.list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }))?.items;
        let containers = runtime!(self.list_containers(v1::ListContainersRequest { filter: None }))?.containers;
        let get = |labels: &HashMap<String, String>, key: &str| labels.get(key).cloned().unwrap_or_default();
        let listed_sandboxes = sandboxes.into_iter().map(|s| Listed {
            pod_uid: get(&s.labels, label::POD_UID),
            pod_name: get(&s.labels, label::POD_NAME),
            pod_namespace: get(&s.labels, label::POD_NAMESPACE),
            name: String::new(),
            state: s.state,
            sandbox: true,
            created_at: s.created_at,
            sandbox_id: s.id.clone(),
            attempt: s.metadata.as_ref().map_or(0, |m| m.attempt),
            image: String::new(),
            id: s.id,
        });
        let listed_containers = containers.into_iter().map(|c| Listed {
            pod_uid: get(&c.labels, label::POD_UID),
            pod_name: get(&c.labels, label::POD_NAME),
            pod_namespace: get(&c.labels, label::POD_NAMESPACE),
            name: get(&c.labels, label::CONTAINER_NAME),
            state: c.state,
            sandbox: false,
            created_at: c.created_at,
            sandbox_id: c.pod_sandbox_id,
            attempt: c.metadata.as_ref().map_or(0, |m| m.attempt),
            image: if c.image_id.is_empty() { c.image_ref } else { c.image_id },
            id: c.id,
        });
        // Without a pod's label it is not ours: another client's container in the same namespace.
        Ok(listed_sandboxes.chain(listed_containers).filter(|l| !l.pod_uid.is_empty()).collect())
    }

    /// All that the runtime has of one pod.
    pub async fn pod(&self, uid: &str) -> Result<PodView> {
        let selector = HashMap::from([(label::POD_UID.to_owned(), uid.to_owned())]);
        let filter = v1::PodSandboxFilter { label_selector: selector.clone(), ..v1::PodSandboxFilter::default() };
        let sandboxes = runtime!(self.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }))?.items;
        let filter = v1::ContainerFilter { label_selector: selector, ..v1::ContainerFilter::default() };
        let containers = runtime!(self.list_containers(v1::ListContainersRequest { filter: Some(filter) }))?.containers;
        let mut view = PodView::default();
        for sandbox in sandboxes {
            match self.sandbox(&sandbox.id).await {
                Ok(found) => view.sandboxes.push(found),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for container in containers {
            match self.container(&container.id).await {
                Ok(mut found) => {
                    found.sandbox_id = container.pod_sandbox_id;
                    view.containers.push(found);
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        view.sandboxes.sort_by_key(|s| std::cmp::Reverse(s.created_at));
        view.containers.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        Ok(view)
    }

    pub async fn sandbox(&self, id: &str) -> Result<SandboxView> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let s = runtime!(self.pod_sandbox_status(request))?.status.unwrap_or_default();
        let mut ips = Vec::new();
        if let Some(network) = &s.network {
            ips.extend(
                std::iter::once(&network.ip)
                    .chain(network.additional_ips.iter().map(|i| &i.ip))
                    .filter(|i| !i.is_empty())
                    .cloned(),
            );
        }
        let options = s.linux.as_ref().and_then(|l| l.namespaces.as_ref()).and_then(|n| n.options.as_ref());
        let host_network = options.is_some_and(|o| o.network() == v1::NamespaceMode::Node);
        Ok(SandboxView {
            ready: s.state() == v1::PodSandboxState::SandboxReady,
            created_at: s.created_at,
            attempt: s.metadata.as_ref().map_or(0, |m| m.attempt),
            ips: if host_network { Vec::new() } else { ips },
            host_network,
            id: s.id,
        })
    }

    pub async fn container(&self, id: &str) -> Result<ContainerView> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        Ok(container_view(runtime!(self.container_status(request))?.status.unwrap_or_default()))
    }

    // --- images ---

    /// The image, or `None` when it is not there.
    pub async fn image(&self, name: &str) -> Result<Option<v1::Image>> {
        let spec = v1::ImageSpec { image: name.to_owned(), ..v1::ImageSpec::default() };
        let request = v1::ImageStatusRequest { image: Some(spec), verbose: false };
        Ok(image!(self.image_status(request))?.image.filter(|i| !i.id.is_empty()))
    }

    pub async fn images(&self) -> Result<Vec<v1::Image>> {
        Ok(image!(self.list_images(v1::ListImagesRequest { filter: None }))?.images)
    }

    pub async fn pull(&self, name: &str, auth: Option<v1::AuthConfig>, sandbox: v1::PodSandboxConfig) -> Result<String> {
        let spec = v1::ImageSpec { image: name.to_owned(), ..v1::ImageSpec::default() };
        let request = v1::PullImageRequest { image: Some(spec), auth, sandbox_config: Some(sandbox) };
        Ok(image!(self.pull_image(request), PULL_TIMEOUT)?.image_ref)
    }

    pub async fn remove_image(&self, id: &str) -> Result<()> {
        let spec = v1::ImageSpec { image: id.to_owned(), ..v1::ImageSpec::default() };
        image!(self.remove_image(v1::RemoveImageRequest { image: Some(spec) })).map(drop)
    }

    pub async fn image_filesystems(&self) -> Result<Vec<v1::FilesystemUsage>> {
        Ok(image!(self.image_fs_info(v1::ImageFsInfoRequest {}))?.image_filesystems)
    }
}

fn gone_is_done<T>(result: Result<T>) -> Result<()> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

fn container_view(s: v1::ContainerStatus) -> ContainerView {
    let state = match s.state() {
        v1::ContainerState::ContainerCreated => State::Created,
        v1::ContainerState::ContainerRunning => State::Running,
        v1::ContainerState::ContainerExited => State::Exited,
        v1::ContainerState::ContainerUnknown => State::Unknown,
    };
    let metadata = s.metadata.unwrap_or_default();
    let words = s.annotations.get(annotation::TERMINATION_MESSAGE_PATH);
    let termination_log = words.and_then(|at| s.mounts.iter().find(|m| m.container_path == *at)).map(|m| m.host_path.clone());
    let count = s.annotations.get(annotation::RESTART_COUNT).and_then(|v| v.parse().ok());
    ContainerView {
        id: s.id,
        name: s.labels.get(label::CONTAINER_NAME).cloned().unwrap_or(metadata.name),
        sandbox_id: String::new(),
        state,
        created_at: s.created_at,
        started_at: s.started_at,
        finished_at: s.finished_at,
        exit_code: s.exit_code,
        reason: s.reason,
        message: s.message,
        image: s
            .image
            .map(|i| if i.user_specified_image.is_empty() { i.image } else { i.user_specified_image })
            .unwrap_or_default(),
        image_ref: s.image_ref,
        hash: s.annotations.get(annotation::HASH).cloned().unwrap_or_default(),
        restart_count: count.unwrap_or_else(|| i32::try_from(metadata.attempt).unwrap_or(0)),
        annotations: s.annotations.into_iter().collect(),
        log_path: s.log_path,
        termination_log,
    }
}
