//! What a Secret of type `bootstrap.kubernetes.io/token` says. Pure.

use std::fmt;

use api::Kind;
use api::core::Secret;
use api::jiff::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

pub(super) const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";

/// A token that may sign.
pub(super) struct Token {
    pub(super) id: String,
    secret: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Token {
    /// `None` when the Secret is none that may sign now.
    pub(super) fn read(secret: &Secret, now: Timestamp) -> Option<Self> {
        let id = data(secret, "token-id").filter(|id| secret.name().strip_prefix(NAME_PREFIX) == Some(id.as_str()))?;
        let key = data(secret, "token-secret").filter(|s| !s.is_empty())?;
        let signs = data(secret, "usage-bootstrap-signing").as_deref() == Some("true");
        let alive = match expiration(secret) {
            Expiration::Never => true,
            Expiration::At(end) => end > now,
            Expiration::Unreadable => false,
        };
        (signs && alive && !id.is_empty()).then_some(Self { id, secret: key })
    }

    /// A JSON web signature without the content: `header..signature`, by HMAC-SHA256 with the whole token.
    pub(super) fn sign(&self, content: &str) -> String {
        // Ids are letters and digits: nothing in them needs an escape.
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, self.id));
        let payload = URL_SAFE_NO_PAD.encode(content);
        let key = hmac::Key::new(hmac::HMAC_SHA256, format!("{}.{}", self.id, self.secret).as_bytes());
        let tag = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
    }
}

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiration {
    Never,
    At(Timestamp),
    /// It is taken to have ended.
    Unreadable,
}

pub(super) fn expiration(secret: &Secret) -> Expiration {
    match data(secret, "expiration").filter(|text| !text.is_empty()) {
        None => Expiration::Never,
        Some(text) => text.parse().map_or(Expiration::Unreadable, Expiration::At),
    }
}

fn data(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use api::ByteString;
    use api::metav1::ObjectMeta;

    pub(in crate::bootstrap) fn secret(id: &str, changes: &[(&str, &str)]) -> Secret {
        let mut data: std::collections::BTreeMap<String, ByteString> = std::collections::BTreeMap::new();
        let whole = [("token-id", id), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-signing", "true")];
        for (key, value) in whole.iter().chain(changes) {
            data.insert((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
        }
        Secret {
            metadata: ObjectMeta { name: Some(format!("{NAME_PREFIX}{id}")), ..ObjectMeta::default() },
            data: Some(data),
            type_: Some(TYPE.into()),
            ..Secret::default()
        }
    }

    #[test]
    fn which_tokens_sign() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (changes, want) in [
            (&[][..], true),
            (&[("usage-bootstrap-signing", "false")], false),
            (&[("token-id", "fedcba")], false),
            (&[("token-secret", "")], false),
            (&[("expiration", "2026-01-02T00:00:00Z")], true),
            (&[("expiration", "2026-01-01T00:00:00Z")], false),
            (&[("expiration", "soon")], false),
        ] {
            assert_eq!(Token::read(&secret("abcdef", changes), now).is_some(), want, "{changes:?}");
        }
    }

    #[test]
    fn a_signature_is_that_of_jose() {
        let token = Token { id: "joshua".into(), secret: "abcdef".into() };
        let signature = token.sign("Hear me roar!");
        let (header, tag) = signature.split_once("..").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), br#"{"alg":"HS256","kid":"joshua"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode("Hear me roar!"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"joshua.abcdef");
        assert!(hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).unwrap()).is_ok());
        assert_ne!(token.sign("Hear me roar?"), signature);
    }
}
