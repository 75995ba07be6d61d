//! The KMS v2 plugin API (KEP-3299): messages, client and server, how a plugin's socket is reached, and the stored form of a
//! value that a plugin's keys seal.
//!
//! [`v2`] is generated (`cargo xtask gen-grpc`) and checked in: building this crate needs neither protoc nor a build script.
//! The server is for plugins made in tests.

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Endpoint;
use tower::service_fn;

#[allow(clippy::all, unreachable_pub, reason = "generated")]
#[rustfmt::skip]
pub mod v2;

pub use prost::Message;
pub use tonic;

pub type Client = v2::key_management_service_client::KeyManagementServiceClient<tonic::transport::Channel>;

/// A client that connects when it is first used, and again after the plugin came back.
///
/// Calls have no deadline of their own: the configuration of each plugin says how long it may take.
#[must_use]
pub fn connect(socket: PathBuf) -> Client {
    // The address is never used: the connector decides where to go.
    let channel = Endpoint::from_static("http://kms.invalid").connect_with_connector_lazy(service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }));
    Client::new(channel)
}
