//! Large answers are compressed for clients that ask for it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt;

use crate::respond::{self, Body};

/// Smaller answers travel as they are: compressing costs more than it saves.
const BYTES_MIN: usize = 128 * 1024;

/// A response extension: the body is at hand in memory, and has so many bytes.
#[derive(Clone, Copy, Debug)]
pub struct AtHand(pub usize);

/// Compresses the answer if it is large, at hand, and the client takes gzip.
pub async fn apply(request: &HeaderMap, response: Response<Body>) -> Response<Body> {
    let large = response.extensions().get::<AtHand>().is_some_and(|size| size.0 >= BYTES_MIN);
    let accepts = request
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|coding| coding.trim().split(';').next() == Some("gzip")));
    if !large || !accepts {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // A body at hand cannot fail.
    let bytes = body.collect().await.map(|collected| collected.to_bytes()).unwrap_or_default();
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
    let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    match compressed {
        Ok(compressed) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            Response::from_parts(parts, respond::full(compressed))
        }
        Err(error) => {
            tracing::warn!(%error, "compressing an answer");
            Response::from_parts(parts, respond::full(bytes))
        }
    }
}
