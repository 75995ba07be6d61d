//! Request tracing (KEP-647): one span for each sampled request, sent to a collector. Without a configuration there is no
//! [`Tracer`], and requests pay nothing.

pub mod config;
pub mod context;
pub mod otlp;
pub mod sampler;

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;

use self::context::SpanContext;
use self::otlp::{Exporter, KeyValue, Link};
use self::sampler::Sampler;
use crate::authn::user::{MASTERS, MONITORING, User};
use crate::request_info::RequestInfo;

/// Makes spans.
pub struct Tracer {
    pub sampler: Sampler,
    pub exporter: Exporter,
    pub now: fn() -> Timestamp,
}

/// What a span tells of a request.
pub struct Asked<'r> {
    pub method: &'r Method,
    pub info: &'r RequestInfo,
    /// The path and query.
    pub target: &'r str,
    pub user_agent: &'r str,
    pub audit_id: &'r str,
    pub received: Timestamp,
    /// The caller's span.
    pub remote: Option<SpanContext>,
}

impl Tracer {
    /// The span of a request, if it is one of those that are kept. `random` gives 24 bytes.
    pub fn begin(self: &Arc<Self>, asked: &Asked<'_>, user: &User, random: [u8; 24]) -> Option<Open> {
        let span = begin(self.sampler, asked, user, random)?;
        Some(Open { span: Some(span), tracer: self.clone() })
    }
}

/// A request that is being served; the span goes out when this is dropped.
pub struct Open {
    span: Option<otlp::Span>,
    tracer: Arc<Tracer>,
}

impl Open {
    pub fn answered(&mut self, code: u16) {
        let Some(span) = &mut self.span else { return };
        span.attributes.push(KeyValue::int("http.response.status_code", i64::from(code)));
        // A client's mistake is no failure of the server (OpenTelemetry's rule for server spans).
        span.status = (code >= 500).then_some(otlp::Status { code: otlp::ERROR });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.end_time_unix_nano = nanoseconds((self.tracer.now)());
            self.tracer.exporter.send(span);
        }
    }
}

fn begin(sampler: Sampler, asked: &Asked<'_>, user: &User, random: [u8; 24]) -> Option<otlp::Span> {
    let trace = std::array::from_fn(|at| random[at]);
    let span: [u8; 8] = std::array::from_fn(|at| random[16 + at]);
    // Anybody can send a header: only who may see traces anyway decides what is traced.
    let (parent, link) = if user.is_in(MASTERS) || user.is_in(MONITORING) { (asked.remote, None) } else { (None, asked.remote) };
    let trace = parent.map_or(trace, |parent| parent.trace);
    if !sampler.keeps(parent.as_ref(), &trace) {
        return None;
    }
    Some(otlp::Span {
        trace_id: trace.to_vec(),
        span_id: span.to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.span.to_vec()),
        name: name(asked.method, asked.info),
        kind: otlp::SERVER,
        start_time_unix_nano: nanoseconds(asked.received),
        end_time_unix_nano: 0,
        attributes: vec![
            KeyValue::text("http.request.method", asked.method.as_str()),
            KeyValue::text("http.target", asked.target),
            KeyValue::text("user_agent.original", asked.user_agent),
            KeyValue::text("audit-id", asked.audit_id),
        ],
        links: link.iter().map(|link| Link { trace_id: link.trace.to_vec(), span_id: link.span.to_vec() }).collect(),
        status: None,
    })
}

/// Few names for many objects.
fn name(method: &Method, info: &RequestInfo) -> String {
    let Some(path) = &info.resource else { return method.to_string() };
    let mut name = format!("{method} /{}", if path.group.is_empty() { "api" } else { "apis" });
    for part in [&path.group, &path.version].into_iter().filter(|part| !part.is_empty()) {
        name.push('/');
        name.push_str(part);
    }
    if !path.namespace.is_empty() {
        name.push_str("/namespaces/{:namespace}");
    }
    name.push('/');
    name.push_str(&path.resource);
    if !path.name.is_empty() {
        name.push_str("/{:name}");
    }
    if !path.subresource.is_empty() {
        name.push('/');
        name.push_str(&path.subresource);
    }
    name
}

fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
