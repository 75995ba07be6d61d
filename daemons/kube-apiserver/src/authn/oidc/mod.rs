//! OpenID Connect: users that another issuer vouches for, with keys that it publishes.
//!
//! Keys are fetched when the server starts, and again when a token names one that is not known, at most every few seconds:
//! a stream of made-up tokens costs the issuer nothing.

pub mod config;
mod expressions;
mod token;

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use pki::{PublicKey, TokenVerifier};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::config::{Anonymous, Issuer};
use self::token::Claims;
use super::claims::claimed_issuer;
use super::service_account::{Accepted, Notes};
use crate::remote::{Remote, RemoteError};

const FETCH_LIMIT: Duration = Duration::from_secs(30);
const FETCH_INTERVAL: Duration = Duration::from_secs(10);
const KEYS_MAX: usize = 128;

/// Who besides the cluster may say who somebody is, and whether nobody may come: what a file can change while the server runs.
pub struct Issuers {
    pub oidc: Vec<Arc<Oidc>>,
    pub anonymous: Anonymous,
}

impl Issuers {
    /// Their keys are fetched from now on. Must be called inside a runtime when there are any.
    pub fn start(issuers: Vec<Issuer>, api_audiences: &[String], anonymous: Anonymous) -> Self {
        let start = |issuer| {
            let oidc = Arc::new(Oidc::new(issuer, api_audiences.to_vec()));
            tokio::spawn(warm_up(Arc::downgrade(&oidc)));
            oidc
        };
        Self { oidc: issuers.into_iter().map(start).collect(), anonymous }
    }

    /// Anonymous alone.
    pub fn none() -> Self {
        Self { oidc: Vec::new(), anonymous: Anonymous::Everywhere }
    }
}

/// Fetches the keys until they are there, so that the first token need not wait for them.
async fn warm_up(oidc: Weak<Oidc>) {
    while let Some(oidc) = oidc.upgrade().filter(|oidc| oidc.keys.load().keys().is_empty()) {
        oidc.refresh().await;
        drop(oidc);
        tokio::time::sleep(FETCH_INTERVAL).await;
    }
}

/// Accepts the tokens of one issuer.
pub struct Oidc {
    issuer: Issuer,
    /// Audiences that mean this server.
    api_audiences: Vec<String>,
    keys: ArcSwap<TokenVerifier>,
    fetched: Mutex<Option<Instant>>,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("the discovery document is of {0:?}")]
    Issuer(String),
    #[error("the discovery document names no keys")]
    NoKeys,
}

impl Oidc {
    pub fn new(issuer: Issuer, api_audiences: Vec<String>) -> Self {
        Self { issuer, api_audiences, keys: ArcSwap::default(), fetched: Mutex::default() }
    }

    /// None when the token is by another issuer.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub async fn authenticate(&self, token: &str, wanted: &[String], now: Timestamp) -> Option<Result<Accepted, String>> {
        if claimed_issuer(token)? != self.issuer.url {
            return None;
        }
        // Whoever asks for a token meant for somebody else is not told about ours.
        let audiences: Vec<String> = wanted.iter().filter(|audience| self.api_audiences.contains(audience)).cloned().collect();
        if !wanted.is_empty() && audiences.is_empty() {
            return None;
        }
        Some(self.check(token, audiences, now).await)
    }

    async fn check(&self, token: &str, audiences: Vec<String>, now: Timestamp) -> Result<Accepted, String> {
        let claims = match self.verify(token) {
            Some(claims) => claims,
            None => {
                self.refresh().await;
                self.verify(token).ok_or("oidc: verify token: failed to verify signature: failed to verify id token signature")?
            }
        };
        let user = token::user(&self.issuer, &claims, now)?;
        Ok(Accepted { user, audiences, expires: token::expires(&claims), notes: Notes::default() })
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let accepted = |algorithm: &str| self.issuer.algorithms.iter().any(|a| a == algorithm);
        self.keys.load().verify_by::<Claims>(token, accepted).ok().map(|verified| verified.claims)
    }

    /// Fetches the keys, unless that was done a moment ago.
    async fn refresh(&self) {
        // Those who wait here find the keys that the first one fetched.
        let mut fetched = self.fetched.lock().await;
        if fetched.is_some_and(|at| at.elapsed() < FETCH_INTERVAL) {
            return;
        }
        match self.fetch().await {
            Ok(keys) => self.keys.store(Arc::new(TokenVerifier::new(keys))),
            Err(error) => tracing::warn!(issuer = self.issuer.url, "fetching the issuer's keys: {}", daemon::chain(&error)),
        }
        *fetched = Some(Instant::now());
    }

    async fn fetch(&self) -> Result<Vec<PublicKey>, FetchError> {
        let authorities = self.issuer.authorities.as_deref();
        let below = || format!("{}/.well-known/openid-configuration", self.issuer.url.trim_end_matches('/'));
        let discovery = self.issuer.discovery_url.clone().unwrap_or_else(below);
        let document = Remote::from_url(&discovery, authorities)?.get(FETCH_LIMIT).await?;
        let keys = Remote::from_url(keys_url(&document, &self.issuer.url)?, authorities)?.get(FETCH_LIMIT).await?;
        Ok(keys["keys"].as_array().into_iter().flatten().take(KEYS_MAX).filter_map(PublicKey::from_jwk).collect())
    }
}

/// Where a discovery document says that the keys are.
fn keys_url<'d>(document: &'d Value, issuer: &str) -> Result<&'d str, FetchError> {
    let of = document["issuer"].as_str().unwrap_or_default();
    if of != issuer {
        return Err(FetchError::Issuer(of.to_owned()));
    }
    document["jwks_uri"].as_str().ok_or(FetchError::NoKeys)
}

#[cfg(test)]
mod tests {
    use pki::{Key, TokenSigner};
    use serde_json::json;

    use super::config::Claim;
    use super::*;

    #[tokio::test]
    async fn only_the_issuers_tokens_count() {
        let signer = TokenSigner::new(&Key::generate().unwrap()).unwrap();
        let issuer = Issuer {
            url: "https://127.0.0.1:1".into(),
            audiences: vec!["kube".into()],
            algorithms: vec!["ES256".into()],
            username: Claim { name: "sub".into(), prefix: String::new() }.into(),
            ..Issuer::default()
        };
        let oidc = Oidc::new(issuer, vec!["api".into()]);
        oidc.keys.store(Arc::new(TokenVerifier::new(vec![signer.public_key().clone()])));
        let now = Timestamp::from_second(1000).unwrap();
        let token = |iss: &str| signer.sign(&json!({"iss": iss, "aud": "kube", "exp": 2000, "sub": "ann"})).unwrap();
        let ours = token("https://127.0.0.1:1");
        let accepted = oidc.authenticate(&ours, &["api".to_owned()], now).await.unwrap().unwrap();
        assert_eq!((accepted.user.name.as_str(), accepted.audiences.as_slice()), ("ann", ["api".to_owned()].as_slice()));
        assert!(oidc.authenticate(&ours, &["vault".to_owned()], now).await.is_none());
        assert!(oidc.authenticate(&token("https://other"), &[], now).await.is_none());
        let forger = TokenSigner::new(&Key::generate().unwrap()).unwrap();
        let forged = forger.sign(&json!({"iss": "https://127.0.0.1:1", "aud": "kube", "exp": 2000, "sub": "ann"})).unwrap();
        assert!(oidc.authenticate(&forged, &[], now).await.unwrap().is_err());
    }

    #[test]
    fn a_document_of_another_issuer_is_refused() {
        let document = json!({"issuer": "https://a", "jwks_uri": "https://a/keys"});
        assert_eq!(keys_url(&document, "https://a").unwrap(), "https://a/keys");
        assert!(matches!(keys_url(&document, "https://b"), Err(FetchError::Issuer(_))));
        assert!(matches!(keys_url(&json!({"issuer": "https://a"}), "https://a"), Err(FetchError::NoKeys)));
    }
}
