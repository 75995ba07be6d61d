//! One server and requests to it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use kube_apiserver::authn::user::User;
use kube_apiserver::respond::Body;
use kube_apiserver::{ApiServer, Config};
use serde_json::{Value, json};
use store::Memory;

/// What the server does by itself, following a watch, is done within this time, or the test fails.
const SOON: Duration = Duration::from_secs(30);

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/ns/configmaps";
pub const MERGE: &str = "application/merge-patch+json";

/// A server with the namespace `ns` (label `env: prod`) and its service account; it ends with the value.
pub struct Api {
    pub server: ApiServer,
    shutdown: daemon::Shutdown,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// What came back, read to its end.
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    /// The text itself when it is not JSON.
    pub body: Value,
}

impl Answer {
    pub async fn read(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body in memory").to_bytes();
        let text = || if bytes.is_empty() { Value::Null } else { json!(String::from_utf8_lossy(&bytes)) };
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Self { code: head.status.as_u16(), headers: head.headers, body }
    }

    pub fn code_and_body(self) -> (u16, Value) {
        (self.code, self.body)
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub fn warnings(&self) -> Vec<String> {
        self.headers.get_all("warning").iter().map(|warning| warning.to_str().expect("text").to_owned()).collect()
    }
}

impl Api {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Begun: it may not be ready, and has nothing that it did not make itself.
    pub async fn begin(change: impl FnOnce(&mut Config)) -> Self {
        daemon::install_crypto();
        let mut config = Config::for_tests(Arc::new(Memory::new()));
        change(&mut config);
        let shutdown = daemon::Shutdown::new();
        let server = ApiServer::start(config, shutdown.clone()).await.expect("a valid configuration");
        Self { server, shutdown }
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let api = Self::begin(change).await;
        api.server.ready().await;
        api.ok("POST", "/api/v1/namespaces", json!({"metadata": {"name": "ns", "labels": {"env": "prod"}}})).await;
        api.ok("POST", "/api/v1/namespaces/ns/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
        api
    }

    pub async fn raw(
        &self,
        user: &User,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method.parse::<Method>().expect("a method")).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.server.handle_as(user.clone(), request.body(body.into()).expect("a request")).await
    }

    /// Sends bytes as they are.
    pub async fn bytes(&self, user: &User, method: &str, path: &str, media_type: &str, body: impl Into<Bytes>) -> (u16, Value) {
        Answer::read(self.raw(user, method, path, &[("content-type", media_type)], body).await).await.code_and_body()
    }

    /// As an administrator, a PATCH being a merge patch.
    pub async fn answer(&self, method: &str, path: &str, body: Value) -> Answer {
        let media_type = if method == "PATCH" { MERGE } else { "application/json" };
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        Answer::read(self.raw(&User::server(), method, path, &[("content-type", media_type)], bytes).await).await
    }

    /// `answer`, of which only code and body count.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.answer(method, path, body).await.code_and_body()
    }

    /// `call`, which must succeed.
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (code, value) = self.call(method, path, body).await;
        assert!(code < 300, "{method} {path}: {code} {value}");
        value
    }

    pub async fn patch(&self, path: &str, media_type: &str, body: Value) -> (u16, Value) {
        self.bytes(&User::server(), "PATCH", path, media_type, body.to_string()).await
    }

    /// Reads until the answer is the one wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let asking = async {
            loop {
                let (code, value) = self.call("GET", path, Value::Null).await;
                if wanted(code, &value) {
                    return value;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(SOON, asking).await {
            Ok(value) => value,
            Err(_) => panic!("{path} did not become what was wanted: {:?}", self.call("GET", path, Value::Null).await),
        }
    }
}

/// The events of a watch, as an administrator sees them.
pub struct Watch {
    body: Body,
    rest: Vec<u8>,
}

impl Watch {
    pub async fn start(api: &Api, path: &str) -> Self {
        let response = api.raw(&User::server(), "GET", path, &[], "").await;
        assert_eq!(response.status().as_u16(), 200, "{path}");
        Self { body: response.into_body(), rest: Vec::new() }
    }

    /// The next event; none at the end.
    pub async fn next(&mut self) -> Option<Value> {
        let reading = async {
            loop {
                if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.rest.drain(..=end).collect();
                    return Some(serde_json::from_slice(&line).expect("an event"));
                }
                let frame = self.body.frame().await?.expect("a frame");
                self.rest.extend_from_slice(&frame.into_data().unwrap_or_default());
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("an event in time")
    }

    /// The type and the object of the next event.
    pub async fn event(&mut self) -> (String, Value) {
        let mut event = self.next().await.expect("an event");
        (event["type"].as_str().unwrap_or_default().to_owned(), event["object"].take())
    }
}

/// Tries until it holds: what follows a watch takes effect soon, not at once.
pub async fn eventually<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("in time");
}

pub fn config_map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}
