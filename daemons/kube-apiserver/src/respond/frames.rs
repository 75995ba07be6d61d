//! Watch streams: events become frames of JSON lines or length-prefixed protobuf.

use std::sync::Arc;

use ::store::Entry;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::accept::{Accept, View, Wire};
use super::table::{self, Include};
use super::{Body, BoxError, partial, protobuf, response};
use crate::registry::Served;
use crate::registry::store::EntryExt;
use crate::registry::watch::Event;

/// How the objects of one watch are written.
struct Encoder {
    accept: Accept,
    served: Arc<Served>,
    include: Include,
    /// The first table carries the column definitions.
    header: bool,
    now: fn() -> Timestamp,
}

/// A watch as an endless answer.
pub fn stream(
    accept: Accept,
    served: Arc<Served>,
    query: &str,
    now: fn() -> Timestamp,
    events: impl Stream<Item = Vec<Event>> + Send + 'static,
) -> Response<Body> {
    let mut encoder = Encoder { accept, served, include: Include::parse(query), header: true, now };
    let frames = events.map(move |batch| {
        let mut out = Vec::new();
        batch.iter().for_each(|event| encoder.write(event, &mut out));
        Ok::<_, BoxError>(Frame::data(Bytes::from(out)))
    });
    let content_type = match accept.wire {
        Wire::Protobuf => schema::proto::WATCH_MEDIA_TYPE,
        _ => "application/json",
    };
    response(StatusCode::OK, content_type, StreamBody::new(frames).boxed_unsync())
}

impl Encoder {
    fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Object { kind, entry } => self.object(kind, entry, out),
            Event::Bookmark { revision, initial_end } => {
                let bookmark = self.bookmark(*revision, *initial_end);
                self.value("BOOKMARK", &bookmark, out);
            }
            Event::Error(status) => self.value("ERROR", &status.to_value(), out),
        }
    }

    fn object(&mut self, kind: &str, entry: &Entry, out: &mut Vec<u8>) {
        if self.accept.view == View::Object && self.served.serves_entry_bytes() {
            match self.accept.wire {
                // The object's bytes as they are: nothing is encoded again for a watcher.
                Wire::Json | Wire::PrettyJson | Wire::Yaml => return json_frame(kind, entry.bytes(), out),
                Wire::Protobuf => {
                    let bytes = protobuf(entry);
                    if !bytes.is_empty() {
                        return out.extend(schema::proto::watch_frame(kind, &bytes));
                    }
                }
            }
        }
        let Some(stored) = entry.value() else { return };
        let object = self.served.from_storage(stored);
        let shown = match self.accept.view {
            View::Object => object,
            View::Metadata => partial(&object),
            View::Table => {
                let metadata = json!({"resourceVersion": entry.revision().to_string()});
                let header = std::mem::take(&mut self.header);
                table::table(&self.served, vec![object], metadata, self.include, (self.now)(), header)
            }
        };
        self.value(kind, &shown, out);
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.accept.view {
            View::Object => {
                json!({"kind": self.served.resource.kind, "apiVersion": self.served.api_version(), "metadata": metadata})
            }
            View::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            View::Table => {
                let list = json!({"resourceVersion": revision.to_string()});
                let object = partial(&json!({"metadata": metadata}));
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list, "columnDefinitions": null,
                    "rows": [{"cells": [], "object": object}]})
            }
        }
    }

    fn value(&self, kind: &str, value: &Value, out: &mut Vec<u8>) {
        if self.accept.wire == Wire::Protobuf
            && let Ok(bytes) = schema::proto::encode(value)
        {
            return out.extend(schema::proto::watch_frame(kind, &bytes));
        }
        // A Value has only string keys: it always serialises.
        json_frame(kind, &serde_json::to_vec(value).unwrap_or_default(), out);
    }
}

fn json_frame(kind: &str, object: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object.trim_ascii_end());
    out.extend_from_slice(b"}\n");
}
