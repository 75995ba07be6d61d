//! Reaching a runtime: `unix:///run/containerd/containerd.sock`, or the path alone.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConnectError {
    #[error("runtime endpoint {0:?} is not unix:///PATH")]
    Address(String),
}

/// A channel that connects when it is first used, and again after the runtime came back.
///
/// Calls have no deadline of their own: each caller sets one that fits (a pull takes minutes, a list does not).
pub fn connect(endpoint: &str) -> Result<Channel, ConnectError> {
    let path = socket_path(endpoint)?;
    // The address is never used: the connector decides where to go.
    let channel = Endpoint::from_static("http://runtime.invalid").connect_with_connector_lazy(service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }));
    Ok(channel)
}

fn socket_path(endpoint: &str) -> Result<PathBuf, ConnectError> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if Path::new(path).is_absolute() { Ok(path.into()) } else { Err(ConnectError::Address(endpoint.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (endpoint, want) in [
            ("unix:///run/containerd/containerd.sock", Some("/run/containerd/containerd.sock")),
            ("/var/run/crio/crio.sock", Some("/var/run/crio/crio.sock")),
            ("tcp://1.2.3.4:5", None),
            ("run/x.sock", None),
        ] {
            assert_eq!(socket_path(endpoint).ok().as_deref(), want.map(Path::new), "{endpoint}");
        }
    }
}
