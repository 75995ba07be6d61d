//! Streaming protocols: SPDY/3.1, WebSocket channels, remote commands and port forwarding.
//!
//! Everything works over any connection that was upgraded; who dials and who answers the HTTP request is the caller's
//! affair. [`upgrade`] knows the headers of both ways to upgrade.

pub mod channel;
pub mod portforward;
pub mod remotecommand;
pub mod spdy;
pub mod translate;
pub mod tunnel;
pub mod upgrade;

/// A connection after its upgrade.
pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static> Io for T {}
