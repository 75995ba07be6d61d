//! Service account tokens: JSON web tokens signed by the cluster, verified by key id.
//!
//! Only the signature and the form are checked here; who may use a token until when is the authenticator's decision.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::{Error, Key, Result};

/// Longer ones are refused unread.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// A key that verifies tokens, with the id by which tokens name it.
#[derive(Clone)]
pub struct PublicKey {
    kid: String,
    spki: Vec<u8>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    /// Uncompressed points.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Rsa {
        pkcs1: Vec<u8>,
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl PublicKey {
    pub fn from_spki(spki: &[u8]) -> Result<Self> {
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|e| Error::parse("public key", e))?;
        let bits = info.subject_public_key.data.to_vec();
        let material = match info.parsed().map_err(|e| Error::parse("public key", e))? {
            Parsed::RSA(key) => Material::Rsa {
                modulus: without_leading_zeros(key.modulus).to_vec(),
                exponent: without_leading_zeros(key.exponent).to_vec(),
                pkcs1: bits,
            },
            Parsed::EC(_) if bits.len() == 65 => Material::P256(bits),
            Parsed::EC(_) if bits.len() == 97 => Material::P384(bits),
            _ => return Err(Error::UnsupportedKey("token verification")),
        };
        // As upstream: the digest of the key's PKIX form.
        let kid = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, spki));
        Ok(Self { kid, spki: spki.to_vec(), material })
    }

    /// Every key of a PEM text: public keys, or private ones whose public half is meant.
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>> {
        let mut keys = Vec::new();
        for key in SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()) {
            keys.push(Self::from_spki(&key.map_err(|e| Error::parse("public key", e))?)?);
        }
        if keys.is_empty() {
            keys.push(Self::from_spki(&Key::from_pem(pem)?.public_der())?);
        }
        Ok(keys)
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn algorithm(&self) -> &'static str {
        match self.material {
            Material::P256(_) => "ES256",
            Material::P384(_) => "ES384",
            Material::Rsa { .. } => "RS256",
        }
    }

    /// The key as a member of a JSON web key set.
    pub fn jwk(&self) -> Value {
        let mut jwk = json!({ "use": "sig", "kid": self.kid, "alg": self.algorithm() });
        let members = match &self.material {
            Material::P256(point) | Material::P384(point) => {
                let (x, y) = point[1..].split_at((point.len() - 1) / 2);
                let curve = if point.len() == 65 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) })
            }
            Material::Rsa { modulus, exponent, .. } => {
                json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(exponent) })
            }
        };
        if let (Value::Object(jwk), Value::Object(members)) = (&mut jwk, members) {
            jwk.extend(members);
        }
        jwk
    }

    /// The algorithm is chosen by the key and must agree with the header: a token never picks a weaker one.
    fn verifies(&self, algorithm: &str, message: &[u8], signed: &[u8]) -> bool {
        let (verification, key): (&'static dyn VerificationAlgorithm, &[u8]) = match (&self.material, algorithm) {
            (Material::P256(point), "ES256") => (&signature::ECDSA_P256_SHA256_FIXED, point),
            (Material::P384(point), "ES384") => (&signature::ECDSA_P384_SHA384_FIXED, point),
            (Material::Rsa { pkcs1, .. }, "RS256") => (&signature::RSA_PKCS1_2048_8192_SHA256, pkcs1),
            (Material::Rsa { pkcs1, .. }, "RS384") => (&signature::RSA_PKCS1_2048_8192_SHA384, pkcs1),
            (Material::Rsa { pkcs1, .. }, "RS512") => (&signature::RSA_PKCS1_2048_8192_SHA512, pkcs1),
            (Material::Rsa { pkcs1, .. }, "PS256") => (&signature::RSA_PSS_2048_8192_SHA256, pkcs1),
            _ => return false,
        };
        UnparsedPublicKey::new(verification, key).verify(message, signed).is_ok()
    }
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|b| **b == 0).count()..]
}

/// Signs tokens with the cluster's key: ES256, or RS256 when a cluster made by other tools has an RSA key.
pub struct TokenSigner {
    key: SigningKey,
    public: PublicKey,
    random: SystemRandom,
}

enum SigningKey {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("kid", &self.public.kid).finish_non_exhaustive()
    }
}

impl TokenSigner {
    pub fn new(key: &Key) -> Result<Self> {
        let random = SystemRandom::new();
        let signing = if key.is_p256() {
            let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, key.pkcs8_der(), &random)
                .map_err(|e| Error::parse("signing key", e))?;
            SigningKey::Ecdsa(pair)
        } else if key.is_rsa() {
            SigningKey::Rsa(RsaKeyPair::from_pkcs8(key.pkcs8_der()).map_err(|e| Error::parse("signing key", e))?)
        } else {
            return Err(Error::UnsupportedKey("token signing"));
        };
        Ok(Self { key: signing, public: PublicKey::from_spki(&key.public_der())?, random })
    }

    pub fn from_pem(pem: &str) -> Result<Self> {
        Self::new(&Key::from_pem(pem)?)
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The compact form of a token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let header = json!({ "alg": self.public.algorithm(), "kid": self.public.kid });
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signed = match &self.key {
            SigningKey::Ecdsa(pair) => pair.sign(&self.random, message.as_bytes()).map_err(|_| Error::Random)?.as_ref().to_vec(),
            SigningKey::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &self.random, message.as_bytes(), &mut out).map_err(|_| Error::Random)?;
                out
            }
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed)))
    }
}

/// The claims of a token whose signature is right, and the key that made it.
#[derive(Clone, Debug)]
pub struct Verified {
    pub claims: Value,
    pub kid: String,
}

/// Verifies tokens against a set of keys.
#[derive(Clone, Debug, Default)]
pub struct TokenVerifier {
    keys: Vec<PublicKey>,
}

impl TokenVerifier {
    pub fn new(keys: Vec<PublicKey>) -> Self {
        Self { keys }
    }

    /// `{"keys": [...]}`
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.keys.iter().map(PublicKey::jwk).collect::<Vec<_>>() })
    }

    /// The claims without any check: to see early that a token is by another issuer. Never trust them.
    pub fn peek(token: &str) -> Result<Value> {
        Ok(split(token)?.claims)
    }

    pub fn verify(&self, token: &str) -> Result<Verified> {
        let parts = split(token)?;
        let algorithm = parts.header.get("alg").and_then(Value::as_str).ok_or(Error::TokenMalformed("no algorithm"))?;
        let kid = parts.header.get("kid").and_then(Value::as_str);
        self.keys
            .iter()
            .filter(|key| kid.is_none_or(|kid| kid == key.kid))
            .find(|key| key.verifies(algorithm, parts.message.as_bytes(), &parts.signature))
            .map(|key| Verified { claims: parts.claims, kid: key.kid.clone() })
            .ok_or(Error::TokenSignature)
    }
}

struct Parts<'a> {
    header: Value,
    claims: Value,
    message: &'a str,
    signature: Vec<u8>,
}

fn split(token: &str) -> Result<Parts<'_>> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Error::TokenMalformed("too long"));
    }
    let (message, signed) = token.rsplit_once('.').ok_or(Error::TokenMalformed("not three parts"))?;
    let (header, claims) = message.split_once('.').ok_or(Error::TokenMalformed("not three parts"))?;
    let json = |part: &str| -> Result<Value> {
        let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::TokenMalformed("not base64url"))?;
        serde_json::from_slice(&bytes).map_err(|_| Error::TokenMalformed("not JSON"))
    };
    Ok(Parts {
        header: json(header)?,
        claims: json(claims)?,
        message,
        signature: URL_SAFE_NO_PAD.decode(signed).map_err(|_| Error::TokenMalformed("not base64url"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> TokenSigner {
        TokenSigner::new(&Key::generate().unwrap()).unwrap()
    }

    #[test]
    fn signs_and_verifies() {
        let signer = signer();
        let verifier = TokenVerifier::new(vec![signer.public_key().clone()]);
        let token = signer.sign(&json!({ "sub": "system:serviceaccount:default:default" })).unwrap();
        let verified = verifier.verify(&token).unwrap();
        assert_eq!(verified.claims["sub"], "system:serviceaccount:default:default");
        assert_eq!(verified.kid, signer.public_key().kid());
    }

    #[test]
    fn refuses_what_it_should() {
        let (ours, theirs) = (signer(), signer());
        let verifier = TokenVerifier::new(vec![ours.public_key().clone()]);
        let token = ours.sign(&json!({ "sub": "a" })).unwrap();
        let (head, signed) = token.rsplit_once('.').unwrap();
        let (header, _) = head.split_once('.').unwrap();
        let other_claims = URL_SAFE_NO_PAD.encode(json!({ "sub": "admin" }).to_string());
        let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none" }).to_string());
        let cases = [
            ("foreign key", theirs.sign(&json!({ "sub": "a" })).unwrap()),
            ("changed claims", format!("{header}.{other_claims}.{signed}")),
            ("no algorithm", format!("{none}.{other_claims}.")),
            ("two parts", head.to_owned()),
            ("empty", String::new()),
            ("too long", "a".repeat(TOKEN_BYTES_MAX + 1)),
        ];
        for (case, token) in cases {
            assert!(verifier.verify(&token).is_err(), "{case}");
        }
    }

    #[test]
    fn key_set_has_the_point() {
        let key = signer().public_key().clone();
        let jwk = TokenVerifier::new(vec![key.clone()]).jwks()["keys"][0].clone();
        assert_eq!((jwk["kty"].as_str(), jwk["crv"].as_str(), jwk["alg"].as_str()), (Some("EC"), Some("P-256"), Some("ES256")));
        assert_eq!(jwk["kid"], key.kid());
    }

    #[test]
    fn public_keys_from_public_and_private_pem() {
        let key = Key::generate().unwrap();
        let from_public = PublicKey::all_from_pem(&key.public_pem()).unwrap();
        let from_private = PublicKey::all_from_pem(&key.pem()).unwrap();
        assert_eq!(from_public[0].kid(), from_private[0].kid());
    }
}
