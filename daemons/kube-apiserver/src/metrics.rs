//! What Prometheus is told of requests.

use std::time::Instant;

use daemon::metrics::{Counter, Gauge, Histogram, LATENCY_SECONDS};

use crate::request_info::RequestInfo;

static REQUESTS: Counter = Counter::new(
    "apiserver_request_total",
    "Counter of apiserver requests broken out for each verb, group, version, resource, scope, and HTTP response code.",
    &["verb", "group", "version", "resource", "subresource", "scope", "code"],
);
static DURATION: Histogram = Histogram::new(
    "apiserver_request_duration_seconds",
    "Response latency distribution in seconds for each verb, group, version, resource and scope.",
    &["verb", "group", "version", "resource", "scope"],
    LATENCY_SECONDS,
);
static IN_FLIGHT: Gauge =
    Gauge::new("apiserver_current_inflight_requests", "Number of requests currently under way, by kind.", &["request_kind"]);

/// A request that is being measured.
pub struct Measured {
    labels: Option<[String; 6]>,
    kind: &'static str,
    long_running: bool,
    begun: Instant,
}

pub fn begin(info: &RequestInfo) -> Measured {
    let kind = if info.is_read_only() { "readOnly" } else { "mutating" };
    let labels = info.resource.as_ref().map(|r| {
        let scope = match (r.namespace.is_empty(), r.name.is_empty()) {
            (_, false) => "resource",
            (false, true) => "namespace",
            (true, true) => "cluster",
        };
        let verb = info.verb.to_uppercase();
        [verb, r.group.clone(), r.version.clone(), r.resource.clone(), r.subresource.clone(), scope.to_owned()]
    });
    IN_FLIGHT.add(&[kind], 1.0);
    Measured { labels, kind, long_running: info.is_long_running(), begun: Instant::now() }
}

impl Measured {
    pub fn end(self, code: u16) {
        // Paths that nothing serves would make labels of whatever clients send.
        let Some(labels) = self.labels.as_ref().filter(|_| code != 404) else { return };
        let [verb, group, version, resource, subresource, scope] = labels.each_ref().map(String::as_str);
        REQUESTS.inc(&[verb, group, version, resource, subresource, scope, &code.to_string()]);
        if !self.long_running {
            DURATION.observe(&[verb, group, version, resource, scope], self.begun.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        IN_FLIGHT.add(&[self.kind], -1.0);
    }
}
