//! Certificate authorities, certificates, signing requests, service account tokens, kubeconfigs.
//!
//! Every end-entity certificate, our own or a stranger's, goes through [`Ca::sign`]: the subject, the public key and the
//! alternative names are copied from the request byte for byte, the issuer from the authority's certificate. Private keys
//! never appear in `Debug` output and are written with mode 0600.

mod authority;
mod certificate;
mod der;
mod error;
mod file;
mod key;
mod kubeconfig;
mod request;
mod token;
mod validity;

pub use authority::{Ca, Issued, Profile, Usages};
pub use certificate::Certificate;
pub use error::{Error, Result};
pub use file::write_secret;
pub use key::Key;
pub use kubeconfig::{Credentials, Kubeconfig};
pub use request::Request;
pub use rustls::pki_types::{CertificateDer, PrivateKeyDer};
pub use token::{PublicKey, TokenSigner, TokenVerifier, Verified};
pub use validity::Validity;
