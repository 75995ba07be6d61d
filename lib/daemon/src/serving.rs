//! The flags of a daemon's own secure port, with upstream's names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::ArgAction::Set;
use tokio::net::{TcpListener, TcpSocket};

use crate::endpoints::{AlwaysAllowed, MetricsAccess};
use crate::feature_gates::parse_bool;
use crate::http::Limits;
use crate::sni::SniFiles;
use crate::tls::{ServerTls, TlsError, TlsFiles, TlsOffer};
use crate::tls_policy::TlsPolicy;

/// Certificates, and what is agreed to in handshakes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsArgs {
    /// File with the x509 certificate for HTTPS, intermediates after it. A self-signed one is made when not given.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the private key that matches --tls-cert-file.
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: Option<PathBuf>,
    /// A pair of certificate and key for other names: CERTIFICATE,KEY or CERTIFICATE,KEY:NAME,NAME. Names may begin with `*.`;
    /// without them the certificate's are taken. May be given several times.
    #[arg(long, value_name = "FILES")]
    pub tls_sni_cert_key: Vec<SniFiles>,
    /// Minimum TLS version: VersionTLS10, VersionTLS11, VersionTLS12, VersionTLS13. Nothing below 1.2 is agreed to.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "VERSION")]
    pub tls_min_version: String,
    /// Cipher suites for TLS 1.2, with Go's names, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "SUITES")]
    pub tls_cipher_suites: Vec<String>,
    /// Groups for the exchange of keys, as numbers of IANA's registry: 23 (P-256), 24 (P-384), 29 (X25519).
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    pub tls_curve_preferences: Vec<u16>,
    /// Serve HTTP/1.1 alone.
    #[arg(long, default_value_t = false, action = Set, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = parse_bool, value_name = "BOOL")]
    pub disable_http2_serving: bool,
    /// How many requests a client may have under way on one HTTP/2 connection; 0 for the default.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub http2_max_streams_per_connection: u32,
    /// Let other processes listen on the same port (SO_REUSEPORT).
    #[arg(long, default_value_t = false, action = Set, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = parse_bool, value_name = "BOOL")]
    pub permit_port_sharing: bool,
}

/// `--bind-address`, `--secure-port`, who its clients are, and [`TlsArgs`].
#[derive(Clone, Debug, clap::Args)]
pub struct ServingArgs {
    /// The IP address on which to listen for the secure port.
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub bind_address: IpAddr,
    /// The port on which to serve HTTPS; 0 to not serve. The daemon's well-known port when not given.
    #[arg(long, value_name = "PORT")]
    pub secure_port: Option<u16>,
    /// Any client with a certificate signed by one of the authorities in this file is authenticated by its common name.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Paths that need no authorization; a `*` at the end stands for any rest.
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez", value_name = "PATHS")]
    pub authorization_always_allow_paths: Vec<String>,
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// Opening the secure port failed.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("listening on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("--tls-cert-file and --tls-private-key-file go together")]
    HalfAPair,
    #[error("{0}")]
    Policy(String),
    #[error("--authorization-always-allow-paths: {0}")]
    AlwaysAllowed(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl TlsArgs {
    /// What is offered beside the server's own certificate.
    pub fn offer(&self) -> Result<TlsOffer, ServingError> {
        let policy = TlsPolicy::parse(&self.tls_min_version, &self.tls_cipher_suites, &self.tls_curve_preferences);
        Ok(TlsOffer {
            policy: policy.map_err(ServingError::Policy)?,
            sni: self.tls_sni_cert_key.clone(),
            http2: !self.disable_http2_serving,
        })
    }

    /// Loads the certificate, or makes one for `names`.
    pub fn server(&self, names: &[String], client_cas: Vec<PathBuf>) -> Result<ServerTls, ServingError> {
        let offer = self.offer()?;
        Ok(match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(certificate), Some(key)) => {
                ServerTls::from_files(TlsFiles { certificate: certificate.clone(), key: key.clone(), client_cas }, offer)?
            }
            (None, None) => ServerTls::self_signed(names, client_cas, offer)?,
            _ => return Err(ServingError::HalfAPair),
        })
    }

    /// The server's bounds.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if self.http2_max_streams_per_connection > 0 {
            limits.streams_per_connection_max = self.http2_max_streams_per_connection;
        }
        limits
    }

    /// Listens on the address.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener, ServingError> {
        // As many as Go takes from the kernel's default.
        const BACKLOG: u32 = 4096;
        let open = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(self.permit_port_sharing)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        open().map_err(|source| ServingError::Listen { address, source })
    }
}

impl ServingArgs {
    /// Who may read what the port serves beside the health endpoints.
    pub fn access(&self) -> Result<MetricsAccess, ServingError> {
        let always = AlwaysAllowed::parse(&self.authorization_always_allow_paths);
        always.map(MetricsAccess::Certificate).map_err(ServingError::AlwaysAllowed)
    }

    /// Binds the port and loads or makes the certificate. `None` when the port is 0.
    pub fn open(&self, default_port: u16) -> Result<Option<(TcpListener, Arc<ServerTls>)>, ServingError> {
        let port = self.secure_port.unwrap_or(default_port);
        if port == 0 {
            return Ok(None);
        }
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let tls = self.tls.server(&names, self.client_ca_file.iter().cloned().collect())?;
        let listener = self.tls.listen(SocketAddr::new(self.bind_address, port))?;
        Ok(Some((listener, Arc::new(tls))))
    }
}
