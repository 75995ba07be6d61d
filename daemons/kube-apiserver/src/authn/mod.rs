//! Authentication: who makes the request. Methods in order: front proxy, client certificate, bearer token, anonymous.
//!
//! A credential that is presented and not valid is 401, whatever else there is: it never falls back to anonymous.

pub mod bootstrap_token;
pub mod claims;
pub mod front_proxy;
pub mod last_used;
pub mod legacy_token;
pub mod oidc;
pub mod service_account;
mod token_cache;
pub mod token_file;
pub mod token_webhook;
pub mod user;
pub mod x509;

use std::sync::Arc;

use base64::Engine;
use daemon::reload::Reloading;
use daemon::tls::PeerCertificates;
use http::request::Parts;
use jiff::Timestamp;
use machinery::status::Status;
use tokio::sync::mpsc;

use self::front_proxy::FrontProxy;
use self::legacy_token::Used;
use self::oidc::Issuers;
use self::service_account::{Accepted, Notes, ServiceAccountTokens};
use self::token_cache::TokenCache;
use self::token_file::TokenFile;
use self::token_webhook::TokenWebhook;
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
    pub token_file: Option<TokenFile>,
    pub issuers: Reloading<Issuers>,
    pub webhook: Option<TokenWebhook>,
    /// Audiences that mean this server.
    pub api_audiences: Vec<String>,
    pub lookup: Arc<dyn Lookup>,
    /// Who writes down that a Secret's token is used.
    pub used: Option<mpsc::Sender<Used>>,
    tokens: TokenCache,
    certificates: TokenCache,
}

/// Who makes a request, and what the audit log says about how that was found out.
#[derive(Clone, Debug)]
pub struct Authenticated {
    pub user: User,
    pub notes: Notes,
}

impl From<User> for Authenticated {
    fn from(user: User) -> Self {
        Self { user, notes: Notes::default() }
    }
}

impl Authenticator {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self {
            front_proxy: None,
            client_ca: None,
            service_accounts: None,
            bootstrap_tokens: false,
            token_file: None,
            issuers: Reloading::fixed(Issuers::none()),
            webhook: None,
            api_audiences: Vec::new(),
            lookup,
            used: None,
            tokens: TokenCache::default(),
            certificates: TokenCache::default(),
        }
    }

    /// The user of a request. Headers that carried credentials are removed.
    pub async fn authenticate(&self, parts: &mut Parts, now: Timestamp) -> Result<Authenticated, Status> {
        // In-process clients (tests, simulation) say who they are; no extension comes from the network.
        if let Some(user) = parts.extensions.get::<User>() {
            return Ok(user.clone().into());
        }
        let proxied = self.front_proxy_user(parts, now);
        if let Some(proxy) = &self.front_proxy {
            proxy.strip(&mut parts.headers);
        }
        front_proxy::strip_usual(&mut parts.headers);
        let token = bearer_token(parts);
        parts.headers.remove(http::header::AUTHORIZATION);
        if let Some(user) = proxied {
            return Ok(user.authenticated().into());
        }
        let certificate = self.certificate_user(parts, now);
        if let Some(Ok(user)) = certificate {
            return Ok(user.authenticated().into());
        }
        if let Some(token) = token {
            return match self.authenticate_token(&token, &[], now).await {
                Ok(accepted) => Ok(Authenticated { user: accepted.user.authenticated(), notes: accepted.notes }),
                Err(why) => {
                    tracing::debug!(why, "bearer token refused");
                    Err(Status::unauthorized("Unauthorized"))
                }
            };
        }
        match certificate {
            None if self.issuers.current().anonymous.may(parts.uri.path()) => Ok(User::anonymous().into()),
            _ => Err(Status::unauthorized("Unauthorized")),
        }
    }

    /// The user of a token: what TokenReview answers too. `audiences` empty means this server.
    pub async fn authenticate_token(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Accepted, String> {
        if audiences.is_empty()
            && let Some(accepted) = self.tokens.get(token.as_bytes(), now)
        {
            return Ok(accepted);
        }
        let wanted = if audiences.is_empty() { &self.api_audiences } else { audiences };
        let accepted = self.verify_token(token, wanted, now).await?;
        if audiences.is_empty() {
            self.tokens.insert(token.as_bytes(), &accepted, now);
        }
        Ok(accepted)
    }

    /// What is known here first; who has to be asked over the network last.
    async fn verify_token(&self, token: &str, wanted: &[String], now: Timestamp) -> Result<Accepted, String> {
        let accounts = self.service_accounts.as_ref();
        if let Some(result) = accounts.and_then(|tokens| tokens.authenticate(token, wanted, self.lookup.as_ref(), now)) {
            return result;
        }
        let kept = accounts.and_then(|tokens| legacy_token::authenticate(tokens, token, wanted, self.lookup.as_ref(), now));
        if let Some(verdict) = kept {
            if let (Some(sender), Some(used)) = (&self.used, verdict.used) {
                // When too many wait, the next use is noted.
                let _ = sender.try_send(used);
            }
            return verdict.result;
        }
        let listed = self.token_file.as_ref().and_then(|file| file.user(token)).cloned();
        let bootstrap = || bootstrap_token::authenticate(token, self.lookup.as_ref(), now).filter(|_| self.bootstrap_tokens);
        if let Some(user) = listed.or_else(bootstrap) {
            let audiences: Vec<String> = wanted.iter().filter(|a| self.api_audiences.contains(a)).cloned().collect();
            if audiences.is_empty() == wanted.is_empty() {
                return Ok(Accepted { user, audiences, expires: i64::MAX, notes: Notes::default() });
            }
        }
        let mut refusal = "invalid bearer token".to_owned();
        for oidc in &self.issuers.current().oidc {
            match oidc.authenticate(token, wanted, now).await {
                Some(Ok(accepted)) => return Ok(accepted),
                Some(Err(why)) => refusal = why,
                None => {}
            }
        }
        if let Some(webhook) = &self.webhook {
            match webhook.authenticate(token, wanted).await {
                Ok(Some(accepted)) => return Ok(accepted),
                Ok(None) => {}
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }

    fn front_proxy_user(&self, parts: &Parts, now: Timestamp) -> Option<User> {
        let proxy = self.front_proxy.as_ref()?;
        // Reading headers is cheaper than reading certificates: most connections are no proxy's.
        let user = proxy.user(&parts.headers)?;
        let chain = parts.extensions.get::<PeerCertificates>()?.0.as_ref()?;
        let name = x509::user(chain.first()?)?.name;
        (proxy.trusts(&name) && proxy.ca.verifies(chain, now)).then_some(user)
    }

    fn certificate_user(&self, parts: &Parts, now: Timestamp) -> Option<Result<User, ()>> {
        let ca = self.client_ca.as_ref()?;
        let chain = parts.extensions.get::<PeerCertificates>()?.0.as_ref()?;
        let leaf = chain.first()?;
        if let Some(known) = self.certificates.get(leaf, now) {
            return Some(Ok(known.user));
        }
        if !ca.verifies(chain, now) {
            return Some(Err(()));
        }
        let user = x509::user(leaf).ok_or(());
        if let Ok(user) = &user {
            let accepted =
                Accepted { user: user.clone(), audiences: Vec::new(), expires: x509::expires(leaf), notes: Notes::default() };
            self.certificates.insert(leaf, &accepted, now);
        }
        Some(user)
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
    String::from_utf8(base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}
