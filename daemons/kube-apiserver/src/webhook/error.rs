//! What a failed call says: the words of upstream's client, which tests and people search for.

use std::io;

use machinery::gotext;

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CallError {
    /// The target makes no sense; nothing was sent.
    #[error("{0}")]
    Target(String),
    /// No answer came.
    #[error("Post {}: {why}", gotext::quote(.url))]
    Post { url: String, why: String },
    /// An answer came that is none.
    #[error("{0}")]
    Answer(String),
}

/// What an HTTP status other than success means; `body` may be a `Status` with a message.
pub(super) fn refused(code: u16, body: &[u8]) -> CallError {
    let status = serde_json::from_slice::<serde_json::Value>(body).ok().filter(|value| value["kind"] == "Status");
    if let Some(message) = status.as_ref().and_then(|status| status["message"].as_str()) {
        return CallError::Answer(message.to_owned());
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(2048)]);
    let text = text.trim();
    CallError::Answer(match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 if !text.is_empty() => text.to_owned(),
        403 => "unknown".to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request".to_owned()
        }
        500.. => {
            let text = if text.is_empty() { "unknown" } else { text };
            format!("an error on the server ({}) has prevented the request from succeeding", gotext::quote(text))
        }
        300..=399 => "redirects of a webhook are not followed".to_owned(),
        code => format!("the server responded with the status code {code} but did not return more information"),
    })
}

/// Why a connection could not be opened, as Go's dialer says it.
pub(crate) fn dial(place: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("dial tcp {place}: connect: connection refused"),
        io::ErrorKind::HostUnreachable => format!("dial tcp {place}: connect: no route to host"),
        io::ErrorKind::NetworkUnreachable => format!("dial tcp {place}: connect: network is unreachable"),
        io::ErrorKind::TimedOut => format!("dial tcp {place}: connect: connection timed out"),
        _ => format!("dial tcp {place}: {error}"),
    }
}

/// Why a TLS handshake failed.
pub(super) fn handshake(error: &io::Error, name: &str) -> String {
    use rustls::CertificateError as Certificate;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = match why {
                Certificate::UnknownIssuer | Certificate::BadSignature => "certificate signed by unknown authority".to_owned(),
                Certificate::Expired | Certificate::NotValidYet => "certificate has expired or is not yet valid".to_owned(),
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                    format!("certificate is not valid for {name}")
                }
                other => other.to_string(),
            };
            format!("tls: failed to verify certificate: x509: {why}")
        }
        Some(other) => format!("tls: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let check = |code: u16, body: &str, expected: &str| assert_eq!(refused(code, body.as_bytes()).to_string(), expected);
        check(404, "", "the server could not find the requested resource");
        check(500, "boom\n", "an error on the server (\"boom\") has prevented the request from succeeding");
        check(500, r#"{"kind":"Status","message":"m"}"#, "m");
        check(418, "", "the server responded with the status code 418 but did not return more information");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(dial("10.0.0.1:443", &refused), "dial tcp 10.0.0.1:443: connect: connection refused");
        let post = CallError::Post { url: "https://a/b?timeout=1s".into(), why: "context deadline exceeded".into() };
        assert_eq!(post.to_string(), "Post \"https://a/b?timeout=1s\": context deadline exceeded");
    }
}
