//! Answers: objects, lists, tables, errors and watch streams in the form that was negotiated.

pub mod accept;
pub mod frames;
mod protobuf_list;
pub mod table;

use std::convert::Infallible;
use std::sync::Arc;

use ::store::Entry;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use self::accept::{Accept, View, Wire};
use self::table::Include;
use crate::filters::audit::Refused;
use crate::filters::compress::AtHand;
use crate::registry::Served;
use crate::registry::list::Page;
use crate::registry::store::EntryExt;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// An answer's body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Bytes at hand as a body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Pieces as a body, each made when the client takes it: a list is never put together, however many ask for it at once.
fn pieces(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    let frames = futures::stream::iter(pieces.map(|piece| Ok::<_, BoxError>(Frame::data(piece))));
    StreamBody::new(frames).boxed_unsync()
}

pub fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

fn at_hand(mut response: Response<Body>, size: usize) -> Response<Body> {
    response.extensions_mut().insert(AtHand(size));
    response
}

pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = response(status, "text/plain; charset=utf-8", full(body));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An error, in JSON or protobuf as the client prefers.
pub fn error(headers: &HeaderMap, status: &Status) -> Response<Body> {
    let offer = accept::Offer { protobuf: true, views: false, watch: false };
    let wire = accept::negotiate(headers, "", offer).map_or(Wire::Json, |accept| accept.wire);
    let code = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(code, wire, &status.to_value());
    if let Some(seconds) = status.details.as_ref().map(|details| details.retry_after_seconds).filter(|s| *s > 0) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(Refused(Arc::new(status.clone())));
    response
}

/// Any object that names its kind.
pub fn value(code: StatusCode, wire: Wire, value: &Value) -> Response<Body> {
    let (wire, bytes) = encode(wire, value);
    let size = bytes.len();
    at_hand(response(code, wire.content_type(), full(bytes)), size)
}

/// JSON where the wanted form does not exist for the kind.
fn encode(wire: Wire, value: &Value) -> (Wire, Vec<u8>) {
    match wire {
        // A Value has only string keys: it always serialises.
        Wire::Json => (wire, serde_json::to_vec(value).unwrap_or_default()),
        Wire::PrettyJson => (wire, pretty(value)),
        Wire::Yaml => (wire, machinery::yaml::to_string(value).into_bytes()),
        Wire::Protobuf => match schema::proto::encode(value) {
            Ok(bytes) => (wire, bytes),
            Err(error) => {
                tracing::debug!(%error, "answering in JSON");
                (Wire::Json, serde_json::to_vec(value).unwrap_or_default())
            }
        },
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The metadata of an object as an object of its own.
pub fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// One object, just written or decoded for another reason.
pub fn object(code: StatusCode, accept: Accept, served: &Served, object: Value, query: &str, now: Timestamp) -> Response<Body> {
    match accept.view {
        View::Object => value(code, accept.wire, &object),
        // A Status (of a deletion) is neither a row nor has metadata.
        _ if meta::kind(&object) == "Status" => value(code, accept.wire, &object),
        View::Metadata => value(code, accept.wire, &partial(&object)),
        View::Table => {
            let metadata = json!({"resourceVersion": meta::text(&object, &["metadata", "resourceVersion"])});
            let table = table::table(served, vec![object], metadata, Include::parse(query), now, true);
            value(code, accept.wire, &table)
        }
    }
}

/// One object that was written, in the bytes that were stored where the client takes them so.
pub fn written(
    code: StatusCode,
    accept: Accept,
    served: &Served,
    object: Value,
    stored: Option<&Entry>,
    query: &str,
    now: Timestamp,
) -> Response<Body> {
    match (accept.view, accept.wire, stored) {
        (View::Object, Wire::Json, Some(entry)) => {
            let bytes = entry.bytes();
            at_hand(response(code, accept.wire.content_type(), full(bytes.clone())), bytes.len())
        }
        (View::Object, Wire::Protobuf, Some(entry)) => {
            // Watchers that take protobuf get the same bytes.
            let bytes = entry.protobuf(|_| schema::proto::encode(&object).map(Bytes::from).unwrap_or_default()).clone();
            if bytes.is_empty() {
                return self::object(code, accept, served, object, query, now);
            }
            let size = bytes.len();
            at_hand(response(code, accept.wire.content_type(), full(bytes)), size)
        }
        _ => self::object(code, accept, served, object, query, now),
    }
}

/// One object from memory: its bytes as they are, where the client takes them so.
pub fn entry(accept: Accept, served: &Served, entry: &Entry, query: &str, now: Timestamp) -> Response<Body> {
    if accept.view == View::Object && served.serves_entry_bytes() {
        match accept.wire {
            Wire::Json => return response(StatusCode::OK, accept.wire.content_type(), full(entry.bytes().clone())),
            Wire::Protobuf => {
                let bytes = protobuf(entry);
                if !bytes.is_empty() {
                    return response(StatusCode::OK, accept.wire.content_type(), full(bytes));
                }
            }
            Wire::PrettyJson | Wire::Yaml => {}
        }
    }
    match entry.value() {
        Some(stored) => object(StatusCode::OK, accept, served, served.from_storage(stored), query, now),
        None => error(&HeaderMap::new(), &Status::internal("the stored object cannot be read")),
    }
}

/// The enveloped protobuf of an entry, kept beside its JSON; empty when the kind has none.
fn protobuf(entry: &Entry) -> Bytes {
    let encode = |json: &Bytes| {
        let value = serde_json::from_slice::<Value>(json).ok();
        value.and_then(|value| schema::proto::encode(&value).ok()).map(Bytes::from).unwrap_or_default()
    };
    entry.protobuf(encode).clone()
}

/// A page of a list.
pub fn list(accept: Accept, served: &Served, page: Page, query: &str, now: Timestamp) -> Response<Body> {
    let metadata = list_metadata(&page);
    if accept.view == View::Object && accept.wire == Wire::Json && served.serves_entry_bytes() {
        let head = list_head(served, &metadata);
        let objects: usize = page.entries.iter().map(|entry| entry.bytes().len() + 1).sum();
        let size = head.len() + objects.saturating_sub(1) + LIST_END.len();
        return at_hand(response(StatusCode::OK, accept.wire.content_type(), pieces(list_pieces(head, page.entries))), size);
    }
    if accept.view == View::Object
        && accept.wire == Wire::Protobuf
        && served.serves_entry_bytes()
        && let Some(items) = protobuf_list::size_of_items(page.entries.iter().map(protobuf))
    {
        let head = protobuf_list::Head {
            api_version: &served.api_version(),
            kind: &served.resource.list_kind,
            resource_version: &page.revision.to_string(),
            continue_token: &page.continue_token,
            remaining: page.remaining.filter(|remaining| *remaining > 0).map(|remaining| remaining as u64),
        };
        let (size, list) = protobuf_list::pieces(&head, items, page.entries.into_iter().map(|entry| protobuf(&entry)));
        return at_hand(response(StatusCode::OK, accept.wire.content_type(), pieces(coalesce(list))), size);
    }
    let decoded = page.entries.iter().filter_map(EntryExt::value).map(|stored| served.from_storage(stored));
    objects(accept, served, decoded.collect(), metadata, query, now)
}

/// A list of objects at hand; `metadata` is the list's.
pub fn objects(
    accept: Accept,
    served: &Served,
    objects: Vec<Value>,
    metadata: Value,
    query: &str,
    now: Timestamp,
) -> Response<Body> {
    let answer = match accept.view {
        View::Object => {
            let items = if served.custom().is_some() { objects } else { objects.into_iter().map(without_kind).collect() };
            json!({"kind": served.resource.list_kind, "apiVersion": served.api_version(), "metadata": metadata, "items": items})
        }
        View::Metadata => {
            let items: Vec<Value> = objects.iter().map(partial).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
        }
        View::Table => table::table(served, objects, metadata, Include::parse(query), now, true),
    };
    value(StatusCode::OK, accept.wire, &answer)
}

fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if !page.continue_token.is_empty() {
        metadata["continue"] = json!(page.continue_token);
    }
    if let Some(remaining) = page.remaining.filter(|remaining| *remaining > 0) {
        metadata["remainingItemCount"] = json!(remaining);
    }
    metadata
}

/// Items of a list do not repeat their kind, as in upstream's typed lists.
fn without_kind(mut object: Value) -> Value {
    let map = meta::as_object_mut(&mut object);
    map.remove("apiVersion");
    map.remove("kind");
    object
}

const LIST_END: &[u8] = b"]}\n";

fn list_head(served: &Served, metadata: &Value) -> Bytes {
    let (kind, api_version) = (&served.resource.list_kind, served.api_version());
    Bytes::from(format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#))
}

fn list_pieces(head: Bytes, entries: Vec<Entry>) -> impl Iterator<Item = Bytes> {
    let objects = entries.into_iter().enumerate().flat_map(|(index, entry)| {
        let comma: &[u8] = if index > 0 { b"," } else { b"" };
        [Bytes::from_static(comma), entry.bytes().clone()]
    });
    coalesce(std::iter::once(head).chain(objects).chain([Bytes::from_static(LIST_END)]))
}

/// Small pieces are put together: a frame costs more than copying a few kilobytes.
fn coalesce(pieces: impl Iterator<Item = Bytes>) -> impl Iterator<Item = Bytes> {
    const CHUNK_BYTES: usize = 64 * 1024;
    let mut pieces = pieces.peekable();
    std::iter::from_fn(move || {
        let first = pieces.next()?;
        if first.len() >= CHUNK_BYTES {
            return Some(first);
        }
        let mut chunk = Vec::from(first);
        while let Some(piece) = pieces.next_if(|piece| chunk.len() + piece.len() <= CHUNK_BYTES) {
            chunk.extend_from_slice(&piece);
        }
        Some(Bytes::from(chunk))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_go_together_and_none_is_lost() {
        let large = Bytes::from(vec![b'x'; 70_000]);
        let small = Bytes::from(vec![b'y'; 30_000]);
        let given = [&b"head"[..], &small, &small, b",", &small, &large, b"]"].map(Bytes::copy_from_slice);
        let chunks: Vec<Bytes> = coalesce(given.clone().into_iter()).collect();
        assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [60_005, 30_000, 70_000, 1]);
        assert_eq!(chunks.concat(), given.concat());
    }
}
