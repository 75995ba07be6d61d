//! OpenAPI documents, made on demand.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use machinery::status::Status;
use schema::openapi::{self, CustomVersion};
use serde_json::{Map, Value, json};

use crate::registry::{Registry, Served};
use crate::respond::accept::Wire;
use crate::respond::{self, Body};
use crate::server::Server;

/// Without the `@` by which clients ask for it: Go's clients cannot parse that in a Content-Type.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The custom resources that are served, by group, version and name.
fn custom_resources(registry: &Registry) -> Vec<Arc<Served>> {
    let mut customs: Vec<Arc<Served>> = registry.all().into_iter().filter(|served| served.custom().is_some()).collect();
    let key = |served: &Served| {
        let resource = &served.resource;
        (resource.group.clone(), resource.version.clone(), resource.plural.clone())
    };
    customs.sort_by_cached_key(|served| key(served));
    customs
}

fn described(customs: &[Arc<Served>]) -> Vec<CustomVersion<'_>> {
    customs.iter().filter_map(|served| Some(served.custom()?.described(&served.resource))).collect()
}

/// Changes with anything that documents of these resources show.
fn hash(customs: &[Arc<Served>]) -> String {
    let mut hasher = DefaultHasher::new();
    for served in customs {
        let resource = &served.resource;
        for text in [&resource.group, &resource.version, &resource.plural, &resource.kind, &resource.list_kind] {
            hasher.write(text.as_bytes());
            hasher.write_u8(0);
        }
        hasher.write_u8(u8::from(resource.namespaced));
        hasher.write_usize(resource.subresources.len());
        hasher.write_u64(served.custom().map_or(0, |custom| custom.fingerprint()));
    }
    format!("{:016X}{:016X}", openapi::table_hash(), hasher.finish())
}

/// OpenAPI v2, in JSON or in the protobuf that older clients insist on. Made anew each time: it is asked for rarely, and large;
/// who has it already is told so.
pub fn v2(server: &Server, parts: &Parts) -> Result<Response<Body>, Status> {
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let protobuf = accept.contains("proto-openapi.spec.v2");
    if !protobuf && !accept.is_empty() && !accept.contains("json") && !accept.contains("*/*") {
        return Err(Status::not_acceptable(&["application/json", V2_PROTOBUF]));
    }
    let customs = custom_resources(&server.registry);
    let remotes = server.aggregation.all();
    let serving = &server.registry.serving;
    let mut built_in = DefaultHasher::new();
    serving.hash(&mut built_in);
    let own = format!("{}{:016X}", hash(&customs), built_in.finish());
    let etag = format!("\"{own}{}\"", remotes.iter().filter_map(|remote| remote.part_hash()).collect::<String>());
    let content_type = if protobuf { V2_PROTOBUF } else { "application/json" };
    let known = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(&etag);
    let mut response = if known {
        respond::response(StatusCode::NOT_MODIFIED, content_type, respond::full(Bytes::new()))
    } else {
        let described = described(&customs);
        let others: Vec<openapi::Part> = remotes.iter().filter_map(|remote| remote.part()).collect();
        let make = if protobuf { openapi::v2_proto } else { openapi::v2 };
        let document = make(serving, &described, &others);
        respond::response(StatusCode::OK, content_type, respond::full(document))
    };
    set(&mut response, header::ETAG, &etag);
    set(&mut response, header::VARY, "Accept");
    Ok(response)
}

fn set(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The v3 documents there are, with the hash of each.
fn v3_hashes(server: &Server) -> BTreeMap<String, String> {
    let mut by_version: BTreeMap<String, Vec<Arc<Served>>> = BTreeMap::new();
    for served in custom_resources(&server.registry) {
        let path = format!("apis/{}/{}", served.resource.group, served.resource.version);
        by_version.entry(path).or_default().push(served);
    }
    let customs = by_version.into_iter().map(|(path, customs)| (path, hash(&customs)));
    let builtin = openapi::v3_index(&server.registry.serving).into_iter().map(|entry| (entry.path, entry.hash));
    customs.chain(builtin).collect()
}

/// The index of v3 documents.
pub fn v3_index(server: &Server) -> Response<Body> {
    let paths: Map<String, Value> = v3_hashes(server)
        .into_iter()
        .map(|(path, hash)| {
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({"serverRelativeURL": url}))
        })
        .chain(
            server
                .aggregation
                .all()
                .iter()
                .filter_map(|remote| remote.document_url())
                .map(|(path, url)| (path, json!({"serverRelativeURL": url}))),
        )
        .collect();
    respond::value(StatusCode::OK, Wire::Json, &json!({"paths": paths}))
}

/// One v3 document: `api/v1`, `apis/GROUP/VERSION`.
pub fn v3(server: &Server, name: &str, parts: &Parts) -> Result<Response<Body>, Status> {
    let (group, version) = match name.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => (String::new(), (*version).to_owned()),
        ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return Err(Status::no_such_path()),
    };
    let customs = || {
        let all = custom_resources(&server.registry).into_iter();
        let customs: Vec<_> = all.filter(|s| s.resource.group == group && s.resource.version == version).collect();
        (!customs.is_empty()).then(|| openapi::v3_custom(&described(&customs)))
    };
    let hash = v3_hashes(server).remove(name).ok_or_else(Status::no_such_path)?;
    let asked = parts.uri.query().and_then(|query| crate::request_info::query_value(query, "hash"));
    if asked.as_ref().is_some_and(|asked| *asked != hash) {
        // The client's index is an old one.
        let mut response = respond::response(StatusCode::MOVED_PERMANENTLY, "text/plain", respond::full(Bytes::new()));
        set(&mut response, header::LOCATION, &format!("/openapi/v3/{name}?hash={hash}"));
        return Ok(response);
    }
    let document = openapi::v3(&server.registry.serving, &group, &version).or_else(customs).ok_or_else(Status::no_such_path)?;
    let mut response = respond::response(StatusCode::OK, "application/json", respond::full(document));
    set(&mut response, header::ETAG, &format!("\"{hash}\""));
    // A document that was asked for by its hash never changes.
    if asked.is_some() {
        set(&mut response, header::CACHE_CONTROL, "public, immutable");
    }
    Ok(response)
}
