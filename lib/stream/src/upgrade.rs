//! The HTTP side of an upgrade: which headers ask for it, which answer grants it, and which protocol was agreed on.

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

pub const STREAM_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
pub const ACCEPTED_STREAM_PROTOCOL_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// The `Upgrade` header's value for SPDY.
pub const SPDY: &str = "SPDY/3.1";

/// What a request wants to be upgraded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Spdy,
    WebSocket,
    Other,
}

/// What the request wants to be upgraded to, if to anything.
pub fn requested(headers: &HeaderMap) -> Option<Kind> {
    let asks = tokens(headers, &CONNECTION).any(|t| t.eq_ignore_ascii_case("upgrade"));
    let to = headers.get(UPGRADE)?.to_str().ok()?.trim();
    if !asks {
        return None;
    }
    Some(if to.eq_ignore_ascii_case("websocket") {
        Kind::WebSocket
    } else if to.eq_ignore_ascii_case(SPDY) {
        Kind::Spdy
    } else {
        Kind::Other
    })
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|t| !t.is_empty())
}

/// The WebSocket subprotocols a request offers, best first.
pub fn websocket_protocols(headers: &HeaderMap) -> Vec<&str> {
    tokens(headers, &SEC_WEBSOCKET_PROTOCOL).collect()
}

/// The stream protocols a SPDY request offers, or the one a SPDY response chose.
pub fn stream_protocols(headers: &HeaderMap) -> Vec<&str> {
    tokens(headers, &STREAM_PROTOCOL_VERSION).collect()
}

/// Turns a request's headers into those that ask for SPDY.
pub fn ask_for_spdy(headers: &mut HeaderMap, protocols: &[&str]) {
    strip(headers);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    for protocol in protocols {
        if let Ok(value) = HeaderValue::from_str(protocol) {
            headers.append(STREAM_PROTOCOL_VERSION, value);
        }
    }
}

/// Turns a request's headers into those that ask for a WebSocket.
pub fn ask_for_websocket(headers: &mut HeaderMap, protocols: &[&str]) {
    strip(headers);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Ok(key) = HeaderValue::from_str(&generate_key()) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    if let Ok(value) = HeaderValue::from_str(&protocols.join(", ")) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// Removes everything that has to do with an upgrade.
pub fn strip(headers: &mut HeaderMap) {
    for name in [
        CONNECTION,
        UPGRADE,
        header::SEC_WEBSOCKET_VERSION,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_ACCEPT,
        header::SEC_WEBSOCKET_EXTENSIONS,
        STREAM_PROTOCOL_VERSION,
    ] {
        headers.remove(name);
    }
}

/// The answer that grants a WebSocket; `None` when the request is not a proper WebSocket request.
pub fn grant_websocket<B: Default>(request: &HeaderMap, protocol: &str) -> Option<Response<B>> {
    let version = request.get(header::SEC_WEBSOCKET_VERSION)?;
    let key = request.get(SEC_WEBSOCKET_KEY)?;
    if version != "13" {
        return None;
    }
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?);
    if !protocol.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocol).ok()?);
    }
    Some(response)
}

/// The answer that grants SPDY.
pub fn grant_spdy<B: Default>(protocol: &str) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    if let Ok(value) = HeaderValue::from_str(protocol) {
        headers.insert(STREAM_PROTOCOL_VERSION, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (n, v) in fields {
            map.append(*n, HeaderValue::from_str(v).unwrap());
        }
        map
    }

    #[test]
    fn what_is_asked_for() {
        for (fields, want) in [
            (vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1")], Some(Kind::Spdy)),
            (vec![("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket")], Some(Kind::WebSocket)),
            (vec![("connection", "Upgrade"), ("upgrade", "h2c")], Some(Kind::Other)),
            (vec![("upgrade", "websocket")], None),
            (vec![("connection", "Upgrade")], None),
        ] {
            assert_eq!(requested(&headers(&fields)), want, "{fields:?}");
        }
        let h = headers(&[("sec-websocket-protocol", "v5.channel.k8s.io, a"), ("sec-websocket-protocol", "b")]);
        assert_eq!(websocket_protocols(&h), ["v5.channel.k8s.io", "a", "b"]);
    }

    #[test]
    fn asks_and_grants() {
        let mut h = headers(&[("authorization", "x"), ("sec-websocket-key", "k")]);
        ask_for_spdy(&mut h, &["v4.channel.k8s.io", "v3.channel.k8s.io"]);
        assert_eq!(requested(&h), Some(Kind::Spdy));
        assert_eq!(stream_protocols(&h), ["v4.channel.k8s.io", "v3.channel.k8s.io"]);
        assert!(h.contains_key("authorization") && !h.contains_key("sec-websocket-key"));
        ask_for_websocket(&mut h, &["v5.channel.k8s.io"]);
        let granted: Response<()> = grant_websocket(&h, "v5.channel.k8s.io").unwrap();
        assert_eq!(granted.status(), 101);
        // RFC 6455's own example.
        let h = headers(&[("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]);
        let granted: Response<()> = grant_websocket(&h, "").unwrap();
        assert_eq!(granted.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(grant_websocket::<()>(&HeaderMap::new(), "").is_none());
    }
}
