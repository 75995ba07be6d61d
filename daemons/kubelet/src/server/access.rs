//! Who asks, and whether they may: client certificates, TokenReview, SubjectAccessReview; answers are kept for a while.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use client::Client;
use daemon::tls::PeerCertificates;
use http::{Extensions, HeaderMap, header};
use machinery::status::Status;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::route::Route;

/// Entries of each cache; when it is full it starts anew.
const CACHE_MAX: usize = 1024;

/// How requests are authorised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    AlwaysAllow,
    /// Every access is asked of the API server by SubjectAccessReview.
    Webhook {
        allowed_for: Duration,
        denied_for: Duration,
    },
}

/// Someone who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct User {
    name: String,
    groups: Vec<String>,
}

/// A cache of answers with an end.
struct Answers<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K: Eq + std::hash::Hash, V: Clone> Answers<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        let map = self.0.lock().unwrap_or_else(|e| e.into_inner());
        map.get(key).filter(|(_, until)| Instant::now() < *until).map(|(v, _)| v.clone())
    }

    fn put(&self, key: K, value: V, for_: Duration) {
        let mut map = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if map.len() >= CACHE_MAX {
            map.clear();
        }
        map.insert(key, (value, Instant::now() + for_));
    }
}

/// Authentication and authorization of the kubelet's API.
pub(crate) struct Access {
    /// `None` in standalone mode: then only certificates count.
    client: Option<Client>,
    node: String,
    anonymous: bool,
    token_review_for: Option<Duration>,
    authorization: Authorization,
    tokens: Answers<[u8; 32], Option<User>>,
    decisions: Answers<(User, &'static str, &'static str), bool>,
}

impl Access {
    /// `token_review_for`: how long a TokenReview's answer is kept; `None` turns tokens off.
    pub(crate) fn new(
        client: Option<Client>,
        node: String,
        anonymous: bool,
        token_review_for: Option<Duration>,
        authorization: Authorization,
    ) -> Self {
        Self { client, node, anonymous, token_review_for, authorization, tokens: Answers::new(), decisions: Answers::new() }
    }

    /// Lets the request through, or says why not.
    pub(super) async fn check(&self, headers: &HeaderMap, extensions: &Extensions, route: &Route) -> Result<(), Status> {
        if matches!(route.action, super::route::Action::Healthz) && self.client.is_none() {
            return Ok(());
        }
        let Some(user) = self.authenticate(headers, extensions).await? else {
            return Err(Status::unauthorized("Unauthorized"));
        };
        for subresource in route.subresources {
            if self.allowed(&user, route.verb, subresource).await? {
                return Ok(());
            }
        }
        let (name, verb, subresource) = (&user.name, route.verb, route.subresources[0]);
        Err(forbidden(format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])")))
    }

    async fn authenticate(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Option<User>, Status> {
        if let Some(user) = extensions.get::<PeerCertificates>().and_then(of_certificate) {
            return Ok(Some(user));
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
        if let (Some(token), Some(keep), Some(client)) = (bearer, self.token_review_for, &self.client) {
            return self.review_token(client, token.trim(), keep).await;
        }
        let nobody = || User { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()] };
        Ok((bearer.is_none() && self.anonymous).then(nobody))
    }

    async fn review_token(&self, client: &Client, token: &str, keep: Duration) -> Result<Option<User>, Status> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(user) = self.tokens.get(&key) {
            return Ok(user);
        }
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let answer = client
            .post_value("/apis/authentication.k8s.io/v1/tokenreviews", &body)
            .await
            .map_err(|e| Status::internal(format!("the token can't be reviewed: {e}")))?;
        let user = of_review(&answer);
        self.tokens.put(key, user.clone(), keep);
        Ok(user)
    }

    async fn allowed(&self, user: &User, verb: &'static str, subresource: &'static str) -> Result<bool, Status> {
        let Authorization::Webhook { allowed_for, denied_for } = self.authorization else { return Ok(true) };
        let key = (user.clone(), verb, subresource);
        if let Some(allowed) = self.decisions.get(&key) {
            return Ok(allowed);
        }
        let Some(client) = &self.client else { return Ok(false) };
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.name,
                "groups": user.groups,
                "resourceAttributes": {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": self.node},
            },
        });
        let answer = client
            .post_value("/apis/authorization.k8s.io/v1/subjectaccessreviews", &body)
            .await
            .map_err(|e| Status::internal(format!("the access can't be reviewed: {e}")))?;
        let allowed = answer.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false);
        self.decisions.put(key, allowed, if allowed { allowed_for } else { denied_for });
        Ok(allowed)
    }
}

fn forbidden(message: String) -> Status {
    let mut status = Status::unauthorized("");
    status.code = 403;
    status.message = message;
    status
}

/// TLS has verified the certificate: its common name is the user, its organisations are the groups.
fn of_certificate(peer: &PeerCertificates) -> Option<User> {
    let leaf = peer.0.as_ref()?.first()?.clone();
    let (_, certificate) = x509_parser::parse_x509_certificate(&leaf).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organisations = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned);
    Some(User { name, groups: organisations.chain(["system:authenticated".to_owned()]).collect() })
}

fn of_review(review: &Value) -> Option<User> {
    let status = review.get("status")?;
    if !status.get("authenticated")?.as_bool()? {
        return None;
    }
    let user = status.get("user")?;
    let groups = user.get("groups").and_then(Value::as_array).into_iter().flatten();
    Some(User {
        name: user.get("username")?.as_str()?.to_owned(),
        groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::{Method, Request, Response};
    use http_body_util::{BodyExt, Full};

    use super::*;

    /// An API server that knows the token `good` and lets its owner read metrics, and how often it was asked.
    fn server() -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let transport = client::InProcess::new(move |request: Request<Bytes>| {
            count.fetch_add(1, Ordering::SeqCst);
            let body: Value = serde_json::from_slice(request.body()).unwrap();
            let answer = match body["kind"].as_str().unwrap() {
                "TokenReview" => json!({"status": {
                    "authenticated": body["spec"]["token"] == "good",
                    "user": {"username": "prometheus", "groups": ["monitoring"]},
                }}),
                _ => json!({"status": {"allowed": body["spec"]["resourceAttributes"]["subresource"] == "metrics"}}),
            };
            let body = Full::new(Bytes::from(answer.to_string())).map_err(|never| match never {}).boxed_unsync();
            Box::pin(async move { Response::new(body) })
        });
        (Client::with_transport(transport), asked)
    }

    async fn check(access: &Access, token: Option<&str>, path: &str) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        let route = Route::parse(&Method::GET, path, "command=ls&output=1").unwrap();
        access.check(&headers, &Extensions::new(), &route).await.map_or_else(|s| s.code(), |()| 200)
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_and_rights() {
        let (client, asked) = server();
        let webhook = Authorization::Webhook { allowed_for: Duration::from_secs(300), denied_for: Duration::from_secs(30) };
        let access = Access::new(Some(client), "n1".into(), false, Some(Duration::from_secs(120)), webhook);
        assert_eq!(check(&access, None, "/metrics").await, 401);
        assert_eq!(check(&access, Some("bad"), "/metrics").await, 401);
        assert_eq!(check(&access, Some("good"), "/metrics").await, 200);
        assert_eq!(check(&access, Some("good"), "/exec/ns/p/c").await, 403);
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(check(&access, Some("good"), "/metrics").await, 200);
        assert_eq!(asked.load(Ordering::SeqCst), before, "the answers are kept");
        tokio::time::advance(Duration::from_secs(400)).await;
        assert_eq!(check(&access, Some("good"), "/metrics").await, 200);
        assert!(asked.load(Ordering::SeqCst) > before, "but not for ever");
    }
}
