//! Large answers are compressed for clients that ask for it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::respond::Body;

/// Smaller answers travel as they are: compressing costs more than it saves.
const BYTES_MIN: usize = 128 * 1024;

/// So much of the compressed answer goes at once.
const PIECE_BYTES: usize = 16 * 1024;

/// A response extension: the body is at hand in memory, and has so many bytes.
#[derive(Clone, Copy, Debug)]
pub struct AtHand(pub usize);

/// Compresses the answer if it is large, at hand, and the client takes gzip.
pub fn apply(request: &HeaderMap, response: Response<Body>) -> Response<Body> {
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
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Response::from_parts(parts, gzip(body))
}

/// Compressed as the client takes it: the whole answer is in memory in neither form.
fn gzip(body: Body) -> Body {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let frames = stream::unfold(Some((body, encoder)), |state| async {
        let (mut body, mut encoder) = state?;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Err(error) = encoder.write_all(frame.data_ref().map_or(&[], |data| data)) {
                        return Some((Err(error.into()), None));
                    }
                    if encoder.get_ref().len() >= PIECE_BYTES {
                        let piece = std::mem::take(encoder.get_mut());
                        return Some((Ok(Frame::data(piece.into())), Some((body, encoder))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => {
                    let end = encoder.finish().map(|end| Frame::data(end.into()));
                    return Some((end.map_err(Into::into), None));
                }
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use bytes::Bytes;
    use flate2::read::GzDecoder;
    use http::StatusCode;

    use super::*;
    use crate::respond;

    async fn answered(accepts: &'static str, content: &[u8], pieces: usize) -> (Response<()>, Vec<u8>) {
        let frames: Vec<_> = content
            .chunks(content.len().div_ceil(pieces))
            .map(|piece| Ok::<_, respond::BoxError>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let mut response = respond::response(StatusCode::OK, "text/plain", StreamBody::new(stream::iter(frames)).boxed_unsync());
        response.extensions_mut().insert(AtHand(content.len()));
        let mut request = HeaderMap::new();
        request.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepts));
        let (parts, body) = apply(&request, response).into_parts();
        (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn large_answers_are_compressed_for_those_who_take_it() {
        let content: Vec<u8> =
            (0..600_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_string().into_bytes()).collect();
        for pieces in [1, 40] {
            let (head, body) = answered("br;q=1.0, gzip;q=0.5", &content, pieces).await;
            assert_eq!(head.headers()[header::CONTENT_ENCODING], "gzip");
            assert_eq!(head.headers()[header::VARY], "Accept-Encoding");
            let mut plain = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
            assert!(plain == content && body.len() < content.len());
        }
        for (accepts, content) in [("identity", &content[..]), ("gzip", &content[..BYTES_MIN - 1])] {
            let (head, body) = answered(accepts, content, 3).await;
            assert!(head.headers().get(header::CONTENT_ENCODING).is_none() && body == content);
        }
    }
}
