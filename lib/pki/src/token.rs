//! JSON web tokens: signed by the cluster's key, verified by key id. The only implementation: service accounts and OIDC use it.
//!
//! Only the signature and the form are checked here; who may use a token until when is the authenticator's decision.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::key::rsa_spki;
use crate::{Certificate, Error, Key, Result, der};

/// Longer ones are refused unread.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// A key that verifies tokens, with the id by which tokens name it.
#[derive(Clone)]
pub struct PublicKey {
    kid: String,
    spki: Vec<u8>,
    material: Material,
    /// The only algorithm it may be used with, when whoever published it said so.
    algorithm: Option<String>,
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
        Ok(Self { kid, spki: spki.to_vec(), material, algorithm: None })
    }

    /// Every key of a PEM text, in its order: public keys, and those of certificates and private keys.
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>> {
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
            let (kind, content) = section.map_err(|e| Error::parse("PEM text", e))?;
            match kind {
                SectionKind::PublicKey => keys.push(Self::from_spki(&content)?),
                SectionKind::Certificate => {
                    let certificate = Certificate::from_der(&CertificateDer::from(content))?;
                    keys.push(Self::from_spki(&certificate.public_key)?);
                }
                SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
                    keys.push(Self::from_spki(&Key::from_section(kind, &content)?.public_der())?);
                }
                _ => {}
            }
        }
        if keys.is_empty() { Err(Error::Missing("key")) } else { Ok(keys) }
    }

    /// A member of a JSON web key set. None when it is not for signatures, or of a kind that is not supported: a set may
    /// hold keys for other uses.
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |field: &str| jwk[field].as_str();
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(text(field)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let (spki, material) = match (text("kty")?, text("crv").unwrap_or_default()) {
            ("RSA", _) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                let (modulus, exponent) = (without_leading_zeros(&modulus).to_vec(), without_leading_zeros(&exponent).to_vec());
                if modulus.is_empty() || exponent.is_empty() {
                    return None;
                }
                let pkcs1 = der::sequence(&[&der::integer(&modulus), &der::integer(&exponent)]);
                (rsa_spki(&pkcs1), Material::Rsa { pkcs1, modulus, exponent })
            }
            ("EC", curve @ ("P-256" | "P-384")) => {
                let size = if curve == "P-256" { 32 } else { 48 };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != size || y.len() != size {
                    return None;
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                (Vec::new(), if size == 32 { Material::P256(point) } else { Material::P384(point) })
            }
            _ => return None,
        };
        Some(Self { kid: text("kid").unwrap_or_default().to_owned(), spki, material, algorithm: text("alg").map(str::to_owned) })
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The algorithm of the tokens that this key's private half signs here.
    pub fn algorithm(&self) -> &'static str {
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
        if self.algorithm.as_ref().is_some_and(|only| only != algorithm) {
            return false;
        }
        let (verification, key): (&'static dyn VerificationAlgorithm, &[u8]) = match (&self.material, algorithm) {
            (Material::P256(point), "ES256") => (&signature::ECDSA_P256_SHA256_FIXED, point),
            (Material::P384(point), "ES384") => (&signature::ECDSA_P384_SHA384_FIXED, point),
            (Material::Rsa { pkcs1, .. }, "RS256") => (&signature::RSA_PKCS1_2048_8192_SHA256, pkcs1),
            (Material::Rsa { pkcs1, .. }, "RS384") => (&signature::RSA_PKCS1_2048_8192_SHA384, pkcs1),
            (Material::Rsa { pkcs1, .. }, "RS512") => (&signature::RSA_PKCS1_2048_8192_SHA512, pkcs1),
            (Material::Rsa { pkcs1, .. }, "PS256") => (&signature::RSA_PSS_2048_8192_SHA256, pkcs1),
            (Material::Rsa { pkcs1, .. }, "PS384") => (&signature::RSA_PSS_2048_8192_SHA384, pkcs1),
            (Material::Rsa { pkcs1, .. }, "PS512") => (&signature::RSA_PSS_2048_8192_SHA512, pkcs1),
            _ => return false,
        };
        UnparsedPublicKey::new(verification, key).verify(message, signed).is_ok()
    }
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|b| **b == 0).count()..]
}

/// Signs tokens with the cluster's key: ES256 or ES384, or RS256 when a cluster made by other tools has an RSA key.
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
        let ecdsa = |algorithm| {
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.pkcs8_der(), &random);
            pair.map(SigningKey::Ecdsa).map_err(|e| Error::parse("signing key", e))
        };
        let signing = if key.is_p256() {
            ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?
        } else if key.is_p384() {
            ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)?
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
    ///
    /// # Errors
    /// When the claims do not serialise, or the kernel has no randomness.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String> {
        let header = json!({ "alg": self.public.algorithm(), "kid": self.public.kid });
        let claims = serde_json::to_vec(claims).map_err(|e| Error::parse("claims", e))?;
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
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
pub struct Verified<C> {
    pub claims: C,
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

    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Some of the claims, without any check: to see early that a token is by another issuer. Never trust them.
    pub fn peek<C: DeserializeOwned>(token: &str) -> Result<C> {
        decode(split(token)?.claims)
    }

    pub fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<C>> {
        self.verify_by(token, |_| true)
    }

    /// The same, with the algorithms that are accepted at all.
    pub fn verify_by<C: DeserializeOwned>(&self, token: &str, accepted: impl Fn(&str) -> bool) -> Result<Verified<C>> {
        let parts = split(token)?;
        let header: Header = decode(parts.header)?;
        let signature = URL_SAFE_NO_PAD.decode(parts.signature).map_err(|_| Error::TokenMalformed("not base64url"))?;
        if !accepted(&header.alg) {
            return Err(Error::TokenSignature);
        }
        let key = self
            .keys
            .iter()
            .filter(|key| header.kid.as_ref().is_none_or(|kid| *kid == key.kid))
            .find(|key| key.verifies(&header.alg, parts.message.as_bytes(), &signature))
            .ok_or(Error::TokenSignature)?;
        Ok(Verified { claims: decode(parts.claims)?, kid: key.kid.clone() })
    }
}

#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
}

struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    message: &'a str,
    signature: &'a str,
}

/// The three parts, still encoded.
fn split(token: &str) -> Result<Parts<'_>> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Error::TokenMalformed("too long"));
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Error::TokenMalformed("not three parts"))?;
    let (header, claims) = message.split_once('.').ok_or(Error::TokenMalformed("not three parts"))?;
    Ok(Parts { header, claims, message, signature })
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::TokenMalformed("not base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_| Error::TokenMalformed("not JSON"))
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
        let verified = verifier.verify::<Value>(&token).unwrap();
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
            assert!(verifier.verify::<Value>(&token).is_err(), "{case}");
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

    #[test]
    fn published_keys_verify() {
        let signer = signer();
        let jwk = signer.public_key().jwk();
        let token = signer.sign(&json!({ "sub": "a" })).unwrap();
        let verifier = |jwk: &Value| TokenVerifier::new(PublicKey::from_jwk(jwk).into_iter().collect());
        assert!(verifier(&jwk).verify::<Value>(&token).is_ok());
        for (case, field, value) in [
            ("for encryption", "use", json!("enc")),
            ("for another algorithm", "alg", json!("ES384")),
            ("another id", "kid", json!("x")),
            ("a short point", "x", json!("AA")),
            ("a curve that is not supported", "crv", json!("P-521")),
        ] {
            let mut changed = jwk.clone();
            changed[field] = value;
            assert!(verifier(&changed).verify::<Value>(&token).is_err(), "{case}");
        }
        let accepted = TokenVerifier::new(vec![signer.public_key().clone()]);
        assert!(accepted.verify_by::<Value>(&token, |algorithm| algorithm == "RS256").is_err());
    }

    #[test]
    fn several_keys_of_one_file() {
        let (one, two) = (Key::generate().unwrap(), Key::generate().unwrap());
        let keys = PublicKey::all_from_pem(&format!("{}\n{}", one.public_pem(), two.pem())).unwrap();
        assert_eq!(keys.len(), 2);
        assert!(PublicKey::all_from_pem("nothing").is_err());
    }
}
