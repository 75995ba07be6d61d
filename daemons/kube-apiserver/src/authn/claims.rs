//! The claims of service account tokens.

use serde::{Deserialize, Serialize};

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
    #[serde(skip_serializing_if = "String::is_empty")]
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

/// The issuer that a token claims, unverified: it decides who looks at the token at all.
pub fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    pki::TokenVerifier::peek::<Issuer>(token).ok().map(|issuer| issuer.iss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_may_be_one_string() {
        let claims: Claims = serde_json::from_str(r#"{"aud":"x","iss":"i"}"#).unwrap();
        assert_eq!(claims.aud, ["x"]);
    }

    #[test]
    fn an_issuer_is_claimed_by_tokens_only() {
        let signer = pki::TokenSigner::new(&pki::Key::generate().unwrap()).unwrap();
        let token = signer.sign(&Claims { iss: "i".into(), ..Claims::default() }).unwrap();
        assert_eq!(claimed_issuer(&token).as_deref(), Some("i"));
        assert_eq!(claimed_issuer("abcdef.0123456789abcdef"), None);
    }
}
