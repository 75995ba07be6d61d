//! JSON Web Tokens of service accounts: signing, and reading what was signed by a known key.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::pem::{KeyError, SigningKey, VerifyingKey, base64url, base64url_decode};

/// The claims of a service account token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Bound,
    pub nbf: i64,
    pub sub: String,
}

/// What the token speaks for, and what it is bound to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bound {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// Makes a token of the claims.
pub fn sign(claims: &Claims, key: &SigningKey) -> Result<String, KeyError> {
    let header = json!({"alg": key.public().algorithm.name(), "kid": key.public().id});
    // Claims hold only strings and numbers, so they always serialise.
    let claims = serde_json::to_vec(claims).unwrap_or_default();
    let message = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(&claims));
    let signature = key.sign(message.as_bytes())?;
    Ok(format!("{message}.{}", base64url(&signature)))
}

/// The issuer that a token claims, unverified: it decides who looks at the token at all.
pub fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let mut parts = token.split('.');
    let payload = parts.nth(1)?;
    parts.next()?;
    parts.next().is_none().then_some(())?;
    serde_json::from_slice::<Issuer>(&base64url_decode(payload)?).ok().map(|issuer| issuer.iss)
}

/// The claims of a token that one of the keys signed. The algorithm is the key's, never the token's choice.
pub fn verify(token: &str, keys: &[VerifyingKey]) -> Option<Claims> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let header: Header = serde_json::from_slice(&base64url_decode(header)?).ok()?;
    let signature = base64url_decode(signature)?;
    let verified = keys
        .iter()
        .filter(|key| key.algorithm.name() == header.alg && (header.kid.is_empty() || header.kid == key.id))
        .any(|key| key.verifies(message.as_bytes(), &signature));
    if !verified {
        return None;
    }
    serde_json::from_slice(&base64url_decode(payload)?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::pem::test_key;
    use super::*;

    #[test]
    fn a_token_survives_and_a_changed_one_does_not() {
        let key = test_key();
        let keys = VerifyingKey::from_pem(key.as_bytes()).unwrap();
        let key = SigningKey::from_pem(key.as_bytes()).unwrap();
        let claims = Claims { sub: "system:serviceaccount:a:b".into(), iss: "i".into(), exp: 5, ..Claims::default() };
        let token = sign(&claims, &key).unwrap();
        assert_eq!(verify(&token, &keys), Some(claims));
        assert_eq!(claimed_issuer(&token).as_deref(), Some("i"));
        let forged = token.replacen('.', &format!(".{}", base64url(b"x")), 1);
        assert_eq!(verify(&forged, &keys), None);
        let none = format!("{}.{}.", base64url(br#"{"alg":"none"}"#), token.split('.').nth(1).unwrap());
        assert_eq!(verify(&none, &keys), None);
    }

    #[test]
    fn the_key_is_published() {
        let key = test_key();
        let jwk = VerifyingKey::from_pem(key.as_bytes()).unwrap()[0].jwk();
        assert_eq!(jwk["crv"], "P-256");
        assert_eq!(base64url_decode(jwk["x"].as_str().unwrap()).unwrap().len(), 32);
    }

    #[test]
    fn an_audience_may_be_one_string() {
        let claims: Claims = serde_json::from_str(r#"{"aud":"x","iss":"i"}"#).unwrap();
        assert_eq!(claims.aud, ["x"]);
    }
}
