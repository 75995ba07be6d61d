//! The life of a request, as a list. Order matters; each line says why it stands where it does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use daemon::http::{ConnectionHandle, RemoteAddr};
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use jiff::Timestamp;
use machinery::status::Status;

use crate::authn::user::{UNAUTHENTICATED, User};
use crate::authz::{Attributes, Selectors, forbidden};
use crate::filters::audit::event::Content;
use crate::filters::audit::policy::Stage;
use crate::filters::audit::{self, Answer, Trail};
use crate::filters::compress::AtHand;
use crate::filters::fairness::{Class, width};
use crate::filters::{compress, deadline, impersonation, on_end, spans};
use crate::request_info::{RequestInfo, query_value};
use crate::respond::{self, Body};
use crate::server::Server;
use crate::{endpoints, metrics};

/// The body of a request, whole or as a stream.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, respond::BoxError>;

/// What later layers learn of a request on its way.
#[derive(Default)]
struct Trace {
    trail: Option<Trail>,
    /// Nobody in particular asks.
    unauthenticated: bool,
    /// About the credentials.
    warning: Option<&'static str>,
    class: Option<Class>,
    span: Option<spans::Open>,
}

/// Answers one request.
pub async fn serve(server: Arc<Server>, request: Request<RequestBody>) -> Response<Body> {
    let received = (server.now)();
    let (mut parts, body) = request.into_parts();
    let origin = server.browsers.allowed(&parts.headers).cloned();
    if server.browsers.is_preflight(&parts.method, &parts.headers) {
        let mut response = Response::new(respond::full(""));
        *response.status_mut() = StatusCode::NO_CONTENT;
        server.browsers.tell(origin, response.headers_mut());
        return response;
    }
    // 1. What is asked: every later layer needs it.
    let query = parts.uri.query().unwrap_or_default();
    let info = Arc::new(RequestInfo::parse(&parts.method, parts.uri.path(), query));
    // 2. A deadline, except for requests that are meant to last.
    let limit = deadline::of(&info, query, server.limits.request_timeout);
    let headers = parts.headers.clone();
    let audit_id = audit_id(&server, &parts);
    let connection = (parts.version == Version::HTTP_2).then(|| parts.extensions.get::<ConnectionHandle>().cloned()).flatten();
    let mut measured = metrics::begin(&info);
    let mut trace = Trace::default();
    // 3. A panic in a handler is that request's 500, and nobody else's.
    let work = AssertUnwindSafe(layers(&server, &info, &mut parts, body, &audit_id, received, &mut trace)).catch_unwind();
    let result = match limit {
        Err(status) => {
            drop(work);
            Ok(Ok(Err(status)))
        }
        Ok(None) => Ok(work.await),
        Ok(Some(limit)) => tokio::time::timeout(limit, work).await,
    };
    let mut panicked = false;
    let mut response = match result {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(status))) => respond::error(&headers, &status),
        Ok(Err(_panic)) => {
            tracing::error!(path = info.path, "a handler panicked");
            panicked = true;
            respond::error(&headers, &Status::internal("this request caused the API server to panic"))
        }
        Err(_elapsed) => {
            metrics::terminated(&info);
            respond::error(&headers, &Status::timeout("request did not complete within the allotted timeout", 0))
        }
    };
    let code = response.status().as_u16();
    // 4. The audit log has every request, also those that were refused on the way.
    if let Some(mut trail) = trace.trail.take() {
        response = answered(&mut trail, response).await;
        if panicked {
            trail.write(Stage::Panic);
        } else if info.is_long_running() {
            trail.write(Stage::ResponseStarted);
            response = response.map(|body| on_end::hold(body, audit::Open(trail)));
        } else {
            trail.write(Stage::ResponseComplete);
        }
    }
    // 5. Large answers are compressed.
    response = compress::apply(&headers, response);
    if let Ok(id) = HeaderValue::from_str(&audit_id) {
        response.headers_mut().insert("audit-id", id);
    }
    if let Some(warning) = trace.warning.and_then(|text| HeaderValue::from_str(&format!("299 - {text:?}")).ok()) {
        response.headers_mut().append(http::header::WARNING, warning);
    }
    if let Some(class) = &trace.class {
        class.mark(response.headers_mut());
    }
    server.browsers.tell(origin, response.headers_mut());
    measured.answered(code);
    if let Some(span) = &mut trace.span {
        span.answered(code);
    }
    if info.is_long_running() {
        response = response.map(|body| on_end::hold(body, (measured, trace.span.take())));
    }
    // 6. HTTP/2 is cheap to abuse (CVE-2023-44487): who is nobody gets a connection for one request. Some others are asked to
    // connect again, so that they spread over all servers.
    if let Some(connection) = connection
        && (trace.unauthenticated || code == 401 || server.limits.goaway.is_chosen(|| server.registry.random()))
    {
        connection.close_when_idle();
    }
    response
}

/// The layers that may refuse.
async fn layers(
    server: &Arc<Server>,
    info: &Arc<RequestInfo>,
    parts: &mut Parts,
    body: RequestBody,
    audit_id: &str,
    received: Timestamp,
    trace: &mut Trace,
) -> Result<Response<Body>, Status> {
    let now: Timestamp = (server.now)();
    let selectors = Selectors::of(info, parts.uri.query().unwrap_or_default());
    // 7. Who it is.
    let begun = metrics::authentication();
    let authenticated = server.authenticator.authenticate(parts, now).await;
    begun.end(authenticated.as_ref().ok().map(|authenticated| &authenticated.user));
    let nobody = User::default();
    let user = authenticated.as_ref().map_or(&nobody, |authenticated| &authenticated.user);
    if let Some(log) = &server.audit {
        trace.trail = Trail::begin(log, received_of(parts, audit_id, received), info, user, server.now);
    }
    let authenticated = authenticated?;
    trace.unauthenticated = authenticated.user.is_in(UNAUTHENTICATED);
    trace.warning = authenticated.notes.warning;
    if let Some(trail) = &mut trace.trail {
        trail.annotate(authenticated.notes.annotations);
    }
    let user = authenticated.user;
    trace.span = server.tracer.as_ref().and_then(|tracer| span(server, tracer, info, parts, audit_id, received, &user));
    // 8. As whom they act. After authentication, for it asks what that user may.
    let asked = Attributes::of(&user, info, &selectors);
    let user = match impersonation::apply(&server.authorizer, &asked, &mut parts.headers).await? {
        Some(other) => {
            if let Some(trail) = &mut trace.trail {
                trail.impersonated(&other.user, other.constraint);
            }
            other.user
        }
        None => user,
    };
    // 9. A seat among the requests under way. Before authorization, which costs too. A watch gives it back when it has begun.
    trace.class = server.fairness.classify(&user, info);
    let _seat = match &trace.class {
        Some(class) => Some(server.fairness.seat(class, seats(server, info, parts)).await?),
        None => None,
    };
    // 10. May they? From here on nobody asks again.
    let attributes = Attributes::of(&user, info, &selectors);
    let decision = server.authorizer.decide(&attributes).await;
    if let Some(trail) = &mut trace.trail {
        trail.decided(&decision);
        if let Some(wanted) = trail.body_wanted() {
            parts.extensions.insert(wanted);
        }
    }
    if !decision.allowed() {
        return Err(forbidden(&attributes, decision.reason()));
    }
    // 11. The endpoint: admission, registry and store are behind it.
    endpoints::handle(server, info.clone(), Arc::new(user), parts, body, now).await
}

/// The span of a request that is traced.
fn span(
    server: &Server,
    tracer: &Arc<spans::Tracer>,
    info: &RequestInfo,
    parts: &Parts,
    audit_id: &str,
    received: Timestamp,
    user: &User,
) -> Option<spans::Open> {
    let asked = spans::Asked {
        method: &parts.method,
        info,
        target: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        user_agent: text(&parts.headers, "user-agent"),
        audit_id,
        received,
        remote: spans::context::SpanContext::of(&parts.headers),
    };
    tracer.begin(&asked, user, server.registry.random_bytes())
}

/// How many seats a request needs.
fn seats(server: &Server, info: &RequestInfo, parts: &Parts) -> u32 {
    let Some(path) = info.resource.as_ref().filter(|_| info.verb == "list") else { return 1 };
    let Some(served) = server.registry.served(&path.group, &path.version, &path.resource) else { return 1 };
    let query = parts.uri.query().unwrap_or_default();
    let limit = query_value(query, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(0);
    let held = served.store.cache.size();
    // A list of a name is a GET.
    if path.name.is_empty() { width::of_list(held.objects, held.object_bytes, limit) } else { 1 }
}

fn audit_id(server: &Server, parts: &Parts) -> String {
    let given = parts.headers.get("audit-id").and_then(|value| value.to_str().ok()).filter(|id| !id.is_empty() && id.len() <= 64);
    given.map_or_else(|| server.registry.new_uid(), str::to_owned)
}

fn received_of(parts: &Parts, audit_id: &str, at: Timestamp) -> audit::Received {
    audit::Received {
        id: audit_id.to_owned(),
        // HTTP/2 requests carry scheme and host in their URI; the audit log has the path and query, as upstream's.
        uri: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        user_agent: text(&parts.headers, "user-agent").to_owned(),
        sources: sources(&parts.headers, parts.extensions.get::<RemoteAddr>().map(|peer| peer.0.ip().to_string())),
        at,
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whom the request came from: what proxies say of it, and who sent it to us, the last of them.
fn sources(headers: &HeaderMap, peer: Option<String>) -> Vec<String> {
    let address = |text: &str| text.trim().parse::<std::net::IpAddr>().ok().map(|ip| ip.to_string());
    let mut all: Vec<String> = text(headers, "x-forwarded-for").split(',').filter_map(address).collect();
    for other in [address(text(headers, "x-real-ip")), peer].into_iter().flatten() {
        if all.last() != Some(&other) {
            all.push(other);
        }
    }
    all
}

/// Tells the audit log how the request ended. An answer whose content is wanted is read and put together again.
async fn answered(trail: &mut Trail, response: Response<Body>) -> Response<Body> {
    let (mut parts, mut body) = response.into_parts();
    trail.annotate(parts.extensions.remove::<audit::Annotation>().map(|added| added.0).unwrap_or_default());
    let mut content = None;
    if trail.answer_wanted() && parts.extensions.get::<AtHand>().is_some() {
        // A body at hand cannot fail.
        let bytes = body.collect().await.map(|collected| collected.to_bytes()).unwrap_or_default();
        content = Some(Content { media_type: text(&parts.headers, "content-type").to_owned(), bytes: bytes.clone() });
        body = respond::full(bytes);
    }
    trail.answered(Answer {
        code: parts.status.as_u16(),
        refused: parts.extensions.remove::<audit::Refused>(),
        object_name: parts.extensions.remove::<endpoints::ObjectName>().map(|name| name.0).unwrap_or_default(),
        content,
    });
    Response::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sent_it() {
        let check = |forwarded: &str, real: &str, peer: &str, expected: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            headers.insert("x-real-ip", real.parse().unwrap());
            assert_eq!(sources(&headers, Some(peer.to_owned())), expected);
        };
        check("", "", "10.0.0.1", &["10.0.0.1"]);
        check("192.0.2.1, 192.0.2.2", "", "10.0.0.1", &["192.0.2.1", "192.0.2.2", "10.0.0.1"]);
        check("192.0.2.1, nonsense", "192.0.2.1", "192.0.2.1", &["192.0.2.1"]);
        check("", "192.0.2.9", "10.0.0.1", &["192.0.2.9", "10.0.0.1"]);
    }
}
