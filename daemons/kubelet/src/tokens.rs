//! Tokens of service accounts for pods, bound to the pod, renewed when four fifths of their life have passed.

use std::collections::HashMap;
use std::sync::Mutex;

use api::Kind as _;
use api::core::{Pod, ServiceAccount};
use client::Client;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::volume::payload::{TokenKey, service_account};

struct Held {
    token: String,
    expires: Timestamp,
    renew: Timestamp,
}

pub struct Tokens {
    client: Client,
    held: Mutex<HashMap<(String, TokenKey), Held>>,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("failed to fetch token: {0}")]
    Request(#[from] client::Error),
    #[error("failed to fetch token: the answer has none")]
    Empty,
}

impl Tokens {
    pub fn new(client: Client) -> Self {
        Self { client, held: Mutex::default() }
    }

    /// The token of a pod for an audience; one that is still good stands in when a new one can't be had.
    pub async fn get(&self, pod: &Pod, key: &TokenKey, now: Timestamp) -> Result<String, TokenError> {
        let id = (pod.uid().to_owned(), key.clone());
        let held = {
            let held = self.held.lock().unwrap_or_else(|e| e.into_inner());
            held.get(&id).map(|h| (h.token.clone(), h.expires, h.renew))
        };
        if let Some((token, _, renew)) = &held
            && now < *renew
        {
            return Ok(token.clone());
        }
        match self.request(pod, key, now).await {
            Ok(new) => {
                let token = new.token.clone();
                self.held.lock().unwrap_or_else(|e| e.into_inner()).insert(id, new);
                Ok(token)
            }
            Err(error) => match held {
                Some((token, expires, _)) if now < expires => {
                    tracing::warn!(pod = %crate::pod::spec::full_name(pod), "{}: the present token is kept", daemon::chain(&error));
                    Ok(token)
                }
                _ => Err(error),
            },
        }
    }

    /// When the next token of a pod is due.
    pub fn next_renewal(&self, pod_uid: &str) -> Option<Timestamp> {
        let held = self.held.lock().unwrap_or_else(|e| e.into_inner());
        held.iter().filter(|((uid, _), _)| uid == pod_uid).map(|(_, h)| h.renew).min()
    }

    pub fn forget(&self, pod_uid: &str) {
        self.held.lock().unwrap_or_else(|e| e.into_inner()).retain(|(uid, _), _| uid != pod_uid);
    }

    async fn request(&self, pod: &Pod, key: &TokenKey, now: Timestamp) -> Result<Held, TokenError> {
        let (namespace, account) = service_account(pod);
        let audiences: Vec<&str> = if key.audience.is_empty() { Vec::new() } else { vec![&key.audience] };
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": key.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid()},
            },
        });
        let answer = self.client.create_sub::<ServiceAccount>(&namespace, &account, "token", &body).await?;
        let token = answer["status"]["token"].as_str().filter(|t| !t.is_empty()).ok_or(TokenError::Empty)?;
        let told = answer["status"]["expirationTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
        let asked = SignedDuration::from_secs(key.expiration_seconds);
        let expires = told.or_else(|| now.checked_add(asked).ok()).unwrap_or(now);
        Ok(Held { token: token.to_owned(), expires, renew: renewal(now, expires, asked) })
    }
}

/// Four fifths of the life that was asked for, and a day at most: a server may give far longer ones to old clients.
fn renewal(now: Timestamp, expires: Timestamp, asked: SignedDuration) -> Timestamp {
    let life = expires.duration_since(now).min(asked);
    let wait = SignedDuration::from_secs(life.as_secs() * 4 / 5).min(SignedDuration::from_hours(24));
    now.checked_add(wait).unwrap_or(expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_in_time() {
        let at = |s| Timestamp::from_second(s).unwrap();
        for (expires, asked, want) in [(3600, 3600, 2880), (31_536_000, 3607, 2885), (31_536_000, 31_536_000, 86_400)] {
            assert_eq!(renewal(at(0), at(expires), SignedDuration::from_secs(asked)), at(want));
        }
    }
}
