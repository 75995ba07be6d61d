//! The kubelet's own API on port 10250: logs, exec, attach, port-forward, pods, metrics.
//!
//! A request is parsed into a [`route::Route`], authenticated, authorised for what the route needs, and only then
//! answered. Streams are handed to the runtime's streaming server as they are; logs are read here.
//!
//! **Invariants:** no route is reached without authentication, `/healthz` excepted; a backend's redirect is never
//! followed; a connection is upgraded only after the runtime answered 101 (CVE-2018-1002105's class).

mod access;
mod log_format;
mod logs;
mod route;
mod tunnel;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use daemon::Shutdown;
use daemon::http::Limits;
use daemon::tls::ServerTls;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use machinery::status::Status;
use serde_json::Value;
use tokio::net::TcpListener;

pub(crate) use access::{Access, Authorization};
use route::{Action, Route};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A container, or a pod when `container` is empty, that a request names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// Empty when the request names none.
    pub(crate) uid: String,
    pub(crate) container: String,
}

/// Which streams of a process are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// A container's log, and who writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogSource {
    pub(crate) path: PathBuf,
    pub(crate) container_id: String,
}

/// What the server needs of the rest of the kubelet.
pub(crate) trait Backend: Send + Sync + 'static {
    /// The pods of this node, as a `PodList`.
    fn pods(&self) -> Value;
    /// `/stats/summary`.
    fn summary(&self) -> BoxFuture<'_, Value>;
    /// `/metrics/resource` in the text format.
    fn resource_metrics(&self) -> BoxFuture<'_, String>;
    /// The address at which the runtime serves the prepared stream.
    fn exec_url<'a>(
        &'a self,
        target: &'a Target,
        command: &'a [String],
        streams: &'a Streams,
    ) -> BoxFuture<'a, Result<String, Status>>;
    fn attach_url<'a>(&'a self, target: &'a Target, streams: &'a Streams) -> BoxFuture<'a, Result<String, Status>>;
    fn port_forward_url<'a>(&'a self, target: &'a Target, ports: &'a [u16]) -> BoxFuture<'a, Result<String, Status>>;
    /// Where a container's log is; `previous` means the instance before the present one.
    fn log_source(&self, target: &Target, previous: bool) -> Result<LogSource, Status>;
    /// More may be written to the container's log.
    fn is_running(&self, container_id: &str) -> bool;
}

/// `enableDebuggingHandlers`: whether requests may reach into pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Debugging {
    On,
    Off,
}

/// Serves on `listener` until shutdown.
pub(crate) async fn run(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    access: Arc<Access>,
    debugging: Debugging,
    backend: Arc<dyn Backend>,
    shutdown: Shutdown,
) {
    let limits = Limits { connections_max: 2000, ..Limits::default() };
    daemon::http::serve(listener, Some(tls), limits, shutdown, move |request| {
        let (access, backend) = (access.clone(), backend.clone());
        async move { answer(request, Some(&access), debugging, backend).await.unwrap_or_else(|status| failure(&status)) }
    })
    .await;
}

/// The port without authentication, only opened when asked for: what may be read, no streams.
pub(crate) async fn run_read_only(address: SocketAddr, backend: Arc<dyn Backend>, shutdown: Shutdown) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let limits = Limits { connections_max: 256, ..Limits::default() };
    daemon::http::serve(listener, None, limits, shutdown, move |request| {
        let backend = backend.clone();
        async move { answer(request, None, Debugging::Off, backend).await.unwrap_or_else(|status| failure(&status)) }
    })
    .await;
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
    access: Option<&Access>,
    debugging: Debugging,
    backend: Arc<dyn Backend>,
) -> Result<Response<Body>, Status> {
    let route = Route::parse(request.method(), request.uri().path(), request.uri().query().unwrap_or_default())?;
    match access {
        Some(access) => access.check(request.headers(), request.extensions(), &route).await?,
        None if route.is_read_only() => {}
        None => return Err(Status::no_such_path()),
    }
    if debugging == Debugging::Off && route.is_debugging() {
        return Err(Status { message: "Debug endpoints are disabled.".to_owned(), ..Status::method_not_served() });
    }
    match route.action {
        Action::Healthz => Ok(text("ok".into())),
        Action::Pods => Ok(json(&backend.pods())),
        Action::Metrics => Ok(text(daemon::metrics::render())),
        Action::ResourceMetrics => Ok(text(backend.resource_metrics().await)),
        Action::Summary => Ok(json(&backend.summary().await)),
        Action::Logs { target, previous, options } => {
            let source = backend.log_source(&target, previous)?;
            let body = logs::stream(source, options, backend).await?;
            let mut response = Response::new(body);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            Ok(response)
        }
        Action::Exec { target, command, streams } => {
            let url = backend.exec_url(&target, &command, &streams).await?;
            tunnel::open(request, &url).await
        }
        Action::Attach { target, streams } => {
            let url = backend.attach_url(&target, &streams).await?;
            tunnel::open(request, &url).await
        }
        Action::PortForward { target, ports } => {
            let url = backend.port_forward_url(&target, &ports).await?;
            tunnel::open(request, &url).await
        }
    }
}

fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

fn text(content: String) -> Response<Body> {
    let mut response = Response::new(full(content));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Failures are plain text, as upstream's kubelet answers: the API server makes a `Status` of them.
fn failure(status: &Status) -> Response<Body> {
    let mut response = text(status.message.clone());
    *response.status_mut() = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
