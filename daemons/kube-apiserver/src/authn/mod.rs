//! Authentication: who makes the request. Methods in order: front proxy, client certificate, bearer token, anonymous.
//!
//! A credential that is presented and not valid is 401, whatever else there is: it never falls back to anonymous.

pub mod bootstrap_token;
pub mod front_proxy;
pub mod jwt;
pub mod pem;
pub mod service_account;
mod token_cache;
pub mod user;
pub mod x509;

use std::sync::Arc;

use daemon::tls::PeerCertificates;
use http::request::Parts;
use jiff::Timestamp;
use machinery::status::Status;

use self::front_proxy::FrontProxy;
use self::service_account::{Accepted, ServiceAccountTokens};
use self::token_cache::TokenCache;
use self::user::User;
use self::x509::ClientCa;
use crate::lookup::Lookup;

/// Names the credential in a user's extra fields, for audit.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// All methods that are switched on.
pub struct Authenticator {
    pub front_proxy: Option<FrontProxy>,
    pub client_ca: Option<ClientCa>,
    pub service_accounts: Option<ServiceAccountTokens>,
    pub bootstrap_tokens: bool,
    pub anonymous: bool,
    pub lookup: Arc<dyn Lookup>,
    cache: TokenCache,
}

impl Authenticator {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self {
            front_proxy: None,
            client_ca: None,
            service_accounts: None,
            bootstrap_tokens: false,
            anonymous: true,
            lookup,
            cache: TokenCache::default(),
        }
    }

    /// The user of a request. Headers that carried credentials are removed.
    pub fn authenticate(&self, parts: &mut Parts, now: Timestamp) -> Result<User, Status> {
        // In-process clients (tests, simulation) say who they are; no extension comes from the network.
        if let Some(user) = parts.extensions.get::<User>() {
            return Ok(user.clone());
        }
        let proxied = self.front_proxy_user(parts, now);
        if let Some(proxy) = &self.front_proxy {
            proxy.strip(&mut parts.headers);
        }
        let token = bearer_token(parts);
        parts.headers.remove(http::header::AUTHORIZATION);
        if let Some(user) = proxied {
            return Ok(user.authenticated());
        }
        let certificate = self.certificate_user(parts, now);
        if let Some(Ok(user)) = certificate {
            return Ok(user.authenticated());
        }
        if let Some(token) = token {
            return match self.authenticate_token(&token, &[], now) {
                Ok(accepted) => Ok(accepted.user.authenticated()),
                Err(why) => {
                    tracing::debug!(why, "bearer token refused");
                    Err(Status::unauthorized("Unauthorized"))
                }
            };
        }
        match certificate {
            Some(_) => Err(Status::unauthorized("Unauthorized")),
            None if self.anonymous => Ok(User::anonymous()),
            None => Err(Status::unauthorized("Unauthorized")),
        }
    }

    /// The user of a token: what TokenReview answers too. `audiences` empty means this server.
    pub fn authenticate_token(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Accepted, String> {
        if audiences.is_empty()
            && let Some(accepted) = self.cache.get(token, now)
        {
            return Ok(accepted);
        }
        let accepted = self.verify_token(token, audiences, now)?;
        if audiences.is_empty() {
            self.cache.insert(token, &accepted, now);
        }
        Ok(accepted)
    }

    fn verify_token(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Accepted, String> {
        let accounts = self.service_accounts.as_ref();
        if let Some(result) = accounts.and_then(|tokens| tokens.authenticate(token, audiences, self.lookup.as_ref(), now)) {
            return result;
        }
        if self.bootstrap_tokens
            && let Some(user) = bootstrap_token::authenticate(token, self.lookup.as_ref(), now)
        {
            return Ok(Accepted { user, audiences: audiences.to_vec(), expires: i64::MAX });
        }
        Err("invalid bearer token".to_owned())
    }

    fn front_proxy_user(&self, parts: &Parts, now: Timestamp) -> Option<User> {
        let proxy = self.front_proxy.as_ref()?;
        let chain = parts.extensions.get::<PeerCertificates>()?.0.as_ref()?;
        let name = x509::user(chain.first()?)?.name;
        (proxy.trusts(&name) && proxy.ca.verifies(chain, now)).then(|| proxy.user(&parts.headers))?
    }

    fn certificate_user(&self, parts: &Parts, now: Timestamp) -> Option<Result<User, ()>> {
        let ca = self.client_ca.as_ref()?;
        let chain = parts.extensions.get::<PeerCertificates>()?.0.as_ref()?;
        if !ca.verifies(chain, now) {
            return Some(Err(()));
        }
        Some(chain.first().and_then(x509::user).ok_or(()))
    }
}

/// The token of an `Authorization: Bearer` header, or of a WebSocket's subprotocol (browsers cannot set headers).
fn bearer_token(parts: &Parts) -> Option<String> {
    if let Some(header) = parts.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let (scheme, token) = header.trim().split_once(' ')?;
        return (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim().to_owned());
    }
    let protocols = parts.headers.get(http::header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = protocols.split(',').find_map(|p| p.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))?;
    String::from_utf8(pem::base64url_decode(encoded)?).ok()
}
