//! `pods/log`: the kubelet's stream, as text or over a WebSocket.

use std::sync::Arc;

use futures::TryStreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use machinery::field::{FieldErrors, Path};
use machinery::status::Status;
use stream::tunnel::Framing;
use stream::upgrade::{self, Kind};

use super::backend::{self, Security};
use super::{Connect, target};
use crate::request_info::{query_flag, query_pairs, query_value};
use crate::respond::{self, Body};
use crate::server::Server;

pub(super) async fn serve(server: &Arc<Server>, connect: Connect) -> Result<Response<Body>, Status> {
    if connect.parts.method != Method::GET {
        return Err(Status::method_not_served());
    }
    let name = connect.path.name.clone();
    let query = options(connect.query()).map_err(|errors| Status::invalid("PodLogOptions", &name, errors))?;
    let pod = target::object(server, "pods", &connect.path.namespace, &name).await?;
    let wanted = query_value(connect.query(), "container").unwrap_or_default();
    let container = target::container(&pod, &wanted)?;
    let Some(mut kubelet) = target::kubelet_of(server, &pod).await? else {
        // Nothing has run yet: there is nothing to say.
        return Ok(respond::text(StatusCode::OK, ""));
    };
    if query_flag(connect.query(), "insecureSkipTLSVerifyBackend") {
        kubelet.security = Security::KubeletUnverified;
    }
    let uri = format!("/containerLogs/{}/{name}/{container}?{query}", connect.path.namespace);
    let request = Request::get(uri).body(Empty::<bytes::Bytes>::new()).map_err(Status::internal)?;
    let answer = kubelet.send(&server.kubelet, request).await.map_err(|e| {
        Status::internal(format!(
            "Get \"https://{}/containerLogs/{}/{name}/{container}\": {e}",
            kubelet.authority(),
            connect.path.namespace
        ))
    })?;
    if answer.status() != StatusCode::OK {
        return Err(backend::failure(answer).await);
    }
    let body = answer.into_body();
    if upgrade::requested(&connect.parts.headers) != Some(Kind::WebSocket) {
        return Ok(respond::response(StatusCode::OK, "text/plain", body.map_err(Into::into).boxed_unsync()));
    }
    let (framing, protocol) = Framing::negotiate(&upgrade::websocket_protocols(&connect.parts.headers)).ok_or_else(|| {
        Status::bad_request("requested protocol(s) are not supported; supports binary.k8s.io, base64.binary.k8s.io")
    })?;
    let granted = upgrade::grant_websocket(&connect.parts.headers, protocol)
        .ok_or_else(|| Status::bad_request("the request is not a WebSocket handshake"))?;
    let upgraded = hyper::upgrade::on(Request::from_parts(connect.parts, ()));
    tokio::spawn(async move {
        let Ok(client) = upgraded.await else { return };
        let frames = body.into_data_stream().map_err(std::io::Error::other);
        let text = tokio_util::io::StreamReader::new(frames);
        if let Err(error) = stream::tunnel::send_all(TokioIo::new(client), text, framing).await {
            tracing::debug!(%error, "a log over WebSocket ended");
        }
    });
    Ok(granted.map(|()| respond::full("")))
}

/// The query for the kubelet, from the one of PodLogOptions.
fn options(query: &str) -> Result<String, FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut out: Vec<String> = Vec::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query_flag(query, flag) {
            out.push(format!("{flag}=true"));
        }
    }
    let path = Path::new("");
    let mut since = 0;
    for (name, value) in query_pairs(query) {
        match name.as_str() {
            "tailLines" | "limitBytes" | "sinceSeconds" => {
                let lowest = if name == "tailLines" { 0 } else { 1 };
                match value.parse::<i64>() {
                    Ok(n) if n >= lowest => out.push(format!("{name}={n}")),
                    Ok(n) => {
                        let than = if lowest == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
                        errors.invalid(&path.child(&name), n, than);
                    }
                    Err(_) => errors.invalid(&path.child(&name), value.as_str(), "must be an integer"),
                }
                since += usize::from(name == "sinceSeconds");
            }
            "sinceTime" => {
                match machinery::time::parse(&value) {
                    Ok(time) => out.push(format!("sinceTime={}", machinery::time::format(time))),
                    Err(_) => errors.invalid(&path.child("sinceTime"), value.as_str(), "must be an RFC 3339 time"),
                }
                since += 1;
            }
            "stream" if matches!(value.as_str(), "All" | "Stdout" | "Stderr") => out.push(format!("stream={value}")),
            "stream" => errors.not_supported(&path.child("stream"), value.as_str(), &["All", "Stdout", "Stderr"]),
            _ => {}
        }
    }
    if since > 1 {
        errors.forbidden(&path.child("sinceTime"), "at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    errors.into_result()?;
    Ok(out.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        for (query, want) in [
            ("", Ok("")),
            ("follow=true&container=x&tailLines=0&pretty=1", Ok("follow=true&tailLines=0")),
            ("follow=false&previous=1&limitBytes=10", Ok("previous=true&limitBytes=10")),
            ("sinceTime=2026-01-02T03:04:05.6%2B01:00", Ok("sinceTime=2026-01-02T02:04:05Z")),
            ("tailLines=-1", Err("tailLines: Invalid value: -1: must be greater than or equal to 0")),
            ("limitBytes=0", Err("limitBytes: Invalid value: 0: must be greater than 0")),
            (
                "sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z",
                Err("sinceTime: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"),
            ),
        ] {
            let got = options(query).map_err(|e| e.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{query}");
        }
    }
}
