//! What the server on 10250 asks of the rest of the kubelet.

use std::path::PathBuf;
use std::sync::Arc;

use api::Kind as _;
use api::core::Pod;
use cri::v1;
use futures::future::BoxFuture;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::agent::{Agent, Shown};
use crate::pod::spec;
use crate::runtime::view::{ContainerView, State};
use crate::server::{Backend, LogSource, Streams, Target};

pub struct Pods(pub Arc<Agent>);

impl Pods {
    fn find(&self, target: &Target) -> Result<(Arc<Pod>, Shown), Status> {
        let found = self.0.find(&target.namespace, &target.pod);
        // A mirror's uid in the API is another than the static pod's own.
        let found = found.filter(|(pod, _)| target.uid.is_empty() || pod.uid() == target.uid || spec::is_static(pod));
        found.ok_or_else(|| Status::not_found("pods", &target.pod))
    }

    fn running(&self, target: &Target) -> Result<ContainerView, Status> {
        let (_, shown) = self.find(target)?;
        let found = shown.view.container(&target.container).filter(|c| c.state == State::Running).cloned();
        found.ok_or_else(|| Status::internal(format!("container not found (\"{}\")", target.container)))
    }

    async fn tty(&self, target: &Target) -> bool {
        let Ok((pod, _)) = self.find(target) else { return false };
        spec::find_container(&pod, &target.container).is_some_and(|(_, c)| c.tty == Some(true))
    }
}

fn failed(error: crate::runtime::client::RuntimeError) -> Status {
    Status::internal(error.to_string())
}

impl Backend for Pods {
    fn pods(&self) -> Value {
        let items: Vec<Value> = self
            .0
            .pods()
            .into_iter()
            .map(|(pod, shown)| {
                let mut pod = (*pod).clone();
                pod.status = Some(shown.status);
                pod.to_value()
            })
            .collect();
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    }

    fn summary(&self) -> BoxFuture<'_, Value> {
        Box::pin(crate::stats::summary(&self.0))
    }

    fn resource_metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(crate::stats::resource_metrics(&self.0))
    }

    fn exec_url<'a>(
        &'a self,
        target: &'a Target,
        command: &'a [String],
        streams: &'a Streams,
    ) -> BoxFuture<'a, Result<String, Status>> {
        Box::pin(async move {
            let container = self.running(target)?;
            let request = v1::ExecRequest {
                container_id: container.id,
                cmd: command.to_vec(),
                tty: streams.tty,
                stdin: streams.stdin,
                stdout: streams.stdout,
                // A terminal has one output.
                stderr: streams.stderr && !streams.tty,
            };
            self.0.runtime.exec(request).await.map_err(failed)
        })
    }

    fn attach_url<'a>(&'a self, target: &'a Target, streams: &'a Streams) -> BoxFuture<'a, Result<String, Status>> {
        Box::pin(async move {
            let container = self.running(target)?;
            let tty = self.tty(target).await;
            let request = v1::AttachRequest {
                container_id: container.id,
                stdin: streams.stdin,
                tty,
                stdout: streams.stdout,
                stderr: streams.stderr && !tty,
            };
            self.0.runtime.attach(request).await.map_err(failed)
        })
    }

    fn port_forward_url<'a>(&'a self, target: &'a Target, ports: &'a [u16]) -> BoxFuture<'a, Result<String, Status>> {
        Box::pin(async move {
            let (_, shown) = self.find(target)?;
            let sandbox = shown.view.sandboxes.iter().find(|s| s.ready);
            let sandbox = sandbox.ok_or_else(|| Status::internal(format!("pod {} has no sandbox that is ready", target.pod)))?;
            let request = v1::PortForwardRequest {
                pod_sandbox_id: sandbox.id.clone(),
                port: ports.iter().map(|p| i32::from(*p)).collect(),
            };
            self.0.runtime.port_forward(request).await.map_err(failed)
        })
    }

    fn log_source(&self, target: &Target, previous: bool) -> Result<LogSource, Status> {
        let (pod, shown) = self.find(target)?;
        let name = target.container.as_str();
        if spec::find_container(&pod, name).is_none() {
            return Err(Status::bad_request(format!("container {name} is not valid for pod {}", target.pod)));
        }
        let runs: Vec<&ContainerView> = shown.view.containers.iter().filter(|c| c.name == name).collect();
        let begun = |c: &&&ContainerView| matches!(c.state, State::Running | State::Exited);
        let found = if previous {
            // The one before the present one, or the present one's end when it waits to be started again.
            let dead = runs.iter().filter(|c| c.state == State::Exited);
            let waits = runs.first().is_some_and(|c| c.state != State::Running);
            dead.clone().nth(usize::from(waits)).or_else(|| dead.clone().next())
        } else {
            runs.iter().find(begun)
        };
        let Some(c) = found else {
            if previous {
                return Err(Status::bad_request(format!(
                    "previous terminated container \"{name}\" in pod \"{}\" not found",
                    target.pod
                )));
            }
            let reason = waiting_reason(&shown, name);
            return Err(Status::bad_request(format!(
                "container \"{name}\" in pod \"{}\" is waiting to start: {reason}",
                target.pod
            )));
        };
        Ok(LogSource { path: PathBuf::from(&c.log_path), container_id: c.id.clone() })
    }

    fn is_running(&self, container_id: &str) -> bool {
        self.0.pods().iter().any(|(_, shown)| shown.view.running().any(|c| c.id == container_id))
    }
}

fn waiting_reason(shown: &Shown, name: &str) -> String {
    let status = &shown.status;
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let found = lists.into_iter().flatten().flatten().find(|s| s.name == name);
    let waiting = found.and_then(|s| s.state.as_ref()?.waiting.as_ref());
    match waiting {
        Some(w) => {
            let reason = w.reason.clone().unwrap_or_default();
            match reason.as_str() {
                "ErrImagePull" => "image can't be pulled".to_owned(),
                "ImagePullBackOff" => "trying and failing to pull image".to_owned(),
                _ => reason,
            }
        }
        None => "ContainerCreating".to_owned(),
    }
}

impl crate::gc::Pods for Pods {
    fn uids(&self) -> std::collections::BTreeSet<String> {
        self.0.pods().iter().map(|(pod, _)| pod.uid().to_owned()).collect()
    }

    fn images(&self) -> std::collections::BTreeSet<String> {
        let pods = self.0.pods();
        pods.iter()
            .flat_map(|(pod, _)| spec::containers(pod).into_iter().filter_map(|(_, c)| c.image.clone()).collect::<Vec<_>>())
            .collect()
    }

    fn running_logs(&self) -> Vec<(String, PathBuf)> {
        let pods = self.0.pods();
        pods.iter()
            .flat_map(|(_, s)| s.view.running().map(|c| (c.id.clone(), PathBuf::from(&c.log_path))).collect::<Vec<_>>())
            .collect()
    }
}
