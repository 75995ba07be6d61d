//! One watch: a long answer of JSON frames, cut into events whose objects stay bytes.

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Error;
use crate::request::{Client, ListParams, Scope, failure, object_path, request, selectors, with_query};
use crate::transport::{Body, TransportError};

/// A frame larger than this ends the watch: objects are at most 3 MiB.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Clone, Debug, Default)]
pub struct WatchParams {
    pub list: ListParams,
    /// Events after this revision; `None` with `initial_events` starts with the present state.
    pub resource_version: Option<u64>,
    /// KEP-3157: the present state as ADDED events, then a bookmark annotated `k8s.io/initial-events-end`.
    pub initial_events: bool,
}

/// What a watch tells. `Error` frames come out of the stream as [`Error::Api`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    Added(Bytes),
    Modified(Bytes),
    Deleted(Bytes),
    Bookmark { resource_version: u64, initial_events_end: bool },
}

#[derive(Deserialize)]
struct Frame<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

/// An open watch. Dropping it ends it.
pub struct WatchStream {
    body: Body,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no newline.
    searched: usize,
}

impl Client {
    pub async fn watch(&self, scope: Scope<'_>, params: &WatchParams) -> Result<WatchStream, Error> {
        self.watch_as(scope, params, None).await
    }

    /// A watch with another `Accept` header: metadata only, for one.
    pub async fn watch_as(
        &self,
        scope: Scope<'_>,
        params: &WatchParams,
        accept: Option<&'static str>,
    ) -> Result<WatchStream, Error> {
        let mut query = selectors(&params.list);
        query.push(("watch", "true".to_owned()));
        query.push(("allowWatchBookmarks", "true".to_owned()));
        if let Some(rv) = params.resource_version {
            query.push(("resourceVersion", rv.to_string()));
        }
        if params.initial_events {
            query.push(("sendInitialEvents", "true".to_owned()));
            query.push(("resourceVersionMatch", "NotOlderThan".to_owned()));
        }
        let mut request = request(Method::GET, &with_query(object_path(scope, "", ""), &query), None)?;
        if let Some(accept) = accept {
            request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(accept));
        }
        let response = self.raw(request).await?;
        let status = response.status();
        if !status.is_success() {
            let bytes = response.into_body().collect().await.map_err(TransportError::Body)?.to_bytes();
            return Err(failure(status.as_u16(), &bytes));
        }
        Ok(WatchStream { body: response.into_body(), buffer: BytesMut::new(), searched: 0 })
    }
}

impl WatchStream {
    /// The next event; `None` when the server ended the watch. Safe to cancel.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                if line.is_empty() {
                    continue;
                }
                return Some(parse(&line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > FRAME_BYTES_MAX {
                return Some(Err(Error::TooLarge { limit: FRAME_BYTES_MAX }));
            }
            match self.body.frame().await {
                None => return None,
                Some(Err(error)) => return Some(Err(TransportError::Body(error).into())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn parse(line: &Bytes) -> Result<WatchEvent, Error> {
    let wrong = |source| Error::Answer { what: "a watch".to_owned(), source };
    let frame: Frame<'_> = serde_json::from_slice(line).map_err(wrong)?;
    let object = || line.slice_ref(frame.object.get().as_bytes());
    match frame.r#type {
        "ADDED" => Ok(WatchEvent::Added(object())),
        "MODIFIED" => Ok(WatchEvent::Modified(object())),
        "DELETED" => Ok(WatchEvent::Deleted(object())),
        "BOOKMARK" => {
            let meta = serde_json::from_str::<Bookmark>(frame.object.get()).map_err(wrong)?.metadata;
            Ok(WatchEvent::Bookmark {
                resource_version: meta.resource_version.parse().unwrap_or(0),
                initial_events_end: meta.annotations.get("k8s.io/initial-events-end").is_some_and(|v| v == "true"),
            })
        }
        // ERROR, or a type of a later version: both end the watch.
        _ => Err(failure(500, frame.object.get().as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Frame as BodyFrame;

    fn stream(chunks: &[&'static str]) -> WatchStream {
        let frames: Vec<Result<BodyFrame<Bytes>, Box<dyn std::error::Error + Send + Sync>>> =
            chunks.iter().map(|c| Ok(BodyFrame::data(Bytes::from_static(c.as_bytes())))).collect();
        let body = http_body_util::combinators::UnsyncBoxBody::new(StreamBody::new(futures::stream::iter(frames)));
        WatchStream { body, buffer: BytesMut::new(), searched: 0 }
    }

    #[tokio::test]
    async fn frames_are_cut_wherever_the_chunks_end() {
        let mut s = stream(&[
            "{\"type\":\"ADDED\",\"object\":{\"a\"",
            ":1}}\n{\"type\":\"DELETED\",\"object\":{}}\n\n{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"8\",",
            "\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n",
        ]);
        assert_eq!(s.next().await.unwrap().unwrap(), WatchEvent::Added(Bytes::from_static(b"{\"a\":1}")));
        assert_eq!(s.next().await.unwrap().unwrap(), WatchEvent::Deleted(Bytes::from_static(b"{}")));
        assert_eq!(s.next().await.unwrap().unwrap(), WatchEvent::Bookmark { resource_version: 8, initial_events_end: true });
        assert!(s.next().await.is_none());
    }

    #[tokio::test]
    async fn an_error_frame_is_an_error() {
        let mut s = stream(&[
            "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"too old\",\"reason\":\"Expired\",\"code\":410}}\n",
        ]);
        assert!(s.next().await.unwrap().unwrap_err().is_gone());
    }
}
