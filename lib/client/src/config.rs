//! Where an API server is and how to authenticate to it; certificates and tokens are read again for each connection.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::kubeconfig::{Cluster, Kubeconfig, KubeconfigError, User};

const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error("server address {0:?} is not https://HOST[:PORT]")]
    Server(String),
    #[error("{what} can't be read from {from}")]
    Pem { what: &'static str, from: String, source: rustls::pki_types::pem::Error },
    #[error("{what} is not base64")]
    Base64 { what: &'static str, source: base64::DecodeError },
    #[error("credentials can't be used")]
    Tls(#[from] rustls::Error),
    #[error("reading {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("not in a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")]
    NotInCluster,
    #[error("{0} in a kubeconfig is not supported")]
    Unsupported(&'static str),
}

/// PEM text from a file, read when it is needed, or from the kubeconfig itself.
#[derive(Clone)]
enum Pem {
    File(PathBuf),
    Inline(Arc<[u8]>),
}

impl Pem {
    fn of(what: &'static str, file: Option<&PathBuf>, data: Option<&String>) -> Result<Option<Self>, ConfigError> {
        if let Some(data) = data.filter(|d| !d.is_empty()) {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(data.trim())
                .map_err(|source| ConfigError::Base64 { what, source })?;
            return Ok(Some(Self::Inline(bytes.into())));
        }
        Ok(file.filter(|f| !f.as_os_str().is_empty()).map(|f| Self::File(f.clone())))
    }

    fn read(&self) -> Result<Arc<[u8]>, ConfigError> {
        match self {
            Self::File(path) => {
                Ok(std::fs::read(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?.into())
            }
            Self::Inline(bytes) => Ok(bytes.clone()),
        }
    }

    fn origin(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Inline(_) => "the kubeconfig".to_owned(),
        }
    }
}

#[derive(Clone)]
enum Token {
    Inline(String),
    File(PathBuf),
}

/// A server and credentials. No Debug: it holds secrets.
#[derive(Clone)]
pub struct Config {
    pub host: String,
    pub port: u16,
    /// Of the server address; put before every request's path. Without a slash at its end.
    pub path_prefix: String,
    /// The namespace of the context, `default` when it names none.
    pub namespace: String,
    pub user_agent: String,
    /// The headers that say who to act as.
    pub impersonation: Vec<(String, String)>,
    server_name: Option<String>,
    ca: Option<Pem>,
    insecure: bool,
    certificate: Option<(Pem, Pem)>,
    token: Option<Token>,
    /// `http://`: without TLS, as behind `kctl proxy`. Daemons refuse it.
    pub plain: bool,
    /// `proxy-url` of the cluster. Daemons refuse it.
    pub proxy_url: Option<String>,
    /// User name and password.
    pub basic: Option<(String, String)>,
}

impl Config {
    /// From a kubeconfig file's current context.
    pub fn from_kubeconfig(path: &Path) -> Result<Self, ConfigError> {
        Self::from_loaded(&Kubeconfig::read(path)?, None)
    }

    pub fn from_loaded(kubeconfig: &Kubeconfig, context: Option<&str>) -> Result<Self, ConfigError> {
        let (cluster, user, context) = kubeconfig.select(context)?;
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err(ConfigError::Unsupported("exec or auth-provider"));
        }
        let mut config = Self::new(cluster, &user)?;
        if let Some(namespace) = context.namespace.as_ref().filter(|n| !n.is_empty()) {
            config.namespace.clone_from(namespace);
        }
        Ok(config)
    }

    pub fn new(cluster: &Cluster, user: &User) -> Result<Self, ConfigError> {
        let (plain, host, port, path_prefix) = split_server(&cluster.server)?;
        let certificate =
            Pem::of("client-certificate-data", user.client_certificate.as_ref(), user.client_certificate_data.as_ref())?
                .zip(Pem::of("client-key-data", user.client_key.as_ref(), user.client_key_data.as_ref())?);
        let token = match (&user.token, &user.token_file) {
            (_, Some(path)) => Some(Token::File(path.clone())),
            (Some(token), None) => Some(Token::Inline(token.clone())),
            (None, None) => None,
        };
        Ok(Self {
            host,
            port,
            path_prefix,
            namespace: "default".to_owned(),
            user_agent: format!("kctl/{}", env!("CARGO_PKG_VERSION")),
            impersonation: user.impersonation(),
            server_name: cluster.tls_server_name.clone(),
            ca: Pem::of(
                "certificate-authority-data",
                cluster.certificate_authority.as_ref(),
                cluster.certificate_authority_data.as_ref(),
            )?,
            insecure: cluster.insecure_skip_tls_verify,
            certificate,
            token,
            plain,
            proxy_url: cluster.proxy_url.clone().filter(|url| !url.is_empty()),
            basic: user.username.clone().map(|name| (name, user.password.clone().unwrap_or_default())),
        })
    }

    /// What only people's clients do is refused: a daemon must not go on without what its kubeconfig asks for.
    pub(crate) fn check_for_daemon(&self) -> Result<(), ConfigError> {
        if self.plain {
            return Err(ConfigError::Server(self.url()));
        }
        if self.proxy_url.is_some() {
            return Err(ConfigError::Unsupported("proxy-url"));
        }
        if self.basic.is_some() {
            return Err(ConfigError::Unsupported("username and password"));
        }
        Ok(())
    }

    /// From the service account of the pod that this process runs in.
    pub fn in_cluster() -> Result<Self, ConfigError> {
        let (Ok(host), Ok(port)) = (std::env::var("KUBERNETES_SERVICE_HOST"), std::env::var("KUBERNETES_SERVICE_PORT")) else {
            return Err(ConfigError::NotInCluster);
        };
        let dir = Path::new(SERVICE_ACCOUNT_DIR);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let cluster = Cluster {
            server: format!("https://{host}:{port}"),
            certificate_authority: Some(dir.join("ca.crt")),
            ..Cluster::default()
        };
        let mut config = Self::new(&cluster, &User { token_file: Some(dir.join("token")), ..User::default() })?;
        if let Ok(namespace) = std::fs::read_to_string(dir.join("namespace")) {
            config.namespace = namespace.trim().to_owned();
        }
        Ok(config)
    }

    /// For a daemon: `kubeconfig` or, without one, the pod's service account; `master` is the server's address in place of the
    /// kubeconfig's, and with no kubeconfig all there is (client-go's `BuildConfigFromFlags`).
    pub fn for_daemon(master: Option<&str>, kubeconfig: Option<&Path>) -> Result<Self, ConfigError> {
        match (kubeconfig, master) {
            (Some(path), None) => Self::from_kubeconfig(path),
            (Some(path), Some(master)) => Self::from_kubeconfig(path)?.with_server(master),
            (None, Some(master)) => Self::new(&Cluster { server: master.to_owned(), ..Cluster::default() }, &User::default()),
            (None, None) => Self::in_cluster(),
        }
    }

    /// The same authority and credentials at another address.
    fn with_server(self, server: &str) -> Result<Self, ConfigError> {
        let (plain, host, port, path_prefix) = split_server(server)?;
        Ok(Self { plain, host, port, path_prefix, ..self })
    }

    /// The same server, as nobody: for those who bring credentials of their own.
    pub fn without_credentials(self) -> Self {
        Self { certificate: None, token: None, impersonation: Vec::new(), basic: None, ..self }
    }

    /// `https://host:port` with the path prefix.
    pub fn url(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{host}:{}{}", self.port, self.path_prefix)
    }

    /// The bearer token as it is now.
    pub fn bearer(&self) -> Result<Option<String>, ConfigError> {
        match &self.token {
            None => Ok(None),
            Some(Token::Inline(token)) => Ok(Some(token.clone())),
            Some(Token::File(path)) => {
                let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                Ok(Some(text.trim().to_owned()))
            }
        }
    }

    /// The credentials change on disk: a connection should not live for ever.
    pub(crate) fn reads_files(&self) -> bool {
        matches!(self.token, Some(Token::File(_))) || matches!(self.certificate, Some((Pem::File(_), _)))
    }

    /// The name that the certificate of the server must have.
    pub fn server_name(&self) -> Result<ServerName<'static>, ConfigError> {
        let name = self.server_name.as_ref().unwrap_or(&self.host);
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(ServerName::IpAddress(ip.into()));
        }
        ServerName::try_from(name.clone()).map_err(|_| ConfigError::Server(name.clone()))
    }

    /// Credentials that a plugin gave: they win over nothing else, because there was nothing else.
    pub fn with_credentials(self, token: Option<String>, pair: Option<(String, String)>) -> Self {
        let pem = |text: String| Pem::Inline(text.into_bytes().into());
        Self { token: token.map(Token::Inline), certificate: pair.map(|(cert, key)| (pem(cert), pem(key))), ..self }
    }

    /// There is a token, a password or a certificate.
    pub fn has_credentials(&self) -> bool {
        self.token.is_some() || self.certificate.is_some() || self.basic.is_some()
    }

    /// TLS with the certificates as they are now.
    pub fn tls(&self, alpn: &[&[u8]]) -> Result<ClientConfig, ConfigError> {
        let builder = ClientConfig::builder();
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(accept_any_certificate())
        } else {
            let mut roots = RootCertStore::empty();
            if let Some(ca) = &self.ca {
                let pem = ca.read()?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    let certificate = certificate.map_err(|source| ConfigError::Pem {
                        what: "the certificate authority",
                        from: ca.origin(),
                        source,
                    })?;
                    roots.add(certificate)?;
                }
            }
            builder.with_root_certificates(roots)
        };
        let mut tls = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let pem = certificate.read()?;
                let chain = CertificateDer::pem_slice_iter(&pem)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|source| ConfigError::Pem { what: "the client certificate", from: certificate.origin(), source })?;
                let pem = key.read()?;
                let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|source| ConfigError::Pem {
                    what: "the client key",
                    from: key.origin(),
                    source,
                })?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Ok(tls)
    }
}

/// Whether it is `http`, host, port and path of `http[s]://host[:port][/path]`.
fn split_server(server: &str) -> Result<(bool, String, u16, String), ConfigError> {
    let wrong = || ConfigError::Server(server.to_owned());
    let uri: http::Uri = server.parse().map_err(|_| wrong())?;
    let plain = match uri.scheme_str() {
        Some("https") => false,
        Some("http") => true,
        _ => return Err(wrong()),
    };
    let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
    Ok((plain, host, port, uri.path().trim_end_matches('/').to_owned()))
}

/// Believes any server: for connections whose user asked for that by name, and for kubelets without a known authority.
pub fn accept_any_certificate() -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    Arc::new(insecure::AcceptAny::new())
}

mod insecure {
    //! `insecure-skip-tls-verify: true`: what the user asked for by name.

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct AcceptAny(CryptoProvider);

    impl AcceptAny {
        pub(super) fn new() -> Self {
            Self(rustls::crypto::ring::default_provider())
        }
    }

    impl ServerCertVerifier for AcceptAny {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses() {
        for (server, want) in [
            ("https://10.0.0.1:6443", Some(("10.0.0.1", 6443, ""))),
            ("https://k8s.example/clusters/a/", Some(("k8s.example", 443, "/clusters/a"))),
            ("https://[::1]:6443", Some(("::1", 6443, ""))),
            ("http://localhost:8080", Some(("localhost", 8080, ""))),
            ("ftp://localhost", None),
            ("10.0.0.1", None),
        ] {
            let got = split_server(server).ok();
            assert_eq!(got.as_ref().map(|(_, h, p, x)| (h.as_str(), *p, x.as_str())), want, "{server}");
        }
    }

    #[test]
    fn another_address_keeps_the_credentials() {
        let config = Config::for_daemon(Some("https://10.0.0.1:6443/a"), None).unwrap();
        assert_eq!(config.url(), "https://10.0.0.1:6443/a");
        let config = config.with_credentials(Some("t".into()), None).with_server("https://[::1]").unwrap();
        assert_eq!((config.url().as_str(), config.bearer().unwrap().as_deref()), ("https://[::1]:443", Some("t")));
        assert!(Config::for_daemon(Some("10.0.0.1"), None).is_err());
    }
}
