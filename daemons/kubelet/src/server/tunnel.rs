//! Streams between a client and the runtime's streaming server: upgraded on both sides, bytes passed through.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use machinery::status::Status;
use tokio::net::TcpStream;

use super::{Body, full};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// What the runtime must know of the client's request.
fn passed(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "connection" | "upgrade" | "x-stream-protocol-version") || name.starts_with("sec-websocket-")
}

/// Connects to `url` with the client's upgrade request and passes bytes both ways once the runtime agreed.
pub(super) async fn open(mut request: Request<Incoming>, url: &str) -> Result<Response<Body>, Status> {
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let uri: Uri = url.parse().map_err(|_| Status::internal("the runtime answered with an address that is none"))?;
    let authority = uri.authority().ok_or_else(|| Status::internal("the runtime's streaming address has no host"))?.to_string();
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let mut outgoing = Request::builder()
        .method(request.method().clone())
        .uri(path)
        .header(header::HOST, &authority)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(Status::internal)?;
    copy_headers(request.headers(), outgoing.headers_mut(), passed);

    let connect = async {
        let socket =
            TcpStream::connect(&authority).await.map_err(|e| format!("connecting to the runtime's streaming server: {e}"))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a stream to the runtime ended");
            }
        });
        sender.send_request(outgoing).await.map_err(|e| e.to_string())
    };
    let answer = tokio::time::timeout(CONNECT_TIMEOUT, connect)
        .await
        .map_err(|_| Status::internal("the runtime's streaming server did not answer"))?
        .map_err(Status::internal)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refused(answer).await;
    }
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    copy_headers(answer.headers(), response.headers_mut(), passed);
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (client, runtime) = match tokio::try_join!(client, hyper::upgrade::on(answer)) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "a stream was not upgraded"),
        };
        let (mut client, mut runtime) = (TokioIo::new(client), TokioIo::new(runtime));
        // Either end closing ends both.
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut runtime).await {
            tracing::debug!(%error, "a stream ended");
        }
    });
    Ok(response)
}

fn copy_headers(from: &HeaderMap, to: &mut HeaderMap, which: fn(&HeaderName) -> bool) {
    for (name, value) in from.iter().filter(|(name, _)| which(name)) {
        to.append(name.clone(), value.clone());
    }
}

/// The runtime's own refusal; a redirect is not handed on.
async fn refused(answer: Response<Incoming>) -> Result<Response<Body>, Status> {
    let status = answer.status();
    if status.is_redirection() || status.is_success() {
        return Err(Status::internal(format!("the runtime's streaming server answered {status} to an upgrade")));
    }
    let text = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await.map_err(Status::internal)?.to_bytes();
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    Ok(response)
}
