//! Where audit events go: a log file, and a server that collects them.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use daemon::metrics::Counter;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::truncate::Truncation;
use crate::filters::rotating::{RotatingFile, Rotation};
use crate::remote::Remote;

static ERRORS: Counter = Counter::new(
    "apiserver_audit_error_total",
    "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
    &["plugin"],
);

/// Lines of JSON.
pub struct Log {
    output: Mutex<Box<dyn Write + Send>>,
    truncation: Option<Truncation>,
}

/// The event within the bounds there are; one that cannot be is counted and lost.
fn within(truncation: Option<Truncation>, event: &Value) -> Option<Cow<'_, Value>> {
    let Some(truncation) = truncation else { return Some(Cow::Borrowed(event)) };
    let truncated = truncation.of(event);
    if truncated.is_none() {
        ERRORS.inc(&["truncate"]);
        tracing::warn!("an audit event is too large even after truncating");
    }
    truncated
}

#[derive(Debug, thiserror::Error)]
#[error("opening the audit log {path}")]
pub struct OpenError {
    path: String,
    source: std::io::Error,
}

impl Log {
    /// `-` is standard output.
    pub fn open(path: &str, rotation: Rotation, truncation: Option<Truncation>) -> Result<Self, OpenError> {
        if path == "-" {
            return Ok(Self { truncation, ..Self::to(std::io::stdout()) });
        }
        let open = RotatingFile::open(Path::new(path), rotation);
        Ok(Self { truncation, ..Self::to(open.map_err(|source| OpenError { path: path.to_owned(), source })?) })
    }

    pub fn to(output: impl Write + Send + 'static) -> Self {
        Self { output: Mutex::new(Box::new(output)), truncation: None }
    }

    pub fn write(&self, event: &Value) {
        let Some(event) = within(self.truncation, event) else { return };
        let mut line = event.to_string();
        line.push('\n');
        let mut output = self.output.lock().unwrap_or_else(|e| e.into_inner());
        if let Err(error) = output.write_all(line.as_bytes()).and_then(|()| output.flush()) {
            ERRORS.inc(&["log"]);
            tracing::warn!(%error, "writing the audit log");
        }
    }
}

/// How events are gathered before they are sent.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Events that wait to be sent; what comes beyond is lost, and counted.
    pub buffer: usize,
    pub events_max: usize,
    pub wait_max: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self { buffer: 10_000, events_max: 400, wait_max: Duration::from_secs(30) }
    }
}

/// A server that takes EventLists.
pub struct Webhook {
    events: mpsc::Sender<Value>,
    truncation: Option<Truncation>,
}

const SEND_LIMIT: Duration = Duration::from_secs(30);
/// Batches follow each other no faster than this, so that a burst of requests does not become one of batches.
const INTERVAL: Duration = Duration::from_millis(100);

impl Webhook {
    /// Sends until the webhook is dropped; what waits then is sent still.
    pub fn start(remote: Remote, batching: Batching, truncation: Option<Truncation>) -> Self {
        let (sender, receiver) = mpsc::channel(batching.buffer.max(1));
        tokio::spawn(send(remote, batching, truncation, receiver));
        Self { events: sender, truncation }
    }

    pub fn write(&self, event: &Value) {
        let Some(event) = within(self.truncation, event) else { return };
        if self.events.try_send(event.into_owned()).is_err() {
            ERRORS.inc(&["buffered"]);
        }
    }
}

async fn send(remote: Remote, batching: Batching, truncation: Option<Truncation>, mut events: mpsc::Receiver<Value>) {
    while let Some(batch) = gather(&mut events, batching).await {
        let batches = match truncation {
            Some(truncation) => truncation.batches(batch),
            None => vec![batch],
        };
        for batch in batches {
            let list = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": batch});
            if let Err(error) = remote.ask(&list, SEND_LIMIT).await {
                ERRORS.add(&["webhook"], batch_len(&list));
                tracing::warn!(%error, "sending audit events");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

fn batch_len(list: &Value) -> u64 {
    list["items"].as_array().map_or(0, |items| items.len() as u64)
}

/// The next batch: full, or as much as came within the wait. None when there will be no more.
pub async fn gather<T>(events: &mut mpsc::Receiver<T>, batching: Batching) -> Option<Vec<T>> {
    let mut batch = vec![events.recv().await?];
    let deadline = Instant::now() + batching.wait_max;
    while batch.len() < batching.events_max {
        match tokio::time::timeout_at(deadline, events.recv()).await {
            Ok(Some(event)) => batch.push(event),
            Ok(None) | Err(_) => break,
        }
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn batches_are_full_or_in_time() {
        let batching = Batching { buffer: 10, events_max: 3, wait_max: Duration::from_secs(30) };
        let (sender, mut receiver) = mpsc::channel(batching.buffer);
        for event in 0..5 {
            sender.send(json!(event)).await.unwrap();
        }
        let begun = Instant::now();
        assert_eq!(gather(&mut receiver, batching).await.unwrap(), [json!(0), json!(1), json!(2)]);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(gather(&mut receiver, batching).await.unwrap(), [json!(3), json!(4)]);
        assert_eq!(begun.elapsed(), batching.wait_max);
        sender.send(json!(5)).await.unwrap();
        drop(sender);
        assert_eq!(gather(&mut receiver, batching).await.unwrap(), [json!(5)]);
        assert_eq!(gather(&mut receiver, batching).await, None);
    }

    #[tokio::test]
    async fn a_full_buffer_loses_events_and_holds_nobody_up() {
        let (sender, _receiver) = mpsc::channel(1);
        let webhook = Webhook { events: sender, truncation: None };
        webhook.write(&json!(1));
        webhook.write(&json!(2));
        assert!(daemon::metrics::render().contains("apiserver_audit_error_total{plugin=\"buffered\"} 1"));
    }
}
