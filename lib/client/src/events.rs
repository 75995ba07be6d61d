//! Events about objects, in the core group, with client-go's correlation: the same event again raises a count, a flood of
//! similar ones is cut off.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::core::{Event, EventSource, ObjectReference};
use api::metav1::{ObjectMeta, Time};
use api::{Kind, Resource};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Client;
use crate::request::{Patch, PatchParams};

/// Events beyond this many that wait to be written are dropped: they are hints, not records.
const QUEUE_MAX: usize = 1000;
/// As client-go's spam filter: a burst of 25 for each object, then one in five minutes.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
const REMEMBERED_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Writes events in the background. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Event>,
    correlator: Arc<Mutex<Correlator>>,
    source: EventSource,
}

/// The reference to an object in an event's `involvedObject`.
pub fn reference<K: Kind>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(<K as Resource>::API_VERSION.to_owned()),
        kind: Some(<K as Resource>::KIND.to_owned()),
        name: object.meta().name.clone(),
        namespace: object.meta().namespace.clone(),
        uid: object.meta().uid.clone(),
        resource_version: object.meta().resource_version.clone(),
        field_path: None,
    }
}

impl Recorder {
    /// `component` is the daemon's name; `host` the node's, for those that run on one.
    pub fn new(client: Client, component: &str, host: Option<&str>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Event>(QUEUE_MAX);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                write(&client, event).await;
            }
        });
        Self {
            sender,
            correlator: Arc::default(),
            source: EventSource { component: Some(component.to_owned()), host: host.map(str::to_owned) },
        }
    }

    pub fn event<K: Kind>(&self, object: &K, kind: EventType, reason: &str, message: impl Into<String>) {
        self.event_for(reference(object), kind, reason, message.into());
    }

    pub fn event_for(&self, involved: ObjectReference, kind: EventType, reason: &str, message: String) {
        let now = Timestamp::now();
        let decided = self.correlator.lock().unwrap_or_else(|e| e.into_inner()).see(
            &involved,
            &self.source,
            kind,
            reason,
            &message,
            now,
            Instant::now(),
        );
        let Some(Decided { name, count, first }) = decided else { return };
        let namespace = involved.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
        let event = Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: involved,
            type_: Some(kind.to_string()),
            reason: Some(reason.to_owned()),
            message: Some(truncate(message)),
            source: Some(self.source.clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone().or(Some(String::new())),
            count: Some(count),
            first_timestamp: Some(Time(first)),
            last_timestamp: Some(Time(now)),
            ..Event::default()
        };
        if self.sender.try_send(event).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait to be written");
        }
    }
}

/// The API server refuses messages over 1,024 bytes.
fn truncate(mut message: String) -> String {
    const MAX: usize = 1024;
    if message.len() > MAX {
        let mut end = MAX - 3;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str("...");
    }
    message
}

async fn write(client: &Client, event: Event) {
    let count = event.count.unwrap_or(1);
    let result = if count > 1 {
        let patch = serde_json::json!({
            "count": count, "message": event.message, "lastTimestamp": event.last_timestamp,
        });
        let patched =
            client.patch::<Event>(event.namespace(), event.name(), &Patch::Strategic(patch), &PatchParams::default()).await;
        match patched {
            // It expired in between.
            Err(error) if error.is_not_found() => client.create(&event).await,
            other => other,
        }
    } else {
        client.create(&event).await
    };
    if let Err(error) = result
        && !error.is_namespace_terminating()
    {
        tracing::debug!(reason = event.reason, object = event.involved_object.name, %error, "writing an event");
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Decided {
    name: String,
    count: i32,
    first: Timestamp,
}

struct Series {
    name: String,
    count: i32,
    first: Timestamp,
    used: Instant,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

/// What was told before.
#[derive(Default)]
struct Correlator {
    series: HashMap<String, Series>,
    buckets: HashMap<String, Bucket>,
}

impl Correlator {
    /// How an event is to be written; `None` when it is one too many.
    #[expect(clippy::too_many_arguments, reason = "an event has these parts")]
    fn see(
        &mut self,
        involved: &ObjectReference,
        source: &EventSource,
        kind: EventType,
        reason: &str,
        message: &str,
        now: Timestamp,
        at: Instant,
    ) -> Option<Decided> {
        let text = |v: &Option<String>| v.clone().unwrap_or_default();
        let object = [&source.component, &source.host, &involved.kind, &involved.namespace, &involved.name, &involved.uid]
            .map(text)
            .join("\0");
        self.forget(at);
        let bucket = self.buckets.entry(object.clone()).or_insert(Bucket { tokens: BURST, at });
        bucket.tokens = (bucket.tokens + at.duration_since(bucket.at).as_secs_f64() / REFILL.as_secs_f64()).min(BURST);
        bucket.at = at;
        if bucket.tokens < 1.0 {
            return None;
        }
        bucket.tokens -= 1.0;
        let key = format!("{object}\0{}\0{kind}\0{reason}\0{message}", text(&involved.field_path));
        let series = self.series.entry(key).or_insert_with(|| Series {
            // Unique by the time, as upstream names events.
            name: format!("{}.{:x}", text(&involved.name), now.as_nanosecond()),
            count: 0,
            first: now,
            used: at,
        });
        series.count = series.count.saturating_add(1);
        series.used = at;
        Some(Decided { name: series.name.clone(), count: series.count, first: series.first })
    }

    fn forget(&mut self, at: Instant) {
        const AGE_MAX: Duration = Duration::from_secs(3600);
        if self.series.len() >= REMEMBERED_MAX {
            self.series.retain(|_, s| at.duration_since(s.used) < AGE_MAX);
            if self.series.len() >= REMEMBERED_MAX {
                self.series.clear();
            }
        }
        if self.buckets.len() >= REMEMBERED_MAX {
            self.buckets.retain(|_, b| at.duration_since(b.at) < REFILL);
            if self.buckets.len() >= REMEMBERED_MAX {
                self.buckets.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(c: &mut Correlator, message: &str, at: Instant) -> Option<i32> {
        let involved = ObjectReference { name: Some("p".into()), ..ObjectReference::default() };
        c.see(&involved, &EventSource::default(), EventType::Normal, "R", message, Timestamp::UNIX_EPOCH, at).map(|d| d.count)
    }

    #[test]
    fn the_same_event_is_counted_another_is_new() {
        let (mut c, now) = (Correlator::default(), Instant::now());
        assert_eq!([see(&mut c, "a", now), see(&mut c, "a", now), see(&mut c, "b", now)], [Some(1), Some(2), Some(1)]);
    }

    #[test]
    fn a_flood_is_cut_off_and_comes_back_slowly() {
        let (mut c, now) = (Correlator::default(), Instant::now());
        assert_eq!((0..100).filter(|_| see(&mut c, "a", now).is_some()).count(), 25);
        assert_eq!(see(&mut c, "a", now + REFILL), Some(26));
        assert_eq!(see(&mut c, "a", now + REFILL), None);
    }

    #[test]
    fn long_messages_end_at_a_character() {
        assert_eq!(truncate("é".repeat(1000)).len(), 1023);
    }
}
