//! Connections to kubelets, pods and services: one per request, HTTP/1.1, so that any of them can be upgraded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use machinery::status::Status;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use stream::Io;
use tokio::net::TcpStream;

use crate::respond::BoxError;
use crate::server::KubeletAccess;
use crate::webhook;

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer that explains a failure.
const EXPLANATION_BYTES_MAX: usize = 64 * 1024;

/// How the other side proves itself, and we to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    /// Somebody's pod or service: no authority is known, none is asked for.
    AnyServer,
    /// A kubelet: our client certificate, and its authority if one is configured.
    Kubelet,
    /// A kubelet whose certificate the user does not want verified.
    KubeletUnverified,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{}", webhook::error::dial(.place, .source))]
    Tcp { place: String, source: io::Error },
    #[error("dial tcp {place}: i/o timeout")]
    Timeout { place: String },
    #[error("tls: {0}")]
    Handshake(#[source] io::Error),
    #[error("{host} is not a host name")]
    Name { host: String },
    #[error("reading {what}: {source}")]
    Credentials { what: &'static str, source: rustls::pki_types::pem::Error },
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

impl Backend {
    /// `host:port`, with brackets around an IPv6 address.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// Sends one request and returns the head of the answer. The connection lives as long as what comes of it.
    pub(crate) async fn send<B>(&self, access: &KubeletAccess, mut request: Request<B>) -> Result<Response<Incoming>, DialError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let io = tokio::time::timeout(DIAL_TIMEOUT, self.dial(access))
            .await
            .map_err(|_| DialError::Timeout { place: self.authority() })??;
        if let Ok(host) = HeaderValue::from_str(&self.authority()) {
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
        // A body that is not Unpin is boxed.
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a backend's connection ended");
            }
        });
        Ok(sender.send_request(request).await?)
    }

    async fn dial(&self, access: &KubeletAccess) -> Result<Box<dyn Io>, DialError> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|source| DialError::Tcp { place: self.authority(), source })?;
        // Interactive bytes must not wait for more of them.
        let _ = tcp.set_nodelay(true);
        if self.security == Security::Plain {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|_| DialError::Name { host: self.host.clone() })?;
        let config = client_config(self.security, access)?;
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(DialError::Handshake)?;
        Ok(Box::new(tls))
    }
}

/// Files are read for every connection: they are few, and rotated certificates count at once.
fn client_config(security: Security, access: &KubeletAccess) -> Result<ClientConfig, DialError> {
    let builder = ClientConfig::builder();
    let authority = access.certificate_authority.as_ref().filter(|_| security == Security::Kubelet);
    let builder = match authority {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let what = "--kubelet-certificate-authority";
            for certificate in CertificateDer::pem_file_iter(path).map_err(|source| DialError::Credentials { what, source })? {
                roots.add(certificate.map_err(|source| DialError::Credentials { what, source })?)?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.dangerous().with_custom_certificate_verifier(client::config::accept_any_certificate()),
    };
    let ours = (&access.client_certificate, &access.client_key);
    let config = match ours {
        (Some(certificate), Some(key)) if security != Security::AnyServer => {
            let what = "--kubelet-client-certificate";
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|source| DialError::Credentials { what, source })?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| DialError::Credentials { what: "--kubelet-client-key", source })?;
            builder.with_client_auth_cert(chain, key)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(config)
}

/// The text of an answer that explains a failure.
pub(super) async fn explanation(answer: Response<Incoming>) -> String {
    match Limited::new(answer.into_body(), EXPLANATION_BYTES_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim_end().to_owned(),
        Err(_) => String::new(),
    }
}

/// A backend's failure as ours: a Status if it sent one, else what upstream makes of the code.
pub(super) async fn failure(answer: Response<Incoming>) -> Status {
    let code = answer.status();
    let text = explanation(answer).await;
    if let Ok(status) = serde_json::from_str::<Status>(&text)
        && status.kind == "Status"
    {
        return status;
    }
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => {
            let mut status = Status::no_such_path();
            status.message = format!("the server could not find the requested resource ( {text})");
            status
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Status::internal(format!("the kubelet refused the API server: {code}: {text}"))
        }
        _ => Status::internal(text),
    }
}

/// Headers that belong to one connection, and those that carry the client's credentials.
pub(crate) fn strip_connection(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .into_iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}
