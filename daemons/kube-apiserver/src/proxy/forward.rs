//! `pods/proxy`, `services/proxy`, `nodes/proxy`: plain HTTP through the server, upgrades included.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use machinery::status::Status;
use stream::{tunnel, upgrade};

use super::backend::{Backend, strip_connection};
use super::{Connect, target};
use crate::respond::{self, Body};
use crate::server::{KubeletAccess, Server};

pub(super) async fn serve(server: &Arc<Server>, connect: Connect) -> Result<Response<Body>, Status> {
    let path = &connect.path;
    let backend = match path.resource.as_str() {
        "pods" => target::pod(server, &path.namespace, &path.name).await?,
        "nodes" => target::node(server, &path.name).await?,
        _ => target::service(server, &path.namespace, &path.name, random()).await?,
    };
    let uri = &connect.parts.uri;
    let (prefix, rest) = split_path(uri.path());
    if rest.is_empty() && matches!(connect.parts.method, Method::GET | Method::HEAD) {
        // Relative links in what comes back need the slash.
        let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        let mut response = respond::text(StatusCode::MOVED_PERMANENTLY, "");
        if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        return Ok(response);
    }
    let target = target_uri(rest, uri.query())?;
    if upgrade::requested(&connect.parts.headers).is_some() {
        return upgraded(&server.kubelet, connect, backend, target).await;
    }
    let prefix = prefix.to_owned();
    let original = uri.clone();
    let mut request = Request::builder().method(connect.parts.method.clone()).uri(target);
    if let Some(headers) = request.headers_mut() {
        *headers = connect.parts.headers.clone();
        strip_connection(headers);
        headers.remove(header::HOST);
        forwarded(headers, &connect, &original);
    }
    let request = request.body(connect.body).map_err(Status::internal)?;
    let authority = backend.authority();
    match backend.send(&server.kubelet, request).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            strip_connection(&mut parts.headers);
            rewrite_location(&mut parts.headers, &prefix, &authority);
            Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
        }
        Err(error) => {
            let text = format!("error trying to reach service: {error}");
            Ok(respond::text(StatusCode::SERVICE_UNAVAILABLE, text))
        }
    }
}

/// Which endpoint of a service: spread, not secret.
fn random() -> usize {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as usize
}

/// Cuts a raw path behind `/proxy`: what comes before is ours, what follows is the backend's.
fn split_path(path: &str) -> (&str, &str) {
    // /api/v1/nodes/NAME/proxy, or /api/v1/namespaces/NS/RESOURCE/NAME/proxy.
    let segments = if path.starts_with("/api/v1/namespaces/") { 7 } else { 5 };
    let end = path.match_indices('/').nth(segments).map_or(path.len(), |(at, _)| at);
    path.split_at(end)
}

fn target_uri(rest: &str, query: Option<&str>) -> Result<Uri, Status> {
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let text = query.map_or(path.clone(), |q| format!("{path}?{q}"));
    let path: PathAndQuery = text.parse().map_err(|e| Status::bad_request(format!("invalid path: {e}")))?;
    Ok(Uri::from(path))
}

/// Tells the backend where the request came from.
fn forwarded(headers: &mut HeaderMap, connect: &Connect, original: &Uri) {
    if let Ok(uri) = HeaderValue::from_str(original.path()) {
        headers.insert("x-forwarded-uri", uri);
    }
    if let Some(host) = connect.parts.headers.get(header::HOST) {
        headers.insert("x-forwarded-host", host.clone());
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Some(peer) = connect.parts.extensions.get::<daemon::http::RemoteAddr>() {
        let before = headers.get("x-forwarded-for").and_then(|v| v.to_str().ok());
        let chain = before.map_or_else(|| peer.0.ip().to_string(), |b| format!("{b}, {}", peer.0.ip()));
        if let Ok(chain) = HeaderValue::from_str(&chain) {
            headers.insert("x-forwarded-for", chain);
        }
    }
}

/// A redirect within the backend stays within the proxy; one to elsewhere is the client's to judge.
fn rewrite_location(headers: &mut HeaderMap, prefix: &str, authority: &str) {
    let Some(location) = headers.get(header::LOCATION).and_then(|v| v.to_str().ok()) else { return };
    let Ok(uri) = location.parse::<Uri>() else { return };
    let elsewhere = uri.authority().is_some_and(|a| a.as_str() != authority);
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if elsewhere || !path.starts_with('/') {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{prefix}{path}")) {
        headers.insert(header::LOCATION, value);
    }
}

async fn upgraded(access: &KubeletAccess, connect: Connect, backend: Backend, target: Uri) -> Result<Response<Body>, Status> {
    let mut request = Request::builder().method(connect.parts.method.clone()).uri(target);
    if let Some(headers) = request.headers_mut() {
        *headers = connect.parts.headers.clone();
        headers.remove(header::AUTHORIZATION);
        headers.remove(header::HOST);
        forwarded(headers, &connect, &connect.parts.uri);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(Status::internal)?;
    let sent = backend.send(access, request).await;
    let mut answer = sent.map_err(|e| Status::internal(format!("error dialing backend: {e}")))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        if answer.status().as_u16() < 400 {
            let code = answer.status().as_u16();
            return Err(Status::internal(format!("invalid upgrade response: status code {code}")));
        }
        let (mut parts, body) = answer.into_parts();
        strip_connection(&mut parts.headers);
        return Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()));
    }
    let mut granted = Response::new(respond::full(""));
    *granted.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *granted.headers_mut() = answer.headers().clone();
    let client = hyper::upgrade::on(Request::from_parts(connect.parts, ()));
    let backend = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let Ok((client, backend)) = tokio::try_join!(client, backend) else { return };
        if let Err(error) = tunnel::pass_through(TokioIo::new(client), TokioIo::new(backend)).await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, want) in [
            ("/api/v1/namespaces/a/pods/p/proxy", ("/api/v1/namespaces/a/pods/p/proxy", "")),
            ("/api/v1/namespaces/a/pods/p:80/proxy/x%2Fy/proxy/z", ("/api/v1/namespaces/a/pods/p:80/proxy", "/x%2Fy/proxy/z")),
            ("/api/v1/namespaces/proxy/services/proxy/proxy/", ("/api/v1/namespaces/proxy/services/proxy/proxy", "/")),
            ("/api/v1/nodes/proxy/proxy/metrics", ("/api/v1/nodes/proxy/proxy", "/metrics")),
        ] {
            assert_eq!(split_path(path), want);
        }
        assert_eq!(target_uri("", None).unwrap(), "/");
        assert_eq!(target_uri("/a%20b", Some("c=d")).unwrap(), "/a%20b?c=d");
    }

    #[test]
    fn redirects_stay_inside() {
        for (location, want) in [
            ("/login?x=1", "/p/proxy/login?x=1"),
            ("http://10.0.0.1:80/a", "/p/proxy/a"),
            ("https://example.com/a", "https://example.com/a"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_static(location));
            rewrite_location(&mut headers, "/p/proxy", "10.0.0.1:80");
            assert_eq!(headers[header::LOCATION], want);
        }
    }
}
