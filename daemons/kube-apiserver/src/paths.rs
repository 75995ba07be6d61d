//! Everything that is not a resource: health, version, metrics, discovery, OpenAPI, the keys of service account tokens.

use std::sync::Arc;

use daemon::health::Endpoint;
use daemon::zpages::{self, Page};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::authn::user::User;
use crate::respond::accept::{Offer, Wire, negotiate};
use crate::respond::{self, Body};
use crate::server::Server;
use crate::{aggregation, discovery, endpoints, openapi};

/// The version of Kubernetes whose API this is.
pub const GIT_VERSION: &str = "v1.36.2";

pub async fn handle(
    server: &Arc<Server>,
    path: &str,
    user: &User,
    parts: &Parts,
    _now: Timestamp,
) -> Result<Response<Body>, Status> {
    let query = parts.uri.query().unwrap_or_default();
    if let Some(response) = health(server, path, query) {
        return Ok(response);
    }
    if let Some(name) = path.strip_prefix("/openapi/v3/")
        && endpoints::is_read(&parts.method)
        && let Some(answer) = aggregation::forward_document(server, name.trim_end_matches('/'), user, parts).await
    {
        return answer;
    }
    let known: Option<Result<Response<Body>, Status>> = match path.trim_end_matches('/') {
        "" => Some(Ok(json_body(&json!({"paths": discovery::paths(server)})))),
        "/version" => Some(Ok(json_body(&version()))),
        "/metrics" => Some(Ok(metrics(server))),
        "/flagz" => Some(zpage(server, Page::Flagz, parts)),
        "/statusz" => Some(zpage(server, Page::Statusz, parts)),
        "/openapi/v2" => Some(openapi::v2(server, parts)),
        "/openapi/v3" => Some(Ok(openapi::v3_index(server))),
        "/.well-known/openid-configuration" => Some(openid_configuration(server)),
        "/openid/v1/jwks" => Some(jwks(server)),
        "/api" | "/apis" => Some(discovery::root(server, path.trim_end_matches('/'), parts)),
        _ => None,
    };
    let answer = match known {
        Some(answer) => answer,
        None => document(server, path, parts),
    };
    if answer.is_ok() && !endpoints::is_read(&parts.method) {
        return Err(Status::method_not_served());
    }
    answer
}

/// The answer for a path that nothing serves: upstream's groups say it with a Status, everything else is a plain text.
pub fn nothing_at(server: &Server, path: &str) -> Result<Response<Body>, Status> {
    let mut segments = path.trim_matches('/').split('/');
    let in_group = match (segments.next(), segments.next(), segments.next()) {
        (Some("api" | "openapi"), Some(_), _) => true,
        (Some("apis"), Some(group), Some(_)) => {
            let registered = server.registry.all();
            registered.iter().any(|served| served.resource.group == group && served.custom().is_none())
        }
        _ => false,
    };
    if in_group {
        return Err(Status::no_such_path());
    }
    Ok(respond::text(StatusCode::NOT_FOUND, "404 page not found\n"))
}

/// Discovery of one group or version, or one OpenAPI v3 document.
fn document(server: &Server, path: &str, parts: &Parts) -> Result<Response<Body>, Status> {
    if let Some(name) = path.strip_prefix("/openapi/v3/") {
        return openapi::v3(server, name.trim_end_matches('/'), parts);
    }
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (value, protobuf) = match segments.as_slice() {
        // Lists of resources have no protobuf form in the table (their verbs are wrapped in a message of their own): every
        // client takes the JSON it is sent instead.
        ["api", version] => (discovery::resources(&server.registry, "", version), false),
        ["apis", group, version] => (discovery::resources(&server.registry, group, version), false),
        ["apis", group] => (discovery::group(server, group), true),
        _ => (None, true),
    };
    let Some(value) = value else { return nothing_at(server, path) };
    let query = parts.uri.query().unwrap_or_default();
    let wire = match negotiate(&parts.headers, query, Offer { protobuf, views: false, watch: false }) {
        Ok(accept) => accept.wire,
        Err(_) if !protobuf => Wire::Json,
        Err(status) => return Err(status),
    };
    Ok(respond::value(StatusCode::OK, wire, &value))
}

fn health(server: &Server, path: &str, query: &str) -> Option<Response<Body>> {
    let trimmed = path.trim_end_matches('/');
    let (endpoint, check) = match Endpoint::of(trimmed) {
        Some(endpoint) => (endpoint, None),
        None => {
            let (base, check) = trimmed.rsplit_once('/')?;
            (Endpoint::of(base)?, Some(check))
        }
    };
    let values =
        |name: &str| crate::request_info::query_pairs(query).filter(|(k, _)| k == name).map(|(_, v)| v).collect::<Vec<_>>();
    let verbose = crate::request_info::query_pairs(query).any(|(key, _)| key == "verbose");
    let report = server.checks.report(endpoint, verbose || check.is_some(), &values("exclude"));
    if let Some(check) = check {
        let line = report.text.lines().find(|line| line.get(3..).is_some_and(|rest| rest.split(' ').next() == Some(check)))?;
        let healthy = line.starts_with("[+]");
        let status = if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        return Some(respond::text(status, if healthy { "ok".to_owned() } else { line.to_owned() }));
    }
    let status = if report.healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    Some(respond::text(status, report.text))
}

/// `/flagz` or `/statusz`. A server among others in one process has its own start.
fn zpage(server: &Server, page: Page, parts: &Parts) -> Result<Response<Body>, Status> {
    let process = zpages::Process { started: server.started, ..zpages::process().clone() };
    let page = zpages::answer(page, &process, "apiserver", &discovery::paths(server), &parts.headers, (server.now)());
    page.map(|page| page.map(respond::full)).ok_or_else(|| Status::not_acceptable(&zpages::MEDIA_TYPES))
}

fn metrics(server: &Server) -> Response<Body> {
    // Counted when somebody asks: caches know how much they hold.
    for served in server.registry.all() {
        crate::metrics::stored(&served.store.group_resource, served.store.cache.size().objects);
    }
    let mut response = respond::text(StatusCode::OK, daemon::metrics::render());
    let value = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn json_body(value: &Value) -> Response<Body> {
    respond::value(StatusCode::OK, Wire::PrettyJson, value)
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "rust", "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

fn openid_configuration(server: &Server) -> Result<Response<Body>, Status> {
    let tokens = server.authenticator.service_accounts.as_ref().ok_or_else(Status::no_such_path)?;
    // A cluster whose issuer is no URL over which it could be asked has nothing to publish.
    let issuer = tokens.issuers.first().filter(|issuer| issuer.starts_with("https://")).ok_or_else(Status::no_such_path)?;
    let mut algorithms: Vec<&str> = tokens.keys.keys().iter().map(pki::PublicKey::algorithm).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let document = json!({"issuer": issuer, "jwks_uri": server.jwks_uri, "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": algorithms});
    Ok(published(&document, "application/json"))
}

fn jwks(server: &Server) -> Result<Response<Body>, Status> {
    let tokens = server.authenticator.service_accounts.as_ref().ok_or_else(Status::no_such_path)?;
    tokens.issuers.first().filter(|issuer| issuer.starts_with("https://")).ok_or_else(Status::no_such_path)?;
    Ok(published(&tokens.keys.jwks(), "application/jwk-set+json"))
}

/// What relying parties may keep for an hour.
fn published(document: &Value, content_type: &'static str) -> Response<Body> {
    let mut response = respond::value(StatusCode::OK, Wire::Json, document);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}
