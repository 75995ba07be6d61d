//! Port forwarding, the client's side: for each connection a pair of streams, one for data and one for an error.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Io;
use crate::spdy::{Config, Session, Stream};

/// The stream protocol's name in the upgrade.
pub const PROTOCOL: &str = "portforward.k8s.io";
/// The same inside a WebSocket.
pub const WEBSOCKET_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

const ERROR_BYTES_MAX: u64 = 64 * 1024;

/// Why a connection could not be forwarded, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("opening a stream to port {port}")]
    Open { port: u16, source: io::Error },
    /// What the pod's side said: nothing listens there, for one.
    #[error("an error occurred forwarding {port}: {message}")]
    Remote { port: u16, message: String },
    #[error("lost connection to pod")]
    Lost,
    #[error("forwarding to port {port}")]
    Copy { port: u16, source: io::Error },
}

/// A connection to a pod that carries any number of forwarded ones.
#[derive(Debug)]
pub struct PortForward {
    session: Session,
    next_request: AtomicU64,
}

impl PortForward {
    /// Begins on an upgraded connection: SPDY itself, or a [`crate::tunnel::Tunnel`] around a WebSocket.
    pub fn new<T: Io>(io: T) -> io::Result<Self> {
        Ok(Self { session: Session::new(io, Config::client())?, next_request: AtomicU64::new(0) })
    }

    /// Waits until the pod's side is gone.
    pub async fn closed(&self) {
        self.session.closed().await;
    }

    /// Opens one connection to a port. The first stream carries the data, the second ends with an error's text, or with
    /// nothing.
    pub async fn connect(&self, port: u16) -> io::Result<(Stream, Stream)> {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed).to_string();
        let number = port.to_string();
        let headers = |kind| [("streamType", kind), ("port", number.as_str()), ("requestID", request.as_str())];
        let mut error = self.session.open(&headers("error")).await?;
        error.shutdown().await?;
        let data = self.session.open(&headers("data")).await?;
        Ok((data, error))
    }

    /// Connects one local connection with a port of the pod until it is done.
    pub async fn forward<L>(&self, port: u16, local: L) -> Result<(), ForwardError>
    where
        L: AsyncRead + AsyncWrite + Unpin,
    {
        let (data, error) = self.connect(port).await.map_err(|source| ForwardError::Open { port, source })?;
        let (mut from_pod, mut to_pod) = tokio::io::split(data);
        let (mut from_local, mut to_local) = tokio::io::split(local);
        let upload = async {
            // The pod may stop reading first; the download decides when all is done.
            let _ = tokio::io::copy(&mut from_local, &mut to_pod).await;
            let _ = to_pod.shutdown().await;
            std::future::pending::<io::Result<()>>().await
        };
        let download = async {
            tokio::io::copy(&mut from_pod, &mut to_local).await?;
            to_local.shutdown().await
        };
        let copied = tokio::select! {
            copied = upload => copied,
            copied = download => copied,
        };
        let mut message = String::new();
        let mut error = error.take(ERROR_BYTES_MAX);
        let told = error.read_to_string(&mut message);
        // Old servers do not close the error stream of a connection that went well.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), told).await;
        if !message.is_empty() {
            return Err(ForwardError::Remote { port, message });
        }
        match copied {
            Err(_) if self.session.is_closed() => Err(ForwardError::Lost),
            Err(source) => Err(ForwardError::Copy { port, source }),
            Ok(()) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy;

    /// A pod's side: port 80 answers, others refuse.
    async fn fake_pod<T: Io>(io: T) {
        let session = Session::new(io, spdy::Config::server()).unwrap();
        while let Some(mut error) = session.accept().await {
            assert_eq!(error.header("streamtype"), Some("error"));
            let mut data = session.accept().await.unwrap();
            assert_eq!(data.header("requestid"), error.header("requestid"));
            tokio::spawn(async move {
                if data.header("port") == Some("80") {
                    let mut request = [0; 4];
                    data.read_exact(&mut request).await.unwrap();
                    data.write_all(b"200 OK").await.unwrap();
                } else {
                    error.write_all(b"connection refused").await.unwrap();
                }
                data.shutdown().await.unwrap();
                error.shutdown().await.unwrap();
                let mut rest = Vec::new();
                let _ = data.read_to_end(&mut rest).await;
            });
        }
    }

    #[tokio::test]
    async fn forwards_and_reports() {
        let (a, b) = tokio::io::duplex(64 * 1024);
        tokio::spawn(fake_pod(b));
        let forward = PortForward::new(a).unwrap();
        for _ in 0..3 {
            let (mut user, local) = tokio::io::duplex(1024);
            let talk = async {
                user.write_all(b"GET ").await.unwrap();
                let mut answer = String::new();
                user.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let (done, answer) = tokio::join!(forward.forward(80, local), talk);
            done.unwrap();
            assert_eq!(answer, "200 OK");
        }
        let (_user, local) = tokio::io::duplex(1024);
        let e = forward.forward(81, local).await.unwrap_err();
        assert_eq!(e.to_string(), "an error occurred forwarding 81: connection refused");
    }
}
