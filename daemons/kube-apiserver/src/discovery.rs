//! Discovery: which groups, versions and resources there are, in the legacy documents and the aggregated one.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use machinery::status::Status;
use schema::{Resource, Subresource, Verb};
use serde_json::{Value, json};

use crate::aggregation::{self, Remote};
use crate::registry::{Registry, Served};
use crate::respond::accept::{Offer, negotiate};
use crate::respond::{self, Body};
use crate::server::Server;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A group with its versions, the preferred one first.
struct Group {
    name: String,
    versions: Vec<Version>,
}

struct Version {
    name: String,
    source: Source,
}

/// Who serves a version.
enum Source {
    Here(Vec<Arc<Served>>),
    Elsewhere(Arc<Remote>),
}

/// The group of APIServices themselves stands before all that they name, but for the core group.
const AGGREGATION_PRIORITY: (i64, i64) = (17900, 100);

impl Version {
    /// The priorities of its group, as far as this version says, and of itself.
    fn priorities(&self, group: &str) -> (i64, i64) {
        match &self.source {
            Source::Elsewhere(remote) => (remote.group_priority, remote.version_priority),
            Source::Here(_) if group == aggregation::GROUP => AGGREGATION_PRIORITY,
            Source::Here(_) => aggregation::local::priorities(group, &self.name),
        }
    }

    fn discovery(&self) -> Value {
        match &self.source {
            Source::Elsewhere(remote) => remote.discovery(),
            Source::Here(resources) => {
                let resources: Vec<Value> = resources.iter().map(|served| aggregated_resource(&served.resource)).collect();
                json!({"version": self.name, "resources": resources, "freshness": "Current"})
            }
        }
    }
}

/// All groups, by their priority and name: the core group first, those of custom resources last.
fn groups(server: &Server) -> Vec<Group> {
    let mut versions: BTreeMap<(String, String), Source> = BTreeMap::new();
    for served in server.registry.all() {
        let key = (served.resource.group.clone(), served.resource.version.clone());
        if let Source::Here(resources) = versions.entry(key).or_insert_with(|| Source::Here(Vec::new())) {
            resources.push(served);
        }
    }
    for remote in server.aggregation.all() {
        versions.insert((remote.group.clone(), remote.version.clone()), Source::Elsewhere(remote));
    }
    let mut groups: Vec<Group> = Vec::new();
    for ((group, name), mut source) in versions {
        if let Source::Here(resources) = &mut source {
            resources.sort_by(|a, b| a.resource.plural.cmp(&b.resource.plural));
        }
        let version = Version { name, source };
        match groups.iter_mut().find(|g| g.name == group) {
            Some(found) => found.versions.push(version),
            None => groups.push(Group { name: group, versions: vec![version] }),
        }
    }
    for group in &mut groups {
        let rank = |version: &Version| (version.priorities(&group.name).1, version_priority(&version.name));
        group.versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
    }
    let rank = |group: &Group| group.versions.iter().map(|version| version.priorities(&group.name).0).max().unwrap_or_default();
    groups.sort_by(|a, b| rank(b).cmp(&rank(a)).then_with(|| a.name.cmp(&b.name)));
    groups
}

/// v2 before v1 before v1beta2 before v1alpha1 before anything else.
pub fn version_priority(version: &str) -> (u8, u64, u64) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..digits].parse().ok()?;
        match &rest[digits..] {
            "" => Some((3, major, 0)),
            beta if beta.starts_with("beta") => Some((2, major, beta[4..].parse().ok()?)),
            alpha if alpha.starts_with("alpha") => Some((1, major, alpha[5..].parse().ok()?)),
            _ => None,
        }
    };
    parse().unwrap_or((0, 0, 0))
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The paths that `/` lists.
pub fn paths(server: &Server) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/flagz",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/statusz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for group in groups(server) {
        for version in &group.versions {
            if group.name.is_empty() {
                paths.push(format!("/api/{}", version.name));
            } else {
                paths.push(format!("/apis/{}", group.name));
                paths.push(format!("/apis/{}/{}", group.name, version.name));
            }
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

/// `/api` or `/apis`: aggregated for clients that understand it.
pub fn root(server: &Server, path: &str, parts: &Parts) -> Result<Response<Body>, Status> {
    let core = path == "/api";
    let accept = parts.headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    if wants_aggregated(&accept) {
        let list = aggregated(server, core);
        return Ok(with_etag(parts, &list, AGGREGATED));
    }
    let accept =
        negotiate(&parts.headers, parts.uri.query().unwrap_or_default(), Offer { protobuf: true, views: false, watch: false })?;
    let value = if core {
        let address = server.advertised.clone();
        json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
    } else {
        let groups: Vec<Value> = groups(server).iter().filter(|group| !group.name.is_empty()).map(legacy_group).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    };
    Ok(respond::value(StatusCode::OK, accept.wire, &value))
}

/// Whether the first thing the client wants in JSON is the aggregated document in a version that is served.
fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').map(str::trim).any(|clause| {
        let has = |text: &str| clause.split(';').any(|part| part.trim() == text);
        has("application/json") && has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
    })
}

/// The document with a hash of its content: clients keep it until it changes.
fn with_etag(parts: &Parts, value: &Value, content_type: &'static str) -> Response<Body> {
    // A Value has only string keys: it always serialises.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA512, &bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let etag = format!("\"{hex}\"");
    let known = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(&etag);
    let mut response = if known {
        respond::response(StatusCode::NOT_MODIFIED, content_type, respond::full(bytes::Bytes::new()))
    } else {
        respond::response(StatusCode::OK, content_type, respond::full(bytes))
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn legacy_group(group: &Group) -> Value {
    let version = |v: &Version| json!({"groupVersion": group_version(&group.name, &v.name), "version": v.name});
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

/// `/apis/GROUP`.
pub fn group(server: &Server, name: &str) -> Option<Value> {
    let groups = groups(server);
    let found = groups.iter().find(|group| group.name == name && !name.is_empty())?;
    let mut value = legacy_group(found);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut found: Vec<Arc<Served>> = registry.all();
    found.retain(|served| served.resource.group == group && served.resource.version == version);
    if found.is_empty() {
        return None;
    }
    found.sort_by(|a, b| a.resource.plural.cmp(&b.resource.plural));
    let mut list = Vec::new();
    for served in &found {
        let resource = &served.resource;
        list.push(legacy_resource(resource));
        list.extend(resource.subresources.iter().map(|sub| legacy_subresource(resource, sub)));
    }
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version), "resources": list}))
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

fn legacy_resource(resource: &Resource) -> Value {
    let mut value = json!({"name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": verbs(&resource.verbs)});
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    if resource.has_verb(Verb::List) {
        value["storageVersionHash"] = json!(storage_hash(resource));
    }
    value
}

fn legacy_subresource(resource: &Resource, sub: &Subresource) -> Value {
    let mut value = json!({"name": format!("{}/{}", resource.plural, sub.name), "singularName": "", "namespaced": resource.namespaced,
        "kind": sub.kind, "verbs": verbs(&sub.verbs)});
    if (sub.group.as_str(), sub.version.as_str()) != (resource.group.as_str(), resource.version.as_str()) {
        value["group"] = json!(sub.group);
        value["version"] = json!(sub.version);
    }
    value
}

/// Changes when objects are stored in another version.
fn storage_hash(resource: &Resource) -> String {
    use base64::Engine;
    let stored = crate::convert::stored_as(resource);
    let text = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

fn aggregated(server: &Server, core: bool) -> Value {
    let items: Vec<Value> = groups(server).iter().filter(|group| group.name.is_empty() == core).map(aggregated_group).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_group(group: &Group) -> Value {
    let versions: Vec<Value> = group.versions.iter().map(Version::discovery).collect();
    let mut metadata = json!({"creationTimestamp": null});
    if !group.name.is_empty() {
        metadata["name"] = json!(group.name);
    }
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(&resource.verbs),
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let subs: Vec<Value> = resource
            .subresources
            .iter()
            .map(|sub| json!({"subresource": sub.name, "responseKind": kind(&sub.group, &sub.version, &sub.kind), "verbs": verbs(&sub.verbs)}))
            .collect();
        value["subresources"] = json!(subs);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_order() {
        let mut versions = ["v1alpha1", "v1", "foo", "v2beta1", "v10", "v1beta2", "v2"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo"]);
    }

    #[test]
    fn who_wants_the_aggregated_document() {
        const KUBECTL: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert!(wants_aggregated(KUBECTL));
        assert!(!wants_aggregated("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"));
        assert!(!wants_aggregated("application/json"));
    }
}
