//! Private keys: made as ECDSA P-256, read in each form that upstream's tools write.

use std::fmt;
use std::path::Path;

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{PemObject, SectionKind};

use crate::der::{self, NULL};
use crate::{Error, Result};

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

pub struct Key(KeyPair);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub fn generate() -> Result<Self> {
        Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// PKCS#8, and the older `RSA PRIVATE KEY` and `EC PRIVATE KEY`.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| Error::Missing("private key"))?;
        Self::from_der(&der)
    }

    /// One section of a PEM text.
    pub(crate) fn from_section(kind: SectionKind, content: &[u8]) -> Result<Self> {
        let der = PrivateKeyDer::from_pem(kind, content.to_vec()).ok_or(Error::Missing("private key"))?;
        Self::from_der(&der)
    }

    fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self> {
        let pkcs8 = match der {
            PrivateKeyDer::Pkcs8(key) => key.secret_pkcs8_der().to_vec(),
            PrivateKeyDer::Pkcs1(key) => {
                let algorithm = der::sequence(&[&der::oid(RSA_ENCRYPTION), NULL]);
                pkcs8(&algorithm, key.secret_pkcs1_der())
            }
            PrivateKeyDer::Sec1(key) => {
                let key = key.secret_sec1_der();
                // The curve is in the key's own parameters; its length tells it too: OCTET STRING of 32 or 48 bytes.
                let curve = if key.windows(PRIME256V1.len()).any(|w| w == PRIME256V1) { PRIME256V1 } else { SECP384R1 };
                pkcs8(&der::sequence(&[&der::oid(EC_PUBLIC_KEY), &der::oid(curve)]), key)
            }
            _ => return Err(Error::Missing("private key")),
        };
        Ok(Self(KeyPair::try_from(pkcs8)?))
    }

    pub fn load(path: &Path) -> Result<Self> {
        Self::from_pem(&read(path)?)
    }

    /// PKCS#8.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }

    /// `SubjectPublicKeyInfo`.
    pub fn public_der(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    pub(crate) fn pkcs8_der(&self) -> &[u8] {
        self.0.serialized_der()
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(self.0.sign(message)?)
    }

    /// The `AlgorithmIdentifier` of what [`Key::sign`] returns.
    pub(crate) fn signature_algorithm(&self) -> Result<Vec<u8>> {
        let algorithm = self.0.algorithm();
        let (oid, parameters): (&[u8], &[u8]) = if algorithm == &rcgen::PKCS_ECDSA_P256_SHA256 {
            (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], &[])
        } else if algorithm == &rcgen::PKCS_ECDSA_P384_SHA384 {
            (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], &[])
        } else if algorithm == &rcgen::PKCS_RSA_SHA256 {
            (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], NULL)
        } else if algorithm == &rcgen::PKCS_ED25519 {
            (&[0x2b, 0x65, 0x70], &[])
        } else {
            return Err(Error::UnsupportedKey("certificate authority's"));
        };
        Ok(der::sequence(&[&der::oid(oid), parameters]))
    }

    pub(crate) fn is_p256(&self) -> bool {
        self.0.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256
    }

    pub(crate) fn is_p384(&self) -> bool {
        self.0.algorithm() == &rcgen::PKCS_ECDSA_P384_SHA384
    }

    pub(crate) fn is_rsa(&self) -> bool {
        self.0.algorithm() == &rcgen::PKCS_RSA_SHA256
    }
}

/// `SubjectPublicKeyInfo` of an `RSAPublicKey`.
pub(crate) fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::sequence(&[&der::oid(RSA_ENCRYPTION), NULL]), &der::bit_string(0, pkcs1)])
}

fn pkcs8(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::integer(&[0]), algorithm, &der::tagged(der::OCTET_STRING, &[key])])
}

pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}
