//! UDP and TCP sockets, with bounds: packets under way, connections, time and questions per connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daemon::metrics::{Counter, Histogram};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::respond::{Carrier, Responder};

/// Queries that wait for other servers at once; more are dropped, as a full socket would.
const UNDER_WAY_MAX: usize = 2000;
const CONNECTIONS_MAX: usize = 256;
const IDLE: Duration = Duration::from_secs(10);

static REQUESTS: Counter = Counter::new("coredns_dns_requests_total", "Counter of DNS requests made per protocol.", &["proto"]);
static RESPONSES: Counter = Counter::new("coredns_dns_responses_total", "Counter of response status codes.", &["rcode"]);
static SECONDS: Histogram = Histogram::new(
    "coredns_dns_request_duration_seconds",
    "Histogram of the time (in seconds) each request took.",
    &[],
    &[0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0, 8.0],
);

async fn respond(responder: &Responder, packet: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
    let begun = std::time::Instant::now();
    REQUESTS.inc(&[if carrier == Carrier::Udp { "udp" } else { "tcp" }]);
    let (bytes, code) = responder.respond(packet, carrier).await?;
    RESPONSES.inc(&[&code.to_str().to_uppercase()]);
    SECONDS.observe(&[], begun.elapsed().as_secs_f64());
    Some(bytes)
}

/// Answers datagrams until the socket fails.
pub async fn udp(socket: UdpSocket, responder: Arc<Responder>) -> io::Result<()> {
    let socket = Arc::new(socket);
    let permits = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut buffer = vec![0; 4096];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer's port was closed: nothing to do with the next query.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let packet = buffer[..length].to_vec();
        let (socket, responder) = (Arc::clone(&socket), Arc::clone(&responder));
        tokio::spawn(async move {
            let _permit = permit;
            if let Some(bytes) = respond(&responder, &packet, Carrier::Udp).await
                && let Err(error) = socket.send_to(&bytes, from).await
            {
                tracing::debug!(%from, %error, "sending an answer");
            }
        });
    }
}

/// Answers connections until the listener fails.
pub async fn tcp(listener: TcpListener, responder: Arc<Responder>) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "accepting");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let responder = Arc::clone(&responder);
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = converse(stream, &responder).await {
                tracing::debug!(%from, %error, "a connection ended");
            }
        });
    }
}

/// One question after the other (RFC 7766), until the client is silent.
async fn converse(mut stream: TcpStream, responder: &Responder) -> io::Result<()> {
    let silent = |_| io::Error::from(io::ErrorKind::TimedOut);
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await.map_err(silent)? {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut packet = vec![0; length.into()];
        timeout(IDLE, stream.read_exact(&mut packet)).await.map_err(silent)??;
        let Some(bytes) = respond(responder, &packet, Carrier::Tcp).await else { return Ok(()) };
        let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
        framed.extend(bytes);
        timeout(IDLE, stream.write_all(&framed)).await.map_err(silent)??;
    }
}
