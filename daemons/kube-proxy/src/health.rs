//! Health: of the proxy (10256, which cloud load balancers ask too), and of Services with the local traffic policy.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use daemon::Shutdown;
use daemon::http::{Limits, in_memory, serve};
use http::{Response, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::model::ServiceName;

/// A change not written after this long makes the proxy unhealthy.
const LATE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct State {
    written: Timestamp,
    /// The oldest change not written yet.
    waiting: Option<Instant>,
    eligible: bool,
}

/// What `/healthz` answers from. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: Arc<Mutex<State>>,
}

impl Health {
    pub(crate) fn new() -> Self {
        // Not eligible until the Node object was seen, as upstream.
        let state = State { written: Timestamp::now(), waiting: None, eligible: false };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn changes_wait(&self) {
        self.state().waiting.get_or_insert_with(Instant::now);
    }

    pub(crate) fn written(&self) {
        let mut state = self.state();
        state.waiting = None;
        state.written = Timestamp::now();
    }

    pub(crate) fn set_eligible(&self, eligible: bool) {
        self.state().eligible = eligible;
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.state().waiting.is_none_or(|since| since.elapsed() < LATE)
    }

    /// The answer to a request.
    fn respond(&self, path: &str) -> Response<Full<Bytes>> {
        let healthy = self.is_healthy();
        let state = self.state();
        let now = Timestamp::now();
        let last = if healthy { now } else { state.written };
        let mut body = json!({
            "lastUpdated": last.to_string(), "currentTime": now.to_string(), "healthy": healthy,
            "status": {"IPv4": {"lastUpdated": state.written.to_string(), "healthy": healthy}},
        });
        match path {
            "/healthz" => {
                body["nodeEligible"] = state.eligible.into();
                answer(healthy && state.eligible, body.to_string())
            }
            "/livez" => answer(healthy, body.to_string()),
            _ => {
                let mut response = Response::new(Full::from("404 page not found\n"));
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }

    pub(crate) async fn serve(self, listener: TcpListener, shutdown: Shutdown) {
        serve(listener, None, small(), shutdown, move |request: http::Request<hyper::body::Incoming>| {
            let response = self.respond(request.uri().path());
            async move { in_memory(response) }
        })
        .await;
    }
}

fn small() -> Limits {
    Limits { connections_max: 256, ..Limits::default() }
}

fn answer(good: bool, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

#[derive(Debug)]
struct ServiceCheck {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    shutdown: Shutdown,
}

/// The `healthCheckNodePort`s of this node's Services.
#[derive(Debug)]
pub(crate) struct ServiceChecks {
    health: Health,
    checks: BTreeMap<ServiceName, ServiceCheck>,
}

impl ServiceChecks {
    pub(crate) fn new(health: Health) -> Self {
        Self { health, checks: BTreeMap::new() }
    }

    /// A Service's check is on this port (or on none), and so many of its endpoints are ready here.
    pub(crate) fn set(&mut self, name: &ServiceName, port: Option<u16>, endpoints: usize) {
        if let Some(check) = self.checks.get(name) {
            if Some(check.port) == port {
                check.endpoints.store(endpoints, Ordering::Relaxed);
                return;
            }
            check.shutdown.trigger();
            self.checks.remove(name);
        }
        let Some(port) = port else { return };
        let check = ServiceCheck { port, endpoints: Arc::new(AtomicUsize::new(endpoints)), shutdown: Shutdown::new() };
        tokio::spawn(serve_check(name.clone(), port, Arc::clone(&check.endpoints), self.health.clone(), check.shutdown.clone()));
        self.checks.insert(name.clone(), check);
    }
}

async fn serve_check(name: ServiceName, port: u16, endpoints: Arc<AtomicUsize>, health: Health, shutdown: Shutdown) {
    // Both families where there are both.
    let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::from([0, 0, 0, 0])];
    let mut listener = Err(std::io::ErrorKind::AddrNotAvailable.into());
    for ip in any {
        listener = TcpListener::bind(SocketAddr::new(ip, port)).await;
        if listener.is_ok() {
            break;
        }
    }
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(service = %name, port, %error, "the health check port cannot be opened"),
    };
    serve(listener, None, small(), shutdown, move |_: http::Request<hyper::body::Incoming>| {
        let count = endpoints.load(Ordering::Relaxed);
        let healthy = health.is_healthy();
        let body = json!({
            "service": {"namespace": name.namespace, "name": name.name}, "localEndpoints": count, "serviceProxyHealthy": healthy,
        });
        let mut response = answer(count > 0 && healthy, body.to_string());
        response.headers_mut().insert("x-load-balancing-endpoint-weight", count.into());
        async move { in_memory(response) }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn healthy_unless_a_change_waits_too_long() {
        let health = Health::new();
        let status = |path: &str| health.respond(path).status().as_u16();
        assert_eq!((status("/healthz"), status("/livez"), status("/x")), (503, 200, 404));
        health.set_eligible(true);
        assert_eq!(status("/healthz"), 200);
        health.changes_wait();
        tokio::time::advance(LATE).await;
        assert_eq!((status("/healthz"), status("/livez")), (503, 503));
        health.written();
        assert_eq!(status("/healthz"), 200);
    }
}
