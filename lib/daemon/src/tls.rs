//! The server side of TLS: certificates that are read again when their files change, and the peer's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::reload::{RECHECK, Reloading};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("reading {path}")]
    Read { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("no certificate in {path}")]
    Empty { path: PathBuf },
    #[error("certificate {path} and its key can't be used")]
    Pair { path: PathBuf, source: rustls::Error },
    #[error("client CA {path} can't be used")]
    ClientCa { path: PathBuf, source: rustls::server::VerifierBuilderError },
    #[error("making a self-signed certificate")]
    SelfSigned(#[source] rcgen::Error),
}

/// Where a server's certificates come from.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Certificates of clients are asked for, and verified against these when given. A client without one is let in:
    /// authentication happens above, where other credentials count too.
    pub client_cas: Vec<PathBuf>,
}

impl TlsFiles {
    fn load(&self, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let chain = read_certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::Read { path: self.key.clone(), source })?;
        build(chain, key, &self.client_cas, alpn, &self.certificate)
    }
}

fn build(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_cas: &[PathBuf],
    alpn: &[&[u8]],
    path: &Path,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder();
    let builder = if let Some(first) = client_cas.first() {
        let mut roots = RootCertStore::empty();
        for ca in client_cas {
            for certificate in read_certificates(ca)? {
                roots.add(certificate).map_err(|source| TlsError::Pair { path: ca.clone(), source })?;
            }
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .allow_unauthenticated()
            .build()
            .map_err(|source| TlsError::ClientCa { path: first.clone(), source })?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|source| TlsError::Pair { path: path.to_owned(), source })?;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// All certificates of a PEM file; at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read { path: path.to_owned(), source };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}

/// A server's TLS configuration; after the files changed, new connections get the new certificates.
pub struct ServerTls {
    config: Reloading<Arc<ServerConfig>>,
}

const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

impl ServerTls {
    /// Reads the files; h2 and http/1.1 are offered.
    pub fn from_files(files: TlsFiles) -> Result<Self, TlsError> {
        let watched = [&files.certificate, &files.key].into_iter().chain(&files.client_cas).cloned().collect();
        Ok(Self { config: Reloading::new(watched, RECHECK, move || files.load(ALPN).map(Arc::new))? })
    }

    /// A certificate made for this process's life, as upstream's daemons do without `--tls-cert-file`.
    pub fn self_signed(names: &[String], client_cas: Vec<PathBuf>) -> Result<Self, TlsError> {
        let key = rcgen::KeyPair::generate().map_err(TlsError::SelfSigned)?;
        let mut params = rcgen::CertificateParams::new(names.to_vec()).map_err(TlsError::SelfSigned)?;
        let common_name = names.first().map_or("localhost", String::as_str);
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{common_name}@self-signed"));
        let certificate = params.self_signed(&key).map_err(TlsError::SelfSigned)?.der().clone();
        let key = key.serialize_der();
        let watched = client_cas.clone();
        let load = move || {
            let key = PrivateKeyDer::Pkcs8(key.clone().into());
            build(vec![certificate.clone()], key, &client_cas, ALPN, Path::new("self-signed")).map(Arc::new)
        };
        Ok(Self { config: Reloading::new(watched, RECHECK, load)? })
    }

    /// The configuration for a new connection. Files that can't be read leave the last good one in place.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.current())
    }
}

/// The verified certificates that the peer of a connection presented, its own first; a request extension.
#[derive(Clone, Debug, Default)]
pub struct PeerCertificates(pub Option<Arc<Vec<CertificateDer<'static>>>>);
