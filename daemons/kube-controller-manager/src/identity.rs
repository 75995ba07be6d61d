//! As whom each controller speaks to the API server: the daemon itself, or a service account for each controller, so
//! that a controller can do no more than its role allows (`--use-service-account-credentials`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::core::ServiceAccount;
use api::jiff::Timestamp;
use api::metav1::ObjectMeta;
use bytes::Bytes;
use client::{Body, Client, Error, Transport, TransportError};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use serde_json::json;
use tokio::time::Instant;

const NAMESPACE: &str = "kube-system";
const TOKEN_SECONDS: u64 = 3600;

/// Hands out clients.
pub struct Identities {
    root: Client,
    /// Connects to the same server with no credentials of its own.
    anonymous: Option<Client>,
    clients: Mutex<HashMap<String, Client>>,
}

impl Identities {
    /// Every controller speaks as the daemon itself.
    pub fn shared(root: Client) -> Self {
        Self { root, anonymous: None, clients: Mutex::default() }
    }

    /// Each controller speaks as its own service account in kube-system. `anonymous` carries the requests, `root` makes
    /// the accounts and asks for their tokens.
    pub fn service_accounts(root: Client, anonymous: Client) -> Self {
        Self { root, anonymous: Some(anonymous), clients: Mutex::default() }
    }

    pub(crate) fn root(&self) -> &Client {
        &self.root
    }

    pub(crate) fn client(&self, controller: &str) -> Client {
        let Some(anonymous) = &self.anonymous else { return self.root.clone() };
        let mut clients = self.clients.lock().unwrap_or_else(|e| e.into_inner());
        let account = || {
            Client::with_transport(AsServiceAccount(Arc::new(Account {
                name: controller.to_owned(),
                root: self.root.clone(),
                carrier: anonymous.clone(),
                token: tokio::sync::Mutex::new(None),
            })))
        };
        clients.entry(controller.to_owned()).or_insert_with(account).clone()
    }
}

/// Sends requests with a service account's token.
struct AsServiceAccount(Arc<Account>);

struct Account {
    name: String,
    root: Client,
    carrier: Client,
    token: tokio::sync::Mutex<Option<Token>>,
}

struct Token {
    header: HeaderValue,
    renew_at: Instant,
}

impl Transport for AsServiceAccount {
    fn send(&self, mut request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let account = self.0.clone();
        async move {
            let header = match account.header().await {
                Ok(header) => header,
                Err(error) => return Err(TransportError::Credentials(account.name.clone(), Box::new(error))),
            };
            request.headers_mut().insert(AUTHORIZATION, header);
            let response = match account.carrier.raw(request).await {
                Ok(response) => response,
                Err(Error::Transport(error)) => return Err(error),
                Err(error) => return Err(TransportError::Credentials(account.name.clone(), Box::new(error))),
            };
            if response.status() == http::StatusCode::UNAUTHORIZED {
                // Revoked, or the account was made anew: the next request asks for another token.
                account.token.lock().await.take();
            }
            Ok(response)
        }
        .boxed()
    }
}

impl Account {
    async fn header(&self) -> Result<HeaderValue, Error> {
        let mut token = self.token.lock().await;
        if let Some(token) = token.as_ref().filter(|t| Instant::now() < t.renew_at) {
            return Ok(token.header.clone());
        }
        let fresh = self.request_token().await?;
        let header = fresh.header.clone();
        *token = Some(fresh);
        Ok(header)
    }

    async fn request_token(&self) -> Result<Token, Error> {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        });
        let ask = || self.root.create_sub::<ServiceAccount>(NAMESPACE, &self.name, "token", &body);
        let answer = match ask().await {
            Err(error) if error.is_not_found() => {
                self.create().await?;
                ask().await?
            }
            other => other?,
        };
        let text = answer["status"]["token"].as_str().unwrap_or_default();
        let mut header = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|e| TransportError::Request(e.into()))?;
        header.set_sensitive(true);
        Ok(Token { header, renew_at: Instant::now() + renew_after(&answer, Timestamp::now()) })
    }

    async fn create(&self) -> Result<(), Error> {
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some(self.name.clone()), namespace: Some(NAMESPACE.into()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        match self.root.create(&account).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Tokens are renewed after four fifths of their life, which the server may have shortened.
fn renew_after(answer: &serde_json::Value, now: Timestamp) -> Duration {
    let expires: Option<Timestamp> = answer["status"]["expirationTimestamp"].as_str().and_then(|t| t.parse().ok());
    let life = expires.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    life.unwrap_or(Duration::from_secs(TOKEN_SECONDS)).mul_f32(0.8)
}
