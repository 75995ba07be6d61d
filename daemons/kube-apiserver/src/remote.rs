//! Servers outside the cluster's API that this one asks: token and access webhooks, the audit log's receiver, OIDC issuers.
//!
//! Connections are kept and shared, HTTP/2 where the other side speaks it. No redirect is followed, every answer is bounded,
//! and none of it appears in an error.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use client::config::{Config, ConfigError};
use client::kubeconfig::{Cluster, User};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls_stream::Stream;

const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_CONNECTIONS_MAX: usize = 8;
/// Tries of one question, and how long after the first the second comes; each later one waits half as long again.
pub const TRIES: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// The authorities that the system trusts, where distributions keep them.
const SYSTEM_AUTHORITIES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the request could not be built: {0}")]
    Request(#[from] http::Error),
    #[error("{0}")]
    Send(#[from] hyper_util::client::legacy::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the answer is too large or was cut off")]
    Body,
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the answer is not what was asked for: {0}")]
    Json(serde_json::Error),
}

impl RemoteError {
    /// Whether the same question may be answered if it is asked again.
    fn is_passing(&self) -> bool {
        match self {
            Self::Send(_) | Self::Timeout(_) => true,
            Self::Status(code) => code.is_server_error() || *code == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }
}

/// One server. Clones share its connections.
#[derive(Clone)]
pub struct Remote {
    config: Arc<Config>,
    client: Client<Connector, Full<Bytes>>,
}

impl Remote {
    /// The server of a kubeconfig file's current context.
    pub fn from_kubeconfig(path: &Path) -> Result<Self, RemoteError> {
        Ok(Self::new(Config::from_kubeconfig(path)?))
    }

    /// The server of an `https://` URL, proven by these authorities, or by those that the system trusts.
    pub fn from_url(url: &str, authorities_pem: Option<&str>) -> Result<Self, RemoteError> {
        let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
        let system = || SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists());
        let cluster = Cluster {
            server: url.to_owned(),
            certificate_authority: if authorities_pem.is_none() { system() } else { None },
            certificate_authority_data: authorities_pem.map(encode),
            ..Cluster::default()
        };
        Ok(Self::new(Config::new(&cluster, &User::default())?))
    }

    fn new(config: Config) -> Self {
        let config = Arc::new(config);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(Connector(config.clone()));
        Self { config, client }
    }

    /// Asks once, and again while the failure may pass, all within `limit`.
    pub async fn ask(&self, question: &Value, limit: Duration) -> Result<Value, RemoteError> {
        let tries = async {
            let mut delay = RETRY_DELAY;
            for _ in 1..TRIES {
                match self.send(Method::POST, Some(question)).await {
                    Err(error) if error.is_passing() => tracing::debug!(%error, "asking again"),
                    answer => return answer,
                }
                tokio::time::sleep(delay).await;
                delay = delay * 3 / 2;
            }
            self.send(Method::POST, Some(question)).await
        };
        tokio::time::timeout(limit, tries).await.unwrap_or(Err(RemoteError::Timeout(limit)))
    }

    /// The document at the URL.
    pub async fn get(&self, limit: Duration) -> Result<Value, RemoteError> {
        tokio::time::timeout(limit, self.send(Method::GET, None)).await.unwrap_or(Err(RemoteError::Timeout(limit)))
    }

    async fn send(&self, method: Method, body: Option<&Value>) -> Result<Value, RemoteError> {
        let path = if self.config.path_prefix.is_empty() { "/" } else { "" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.config.url()))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "kube-apiserver");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = self.config.bearer()? {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(http::Error::from)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let response = self.client.request(request.body(Full::new(bytes))?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|_| RemoteError::Body)?;
        if !status.is_success() {
            return Err(RemoteError::Status(status));
        }
        let bytes = body.to_bytes();
        if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes).map_err(RemoteError::Json) }
    }
}

/// Connects over TLS with the certificates as they are at that moment.
#[derive(Clone)]
struct Connector(Arc<Config>);

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let config = self.0.clone();
        Box::pin(async move {
            let tls = config.tls(&[b"h2", b"http/1.1"]).map_err(io::Error::other)?;
            let name = config.server_name().map_err(io::Error::other)?;
            let connect = async {
                let socket = TcpStream::connect((config.host.as_str(), config.port)).await?;
                socket.set_nodelay(true)?;
                TlsConnector::from(Arc::new(tls)).connect(name, socket).await
            };
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
            Ok(Stream(TokioIo::new(stream)))
        })
    }
}
