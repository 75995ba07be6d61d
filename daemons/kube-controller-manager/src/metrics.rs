//! What Prometheus is told of the controllers' queues, under upstream's names.

use std::time::Duration;

use client::queue::Meter;
use daemon::metrics::{Counter, Gauge, Histogram};

const SECONDS: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

static DEPTH: Gauge = Gauge::new("workqueue_depth", "Current depth of workqueue", &["name"]);
static ADDS: Counter = Counter::new("workqueue_adds_total", "Total number of adds handled by workqueue", &["name"]);
static WAITED: Histogram = Histogram::new(
    "workqueue_queue_duration_seconds",
    "How long in seconds an item stays in workqueue before being requested.",
    &["name"],
    SECONDS,
);
static WORKED: Histogram = Histogram::new(
    "workqueue_work_duration_seconds",
    "How long in seconds processing an item from workqueue takes.",
    &["name"],
    SECONDS,
);
static RETRIES: Counter = Counter::new("workqueue_retries_total", "Total number of retries handled by workqueue", &["name"]);

pub(crate) struct Queues;

impl Meter for Queues {
    fn added(&self, queue: &'static str) {
        ADDS.inc(&[queue]);
    }

    fn depth(&self, queue: &'static str, keys: usize) {
        // Far below where a float loses count.
        DEPTH.set(&[queue], keys as f64);
    }

    fn started(&self, queue: &'static str, waited: Duration) {
        WAITED.observe(&[queue], waited.as_secs_f64());
    }

    fn finished(&self, queue: &'static str, took: Duration) {
        WORKED.observe(&[queue], took.as_secs_f64());
    }

    fn retried(&self, queue: &'static str) {
        RETRIES.inc(&[queue]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let (queues, name) = (Queues, "test");
        queues.added(name);
        queues.depth(name, 3);
        queues.started(name, Duration::from_millis(5));
        queues.finished(name, Duration::from_millis(5));
        queues.retried(name);
        let text = daemon::metrics::render();
        for line in [
            "workqueue_adds_total{name=\"test\"} 1",
            "workqueue_depth{name=\"test\"} 3",
            "workqueue_queue_duration_seconds_count{name=\"test\"} 1",
            "workqueue_work_duration_seconds_bucket{name=\"test\",le=\"0.01\"} 1",
            "workqueue_retries_total{name=\"test\"} 1",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
