//! The flags of a daemon's own secure port, with upstream's names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::tls::{ServerTls, TlsError, TlsFiles};

/// `--bind-address`, `--secure-port` and the certificate files.
#[derive(Clone, Debug, clap::Args)]
pub struct ServingArgs {
    /// The IP address on which to listen for the secure port.
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub bind_address: IpAddr,
    /// The port on which to serve HTTPS; 0 to not serve. The daemon's well-known port when not given.
    #[arg(long, value_name = "PORT")]
    pub secure_port: Option<u16>,
    /// File with the x509 certificate for HTTPS, intermediates after it. A self-signed one is made when not given.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the private key that matches --tls-cert-file.
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Any client with a certificate signed by one of the authorities in this file is authenticated by its common name.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
}

/// Opening the secure port failed.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("listening on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("--tls-cert-file and --tls-private-key-file go together")]
    HalfAPair,
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ServingArgs {
    /// Binds the port and loads or makes the certificate. `None` when the port is 0.
    pub async fn open(&self, default_port: u16) -> Result<Option<(TcpListener, Arc<ServerTls>)>, ServingError> {
        let port = self.secure_port.unwrap_or(default_port);
        if port == 0 {
            return Ok(None);
        }
        let client_cas: Vec<PathBuf> = self.client_ca_file.iter().cloned().collect();
        let tls = match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(certificate), Some(key)) => {
                ServerTls::from_files(TlsFiles { certificate: certificate.clone(), key: key.clone(), client_cas })?
            }
            (None, None) => ServerTls::self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()], client_cas)?,
            _ => return Err(ServingError::HalfAPair),
        };
        let address = SocketAddr::new(self.bind_address, port);
        let listener = TcpListener::bind(address).await.map_err(|source| ServingError::Listen { address, source })?;
        Ok(Some((listener, Arc::new(tls))))
    }
}
