//! `kctl attach`, and what `kctl run -it` does once the pod runs.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use stream::remotecommand::Options;

use super::{
    detach::{self, DetachKeys},
    pods::ContainerArgs,
    stream as terminal,
};
use crate::kube::{Error, Request, Result, Session, watch::Watch};

/// Attaches to the process of a container
#[derive(Args, Clone, Debug)]
pub struct AttachArgs {
    #[command(flatten)]
    target: ContainerArgs,
    /// Keys that end the session and leave the process as it is
    #[arg(long, value_name = "KEYS", default_value = detach::DEFAULT)]
    detach_keys: String,
}

pub async fn run(args: AttachArgs, session: &Session) -> Result<()> {
    let ContainerArgs { stdin, tty, quiet, .. } = args.target;
    let detach = DetachKeys::parse(&args.detach_keys)?;
    let pod = args.target.pod(session, "at least 1 argument is required for attach").await?;
    let container = args.target.container(&pod)?;
    let streams = Streams { stdin, tty, quiet, detach };
    attach(session, &pod, &container, streams).await.map(drop)
}

async fn attach(session: &Session, pod: &Value, container: &str, streams: Streams) -> Result<u8> {
    let Streams { stdin, tty, quiet, detach } = streams;
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let spec = lists.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten()).find(|c| c["name"] == container);
    let has_terminal = spec.is_some_and(|container| container["tty"] == true);
    if tty && !has_terminal && !quiet {
        eprintln!("error: Unable to use a TTY - container {container} did not allocate one");
    }
    let options = Options { stdin, stdout: true, stderr: !has_terminal, tty: has_terminal && terminal::terminal(tty, stdin) };
    let (namespace, name) = (machinery::meta::namespace(pod), machinery::meta::name(pod));
    let request = Request::get(format!("/api/v1/namespaces/{namespace}/pods/{name}/attach")).query("container", container);
    let command = terminal::start(session, request, options).await?;
    if !quiet && options.stdin && options.tty {
        eprintln!("If you don't see a command prompt, try pressing enter.");
    }
    terminal::connect(command, options, (options.stdin && options.tty).then_some(detach)).await
}

/// What a terminal is connected with.
#[derive(Clone, Debug)]
pub struct Streams {
    pub stdin: bool,
    pub tty: bool,
    pub quiet: bool,
    pub detach: DetachKeys,
}

/// Waits for a container to run and attaches to it. One that is over already has left its output in the log.
pub async fn to_container(
    session: &Session,
    namespace: &str,
    name: &str,
    container: &str,
    streams: Streams,
    timeout: Duration,
) -> Result<u8> {
    let state = |pod: &Value, state: &str| {
        let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
        let mut all = lists.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
        all.any(|status| status["name"] == container && !status["state"][state].is_null())
    };
    let begun = |pod: &Value| state(pod, "running") || state(pod, "terminated");
    let pod = tokio::time::timeout(timeout, until(session, namespace, name, begun))
        .await
        .map_err(|_| Error::message("timed out waiting for the condition"))??;
    if state(&pod, "terminated") {
        follow_log(session, namespace, name, container).await?;
        return Ok(0);
    }
    attach(session, &pod, container, streams).await
}

async fn follow_log(session: &Session, namespace: &str, name: &str, container: &str) -> Result<()> {
    let request = Request::get(format!("/api/v1/namespaces/{namespace}/pods/{name}/log"))
        .query("container", container)
        .query("follow", true);
    let mut log = session.send(request.endless()).await?;
    while let Some(chunk) = log.chunk().await.map_err(|error| session.transport(&error))? {
        print!("{}", String::from_utf8_lossy(&chunk));
    }
    Ok(())
}

/// Waits for a new pod and attaches to it; returns the exit code of its container. A pod that is over already has left
/// its output in the log.
pub async fn to_new_pod(session: &Session, namespace: &str, name: &str, streams: Streams, timeout: Duration) -> Result<u8> {
    let started = |pod: &Value| {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        let running = |status: &Value| !status["state"]["running"].is_null();
        phase == "Succeeded"
            || phase == "Failed"
            || phase == "Running" && pod["status"]["containerStatuses"].as_array().into_iter().flatten().any(running)
    };
    let pod = tokio::time::timeout(timeout, until(session, namespace, name, started))
        .await
        .map_err(|_| Error::message("timed out waiting for the condition"))??;
    let container = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default().to_owned();
    let quiet = streams.quiet;
    let attached = if pod["status"]["phase"] == "Running" {
        attach(session, &pod, &container, streams).await
    } else {
        Err(Error::message("the container is over already"))
    };
    if let Err(error) = attached {
        if !quiet {
            eprintln!(
                "warning: couldn't attach to pod/{name}, falling back to streaming logs: {}",
                error.text().trim_start_matches("error: ")
            );
        }
        follow_log(session, namespace, name, &container).await?;
    }
    if pod["spec"]["restartPolicy"] != "Never" {
        if !quiet {
            println!("Session ended, resume using 'kctl attach {name} -c {container} -i -t' command when the pod is running");
        }
        return Ok(0);
    }
    let over = |pod: &Value| ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase);
    let pod = until(session, namespace, name, over).await?;
    let mut statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let status = statuses.find(|status| status["name"] == container.as_str());
    let code = status.and_then(|status| status["state"]["terminated"]["exitCode"].as_i64()).unwrap_or(0);
    if code != 0 && !quiet {
        eprintln!("pod {namespace}/{name} terminated (Error)");
    }
    Ok(u8::try_from(code & 0xff).unwrap_or(1))
}

/// Watches a pod until it is as wanted.
async fn until(session: &Session, namespace: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    loop {
        let request =
            Request::get(format!("/api/v1/namespaces/{namespace}/pods")).query("fieldSelector", format!("metadata.name={name}"));
        let list = session.json(request.clone()).await?;
        let pod = list["items"].get(0).ok_or_else(|| Error::message(format!("pod {name} was deleted")))?;
        if wanted(pod) {
            return Ok(pod.clone());
        }
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let mut watch = Watch::open(session, request, revision).await?;
        while let Some(event) = watch.next().await? {
            match event.kind.as_str() {
                "DELETED" => return Err(Error::message(format!("pod {name} was deleted"))),
                "BOOKMARK" => {}
                _ if wanted(&event.object) => return Ok(event.object),
                _ => {}
            }
        }
    }
}
