//! Asks the APIs of metrics, which aggregated servers answer.

use api::autoscaling::{CrossVersionObjectReference, MetricIdentifier};
use client::{Client, Error};
use machinery::selector::LabelSelector;
use serde_json::Value;

use super::replicas::Samples;
use super::sample;
use crate::discovery::Resources;
use crate::selector;

/// One autoscaler's view of the metrics in its namespace.
pub(super) struct Metrics<'a> {
    pub(super) client: &'a Client,
    pub(super) resources: &'a Resources,
    pub(super) namespace: &'a str,
    /// Of the target's pods.
    pub(super) pods: &'a str,
}

impl Metrics<'_> {
    pub(super) async fn resource(&self, name: &str, container: Option<&str>) -> Result<Samples, String> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods?labelSelector={}", self.namespace, escape(self.pods));
        let list = self.get(&path, "resource", "get pods.metrics.k8s.io").await?;
        sample::of_resource(&list, name, container)
    }

    pub(super) async fn pods(&self, metric: &MetricIdentifier) -> Result<Samples, String> {
        let path = self.custom("pods/*", metric)?;
        sample::of_pods(&self.get(&format!("{path}&labelSelector={}", escape(self.pods)), "custom", "get pods").await?)
    }

    pub(super) async fn object(&self, object: &CrossVersionObjectReference, metric: &MetricIdentifier) -> Result<i64, String> {
        let version = object.api_version.as_deref().unwrap_or_default();
        let path = if (version, object.kind.as_str()) == ("v1", "Namespace") {
            self.custom("metrics", metric)?
        } else {
            let found = self.resources.by_kind(version, &object.kind);
            let found = found.ok_or_else(|| format!("no matches for kind {:?} in version {version:?}", object.kind))?;
            let resource =
                if found.group.is_empty() { found.plural.clone() } else { format!("{}.{}", found.plural, found.group) };
            self.custom(&format!("{resource}/{}", escape(&object.name)), metric)?
        };
        sample::of_object(&self.get(&path, "custom", "get").await?)
    }

    pub(super) async fn external(&self, metric: &MetricIdentifier) -> Result<i64, String> {
        let labels = labels(metric)?;
        let (namespace, name) = (self.namespace, escape(&metric.name));
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{name}?labelSelector={labels}");
        sample::of_external(&self.get(&path, "external", "get").await?)
    }

    fn custom(&self, of: &str, metric: &MetricIdentifier) -> Result<String, String> {
        let (namespace, name, labels) = (self.namespace, escape(&metric.name), labels(metric)?);
        let base = "/apis/custom.metrics.k8s.io/v1beta2/namespaces";
        Ok(format!("{base}/{namespace}/{of}/{name}?metricLabelSelector={labels}"))
    }

    async fn get(&self, path: &str, which: &str, what: &str) -> Result<Value, String> {
        self.client
            .get_value(path)
            .await
            .map_err(|error| format!("unable to fetch metrics from {which} metrics API: {}", why(&error, what)))
    }
}

/// A server without the API answers as Go's client tells it.
fn why(error: &Error, what: &str) -> String {
    if error.is_not_found() { format!("the server could not find the requested resource ({what})") } else { error.to_string() }
}

fn labels(metric: &MetricIdentifier) -> Result<String, String> {
    let compiled = match &metric.selector {
        None => LabelSelector::everything(),
        Some(labels) => selector::compile(labels).map_err(|e| e.to_string())?,
    };
    Ok(escape(&compiled.to_string()))
}

/// Percent-encodes all but the unreserved characters.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_path() {
        assert_eq!(escape("app in (a,b)"), "app%20in%20%28a%2Cb%29");
        let metric = |value: serde_json::Value| serde_json::from_value::<MetricIdentifier>(value).unwrap();
        assert_eq!(labels(&metric(serde_json::json!({"name": "q"}))).unwrap(), "");
        let one = metric(serde_json::json!({"name": "q", "selector": {"matchLabels": {"a": "b"}}}));
        assert_eq!(labels(&one).unwrap(), "a%3Db");
    }
}
