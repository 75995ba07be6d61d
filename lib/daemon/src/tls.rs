//! The server side of TLS: certificates that are read again when their files change, and the peer's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::reload::{RECHECK, Reloading};
use crate::sni::{ByName, SniFiles};
use crate::tls_policy::TlsPolicy;

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
    #[error("the versions and cipher suites of TLS don't go together")]
    Policy(#[source] rustls::Error),
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

/// What a server offers beside its own certificate.
#[derive(Clone, Debug)]
pub struct TlsOffer {
    pub policy: TlsPolicy,
    /// Certificates for other names.
    pub sni: Vec<SniFiles>,
    /// HTTP/2 beside HTTP/1.1.
    pub http2: bool,
}

impl Default for TlsOffer {
    fn default() -> Self {
        Self { policy: TlsPolicy::default(), sni: Vec::new(), http2: true }
    }
}

impl TlsOffer {
    fn key(&self, certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
        let chain = read_certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Read { path: key.to_owned(), source })?;
        self.certified(chain, key, certificate)
    }

    fn certified(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        path: &Path,
    ) -> Result<CertifiedKey, TlsError> {
        CertifiedKey::from_der(chain, key, &self.policy.provider)
            .map_err(|source| TlsError::Pair { path: path.to_owned(), source })
    }

    fn build(&self, own: CertifiedKey, client_cas: &[PathBuf]) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(self.policy.provider.clone());
        let builder = builder.with_protocol_versions(&self.policy.versions).map_err(TlsError::Policy)?;
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
        let mut by_name = ByName::new(Arc::new(own));
        for SniFiles { certificate, key, names } in &self.sni {
            by_name.add(names, &Arc::new(self.key(certificate, key)?));
        }
        let mut config = builder.with_cert_resolver(Arc::new(by_name));
        let protocols: &[&[u8]] = if self.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.sni.iter().flat_map(|files| [&files.certificate, &files.key])
    }
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

impl ServerTls {
    /// Reads the files.
    pub fn from_files(files: TlsFiles, offer: TlsOffer) -> Result<Self, TlsError> {
        let own = [&files.certificate, &files.key].into_iter().chain(&files.client_cas);
        let watched = own.chain(offer.files()).cloned().collect();
        let load = move || offer.build(offer.key(&files.certificate, &files.key)?, &files.client_cas).map(Arc::new);
        Ok(Self { config: Reloading::new(watched, RECHECK, load)? })
    }

    /// A certificate made for this process's life, as upstream's daemons do without `--tls-cert-file`.
    pub fn self_signed(names: &[String], client_cas: Vec<PathBuf>, offer: TlsOffer) -> Result<Self, TlsError> {
        let key = rcgen::KeyPair::generate().map_err(TlsError::SelfSigned)?;
        let mut params = rcgen::CertificateParams::new(names.to_vec()).map_err(TlsError::SelfSigned)?;
        let common_name = names.first().map_or("localhost", String::as_str);
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{common_name}@self-signed"));
        let certificate = params.self_signed(&key).map_err(TlsError::SelfSigned)?.der().clone();
        let key = key.serialize_der();
        let watched = client_cas.iter().chain(offer.files()).cloned().collect();
        let load = move || {
            let key = PrivateKeyDer::Pkcs8(key.clone().into());
            let own = offer.certified(vec![certificate.clone()], key, Path::new("self-signed"))?;
            offer.build(own, &client_cas).map(Arc::new)
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
