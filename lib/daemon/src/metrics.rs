//! Prometheus metrics: counters, gauges and histograms with labels, in the text exposition format.
//!
//! A metric is a `static` made with `const fn new` and registers itself on first use, so that names stand beside the
//! code that counts. Label values must come from small sets: each combination lives until the process ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, RwLock};

/// More label combinations than this are counted together under empty labels.
const SERIES_MAX: usize = 4096;

type Labels = Vec<String>;

#[derive(Clone, Copy)]
enum Metric {
    Counter(&'static Counter),
    Gauge(&'static Gauge),
    Histogram(&'static Histogram),
}

static REGISTRY: Mutex<Vec<Metric>> = Mutex::new(Vec::new());

/// Names that are left out; see [`hide`].
static HIDDEN: OnceLock<Vec<String>> = OnceLock::new();

/// Leaves metrics out of what is shown (`--disabled-metrics`). The first call counts.
pub fn hide(names: &[String]) {
    let _ = HIDDEN.set(names.to_vec());
}

impl Metric {
    fn is_hidden(self) -> bool {
        let name = match self {
            Self::Counter(m) => m.0.name,
            Self::Gauge(m) => m.0.name,
            Self::Histogram(m) => m.family.name,
        };
        HIDDEN.get().is_some_and(|hidden| hidden.iter().any(|h| h == name))
    }
}

fn register(metric: Metric) {
    REGISTRY.lock().unwrap_or_else(|e| e.into_inner()).push(metric);
}

struct Family<T> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    once: Once,
    series: RwLock<Option<HashMap<Box<str>, Series<T>>>>,
}

struct Series<T> {
    labels: Labels,
    value: Arc<T>,
}

/// Stands between label values in the key of a series; no value has it.
const SEPARATOR: char = '\u{1f}';

impl<T> Family<T> {
    const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, labels, once: Once::new(), series: RwLock::new(None) }
    }

    fn series(&self, values: &[&str], make: impl FnOnce() -> T) -> Arc<T> {
        thread_local!(static KEY: RefCell<String> = const { RefCell::new(String::new()) });
        debug_assert_eq!(values.len(), self.labels.len(), "labels of {}", self.name);
        KEY.with_borrow_mut(|key| {
            key.clear();
            for value in values {
                key.push_str(value);
                key.push(SEPARATOR);
            }
            let known = self.series.read().unwrap_or_else(|e| e.into_inner());
            if let Some(series) = known.as_ref().and_then(|map| map.get(key.as_str())) {
                return series.value.clone();
            }
            drop(known);
            self.add_series(key, values, make)
        })
    }

    fn add_series(&self, key: &str, values: &[&str], make: impl FnOnce() -> T) -> Arc<T> {
        let mut series = self.series.write().unwrap_or_else(|e| e.into_inner());
        let map = series.get_or_insert_default();
        let full = map.len() >= SERIES_MAX && !map.contains_key(key);
        let key = if full { SEPARATOR.to_string().repeat(values.len()) } else { key.to_owned() };
        let labels = || values.iter().map(|v| if full { String::new() } else { (*v).to_owned() }).collect();
        map.entry(key.into()).or_insert_with(|| Series { labels: labels(), value: Arc::new(make()) }).value.clone()
    }

    /// All series in the order of their labels.
    fn sorted(&self) -> Vec<(Labels, Arc<T>)> {
        let series = self.series.read().unwrap_or_else(|e| e.into_inner());
        let mut all: Vec<_> = series.iter().flat_map(HashMap::values).map(|s| (s.labels.clone(), s.value.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn head(&self, out: &mut String, kind: &str) {
        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", self.name, self.help, self.name);
    }

    fn label_text(&self, values: &[String], extra: Option<(&str, &str)>) -> String {
        let pairs = self.labels.iter().copied().zip(values.iter().map(String::as_str)).chain(extra);
        let text: Vec<String> = pairs.map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
        if text.is_empty() { String::new() } else { format!("{{{}}}", text.join(",")) }
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A number that only grows.
pub struct Counter(Family<AtomicU64>);

impl Counter {
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self(Family::new(name, help, labels))
    }

    pub fn inc(&'static self, labels: &[&str]) {
        self.add(labels, 1);
    }

    pub fn add(&'static self, labels: &[&str], n: u64) {
        self.0.once.call_once(|| register(Metric::Counter(self)));
        self.0.series(labels, || AtomicU64::new(0)).fetch_add(n, Ordering::Relaxed);
    }
}

/// A number that goes up and down.
pub struct Gauge(Family<AtomicU64>);

impl Gauge {
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self(Family::new(name, help, labels))
    }

    pub fn set(&'static self, labels: &[&str], value: f64) {
        self.0.once.call_once(|| register(Metric::Gauge(self)));
        self.0.series(labels, || AtomicU64::new(0)).store(value.to_bits(), Ordering::Relaxed);
    }

    pub fn add(&'static self, labels: &[&str], delta: f64) {
        self.0.once.call_once(|| register(Metric::Gauge(self)));
        let cell = self.0.series(labels, || AtomicU64::new(0f64.to_bits()));
        let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some((f64::from_bits(bits) + delta).to_bits()));
    }
}

struct Buckets {
    counts: Vec<AtomicU64>,
    count: AtomicU64,
    sum: AtomicU64,
}

/// Observations, counted in buckets.
pub struct Histogram {
    family: Family<Buckets>,
    bounds: &'static [f64],
}

/// Seconds, from a millisecond to a minute.
pub const LATENCY_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

impl Histogram {
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str], bounds: &'static [f64]) -> Self {
        Self { family: Family::new(name, help, labels), bounds }
    }

    pub fn observe(&'static self, labels: &[&str], value: f64) {
        self.family.once.call_once(|| register(Metric::Histogram(self)));
        let series = self.family.series(labels, || Buckets {
            counts: self.bounds.iter().map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0f64.to_bits()),
        });
        if let Some(i) = self.bounds.iter().position(|b| value <= *b) {
            series.counts[i].fetch_add(1, Ordering::Relaxed);
        }
        series.count.fetch_add(1, Ordering::Relaxed);
        let _ =
            series.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some((f64::from_bits(bits) + value).to_bits()));
    }
}

/// All metrics that were used so far, and the process's own, as `text/plain; version=0.0.4`.
pub fn render() -> String {
    let mut out = String::new();
    let registry: Vec<Metric> = REGISTRY.lock().unwrap_or_else(|e| e.into_inner()).clone();
    for metric in registry.into_iter().filter(|metric| !metric.is_hidden()) {
        match metric {
            Metric::Counter(m) => {
                m.0.head(&mut out, "counter");
                for (labels, cell) in &m.0.sorted() {
                    let _ = writeln!(out, "{}{} {}", m.0.name, m.0.label_text(labels, None), cell.load(Ordering::Relaxed));
                }
            }
            Metric::Gauge(m) => {
                m.0.head(&mut out, "gauge");
                for (labels, cell) in &m.0.sorted() {
                    let value = f64::from_bits(cell.load(Ordering::Relaxed));
                    let _ = writeln!(out, "{}{} {value}", m.0.name, m.0.label_text(labels, None));
                }
            }
            Metric::Histogram(m) => render_histogram(m, &mut out),
        }
    }
    process(&mut out);
    out
}

fn render_histogram(m: &Histogram, out: &mut String) {
    let f = &m.family;
    f.head(out, "histogram");
    for (labels, b) in &f.sorted() {
        let mut total = 0;
        for (bound, count) in m.bounds.iter().zip(&b.counts) {
            total += count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{}_bucket{} {total}", f.name, f.label_text(labels, Some(("le", &bound.to_string()))));
        }
        let count = b.count.load(Ordering::Relaxed);
        let _ = writeln!(out, "{}_bucket{} {count}", f.name, f.label_text(labels, Some(("le", "+Inf"))));
        let _ = writeln!(out, "{}_sum{} {}", f.name, f.label_text(labels, None), f64::from_bits(b.sum.load(Ordering::Relaxed)));
        let _ = writeln!(out, "{}_count{} {count}", f.name, f.label_text(labels, None));
    }
}

/// CPU seconds and resident memory of this process, from /proc; left out where it can't be read.
fn process(out: &mut String) {
    const TICKS_PER_SECOND: f64 = 100.0;
    const PAGE_BYTES: u64 = 4096;
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat")
        && let Some((_, rest)) = stat.rsplit_once(") ")
    {
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        let seconds = (ticks(11) + ticks(12)) / TICKS_PER_SECOND;
        let _ = writeln!(
            out,
            "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {seconds}"
        );
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        let _ = writeln!(
            out,
            "# HELP process_open_fds Number of open file descriptors.\n# TYPE process_open_fds gauge\nprocess_open_fds {}",
            descriptors.count()
        );
    }
    if let Some(pages) = std::fs::read_to_string("/proc/self/statm").ok().and_then(|s| s.split(' ').nth(1)?.parse::<u64>().ok()) {
        let _ = writeln!(
            out,
            "# HELP process_resident_memory_bytes Resident memory size in bytes.\n# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}",
            pages * PAGE_BYTES
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static REQUESTS: Counter = Counter::new("t_requests_total", "Requests.", &["verb"]);
    static QUEUE: Gauge = Gauge::new("t_queue", "Depth.", &[]);
    static LATENCY: Histogram = Histogram::new("t_latency_seconds", "Latency.", &["verb"], &[0.1, 1.0]);

    #[test]
    fn the_text_format() {
        REQUESTS.inc(&["GET"]);
        REQUESTS.add(&["G\"T"], 2);
        QUEUE.set(&[], 3.0);
        QUEUE.add(&[], -1.0);
        LATENCY.observe(&["GET"], 0.05);
        LATENCY.observe(&["GET"], 5.0);
        let text = render();
        for line in [
            "# TYPE t_requests_total counter",
            "t_requests_total{verb=\"GET\"} 1",
            "t_requests_total{verb=\"G\\\"T\"} 2",
            "t_queue 2",
            "t_latency_seconds_bucket{verb=\"GET\",le=\"0.1\"} 1",
            "t_latency_seconds_bucket{verb=\"GET\",le=\"+Inf\"} 2",
            "t_latency_seconds_sum{verb=\"GET\"} 5.05",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes "));
    }
}
