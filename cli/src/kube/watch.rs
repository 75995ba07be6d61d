//! A watch as a stream of events.

use bytes::BytesMut;
use machinery::status::Status;
use serde_json::Value;

use super::{Error, Request, Result, Session};

#[derive(Clone, Debug)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`.
    pub kind: String,
    pub object: Value,
}

/// Events of one watch request, until the server ends it.
pub struct Watch<'a> {
    session: &'a Session,
    response: reqwest::Response,
    buffer: BytesMut,
}

impl<'a> Watch<'a> {
    pub async fn open(session: &'a Session, request: Request, resource_version: &str) -> Result<Self> {
        let request =
            request.query("watch", true).query("allowWatchBookmarks", true).query_some("resourceVersion", Some(resource_version));
        let response = session.send(request.endless()).await?;
        Ok(Self { session, response, buffer: BytesMut::new() })
    }

    /// `None` when the watch is over.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return event(&line).map(Some);
            }
            match self.response.chunk().await.map_err(|error| self.session.transport(&error))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => {
                    let line = std::mem::take(&mut self.buffer);
                    return event(&line).map(Some);
                }
            }
        }
    }
}

fn event(line: &[u8]) -> Result<Event> {
    let mut event: Value = serde_json::from_slice(line)
        .map_err(|error| Error::message(format!("unable to decode an event from the watch stream: {error}")))?;
    let kind = event["type"].as_str().unwrap_or_default().to_owned();
    let object = event["object"].take();
    if kind == "ERROR" {
        return Err(match serde_json::from_value::<Status>(object) {
            Ok(status) => status.into(),
            Err(_) => Error::message("the watch failed"),
        });
    }
    Ok(Event { kind, object })
}
