//! Another server, as its APIService describes it and as it described itself. Pure.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use rustls::ClientConfig;
use schema::openapi::Part;
use serde_json::{Value, json};

/// A group and version that another server serves.
#[derive(Clone)]
pub struct Remote {
    /// The APIService's.
    pub name: String,
    pub group: String,
    pub version: String,
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    pub(super) ca_bundle: Vec<u8>,
    pub(super) unverified: bool,
    pub group_priority: i64,
    pub version_priority: i64,
    pub available: bool,
    /// Its `APIResourceList`, when it was last asked.
    pub(super) resources: Value,
    /// The hash by which its OpenAPI v3 document is asked for; empty when it has none.
    pub(super) document_hash: String,
    /// What it describes in OpenAPI v2, filtered; empty when it describes nothing.
    pub(super) described: Bytes,
    /// How connections to it are secured; made once, so that sessions are resumed.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Remote {
    /// Reads an APIService; none when this server serves it.
    pub(super) fn read(object: &Value) -> Option<Self> {
        let spec = &object["spec"];
        let service = &spec["service"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ca_bundle = spec["caBundle"].as_str().map(|text| base64::engine::general_purpose::STANDARD.decode(text));
        service.is_object().then(|| Self {
            name: machinery::meta::name(object).to_owned(),
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            namespace: text(&service["namespace"]),
            service: text(&service["name"]),
            port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            ca_bundle: ca_bundle.and_then(Result::ok).unwrap_or_default(),
            unverified: spec["insecureSkipTLSVerify"] == true,
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            available: false,
            resources: Value::Null,
            document_hash: String::new(),
            described: Bytes::new(),
            tls: None,
        })
    }

    /// Whether it is reached in the same way.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (&self.namespace, &self.service, self.port, &self.ca_bundle, self.unverified)
            == (&other.namespace, &other.service, other.port, &other.ca_bundle, other.unverified)
    }

    /// The name in its certificate.
    pub(super) fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// The path by which it must be found.
    pub(super) fn root(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }

    /// The path of its OpenAPI v3 document with the hash; none when it has none.
    pub fn document_url(&self) -> Option<(String, String)> {
        let path = format!("apis/{}/{}", self.group, self.version);
        (!self.document_hash.is_empty()).then(|| (path.clone(), format!("/openapi/v3/{path}?hash={}", self.document_hash)))
    }

    /// Takes over what the server said of itself.
    pub(super) fn remember(&mut self, known: &Self) {
        self.resources = known.resources.clone();
        self.document_hash = known.document_hash.clone();
        self.described = known.described.clone();
    }

    /// Keeps what counts of its OpenAPI v2 document.
    pub(super) fn describe(&mut self, document: &Value) {
        let part = Part::of(document, &format!("{}/", self.root()));
        // A Value has only string keys: it always serialises.
        self.described =
            if part.is_empty() { Bytes::new() } else { serde_json::to_vec(&part.to_value()).unwrap_or_default().into() };
    }

    /// Its part of the OpenAPI v2 document.
    pub fn part(&self) -> Option<Part> {
        (!self.described.is_empty()).then(|| Part::read(serde_json::from_slice(&self.described).unwrap_or_default()))
    }

    /// Changes with that part.
    pub fn part_hash(&self) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.described);
        (!self.described.is_empty()).then(|| format!("{:016X}", hasher.finish()))
    }

    /// The version as the aggregated discovery document has it.
    pub fn discovery(&self) -> Value {
        let freshness = if self.available { "Current" } else { "Stale" };
        let all = self.resources["resources"].as_array().map_or(&[][..], Vec::as_slice);
        let name = |resource: &Value| resource["name"].as_str().unwrap_or_default().to_owned();
        let resources: Vec<Value> = all
            .iter()
            .filter(|resource| !name(resource).contains('/'))
            .map(|resource| {
                let prefix = format!("{}/", name(resource));
                let subs = all.iter().filter(|sub| name(sub).starts_with(&prefix));
                self.resource(resource, subs.map(|sub| self.subresource(sub, &prefix)).collect())
            })
            .collect();
        json!({"version": self.version, "resources": resources, "freshness": freshness})
    }

    fn response_kind(&self, resource: &Value) -> Value {
        let or = |field: &str, own: &str| resource[field].as_str().filter(|text| !text.is_empty()).unwrap_or(own).to_owned();
        json!({"group": or("group", &self.group), "version": or("version", &self.version), "kind": resource["kind"]})
    }

    fn resource(&self, resource: &Value, subresources: Vec<Value>) -> Value {
        let mut shown = json!({
            "resource": resource["name"],
            "responseKind": self.response_kind(resource),
            "scope": if resource["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": resource["singularName"],
            "verbs": resource["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if resource[field].is_array() {
                shown[field] = resource[field].clone();
            }
        }
        if !subresources.is_empty() {
            shown["subresources"] = json!(subresources);
        }
        shown
    }

    fn subresource(&self, sub: &Value, prefix: &str) -> Value {
        let name = sub["name"].as_str().unwrap_or_default().trim_start_matches(prefix);
        json!({"subresource": name, "responseKind": self.response_kind(sub), "verbs": sub["verbs"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery() {
        let object = json!({"metadata": {"name": "v1.g.io"}, "spec": {"group": "g.io", "version": "v1",
            "service": {"namespace": "ns", "name": "s"}}});
        let mut remote = Remote::read(&object).unwrap();
        assert_eq!((remote.port, remote.server_name().as_str()), (443, "s.ns.svc"));
        remote.resources = json!({"resources": [
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"], "shortNames": ["t"]},
            {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["update"]},
        ]});
        let shown = remote.discovery();
        assert_eq!(shown["freshness"], "Stale");
        assert_eq!(shown["resources"][0]["subresources"][0]["subresource"], "status");
        assert_eq!(shown["resources"][0]["responseKind"], json!({"group": "g.io", "version": "v1", "kind": "Thing"}));
        assert_eq!(Remote::read(&json!({"spec": {"version": "v1"}})).map(|remote| remote.name), None);
    }
}
