//! What has to happen when an answer ends, however it does: sent to its end, cut off by the client, or by the server.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::respond::{Body, BoxError};

/// Drops `guard` with the body.
pub fn hold(body: Body, guard: impl Send + 'static) -> Body {
    Held { body, _guard: guard }.boxed_unsync()
}

struct Held<G> {
    body: Body,
    _guard: G,
}

// Neither field is pinned structurally: the body is a box.
impl<G> Unpin for Held<G> {}

impl<G> HttpBody for Held<G> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_guard_lives_as_long_as_its_body() {
        let guard = Arc::new(());
        let body = hold(crate::respond::full("x"), guard.clone());
        assert_eq!(Arc::strong_count(&guard), 2);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "x");
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}
