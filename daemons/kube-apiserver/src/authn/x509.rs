//! Client certificates: the common name is the user, each organization a group.

use std::path::Path;
use std::sync::Arc;

use daemon::reload::{RECHECK, Reloading};
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::user::User;

/// The authorities whose certificates name users; read again when their file changes.
pub struct ClientCa {
    verifier: Reloading<Arc<dyn ClientCertVerifier>>,
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
        let file = path.to_owned();
        Ok(Self { verifier: Reloading::new(vec![path.to_owned()], RECHECK, move || read(&file))? })
    }

    /// Whether the chain leads to one of these authorities and is valid now.
    pub fn verifies(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self.verifier.current().verify_client_cert(leaf, intermediates, now).is_ok()
    }
}

fn read(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, CaError> {
    let mut roots = RootCertStore::empty();
    for certificate in daemon::tls::read_certificates(path)? {
        roots.add(certificate).map_err(CaError::Root)?;
    }
    WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(CaError::Build).map(|verifier| verifier as _)
}

/// Unix seconds after which a certificate names nobody.
pub fn expires(leaf: &CertificateDer<'_>) -> i64 {
    X509Certificate::from_der(leaf).map_or(0, |(_, certificate)| certificate.validity().not_after.timestamp())
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use pki::{Ca, Profile};
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn users_of_this_authority_until_they_expire() {
        daemon::install_crypto();
        let now = Timestamp::now();
        let hour = SignedDuration::from_hours(1);
        let (ours, other) = (Ca::create("ours", now, hour * 72).unwrap(), Ca::create("other", now, hour * 72).unwrap());
        let path = std::env::temp_dir().join(format!("client-ca-{}", std::process::id()));
        std::fs::write(&path, ours.certificate_pem()).unwrap();
        let ca = ClientCa::from_file(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let leaf = |ca: &Ca| {
            let issued = ca.issue(&Profile::client("ann", Some("dev"), hour), now).unwrap();
            CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()
        };
        let certificate = leaf(&ours);
        assert!(ca.verifies(std::slice::from_ref(&certificate), now));
        assert!(!ca.verifies(std::slice::from_ref(&certificate), now + hour * 2));
        assert!(!ca.verifies(&[leaf(&other)], now));
        assert!(!ca.verifies(&[], now));
        let named = user(&certificate).unwrap();
        assert_eq!((named.name.as_str(), named.groups.as_slice()), ("ann", ["dev".to_owned()].as_slice()));
        assert!(named.extra[super::super::CREDENTIAL_ID][0].starts_with("X509SHA256="));
        assert_eq!(expires(&certificate), (now + hour).as_second());
    }
}
