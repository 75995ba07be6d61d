//! The life of a request, as a list. Order matters; each line says why it stands where it does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use jiff::Timestamp;
use machinery::status::Status;

use crate::authn::user::User;
use crate::authz::{Attributes, Decision, forbidden};
use crate::filters::{audit, compress, impersonation};
use crate::request_info::{RequestInfo, query_value};
use crate::respond::{self, Body};
use crate::server::Server;
use crate::{endpoints, metrics};

/// How long a request may take, unless it is one that stays open.
const DEADLINE: Duration = Duration::from_secs(60);

/// The body of a request, whole or as a stream.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, respond::BoxError>;

/// What later layers and the audit log learn of a request on its way.
#[derive(Default)]
struct Trace {
    user: Option<User>,
    impersonated: Option<User>,
    decision: Option<Decision>,
}

/// Answers one request.
pub async fn serve(server: Arc<Server>, request: Request<RequestBody>) -> Response<Body> {
    let received = (server.now)();
    let (mut parts, body) = request.into_parts();
    // HTTP/2 requests carry scheme and host in their URI; the audit log has the path and query, as upstream's.
    let uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let audit_id = audit_id(&server, &parts);
    // 1. What is asked: every later layer needs it.
    let info = Arc::new(RequestInfo::parse(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default()));
    let headers = parts.headers.clone();
    let measured = metrics::begin(&info);
    let mut trace = Trace::default();
    // 2. A panic in a handler is that request's 500, and nobody else's.
    let work = AssertUnwindSafe(layers(&server, &info, &mut parts, body, &mut trace)).catch_unwind();
    // 3. A deadline, except for requests that are meant to last.
    let result = if info.is_long_running() { Ok(work.await) } else { tokio::time::timeout(DEADLINE, work).await };
    let mut response = match result {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(status))) => respond::error(&headers, &status),
        Ok(Err(_panic)) => {
            tracing::error!(uri, "a handler panicked");
            respond::error(&headers, &Status::internal("this request caused the API server to panic"))
        }
        Err(_elapsed) => respond::error(&headers, &Status::timeout("request did not complete within the allotted timeout", 0)),
    };
    // 4. Large answers are compressed.
    response = compress::apply(&headers, response).await;
    if let Ok(id) = HeaderValue::from_str(&audit_id) {
        response.headers_mut().insert("audit-id", id);
    }
    measured.end(response.status().as_u16());
    // 5. The audit log has every request, also those that were refused on the way.
    if let Some(log) = &server.audit {
        let object_name = response.extensions().get::<endpoints::ObjectName>().map_or("", |name| name.0.as_str());
        log.write(&audit::Event {
            id: &audit_id,
            user: trace.user.as_ref().unwrap_or(&User::default()),
            impersonated: trace.impersonated.as_ref(),
            info: &info,
            uri: &uri,
            user_agent: headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default(),
            source: parts.extensions.get::<daemon::http::RemoteAddr>().map(|peer| peer.0.ip().to_string()),
            decision: trace.decision.as_ref(),
            code: response.status().as_u16(),
            object_name,
            received,
            now: (server.now)(),
        });
    }
    response
}

/// The layers that may refuse.
async fn layers(
    server: &Arc<Server>,
    info: &Arc<RequestInfo>,
    parts: &mut Parts,
    body: RequestBody,
    trace: &mut Trace,
) -> Result<Response<Body>, Status> {
    let now: Timestamp = (server.now)();
    // 6. Who it is.
    let user = server.authenticator.authenticate(parts, now)?;
    trace.user = Some(user.clone());
    // 7. As whom they act. After authentication, for it asks what that user may.
    let user = match impersonation::apply(&server.authorizer, &user, &mut parts.headers)? {
        Some(other) => {
            trace.impersonated = Some(other.clone());
            other
        }
        None => user,
    };
    // 8. A seat among the requests under way. Before authorization, which costs too.
    let _seat = server.fairness.seat(&user, info).await?;
    // 9. May they? From here on nobody asks again.
    let query = parts.uri.query().unwrap_or_default();
    let selector = query_value(query, "fieldSelector").unwrap_or_default();
    let attributes = Attributes::of(&user, info, &selector);
    let decision = server.authorizer.authorize(&attributes);
    let allowed = decision.allowed();
    let refusal = (!allowed).then(|| forbidden(&attributes, decision.reason()));
    trace.decision = Some(decision);
    if let Some(status) = refusal {
        return Err(status);
    }
    // 10. The endpoint: admission, registry and store are behind it.
    endpoints::handle(server, info.clone(), Arc::new(user), parts, body, now).await
}

fn audit_id(server: &Server, parts: &Parts) -> String {
    let given = parts.headers.get("audit-id").and_then(|value| value.to_str().ok()).filter(|id| !id.is_empty() && id.len() <= 64);
    given.map_or_else(|| server.registry.new_uid(), str::to_owned)
}
