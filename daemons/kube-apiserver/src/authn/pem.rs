//! Keys from PEM files, whatever form they are in.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("no PEM block with a usable key")]
    Empty,
    #[error("malformed PEM")]
    Pem(#[source] x509_parser::error::PEMError),
    #[error("malformed public key")]
    PublicKey,
    #[error("malformed private key: {0}")]
    PrivateKey(ring::error::KeyRejected),
    #[error("signing failed")]
    Sign,
}

/// The signature algorithms of service account tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Es256,
    Rs256,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// A key that verifies tokens.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    pub algorithm: Algorithm,
    /// base64url(SHA-256(SubjectPublicKeyInfo)), as upstream names keys.
    pub id: String,
    /// The raw key: an uncompressed point, or an RSAPublicKey in DER.
    key: Vec<u8>,
}

/// A key that signs tokens.
pub struct SigningKey {
    public: VerifyingKey,
    pair: Pair,
}

enum Pair {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

fn sha256(data: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, data).as_ref().to_vec()
}

impl VerifyingKey {
    /// All public keys of a file: public keys, certificates, or private keys whose public half is taken.
    pub fn from_pem(text: &[u8]) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        for block in Pem::iter_from_buffer(text) {
            let block = block.map_err(KeyError::Pem)?;
            match block.label.as_str() {
                "PUBLIC KEY" => keys.push(Self::from_spki(&block.contents)?),
                "CERTIFICATE" => {
                    let certificate = block.parse_x509().map_err(|_| KeyError::PublicKey)?;
                    keys.push(Self::from_spki(certificate.public_key().raw)?);
                }
                "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => keys.push(SigningKey::from_block(&block)?.public),
                _ => {}
            }
        }
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(keys) }
    }

    fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let (_, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::PublicKey)?;
        let algorithm = match spki.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.10045.2.1" => Algorithm::Es256,
            "1.2.840.113549.1.1.1" => Algorithm::Rs256,
            _ => return Err(KeyError::PublicKey),
        };
        Ok(Self { algorithm, id: base64url(&sha256(der)), key: spki.subject_public_key.data.to_vec() })
    }

    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let result = match self.algorithm {
            Algorithm::Es256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.key).verify(message, signature),
            Algorithm::Rs256 => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.key).verify(message, signature),
        };
        result.is_ok()
    }

    /// The key as `/openid/v1/jwks` publishes it.
    pub fn jwk(&self) -> serde_json::Value {
        match self.algorithm {
            Algorithm::Es256 => {
                // 0x04, then the two coordinates of 32 bytes.
                let (x, y) = self.key.get(1..65).unwrap_or(&[0; 64]).split_at(32);
                serde_json::json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
                    "x": base64url(x), "y": base64url(y)})
            }
            Algorithm::Rs256 => {
                let (n, e) = rsa_components(&self.key).unwrap_or_default();
                serde_json::json!({"use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256",
                    "n": base64url(&n), "e": base64url(&e)})
            }
        }
    }
}

impl SigningKey {
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        for block in Pem::iter_from_buffer(text) {
            let block = block.map_err(KeyError::Pem)?;
            if block.label.ends_with("PRIVATE KEY") {
                return Self::from_block(&block);
            }
        }
        Err(KeyError::Empty)
    }

    fn from_block(block: &Pem) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let der = &block.contents;
        let rsa = |pair: RsaKeyPair| {
            let public = VerifyingKey::from_spki(&rsa_spki(pair.public_key().as_ref()))?;
            Ok(Self { public, pair: Pair::Rsa(Box::new(pair)) })
        };
        if block.label == "RSA PRIVATE KEY" {
            return rsa(RsaKeyPair::from_der(der).map_err(KeyError::PrivateKey)?);
        }
        let pkcs8 = if block.label == "EC PRIVATE KEY" { ec_pkcs8(der) } else { der.clone() };
        match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random) {
            Ok(pair) => {
                let public = VerifyingKey::from_spki(&ec_spki(pair.public_key().as_ref()))?;
                Ok(Self { public, pair: Pair::Ec(Box::new(pair)) })
            }
            Err(_) if block.label == "PRIVATE KEY" => rsa(RsaKeyPair::from_pkcs8(&pkcs8).map_err(KeyError::PrivateKey)?),
            Err(rejected) => Err(KeyError::PrivateKey(rejected)),
        }
    }

    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message).map(|s| s.as_ref().to_vec()).map_err(|_| KeyError::Sign),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(|_| KeyError::Sign)?;
                Ok(signature)
            }
        }
    }
}

pub fn base64url(data: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(data)
}

pub fn base64url_decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

/// One DER element.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n if n < 0x80 => out.push(n as u8),
        n if n < 0x100 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// AlgorithmIdentifier of EC keys on P-256.
const EC_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
];
/// AlgorithmIdentifier of RSA keys.
const RSA: &[u8] = &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let bits = der(0x03, &[&[0], key].concat());
    der(0x30, &[algorithm, &bits].concat())
}

fn ec_spki(point: &[u8]) -> Vec<u8> {
    spki(EC_P256, point)
}

fn rsa_spki(key: &[u8]) -> Vec<u8> {
    spki(RSA, key)
}

/// Wraps the older `EC PRIVATE KEY` form in PKCS#8.
fn ec_pkcs8(sec1: &[u8]) -> Vec<u8> {
    let content = [&[0x02, 0x01, 0x00], EC_P256, &der(0x04, sec1)].concat();
    der(0x30, &content)
}

/// (modulus, exponent) of an RSAPublicKey.
fn rsa_components(key: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    fn element(data: &[u8]) -> Option<(&[u8], &[u8])> {
        let first = *data.get(1)?;
        let (start, length) = match first {
            n if n < 0x80 => (2, n as usize),
            0x81 => (3, *data.get(2)? as usize),
            0x82 => (4, (*data.get(2)? as usize) << 8 | *data.get(3)? as usize),
            _ => return None,
        };
        Some((data.get(start..start + length)?, data.get(start + length..)?))
    }
    fn unsigned(integer: &[u8]) -> Vec<u8> {
        integer.iter().copied().skip_while(|byte| *byte == 0).collect()
    }
    let (content, _) = element(key)?;
    let (n, rest) = element(content)?;
    let (e, _) = element(rest)?;
    Some((unsigned(n), unsigned(e)))
}

/// A fresh key for a test.
#[cfg(test)]
pub fn test_key() -> String {
    use base64::Engine;
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}
