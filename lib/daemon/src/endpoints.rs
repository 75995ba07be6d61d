//! The small server beside a daemon: `/healthz`, `/livez`, `/readyz` for everyone; `/metrics`, `/flagz`, `/statusz` for those allowed.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use tokio::net::TcpListener;

use crate::Shutdown;
use crate::health::{Checks, Endpoint};
use crate::http::{Limits, in_memory, serve};
use crate::tls::{PeerCertificates, ServerTls};
use crate::zpages::{self, Page};

/// Who may read `/metrics`, `/flagz` and `/statusz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Whoever reaches the port: for ports on loopback.
    Anyone,
    /// Clients with a certificate of the cluster's authority in the group `system:masters` or `system:monitoring`.
    Certificate(AlwaysAllowed),
}

/// The pages that anyone may read nevertheless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlwaysAllowed {
    metrics: bool,
    flagz: bool,
    statusz: bool,
}

impl AlwaysAllowed {
    /// `--authorization-always-allow-paths`: a `*` at the end of a path stands for any rest.
    ///
    /// # Errors
    /// A `*` elsewhere. A list without a health endpoint: they are for everyone here.
    pub fn parse(paths: &[String]) -> Result<Self, String> {
        let wrong = |path: &&String| path.trim_end_matches('*').contains('*') || path.ends_with("**");
        if let Some(path) = paths.iter().find(wrong) {
            return Err(format!("only trailing * allowed in {path:?}"));
        }
        let covers = |wanted: &str| {
            paths.iter().any(|path| {
                let path = path.trim_start_matches('/');
                path.strip_suffix('*').map_or(path == wanted, |prefix| wanted.starts_with(prefix))
            })
        };
        if let Some(health) = ["healthz", "livez", "readyz"].into_iter().find(|path| !covers(path)) {
            return Err(format!("/{health} is missing: health endpoints always answer everyone"));
        }
        Ok(Self { metrics: covers("metrics"), flagz: covers("flagz"), statusz: covers("statusz") })
    }

    fn covers(self, path: &str) -> bool {
        match path {
            "/metrics" => self.metrics,
            "/flagz" => self.flagz,
            "/statusz" => self.statusz,
            _ => false,
        }
    }
}

/// Serves until shutdown.
pub async fn run(listener: TcpListener, tls: Option<Arc<ServerTls>>, checks: Checks, access: MetricsAccess, shutdown: Shutdown) {
    let limits = Limits { connections_max: 256, handshakes_max: 32, ..Limits::default() };
    serve(listener, tls, limits, shutdown, move |request: Request<hyper::body::Incoming>| {
        let answer = respond(&request, &checks, access);
        async move { in_memory(answer) }
    })
    .await;
}

/// The answer to one request, from memory.
pub fn respond<B>(request: &Request<B>, checks: &Checks, access: MetricsAccess) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "405: only GET\n".into());
    }
    let path = request.uri().path();
    if let Some(endpoint) = Endpoint::of(path) {
        let query = request.uri().query().unwrap_or_default();
        let pairs = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let exclude: Vec<String> = pairs().filter(|(k, _)| *k == "exclude").map(|(_, v)| v.to_owned()).collect();
        let report = checks.report(endpoint, pairs().any(|(k, _)| k == "verbose"), &exclude);
        let status = if report.healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        return text(status, report.text);
    }
    match path {
        "/metrics" if allowed(request, access) => text(StatusCode::OK, crate::metrics::render()),
        "/flagz" | "/statusz" if allowed(request, access) => zpage(path, request),
        "/metrics" | "/flagz" | "/statusz" => {
            text(StatusCode::FORBIDDEN, "403: a client certificate of the cluster is needed\n".into())
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n".into()),
    }
}

fn zpage<B>(path: &str, request: &Request<B>) -> Response<Full<Bytes>> {
    const PATHS: [&str; 6] = ["/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz"];
    let process = zpages::process();
    let page = Page::of(path).and_then(|page| {
        zpages::answer(page, process, &process.name, &PATHS.map(str::to_owned), request.headers(), Timestamp::now())
    });
    match page {
        Some(page) => page.map(|body| Full::new(body.into())),
        None => {
            let accepted = zpages::MEDIA_TYPES.join(", ");
            text(StatusCode::NOT_ACCEPTABLE, format!("only the following media types are accepted: {accepted}\n"))
        }
    }
}

fn allowed<B>(request: &Request<B>, access: MetricsAccess) -> bool {
    let certificate = || request.extensions().get::<PeerCertificates>()?.0.as_ref()?.first().cloned();
    match access {
        MetricsAccess::Anyone => true,
        MetricsAccess::Certificate(always) if always.covers(request.uri().path()) => true,
        MetricsAccess::Certificate(_) => certificate().is_some_and(|der| {
            x509_parser::parse_x509_certificate(&der).is_ok_and(|(_, c)| {
                let groups: Vec<&str> = c.subject().iter_organization().filter_map(|o| o.as_str().ok()).collect();
                groups.contains(&"system:masters") || groups.contains(&"system:monitoring")
            })
        }),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, uri: &str, access: MetricsAccess) -> u16 {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        respond(&request, &Checks::new(), access).status().as_u16()
    }

    #[test]
    fn paths_and_access() {
        let certificate = MetricsAccess::Certificate(AlwaysAllowed::default());
        let scraped = MetricsAccess::Certificate(AlwaysAllowed { metrics: true, ..AlwaysAllowed::default() });
        for (method, uri, access, want) in [
            (Method::GET, "/healthz", certificate, 200),
            (Method::GET, "/readyz?verbose", certificate, 200),
            (Method::POST, "/healthz", MetricsAccess::Anyone, 405),
            (Method::GET, "/metrics", MetricsAccess::Anyone, 200),
            (Method::GET, "/metrics", certificate, 403),
            (Method::GET, "/flagz", MetricsAccess::Anyone, 200),
            (Method::GET, "/statusz", MetricsAccess::Anyone, 200),
            (Method::GET, "/flagz", certificate, 403),
            (Method::GET, "/metrics", scraped, 200),
            (Method::GET, "/flagz", scraped, 403),
            (Method::GET, "/debug/pprof", MetricsAccess::Anyone, 404),
        ] {
            assert_eq!(status(method.clone(), uri, access), want, "{method} {uri}");
        }
    }

    #[test]
    fn paths_that_are_always_allowed() {
        let parse = |text: &str| AlwaysAllowed::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        let all = AlwaysAllowed { metrics: true, flagz: true, statusz: true };
        assert_eq!(parse("/healthz,/readyz,/livez"), Ok(AlwaysAllowed::default()));
        assert_eq!(parse("/healthz,/readyz,/livez,/metrics"), Ok(AlwaysAllowed { metrics: true, ..AlwaysAllowed::default() }));
        assert_eq!(parse("/*"), Ok(all));
        assert_eq!(parse("/healthz*,readyz,livez,/met*"), Ok(AlwaysAllowed { metrics: true, ..AlwaysAllowed::default() }));
        assert_eq!(parse("/*z,/metrics").unwrap_err(), "only trailing * allowed in \"/*z\"");
        assert!(parse("/healthz,/readyz").unwrap_err().contains("/livez is missing"));
    }
}
