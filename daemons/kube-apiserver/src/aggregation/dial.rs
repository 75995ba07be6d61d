//! Connections to other servers: HTTP/1.1 over TLS, one for each request, so that any of them can be upgraded. Sessions are
//! resumed, which makes a connection cheap.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::reload::{RECHECK, Reloading};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use serde_json::Value;
use tokio::net::TcpStream;

use super::Access;
use super::remote::Remote;
use crate::lookup::Lookup;
use crate::respond::BoxError;
use crate::webhook::{dial as webhook, resolve};

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How connections to a server are secured: its certificate is checked, and ours shown.
///
/// # Errors
/// What is wrong with the certificates.
pub(super) fn tls(remote: &Remote, access: &Access) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder();
    let builder = if remote.unverified {
        builder.dangerous().with_custom_certificate_verifier(client::config::accept_any_certificate())
    } else {
        builder.with_root_certificates(webhook::roots(&remote.ca_bundle)?)
    };
    match (&access.client_certificate, &access.client_key) {
        (Some(certificate), Some(key)) => {
            let shown =
                ClientCertificate::read(certificate, key).map_err(|e| format!("the front proxy's client certificate: {e}"))?;
            Ok(builder.with_client_cert_resolver(Arc::new(shown)))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// What this server shows, as it is in its files now: certificates are renewed while it runs.
struct ClientCertificate(Reloading<Arc<CertifiedKey>>);

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl ClientCertificate {
    fn read(certificate: &Path, key: &Path) -> Result<Self, std::io::Error> {
        let files = vec![certificate.to_owned(), key.to_owned()];
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let load = move || certified(&certificate, &key).map_err(std::io::Error::other);
        Ok(Self(Reloading::new(files, RECHECK, load)?))
    }
}

fn certified(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| error.to_string())?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| error.to_string())?;
    Ok(Arc::new(certified))
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current().as_ref().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Where a server is: the cluster IP of its Service, or one of its endpoints.
///
/// # Errors
/// Why there is nothing to connect to.
pub(super) fn place(remote: &Remote, access: &Access, lookup: &dyn Lookup) -> Result<(String, u16), String> {
    let service = lookup.object("", "services", &remote.namespace, &remote.service);
    let slices = || endpoint_slices(remote, lookup);
    if access.to_endpoints
        && let Some(service) = &service
    {
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let name = ports.filter(|port| port["port"].as_u64() == Some(remote.port.into())).find_map(|port| port["name"].as_str());
        if let Some(place) = resolve::endpoint(&slices(), name.unwrap_or_default()) {
            return Ok(place);
        }
    }
    resolve::place(&remote.service, remote.port, service.as_ref(), slices)
}

pub(super) fn endpoint_slices(remote: &Remote, lookup: &dyn Lookup) -> Vec<Value> {
    let mut slices = lookup.objects("discovery.k8s.io", "endpointslices", &remote.namespace);
    slices.retain(|slice| machinery::meta::label(slice, "kubernetes.io/service-name") == Some(&remote.service));
    slices
}

/// Sends one request and returns the head of the answer. The connection lives as long as what comes of it.
///
/// # Errors
/// Why there is no answer, in words.
pub(super) async fn send<B>(remote: &Remote, place: &(String, u16), mut request: Request<B>) -> Result<Response<Incoming>, String>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (host, port) = place;
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let config = remote.tls.clone().ok_or("no transport")?;
    let name = ServerName::try_from(remote.server_name()).map_err(|_| format!("{} is not a host name", remote.server_name()))?;
    let open = async {
        let socket = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| format!("dial tcp {shown}: {e}"))?;
        // Interactive bytes must not wait for more of them.
        let _ = socket.set_nodelay(true);
        tokio_rustls::TlsConnector::from(config).connect(name, socket).await.map_err(|e| format!("tls: {e}"))
    };
    let io = tokio::time::timeout(DIAL_TIMEOUT, open).await.map_err(|_| format!("dial tcp {shown}: i/o timeout"))??;
    if let Ok(host) = HeaderValue::from_str(&shown) {
        request.headers_mut().insert(header::HOST, host);
    }
    // A body that is not Unpin is boxed.
    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|error| error.to_string())?;
    let name = remote.name.clone();
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, name, "a connection to another API server ended");
        }
    });
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// Makes what is kept of a server for its connections.
pub(super) fn prepare(remote: &mut Remote, access: &Access) -> Result<(), String> {
    remote.tls = Some(Arc::new(tls(remote, access)?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_certificate_is_shown() {
        let directory = std::env::temp_dir().join(format!("front-proxy-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (certificate, key) = (directory.join("c.crt"), directory.join("c.key"));
        let renew = |name: &str| {
            let made = pki::Ca::create(name, jiff::Timestamp::now(), jiff::SignedDuration::from_hours(24)).unwrap();
            std::fs::write(&certificate, made.certificate_pem()).unwrap();
            std::fs::write(&key, made.key_pem()).unwrap();
            made.certificate_der().unwrap().to_vec()
        };
        let first = renew("first");
        let files = vec![certificate.clone(), key.clone()];
        let (c, k) = (certificate.clone(), key.clone());
        let load = move || certified(&c, &k).map_err(std::io::Error::other);
        let shown = ClientCertificate(Reloading::new(files, Duration::ZERO, load).unwrap());
        let now = || shown.resolve(&[], &[]).unwrap().cert[0].to_vec();
        assert_eq!(now(), first);
        let second = renew("another, longer name");
        assert_eq!(now(), second);
        std::fs::write(&key, "no key").unwrap();
        assert_eq!(now(), second, "half a renewal is none");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
