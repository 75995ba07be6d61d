//! Opening a connection to a webhook: resolve, connect, prove.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::resolve;
use super::{Address, Target, error};
use crate::lookup::Lookup;
use crate::tls_stream::Stream;

/// What this host trusts, where distributions keep it.
const HOST_ROOTS: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why there is no connection, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DialError(pub(super) String);

/// Makes the connections of one target.
#[derive(Clone)]
pub(super) struct Dialer {
    target: Arc<Target>,
    lookup: Arc<dyn Lookup>,
    tls: TlsConnector,
}

impl Dialer {
    pub(super) fn new(target: Arc<Target>, lookup: Arc<dyn Lookup>) -> Result<Self, String> {
        let mut config = ClientConfig::builder().with_root_certificates(roots(&target.ca_bundle)?).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { target, lookup, tls: TlsConnector::from(Arc::new(config)) })
    }

    fn place(&self) -> Result<resolve::Place, String> {
        match &self.target.address {
            Address::Host { host, port } => Ok((host.clone(), *port)),
            Address::Service { namespace, name, port } => {
                let service = self.lookup.object("", "services", namespace, name);
                let slices = || {
                    let all = self.lookup.objects("discovery.k8s.io", "endpointslices", namespace);
                    let of_service = |slice: &serde_json::Value| {
                        machinery::meta::label(slice, "kubernetes.io/service-name") == Some(name.as_str())
                    };
                    all.into_iter().filter(of_service).collect()
                };
                resolve::place(name, *port, service.as_ref(), slices)
            }
        }
    }

    async fn dial(self) -> Result<Stream, DialError> {
        let (host, port) = self.place().map_err(DialError)?;
        let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let socket = TcpStream::connect((host.as_str(), port)).await.map_err(|e| DialError(error::dial(&shown, &e)))?;
        // A review is one small message that waits for another.
        let _ = socket.set_nodelay(true);
        let name = self.target.server_name();
        let server = match name.parse::<IpAddr>() {
            Ok(ip) => ServerName::IpAddress(ip.into()),
            Err(_) => ServerName::try_from(name.clone()).map_err(|_| DialError(format!("{name} is not a host name")))?,
        };
        let stream = self.tls.connect(server, socket).await.map_err(|e| DialError(error::handshake(&e, &name)))?;
        Ok(Stream(TokioIo::new(stream)))
    }
}

/// The authorities in a bundle; an empty one means those that the host trusts.
pub(crate) fn roots(bundle: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let from_host = || HOST_ROOTS.iter().find_map(|path| std::fs::read(Path::new(path)).ok()).unwrap_or_default();
    let host;
    let pem = if bundle.is_empty() {
        host = from_host();
        &host[..]
    } else {
        bundle
    };
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("unable to load root certificates: {error}"))?;
        match roots.add(certificate) {
            Ok(()) => {}
            // Among the host's many there may be one that this library does not take.
            Err(_) if bundle.is_empty() => {}
            Err(error) => return Err(format!("unable to load root certificates: {error}")),
        }
    }
    if roots.is_empty() && !bundle.is_empty() {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".to_owned());
    }
    Ok(roots)
}

impl tower::Service<Uri> for Dialer {
    type Response = Stream;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Stream, DialError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}
