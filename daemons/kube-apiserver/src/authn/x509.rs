//! Client certificates: the common name is the user, each organization a group.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::user::User;

/// The authorities whose certificates name users.
pub struct ClientCa {
    verifier: Arc<dyn ClientCertVerifier>,
}

/// A client CA file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(transparent)]
    Read(#[from] daemon::tls::TlsError),
    #[error("not a certificate authority")]
    Root(#[source] rustls::Error),
    #[error("building the verifier")]
    Build(#[source] rustls::server::VerifierBuilderError),
}

impl ClientCa {
    pub fn from_file(path: &Path) -> Result<Self, CaError> {
        let mut roots = RootCertStore::empty();
        for certificate in daemon::tls::read_certificates(path)? {
            roots.add(certificate).map_err(CaError::Root)?;
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(CaError::Build)?;
        Ok(Self { verifier })
    }

    /// Whether the chain leads to one of these authorities and is valid now.
    pub fn verifies(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self.verifier.verify_client_cert(leaf, intermediates, now).is_ok()
    }
}

/// The user that a certificate names; none when it has no common name.
pub fn user(leaf: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = certificate.subject().iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    let fingerprint: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let extra = [(super::CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={fingerprint}")])].into();
    (!name.is_empty()).then_some(User { name, groups, extra, ..User::default() })
}
