//! A runtime that only records: containers "run" until the test lets them end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cri::tonic::{self, Request, Response, Status};
use cri::v1;
use cri::v1::image_service_server::{ImageService, ImageServiceServer};
use cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use tokio_stream::wrappers::UnixListenerStream;

type Answer<T> = Result<Response<T>, Status>;

#[derive(Default)]
struct State {
    /// What was asked for, in order: `start a`, `stop-sandbox`, …
    calls: Vec<String>,
    sandboxes: BTreeMap<String, v1::PodSandboxStatus>,
    containers: BTreeMap<String, (String, v1::ContainerStatus)>,
    images: Vec<String>,
    clock: i64,
}

/// The runtime; clones are one.
#[derive(Clone, Default)]
pub struct FakeRuntime(Arc<Mutex<State>>);

impl FakeRuntime {
    /// Serves at `socket` until the test ends.
    pub fn serve(&self, socket: &Path) {
        let listener = tokio::net::UnixListener::bind(socket).expect("a fresh socket");
        let server = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(self.clone()))
            .add_service(ImageServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    }

    pub fn add_image(&self, name: &str) {
        self.lock().images.push(name.to_owned());
    }

    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// The running container of this name ends.
    pub fn end(&self, name: &str, exit_code: i32) {
        let mut state = self.lock();
        state.clock += 1;
        let at = now() + state.clock;
        let running = state.containers.values_mut().map(|(_, c)| c).filter(|c| c.state() == v1::ContainerState::ContainerRunning);
        for c in running.filter(|c| c.metadata.as_ref().is_some_and(|m| m.name == name)) {
            c.set_state(v1::ContainerState::ContainerExited);
            c.exit_code = exit_code;
            c.finished_at = at;
            c.reason = if exit_code == 0 { "Completed" } else { "Error" }.to_owned();
        }
    }

    /// The sandbox dies, as after a reboot of the host.
    pub fn lose_sandboxes(&self) {
        for s in self.lock().sandboxes.values_mut() {
            s.set_state(v1::PodSandboxState::SandboxNotready);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn note(&self, call: impl Into<String>) {
        self.lock().calls.push(call.into());
    }

    fn name(&self, id: &str) -> String {
        self.lock().containers.get(id).and_then(|(_, c)| Some(c.metadata.as_ref()?.name.clone())).unwrap_or_default()
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn ok<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// The service with the methods that are written, and "unimplemented" for the others: as an old runtime answers.
macro_rules! service {
    ($trait:ident { $($written:item)* } else $($method:ident: $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl $trait for FakeRuntime {
            $($written)*
            $(async fn $method(&self, _: Request<v1::$request>) -> Answer<v1::$response> {
                Err(Status::unimplemented(stringify!($method)))
            })*
        }
    };
}

service! { RuntimeService {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        ok(v1::VersionResponse { runtime_name: "fake".into(), runtime_version: "1".into(), ..Default::default() })
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let condition = |kind: &str| v1::RuntimeCondition { r#type: kind.into(), status: true, ..Default::default() };
        let status = v1::RuntimeStatus { conditions: vec![condition("RuntimeReady"), condition("NetworkReady")] };
        ok(v1::StatusResponse { status: Some(status), ..Default::default() })
    }

    async fn run_pod_sandbox(&self, request: Request<v1::RunPodSandboxRequest>) -> Answer<v1::RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap_or_default();
        let attempt = config.metadata.as_ref().map_or(0, |m| m.attempt);
        self.note(format!("sandbox#{attempt}"));
        let mut state = self.lock();
        state.clock += 1;
        let id = format!("s{}", state.clock);
        let status = v1::PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: v1::PodSandboxState::SandboxReady.into(),
            created_at: now(),
            network: Some(v1::PodSandboxNetworkStatus { ip: "10.0.0.9".into(), ..Default::default() }),
            labels: config.labels,
            ..Default::default()
        };
        state.sandboxes.insert(id.clone(), status);
        ok(v1::RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(&self, request: Request<v1::StopPodSandboxRequest>) -> Answer<v1::StopPodSandboxResponse> {
        self.note("stop-sandbox");
        if let Some(s) = self.lock().sandboxes.get_mut(&request.into_inner().pod_sandbox_id) {
            s.set_state(v1::PodSandboxState::SandboxNotready);
        }
        ok(v1::StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(&self, request: Request<v1::RemovePodSandboxRequest>) -> Answer<v1::RemovePodSandboxResponse> {
        self.note("remove-sandbox");
        self.lock().sandboxes.remove(&request.into_inner().pod_sandbox_id);
        ok(v1::RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(&self, request: Request<v1::PodSandboxStatusRequest>) -> Answer<v1::PodSandboxStatusResponse> {
        match self.lock().sandboxes.get(&request.into_inner().pod_sandbox_id) {
            Some(s) => ok(v1::PodSandboxStatusResponse { status: Some(s.clone()), ..Default::default() }),
            None => Err(Status::not_found("no such sandbox")),
        }
    }

    async fn list_pod_sandbox(&self, _: Request<v1::ListPodSandboxRequest>) -> Answer<v1::ListPodSandboxResponse> {
        let state = self.lock();
        let items = state.sandboxes.values().map(|s| v1::PodSandbox {
            id: s.id.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            created_at: s.created_at,
            labels: s.labels.clone(),
            ..Default::default()
        });
        ok(v1::ListPodSandboxResponse { items: items.collect() })
    }

    async fn create_container(&self, request: Request<v1::CreateContainerRequest>) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config.unwrap_or_default();
        let name = config.metadata.as_ref().map(|m| format!("{}#{}", m.name, m.attempt)).unwrap_or_default();
        self.note(format!("create {name}"));
        let mut state = self.lock();
        state.clock += 1;
        let id = format!("c{}", state.clock);
        let status = v1::ContainerStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: v1::ContainerState::ContainerCreated.into(),
            created_at: now() + state.clock,
            image: config.image,
            labels: config.labels,
            annotations: config.annotations,
            ..Default::default()
        };
        state.containers.insert(id.clone(), (request.pod_sandbox_id, status));
        ok(v1::CreateContainerResponse { container_id: id })
    }

    async fn start_container(&self, request: Request<v1::StartContainerRequest>) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        self.note(format!("start {}", self.name(&id)));
        if let Some((_, c)) = self.lock().containers.get_mut(&id) {
            c.set_state(v1::ContainerState::ContainerRunning);
            c.started_at = now();
        }
        ok(v1::StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<v1::StopContainerRequest>) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        self.note(format!("stop {} {}s", self.name(&request.container_id), request.timeout));
        if let Some((_, c)) = self.lock().containers.get_mut(&request.container_id) {
            c.set_state(v1::ContainerState::ContainerExited);
            c.finished_at = now();
        }
        ok(v1::StopContainerResponse {})
    }

    async fn remove_container(&self, request: Request<v1::RemoveContainerRequest>) -> Answer<v1::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.note(format!("remove {}", self.name(&id)));
        self.lock().containers.remove(&id);
        ok(v1::RemoveContainerResponse {})
    }

    async fn list_containers(&self, _: Request<v1::ListContainersRequest>) -> Answer<v1::ListContainersResponse> {
        let state = self.lock();
        let containers = state.containers.values().map(|(sandbox, c)| v1::Container {
            id: c.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: c.metadata.clone(),
            state: c.state,
            created_at: c.created_at,
            labels: c.labels.clone(),
            ..Default::default()
        });
        ok(v1::ListContainersResponse { containers: containers.collect() })
    }

    async fn container_status(&self, request: Request<v1::ContainerStatusRequest>) -> Answer<v1::ContainerStatusResponse> {
        match self.lock().containers.get(&request.into_inner().container_id) {
            Some((_, c)) => ok(v1::ContainerStatusResponse { status: Some(c.clone()), ..Default::default() }),
            None => Err(Status::not_found("no such container")),
        }
    }

    type GetContainerEventsStream = tokio_stream::Empty<Result<v1::ContainerEventResponse, Status>>;

    async fn get_container_events(&self, _: Request<v1::GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        Err(Status::unimplemented("get_container_events"))
    }
} else
    update_container_resources: UpdateContainerResourcesRequest => UpdateContainerResourcesResponse;
    reopen_container_log: ReopenContainerLogRequest => ReopenContainerLogResponse;
    exec_sync: ExecSyncRequest => ExecSyncResponse;
    exec: ExecRequest => ExecResponse;
    attach: AttachRequest => AttachResponse;
    port_forward: PortForwardRequest => PortForwardResponse;
    container_stats: ContainerStatsRequest => ContainerStatsResponse;
    list_container_stats: ListContainerStatsRequest => ListContainerStatsResponse;
    pod_sandbox_stats: PodSandboxStatsRequest => PodSandboxStatsResponse;
    list_pod_sandbox_stats: ListPodSandboxStatsRequest => ListPodSandboxStatsResponse;
    update_runtime_config: UpdateRuntimeConfigRequest => UpdateRuntimeConfigResponse;
    checkpoint_container: CheckpointContainerRequest => CheckpointContainerResponse;
    list_metric_descriptors: ListMetricDescriptorsRequest => ListMetricDescriptorsResponse;
    list_pod_sandbox_metrics: ListPodSandboxMetricsRequest => ListPodSandboxMetricsResponse;
    runtime_config: RuntimeConfigRequest => RuntimeConfigResponse;
}

service! { ImageService {
    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        let state = self.lock();
        let images = state.images.iter().map(|i| v1::Image { id: i.clone(), repo_tags: vec![i.clone()], ..Default::default() });
        ok(v1::ListImagesResponse { images: images.collect() })
    }

    async fn image_status(&self, request: Request<v1::ImageStatusRequest>) -> Answer<v1::ImageStatusResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        let found = self.lock().images.contains(&name);
        let image = found.then(|| v1::Image { id: name, size: 1, ..Default::default() });
        ok(v1::ImageStatusResponse { image, ..Default::default() })
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        self.note(format!("pull {name}"));
        if name.contains("missing") {
            return Err(Status::not_found("no such image"));
        }
        self.add_image(&name);
        ok(v1::PullImageResponse { image_ref: name })
    }
} else
    remove_image: RemoveImageRequest => RemoveImageResponse;
    image_fs_info: ImageFsInfoRequest => ImageFsInfoResponse;
}
