//! From what people name (a pod, a deployment, a service) to pods and containers.

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;
use tokio::time::Instant;

use crate::kube::{Error, Request, Result, Session, complete, globals::duration, select};

const RETRY_DELAY: Duration = Duration::from_millis(500);
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A container and what a terminal is connected with: the flags of `exec` and `attach`.
#[derive(Args, Clone, Debug)]
pub struct ContainerArgs {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD | TYPE/NAME", add = ArgValueCompleter::new(complete::pods))]
    pub pod: Option<String>,
    /// The container
    #[arg(short, long, add = ArgValueCompleter::new(complete::containers))]
    pub container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// With a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Say nothing beside the command's output
    #[arg(short, long)]
    pub quiet: bool,
    /// How long a pod of TYPE/NAME may take to be there
    #[arg(long, value_parser = duration, default_value = "1m")]
    pub pod_running_timeout: Duration,
}

impl ContainerArgs {
    /// # Errors
    /// `unnamed` when no pod is named; else when there is none.
    pub async fn pod(&self, session: &Session, unnamed: &str) -> Result<Value> {
        let word = self.pod.as_deref().ok_or_else(|| Error::message(unnamed))?;
        one_of(session, word, self.pod_running_timeout).await
    }

    /// The container that is named, else the pod's default.
    pub fn container(&self, pod: &Value) -> Result<String> {
        match &self.container {
            Some(container) => check_container(pod, container),
            None => default_container(pod),
        }
    }
}

/// Names of all containers, init containers first.
pub fn containers(pod: &Value) -> impl Iterator<Item = &str> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
        .filter_map(|container| container["name"].as_str())
}

/// The container that is meant when none is named; says so when there are several.
pub fn default_container(pod: &Value) -> Result<String> {
    if let Some(name) = machinery::meta::annotation(pod, DEFAULT_CONTAINER) {
        if containers(pod).any(|container| container == name) {
            return Ok(name.to_owned());
        }
        eprintln!("Default container name {name:?} not found in pod {}", machinery::meta::name(pod));
    }
    let names: Vec<&str> = ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten().map(move |container| (list, container)))
        .filter_map(|(_, container)| container["name"].as_str())
        .collect();
    let first = names.first().ok_or_else(|| Error::message(format!("pod {} has no containers", machinery::meta::name(pod))))?;
    if names.len() > 1 {
        let marked: Vec<String> = names.iter().map(|name| describe_container(pod, name)).collect();
        eprintln!("Defaulted container {first:?} out of: {}", marked.join(", "));
    }
    Ok((*first).to_owned())
}

fn describe_container(pod: &Value, name: &str) -> String {
    let is_in = |list: &str| pod["spec"][list].as_array().into_iter().flatten().any(|container| container["name"] == name);
    if is_in("initContainers") {
        format!("{name} (init)")
    } else if is_in("ephemeralContainers") {
        format!("{name} (ephem)")
    } else {
        name.to_owned()
    }
}

pub fn check_container(pod: &Value, name: &str) -> Result<String> {
    if containers(pod).any(|container| container == name) {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = containers(pod).collect();
    Err(Error::message(format!(
        "container {name} is not valid for pod {} out of: {}",
        machinery::meta::name(pod),
        names.join(", ")
    )))
}

pub async fn matching(session: &Session, namespace: &str, selector: &str) -> Result<Vec<Value>> {
    let request = Request::get(format!("/api/v1/namespaces/{namespace}/pods")).query("labelSelector", selector);
    Ok(select::list(session, request).await?.0)
}

/// Every pod of an object.
pub async fn all_of(session: &Session, word: &str) -> Result<Vec<Value>> {
    match object(session, word).await? {
        (kind, pod) if kind == "Pod" => Ok(vec![pod]),
        (kind, owner) => matching(session, machinery::meta::namespace(&owner), &selector(&kind, &owner)?).await,
    }
}

/// The pod itself, or the best of an object's pods. Waits for one to be there.
pub async fn one_of(session: &Session, word: &str, timeout: Duration) -> Result<Value> {
    let (kind, owner) = object(session, word).await?;
    if kind == "Pod" {
        return Ok(owner);
    }
    let selector = selector(&kind, &owner)?;
    let until = Instant::now() + timeout;
    loop {
        let mut pods = matching(session, machinery::meta::namespace(&owner), &selector).await?;
        pods.sort_by_key(rank);
        if let Some(pod) = pods.first() {
            if pods.len() > 1 {
                eprintln!("Found {} pods, using pod/{}", pods.len(), machinery::meta::name(pod));
            }
            return Ok(pod.clone());
        }
        if Instant::now() >= until {
            return Err(Error::message("timed out waiting for the condition"));
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Pods that are likely to have something to say come first: assigned, running, ready, and young.
fn rank(pod: &Value) -> (bool, u8, bool, std::cmp::Reverse<String>) {
    let unassigned = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let phase = match pod["status"]["phase"].as_str() {
        Some("Running") => 0,
        Some("Unknown") => 1,
        Some("Pending") => 2,
        _ => 3,
    };
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let created = pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    (unassigned, phase, !ready, std::cmp::Reverse(created))
}

async fn object(session: &Session, word: &str) -> Result<(String, Value)> {
    let (kind, name) = word.split_once('/').unwrap_or(("pods", word));
    let resource = session.resource(kind).await?;
    let object = session.json(Request::get(resource.path(&session.namespace, Some(name)))).await?;
    Ok((resource.kind, object))
}

/// The selector of an object's pods.
fn selector(kind: &str, object: &Value) -> Result<String> {
    let selector = &object["spec"]["selector"];
    let labels = match kind {
        "Service" | "ReplicationController" => selector,
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => {
            let parsed = machinery::selector::LabelSelector::from_label_selector(selector)
                .map_err(|error| Error::message(error.to_string()))?;
            return Ok(parsed.to_string());
        }
        _ => return Err(Error::message(format!("selector for {kind} not implemented"))),
    };
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        return Err(Error::message(format!(
            "invalid service '{}': Service is defined without a selector",
            machinery::meta::name(object)
        )));
    }
    Ok(pairs.join(","))
}
