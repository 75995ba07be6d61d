//! `pods/exec`, `pods/attach` and `pods/portforward`.
//!
//! SPDY clients are connected with the kubelet as they are. WebSocket clients of exec and attach are translated to SPDY
//! here (KEP 4006); port-forward over a WebSocket is SPDY inside it, which is unpacked and passed on.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use machinery::status::Status;
use stream::channel::{Channels, Protocol};
use stream::remotecommand::{self, Options};
use stream::tunnel::{SPDY_PREFIX, Tunnel};
use stream::upgrade::{self, Kind};
use stream::{translate, tunnel};

use super::backend::{self, Backend};
use super::{Connect, target};
use crate::request_info::{percent_decode, query_pairs, query_value};
use crate::respond::{self, Body};
use crate::server::{KubeletAccess, Server};

pub(super) async fn exec(server: &Arc<Server>, connect: Connect) -> Result<Response<Body>, Status> {
    let kind = upgrade_kind(&connect)?;
    let pod = target::object(server, "pods", &connect.path.namespace, &connect.path.name).await?;
    let wanted = query_value(connect.query(), "container").unwrap_or_default();
    let container = target::container(&pod, &wanted)?;
    let kubelet = assigned(server, &pod).await?;
    let options = options(connect.query());
    let uri = format!(
        "/{}/{}/{}/{container}?{}",
        connect.path.subresource,
        connect.path.namespace,
        connect.path.name,
        kubelet_query(connect.query(), options)
    );
    match kind {
        Kind::WebSocket => websocket(server, connect, kubelet, uri, options),
        _ => pass_on(&server.kubelet, connect, kubelet, &uri).await,
    }
}

pub(super) async fn port_forward(server: &Arc<Server>, connect: Connect) -> Result<Response<Body>, Status> {
    let kind = upgrade_kind(&connect)?;
    let pod = target::object(server, "pods", &connect.path.namespace, &connect.path.name).await?;
    let kubelet = assigned(server, &pod).await?;
    let ports: Vec<String> =
        query_pairs(connect.query()).filter(|(name, _)| name == "ports").map(|(_, v)| format!("port={}", escape(&v))).collect();
    let uri = format!("/portForward/{}/{}?{}", connect.path.namespace, connect.path.name, ports.join("&"));
    let tunnelled = upgrade::websocket_protocols(&connect.parts.headers)
        .into_iter()
        .find(|p| p.starts_with(SPDY_PREFIX) && p.ends_with(".k8s.io"))
        .map(str::to_owned);
    match (kind, tunnelled) {
        (Kind::WebSocket, Some(protocol)) => untunnel(&server.kubelet, connect, kubelet, &uri, &protocol).await,
        // WebSockets without SPDY inside are between the client and the runtime.
        _ => pass_on(&server.kubelet, connect, kubelet, &uri).await,
    }
}

fn upgrade_kind(connect: &Connect) -> Result<Kind, Status> {
    if !matches!(connect.parts.method, Method::GET | Method::POST) {
        return Err(Status::method_not_served());
    }
    upgrade::requested(&connect.parts.headers).ok_or_else(|| Status::bad_request("Upgrade request required"))
}

async fn assigned(server: &Arc<Server>, pod: &serde_json::Value) -> Result<Backend, Status> {
    let name = machinery::meta::name(pod);
    let kubelet = target::kubelet_of(server, pod).await?;
    kubelet.ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))
}

fn options(query: &str) -> Options {
    let pairs: Vec<(String, String)> = query_pairs(query).collect();
    Options::from_query(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
}

/// The kubelet has other names for the streams than the API.
fn kubelet_query(query: &str, options: Options) -> String {
    let flags = [(options.stdin, "input=1"), (options.stdout, "output=1"), (options.stderr, "error=1"), (options.tty, "tty=1")];
    let mut out: Vec<String> = flags.into_iter().filter(|(on, _)| *on).map(|(_, text)| text.to_owned()).collect();
    let commands = query.split('&').filter_map(|pair| pair.strip_prefix("command="));
    out.extend(commands.map(|c| format!("command={}", escape(&percent_decode(&c.replace('+', " "))))));
    out.join("&")
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (b as char).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

fn client_side(connect: Connect) -> OnUpgrade {
    hyper::upgrade::on(Request::from_parts(connect.parts, ()))
}

/// Connects the client with the kubelet as it is, once the kubelet agreed to the upgrade.
async fn pass_on(access: &KubeletAccess, connect: Connect, kubelet: Backend, uri: &str) -> Result<Response<Body>, Status> {
    let mut request = Request::builder().method(connect.parts.method.clone()).uri(uri);
    if let Some(headers) = request.headers_mut() {
        *headers = passed_on(&connect.parts.headers);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(Status::internal)?;
    let mut answer = kubelet.send(access, request).await.map_err(|e| cannot_dial(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(answer).await);
    }
    let granted = granted(&answer);
    let (client, kubelet) = (client_side(connect), hyper::upgrade::on(&mut answer));
    tokio::spawn(async move {
        let Ok((client, kubelet)) = tokio::try_join!(client, kubelet) else { return };
        if let Err(error) = tunnel::pass_through(TokioIo::new(client), TokioIo::new(kubelet)).await {
            tracing::debug!(%error, "a stream ended");
        }
    });
    Ok(granted)
}

/// Of the client's headers, those that ask for the upgrade.
fn passed_on(client: &HeaderMap) -> HeaderMap {
    let asks = |name: &str| {
        matches!(name, "connection" | "upgrade" | "x-stream-protocol-version" | "user-agent")
            || (name.starts_with("sec-websocket-") && name != "sec-websocket-extensions")
    };
    client.iter().filter(|(name, _)| asks(name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect()
}

fn granted<B>(answer: &Response<B>) -> Response<Body> {
    let mut granted = Response::new(respond::full(""));
    *granted.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *granted.headers_mut() = answer.headers().clone();
    granted
}

fn cannot_dial(error: &dyn std::error::Error) -> Status {
    Status::internal(format!("error dialing backend: {error}"))
}

async fn refused(answer: Response<hyper::body::Incoming>) -> Status {
    if answer.status().is_success() || answer.status().is_redirection() {
        return Status::internal(format!("invalid upgrade response: status code {}", answer.status().as_u16()));
    }
    backend::failure(answer).await
}

/// Asks the kubelet for SPDY; returns the connection and the protocol it chose.
async fn dial_spdy(
    access: &KubeletAccess,
    kubelet: &Backend,
    uri: &str,
    protocols: &[&str],
) -> Result<(TokioIo<hyper::upgrade::Upgraded>, String), Status> {
    let mut request = Request::post(uri);
    if let Some(headers) = request.headers_mut() {
        upgrade::ask_for_spdy(headers, protocols);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(Status::internal)?;
    let mut answer = kubelet.send(access, request).await.map_err(|e| cannot_dial(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(answer).await);
    }
    let protocol = upgrade::stream_protocols(answer.headers()).first().map_or("", |p| *p).to_owned();
    let upgraded = hyper::upgrade::on(&mut answer).await.map_err(Status::internal)?;
    Ok((TokioIo::new(upgraded), protocol))
}

/// Exec and attach over a WebSocket. The client is connected first, as upstream does: it learns of failures on the error
/// channel.
fn websocket(
    server: &Arc<Server>,
    connect: Connect,
    kubelet: Backend,
    uri: String,
    options: Options,
) -> Result<Response<Body>, Status> {
    let headers = &connect.parts.headers;
    let offered = upgrade::websocket_protocols(headers);
    let protocol = Protocol::negotiate(&offered).ok_or_else(|| {
        Status::bad_request(format!("requested protocol(s) are not supported: {offered:?}; supports v5.channel.k8s.io"))
    })?;
    let granted: Response<()> = upgrade::grant_websocket(headers, protocol.name)
        .ok_or_else(|| Status::bad_request("the request is not a WebSocket handshake"))?;
    if !options.any() {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let client = client_side(connect);
    let server = server.clone();
    tokio::spawn(async move {
        let Ok(client) = client.await else { return };
        let client = Channels::server(TokioIo::new(client), protocol).await;
        if translate::announce(&client, options).await.is_err() {
            return;
        }
        match dial_spdy(&server.kubelet, &kubelet, &uri, &remotecommand::SPDY_PROTOCOLS).await {
            Ok((io, chosen)) => match remotecommand::over_spdy(io, &chosen, options).await {
                Ok(command) => translate::translate(client, command).await,
                Err(error) => translate::fail(&client, &error.to_string()).await,
            },
            Err(status) => translate::fail(&client, &status.message).await,
        }
    });
    Ok(granted.map(|()| respond::full("")))
}

/// SPDY inside a WebSocket: unpacked here, passed on to the kubelet.
async fn untunnel(
    access: &KubeletAccess,
    connect: Connect,
    kubelet: Backend,
    uri: &str,
    protocol: &str,
) -> Result<Response<Body>, Status> {
    let granted: Response<()> = upgrade::grant_websocket(&connect.parts.headers, protocol)
        .ok_or_else(|| Status::bad_request("the request is not a WebSocket handshake"))?;
    let inner = protocol.trim_start_matches(SPDY_PREFIX);
    let (kubelet, chosen) = dial_spdy(access, &kubelet, uri, &[inner]).await?;
    if !chosen.is_empty() && chosen != inner {
        return Err(Status::internal(format!("the kubelet chose {chosen:?} where {inner:?} was asked for")));
    }
    let client = client_side(connect);
    tokio::spawn(async move {
        let Ok(client) = client.await else { return };
        let client = Tunnel::server(TokioIo::new(client)).await;
        if let Err(error) = tunnel::pass_through(client, kubelet).await {
            tracing::debug!(%error, "a port-forward ended");
        }
    });
    Ok(granted.map(|()| respond::full("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_for_the_kubelet() {
        for (query, want) in [
            ("stdin=true&stdout=1&stderr=true&command=ls&command=-l", "input=1&output=1&error=1&command=ls&command=-l"),
            ("stdout=true&stderr=true&tty=true&command=sh", "output=1&tty=1&command=sh"),
            ("stdout=false&command=a+b%26c%3D%25&container=x", "command=a%20b%26c%3D%25"),
        ] {
            assert_eq!(kubelet_query(query, options(query)), want);
        }
    }
}
