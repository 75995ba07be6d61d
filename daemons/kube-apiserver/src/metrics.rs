//! What Prometheus is told of requests, under upstream's names.

use std::time::Instant;

use daemon::metrics::{Counter, Gauge, Histogram, LATENCY_SECONDS};
use machinery::gvk::GroupResource;

use crate::authn::user::User;
use crate::request_info::RequestInfo;

static REQUESTS: Counter = Counter::new(
    "apiserver_request_total",
    "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
    &["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"],
);
static DURATION: Histogram = Histogram::new(
    "apiserver_request_duration_seconds",
    "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
    &["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"],
    LATENCY_SECONDS,
);
static IN_FLIGHT: Gauge = Gauge::new(
    "apiserver_current_inflight_requests",
    "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
    &["request_kind"],
);
static LONG_RUNNING: Gauge = Gauge::new(
    "apiserver_longrunning_requests",
    "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
    &["verb", "group", "version", "resource", "subresource", "scope", "component"],
);
static TERMINATIONS: Counter = Counter::new(
    "apiserver_request_terminations_total",
    "Number of requests which apiserver terminated in self-defense.",
    &["verb", "group", "version", "resource", "subresource", "scope", "component", "code"],
);
static AUTHENTICATION_ATTEMPTS: Counter =
    Counter::new("authentication_attempts", "Counter of authenticated attempts.", &["result"]);
static AUTHENTICATION_DURATION: Histogram = Histogram::new(
    "authentication_duration_seconds",
    "Authentication duration in seconds broken out by result.",
    &["result"],
    LATENCY_SECONDS,
);
static AUTHENTICATED_USERS: Counter =
    Counter::new("authenticated_user_requests", "Counter of authenticated requests broken out by username.", &["username"]);

static LEGACY_TOKENS: Counter = Counter::new(
    "serviceaccount_legacy_manual_token_uses_total",
    "Cumulative manually created legacy service account tokens used",
    &[],
);
static LEGACY_AUTO_TOKENS: Counter =
    Counter::new("serviceaccount_legacy_auto_token_uses_total", "Cumulative auto-generated legacy tokens used", &[]);

static STORED: Gauge =
    Gauge::new("apiserver_storage_objects", "Number of stored objects at the time of last check split by kind.", &["resource"]);
static STORE_DURATION: Histogram = Histogram::new(
    "etcd_request_duration_seconds",
    "Etcd request latency in seconds for each operation and object type.",
    &["operation", "type"],
    LATENCY_SECONDS,
);
static CONVERSIONS: Counter = Counter::new(
    "apiextensions_apiserver_conversion_webhook_request_total",
    "Counter for conversion webhook requests with success/failure.",
    &["result"],
);
static CONVERSION_DURATION: Histogram = Histogram::new(
    "apiextensions_apiserver_conversion_webhook_duration_seconds",
    "CR conversion webhook duration distribution in seconds.",
    &[],
    LATENCY_SECONDS,
);

const COMPONENT: &str = "apiserver";

/// verb, group, version, resource, subresource, scope
type Labels = [String; 6];

fn labels(info: &RequestInfo) -> Option<Labels> {
    let r = info.resource.as_ref()?;
    let scope = match (r.namespace.is_empty(), r.name.is_empty()) {
        (_, false) => "resource",
        (false, true) => "namespace",
        (true, true) => "cluster",
    };
    let verb = match info.verb.as_ref() {
        "create" => "POST",
        "update" => "PUT",
        verb => &verb.to_uppercase(),
    };
    Some([verb, &r.group, &r.version, &r.resource, &r.subresource, scope].map(str::to_owned))
}

/// A request that is being measured, until it is dropped.
pub struct Measured {
    labels: Option<Labels>,
    kind: &'static str,
    long_running: bool,
    counted: bool,
    begun: Instant,
}

pub fn begin(info: &RequestInfo) -> Measured {
    let kind = if info.is_read_only() { "readOnly" } else { "mutating" };
    let long_running = info.is_long_running();
    if !long_running {
        IN_FLIGHT.add(&[kind], 1.0);
    }
    Measured { labels: labels(info), kind, long_running, counted: false, begun: Instant::now() }
}

impl Measured {
    /// The answer is known; it may go on for long.
    pub fn answered(&mut self, code: u16) {
        // Paths that nothing serves would make labels of whatever clients send.
        let Some(labels) = self.labels.as_ref().filter(|_| code != 404) else { return };
        let [verb, group, version, resource, subresource, scope] = labels.each_ref().map(String::as_str);
        let mut digits = [0; 3];
        REQUESTS.inc(&[verb, "", group, version, resource, subresource, scope, COMPONENT, decimal(code, &mut digits)]);
        if self.long_running {
            self.counted = true;
            LONG_RUNNING.add(&[verb, group, version, resource, subresource, scope, COMPONENT], 1.0);
        } else {
            let seconds = self.begun.elapsed().as_secs_f64();
            DURATION.observe(&[verb, "", group, version, resource, subresource, scope, COMPONENT], seconds);
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if !self.long_running {
            IN_FLIGHT.add(&[self.kind], -1.0);
        } else if let Some(labels) = self.labels.as_ref().filter(|_| self.counted) {
            let [verb, group, version, resource, subresource, scope] = labels.each_ref().map(String::as_str);
            LONG_RUNNING.add(&[verb, group, version, resource, subresource, scope, COMPONENT], -1.0);
        }
    }
}

/// A service account's token from a Secret was used.
pub fn legacy_token_used(auto_generated: bool) {
    if auto_generated { LEGACY_AUTO_TOKENS.inc(&[]) } else { LEGACY_TOKENS.inc(&[]) }
}

/// The request took too long and was given up.
pub fn terminated(info: &RequestInfo) {
    if let Some(labels) = labels(info) {
        let [verb, group, version, resource, subresource, scope] = labels.each_ref().map(String::as_str);
        TERMINATIONS.inc(&[verb, group, version, resource, subresource, scope, COMPONENT, "504"]);
    }
}

/// How many objects of a resource there are.
pub fn stored(resource: &GroupResource, objects: usize) {
    // Far below where a float loses count.
    STORED.set(&[&resource.to_string()], objects as f64);
}

/// A write to the store, from `begun` until now.
pub fn wrote(operation: &'static str, kind: &str, begun: Instant) {
    STORE_DURATION.observe(&[operation, kind], begun.elapsed().as_secs_f64());
}

/// A conversion webhook was asked, at `begun`.
pub fn converted(succeeded: bool, begun: Instant) {
    CONVERSIONS.inc(&[if succeeded { "success" } else { "failure" }]);
    CONVERSION_DURATION.observe(&[], begun.elapsed().as_secs_f64());
}

/// A status code as text, without an allocation.
fn decimal(code: u16, digits: &mut [u8; 3]) -> &str {
    *digits = [code / 100 % 10, code / 10 % 10, code % 10].map(|digit| b'0' + digit as u8);
    // Digits are ASCII.
    std::str::from_utf8(digits).unwrap_or_default()
}

/// An authentication that is being measured.
pub struct Authentication(Instant);

pub fn authentication() -> Authentication {
    Authentication(Instant::now())
}

impl Authentication {
    /// With the user, or none if the credentials were refused.
    pub fn end(self, user: Option<&User>) {
        let result = if user.is_some() { "success" } else { "failure" };
        AUTHENTICATION_ATTEMPTS.inc(&[result]);
        AUTHENTICATION_DURATION.observe(&[result], self.0.elapsed().as_secs_f64());
        if let Some(user) = user {
            AUTHENTICATED_USERS.inc(&[class_of(&user.name)]);
        }
    }
}

/// Few words for many names.
fn class_of(name: &str) -> &str {
    match name {
        "admin" | "client" | "kube_proxy" | "kubelet" | "system:serviceaccount:kube-system:default" => name,
        _ if name.contains('@') => "email_id",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn names_of_requests() {
        let check = |method: Method, path: &str, query: &str, expected: [&str; 6]| {
            let got = labels(&RequestInfo::parse(&method, path, query)).unwrap();
            assert_eq!(got.each_ref().map(String::as_str), expected);
        };
        check(Method::GET, "/api/v1/namespaces/a/pods", "", ["LIST", "", "v1", "pods", "", "namespace"]);
        check(Method::GET, "/api/v1/pods", "watch=1", ["WATCH", "", "v1", "pods", "", "cluster"]);
        check(Method::POST, "/apis/apps/v1/namespaces/a/deployments", "", ["POST", "apps", "v1", "deployments", "", "namespace"]);
        check(Method::PUT, "/api/v1/namespaces/a/pods/p/status", "", ["PUT", "", "v1", "pods", "status", "resource"]);
        assert_eq!(labels(&RequestInfo::parse(&Method::GET, "/healthz", "")), None);
    }

    #[test]
    fn codes_and_users() {
        assert_eq!(decimal(504, &mut [0; 3]), "504");
        assert_eq!(["admin", "a@b", "ann"].map(class_of), ["admin", "email_id", "other"]);
    }
}
