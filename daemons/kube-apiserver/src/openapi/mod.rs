//! OpenAPI documents, made on demand.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use machinery::status::Status;
use serde_json::{Map, Value, json};

use crate::respond::accept::Wire;
use crate::respond::{self, Body};
use crate::server::Server;

/// Without the `@` by which clients ask for it: Go's clients cannot parse that in a Content-Type.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// OpenAPI v2, in JSON or in the protobuf that older clients insist on. Made anew each time: it is asked for rarely, and large.
pub fn v2(_server: &Server, parts: &Parts) -> Result<Response<Body>, Status> {
    use schema::openapi::{v2, v2_proto};
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("proto-openapi.spec.v2") {
        return Ok(respond::response(StatusCode::OK, V2_PROTOBUF, respond::full(v2_proto())));
    }
    if accept.is_empty() || accept.contains("json") || accept.contains("*/*") {
        return Ok(respond::response(StatusCode::OK, "application/json", respond::full(v2())));
    }
    Err(Status::not_acceptable(&["application/json", V2_PROTOBUF]))
}

/// The index of v3 documents.
pub fn v3_index(server: &Server) -> Response<Body> {
    let mut paths = Map::new();
    for entry in schema::openapi::v3_index() {
        let url = format!("/openapi/v3/{}?hash={}", entry.path, entry.hash);
        paths.insert(entry.path, json!({"serverRelativeURL": url}));
    }
    for (path, document) in server.custom.openapi_documents() {
        let digest = ring::digest::digest(&ring::digest::SHA256, &document);
        let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.entry(path).or_insert(json!({"serverRelativeURL": url}));
    }
    respond::value(StatusCode::OK, Wire::Json, &json!({"paths": Value::Object(paths)}))
}

/// One v3 document: `api/v1`, `apis/GROUP/VERSION`.
pub fn v3(server: &Server, name: &str, parts: &Parts) -> Result<Response<Body>, Status> {
    let (group, version) = match name.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => (String::new(), (*version).to_owned()),
        ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return Err(Status::no_such_path()),
    };
    let custom = || server.custom.openapi_documents().into_iter().find(|(path, _)| path == name).map(|(_, document)| document);
    let document = schema::openapi::v3(&group, &version).map(Bytes::from).or_else(custom).ok_or_else(Status::no_such_path)?;
    let mut response = respond::response(StatusCode::OK, "application/json", respond::full(document));
    // A document that was asked for by its hash never changes.
    if parts.uri.query().is_some_and(|query| query.contains("hash=")) {
        let value = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    Ok(response)
}
