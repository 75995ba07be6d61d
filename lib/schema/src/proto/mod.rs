//! JSON to protobuf and back, driven by the table.
//!
//! An object on the wire is the magic number `k8s\0` and a `runtime.Unknown` message which names the kind and holds the object's own
//! message. Scalars are never told apart from their zero value by presence alone, except those the reference types hold by
//! pointer: see `zero_is_kept`.

mod decode;
mod encode;
pub(crate) mod wire;

use serde_json::Value;

use crate::{TypeRef, builtin};

/// The media type of the enveloped form.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch stream of enveloped objects.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
/// What an enveloped object begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Messages nest no deeper than this: only JSON schemas are recursive.
const DEPTH_MAX: usize = 128;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoEnvelope,
    #[error("the protobuf message is damaged: {0}")]
    Malformed(&'static str),
    #[error("no protobuf form is known for {api_version}, kind {kind}")]
    UnknownKind { api_version: String, kind: String },
    #[error("{path} does not fit its protobuf type: {reason}")]
    Unencodable { path: String, reason: &'static str },
}

/// Decodes an enveloped object, list, `Status` or options object; `apiVersion` and `kind` come from the envelope.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtoError> {
    let envelope = Envelope::parse(bytes)?;
    if envelope.content_type.ends_with("json") {
        return serde_json::from_slice(envelope.raw).map_err(|_| ProtoError::Malformed("the JSON inside"));
    }
    let ty = type_of(&envelope.api_version, &envelope.kind)?;
    let mut value = decode::message(envelope.raw, ty)?;
    if let Value::Object(object) = &mut value {
        // A Status is known without a version, and then has none.
        let named = [("apiVersion", envelope.api_version), ("kind", envelope.kind)];
        object.extend(named.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name.to_owned(), text.into())));
    }
    Ok(value)
}

/// The `apiVersion` and `kind` of an enveloped object, without decoding it.
pub fn peek(bytes: &[u8]) -> Result<(String, String), ProtoError> {
    Envelope::parse(bytes).map(|envelope| (envelope.api_version, envelope.kind))
}

/// Encodes an object that names its `apiVersion` and `kind`, with the envelope.
pub fn encode(value: &Value) -> Result<Vec<u8>, ProtoError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    encode_as(value, text("apiVersion"), text("kind"))
}

/// Encodes an object as that kind, whatever it says of itself. For objects inside lists, which name no kind.
pub fn encode_as(value: &Value, api_version: &str, kind: &str) -> Result<Vec<u8>, ProtoError> {
    let ty = type_of(api_version, kind)?;
    let mut out = MAGIC.to_vec();
    wire::put_message(&mut out, 1, |out| {
        wire::put_bytes(out, 1, api_version.as_bytes());
        wire::put_bytes(out, 2, kind.as_bytes());
        Ok(())
    })?;
    wire::put_message(&mut out, 2, |out| encode::message(out, value, ty))?;
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// One frame of a watch stream: the length, then a `WatchEvent` of that type (`ADDED`, …) around the enveloped object.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    wire::put_bytes(&mut out, 1, event.as_bytes());
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::put_bytes(&mut raw, 1, object);
    wire::put_bytes(&mut out, 2, &raw);
    let length = u32::try_from(out.len() - 4).expect("bodies are limited to megabytes");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn type_of(api_version: &str, kind: &str) -> Result<TypeRef<'static>, ProtoError> {
    builtin()
        .type_of_api_version(api_version, kind)
        .ok_or_else(|| ProtoError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() })
}

struct Envelope<'a> {
    api_version: String,
    kind: String,
    content_type: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, ProtoError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(ProtoError::NoEnvelope)?;
        let mut envelope = Self { api_version: String::new(), kind: String::new(), content_type: String::new(), raw: &[] };
        for field in wire::fields(body) {
            match field? {
                (1, wire::Wire::Bytes(meta)) => {
                    for field in wire::fields(meta) {
                        match field? {
                            (1, wire::Wire::Bytes(text)) => envelope.api_version = wire::text(text)?,
                            (2, wire::Wire::Bytes(text)) => envelope.kind = wire::text(text)?,
                            _ => {}
                        }
                    }
                }
                (2, wire::Wire::Bytes(raw)) => envelope.raw = raw,
                (4, wire::Wire::Bytes(text)) => envelope.content_type = wire::text(text)?,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests;
