//! Where a check works: a namespace, and what is asked of the API there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::Client;
use http::Method;
use serde_json::{Value, json};

const WAIT_MAX: Duration = Duration::from_secs(90);
const ASK_INTERVAL: Duration = Duration::from_millis(200);
const SHOWN_BYTES: usize = 1500;

pub struct Bed {
    pub client: Client,
    pub namespace: String,
}

impl Bed {
    /// With a namespace in which pods can be created.
    pub async fn new(client: Client, name: &str) -> Result<Self> {
        let bed = Self { client, namespace: format!("interchange-{name}") };
        bed.post("/api/v1/namespaces", json!({"metadata": {"name": bed.namespace}})).await?;
        bed.until(&bed.path("v1", "serviceaccounts", "default"), "is there", |_| true).await?;
        Ok(bed)
    }

    /// The path of a resource in the namespace; `name` may be empty or go on with a subresource.
    pub fn path(&self, group_version: &str, plural: &str, name: &str) -> String {
        let root = if group_version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{group_version}/namespaces/{}/{plural}/{name}", self.namespace).trim_end_matches('/').to_owned()
    }

    pub async fn post(&self, path: &str, object: Value) -> Result<Value> {
        self.client.post_value(path, &object).await.with_context(|| format!("POST {path}"))
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.client.get_value(path).await.with_context(|| format!("GET {path}"))
    }

    pub async fn items(&self, path: &str) -> Result<Vec<Value>> {
        Ok(self.get(path).await?["items"].as_array().cloned().unwrap_or_default())
    }

    /// A merge patch.
    pub async fn merge(&self, path: &str, patch: Value) -> Result<()> {
        let body = ("application/merge-patch+json", patch.to_string().into());
        self.client.call(Method::PATCH, path, Some(body)).await.with_context(|| format!("PATCH {path}"))?;
        Ok(())
    }

    pub async fn put(&self, path: &str, object: &Value) -> Result<()> {
        let body = ("application/json", object.to_string().into());
        self.client.call(Method::PUT, path, Some(body)).await.with_context(|| format!("PUT {path}"))?;
        Ok(())
    }

    pub async fn delete(&self, path: &str, propagation: &str) -> Result<()> {
        let body = ("application/json", json!({"propagationPolicy": propagation}).to_string().into());
        self.client.call(Method::DELETE, path, Some(body)).await.with_context(|| format!("DELETE {path}"))?;
        Ok(())
    }

    /// Waits until what is at the path is as wanted.
    pub async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let last = self.get(path).await;
            match last {
                Ok(value) if wanted(&value) => return Ok(value),
                _ if Instant::now() < deadline => tokio::time::sleep(ASK_INTERVAL).await,
                Ok(value) => bail!("{path} {what}: not within {} s: {}", WAIT_MAX.as_secs(), shown(&value)),
                Err(error) => return Err(error.context(what.to_owned())),
            }
        }
    }

    /// Waits until there is nothing at the path.
    pub async fn gone(&self, path: &str) -> Result<()> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            match self.client.get_value(path).await {
                Err(error) if error.is_not_found() => return Ok(()),
                _ if Instant::now() < deadline => tokio::time::sleep(ASK_INTERVAL).await,
                Ok(value) => bail!("{path} is still there after {} s: {}", WAIT_MAX.as_secs(), shown(&value)),
                Err(error) => return Err(error).with_context(|| path.to_owned()),
            }
        }
    }
}

/// An object without what nobody reads in a failure.
fn shown(value: &Value) -> String {
    let mut value = value.clone();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    let mut text = value.to_string();
    if text.len() > SHOWN_BYTES {
        let end = text.floor_char_boundary(SHOWN_BYTES);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Whether an object's status has that condition.
pub fn condition(object: &Value, kind: &str, status: &str) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind && condition["status"] == status)
}

/// Whether the controller has seen the last change of the spec.
pub fn observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// A template of pods with one container.
pub fn template(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}, "spec": pod_spec()})
}

pub fn pod_spec() -> Value {
    json!({"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10"}]})
}

/// A Deployment of pods labelled `app: NAME`.
pub fn deployment(name: &str, replicas: u32) -> Value {
    let labels = json!({"app": name});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template(labels.clone())});
    json!({"metadata": {"name": name}, "spec": spec})
}
