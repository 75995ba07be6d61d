//! The connection of one command to the API server.

use std::time::Duration;

use bytes::Bytes;
use machinery::status::Status;
use reqwest::{Method, Response, StatusCode, header};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{Discovery, Error, Globals, Resource, Result, discovery::escape, kubeconfig};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Tries while the server says that it is overloaded.
const TRIES_MAX: u32 = 10;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

pub const JSON: &str = "application/json";
pub const MERGE_PATCH: &str = "application/merge-patch+json";
pub const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const APPLY_PATCH: &str = "application/apply-patch+yaml";

pub struct Session {
    http: reqwest::Client,
    config: client::Config,
    timeout: Option<Duration>,
    /// Of `--namespace`, else of the context, else `default`.
    pub namespace: String,
    /// The user named it.
    pub namespace_given: bool,
    discovery: OnceCell<Discovery>,
}

/// One request; the path is absolute.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    accept: &'static str,
    body: Option<(&'static str, Bytes)>,
    endless: bool,
    at_once: bool,
}

impl Request {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), accept: JSON, body: None, endless: false, at_once: false }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::POST, path).json(body)
    }

    pub fn patch(path: impl Into<String>, kind: &'static str, body: &Value) -> Self {
        Self::new(Method::PATCH, path).body(kind, body.to_string())
    }

    pub fn delete(path: impl Into<String>, options: &Value) -> Self {
        Self::new(Method::DELETE, path).json(options)
    }

    pub fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// Nothing is sent for an empty value.
    pub fn query_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value.map(|value| value.to_string()).filter(|value| !value.is_empty()) {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub fn accept(mut self, types: &'static str) -> Self {
        self.accept = types;
        self
    }

    pub fn body(mut self, kind: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = Some((kind, body.into()));
        self
    }

    /// The answer may take for ever: watches, logs that are followed.
    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
    }

    /// That the server is overloaded is an answer too: who asks tries again, in its own way.
    pub fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    fn json(self, body: &Value) -> Self {
        self.body(JSON, body.to_string())
    }

    /// Path and query.
    pub fn target(&self) -> String {
        let mut target = self.path.clone();
        for (name, value) in &self.query {
            let separator = if target.contains('?') { '&' } else { '?' };
            target += &format!("{separator}{name}={}", escape(value));
        }
        target
    }
}

impl Session {
    pub fn new(globals: &Globals) -> Result<Self> {
        let config = kubeconfig::config(globals)?;
        let tls = config.tls(&[b"h2", b"http/1.1"])?;
        let http = connector(&config, reqwest::Client::builder().tls_backend_preconfigured(tls))?;
        Ok(Self {
            http,
            timeout: globals.request_timeout.filter(|timeout| !timeout.is_zero()),
            namespace: globals.namespace.clone().unwrap_or_else(|| config.namespace.clone()),
            namespace_given: globals.namespace.is_some(),
            config,
            discovery: OnceCell::new(),
        })
    }

    /// `host:port`, as messages name the server.
    pub fn host(&self) -> String {
        format!("{}:{}", self.config.host, self.config.port)
    }

    pub fn url(&self) -> String {
        self.config.url()
    }

    /// What the server serves, read once.
    pub async fn discovery(&self) -> Result<&Discovery> {
        self.discovery.get_or_try_init(|| Discovery::load(self)).await
    }

    /// The resource that a word on the command line means.
    pub async fn resource(&self, word: &str) -> Result<Resource> {
        if let Some(found) = self.discovery().await?.find(word) {
            return Ok(found.clone());
        }
        // It may be newer than what was remembered.
        match Discovery::refresh(self).await?.find(word) {
            Some(found) => Ok(found.clone()),
            None => {
                let resource = word.split('.').next().unwrap_or(word).to_owned();
                Err(Error::NoResource { resource, group: String::new(), version: String::new() })
            }
        }
    }

    /// The resource of an object's kind.
    pub async fn resource_of(&self, api_version: &str, kind: &str) -> Result<Option<Resource>> {
        if let Some(found) = self.discovery().await?.of_kind(api_version, kind) {
            return Ok(Some(found.clone()));
        }
        Ok(Discovery::refresh(self).await?.of_kind(api_version, kind).cloned())
    }

    /// Sends a request; an answer that is no success is an error.
    pub async fn send(&self, request: Request) -> Result<Response> {
        let mut tries = 1;
        loop {
            let response = self.attempt(&request).await?;
            for warning in response.headers().get_all(header::WARNING) {
                print_warning(warning.to_str().unwrap_or_default());
            }
            if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(response);
            }
            let overloaded = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            match seconds {
                Some(seconds) if overloaded && !request.at_once && tries < TRIES_MAX => {
                    tokio::time::sleep(Duration::from_secs(seconds).min(RETRY_AFTER_MAX)).await;
                    tries += 1;
                }
                _ => return Err(self.failure(response).await),
            }
        }
    }

    pub async fn bytes(&self, request: Request) -> Result<Bytes> {
        let response = self.send(request).await?;
        response.bytes().await.map_err(|error| self.transport(&error))
    }

    pub async fn json(&self, request: Request) -> Result<Value> {
        let bytes = self.bytes(request).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::message(format!("the server's answer is no JSON: {error}")))
    }

    /// Upgrades a connection to a WebSocket with one of `protocols`: the stream, and the protocol that the server chose.
    pub async fn upgrade(&self, request: Request, protocols: &[&str]) -> Result<(reqwest::Upgraded, String)> {
        // Upgrades are of HTTP/1.1.
        let tls = self.config.tls(&[b"http/1.1"])?;
        let http = connector(&self.config, reqwest::Client::builder().tls_backend_preconfigured(tls).http1_only())?;
        let mut headers = header::HeaderMap::new();
        stream::upgrade::ask_for_websocket(&mut headers, protocols);
        let response =
            self.prepare(&http, &request.endless())?.headers(headers).send().await.map_err(|error| self.transport(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.failure(response).await);
        }
        let chosen = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
        let chosen = chosen.unwrap_or_default().to_owned();
        let io = response.upgrade().await.map_err(|error| self.transport(&error))?;
        Ok((io, chosen))
    }

    /// Sends somebody else's request with our credentials; any answer is one.
    pub async fn pass_on(&self, request: Request, headers: &header::HeaderMap, body: Bytes) -> Result<Response> {
        let mut builder = self.prepare(&self.http, &request)?.body(body);
        let accept = headers.get(header::ACCEPT).cloned().unwrap_or(header::HeaderValue::from_static("*/*"));
        let mut passed = header::HeaderMap::from_iter([(header::ACCEPT, accept)]);
        let kinds = [header::CONTENT_TYPE, header::RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];
        for name in kinds {
            if let Some(value) = headers.get(&name) {
                passed.insert(name, value.clone());
            }
        }
        builder = builder.headers(passed);
        builder.send().await.map_err(|error| self.transport(&error))
    }

    async fn attempt(&self, request: &Request) -> Result<Response> {
        self.prepare(&self.http, request)?.send().await.map_err(|error| self.transport(&error))
    }

    fn prepare(&self, http: &reqwest::Client, request: &Request) -> Result<reqwest::RequestBuilder> {
        let mut builder =
            http.request(request.method.clone(), self.config.url() + &request.target()).header(header::ACCEPT, request.accept);
        if let Some(timeout) = self.timeout.filter(|_| !request.endless) {
            builder = builder.timeout(timeout);
        }
        if let Some(token) = self.config.bearer()? {
            builder = builder.bearer_auth(token);
        } else if let Some((name, password)) = &self.config.basic {
            builder = builder.basic_auth(name, Some(password));
        }
        for (name, value) in &self.config.impersonation {
            builder = builder.header(name, value);
        }
        if let Some((kind, body)) = &request.body {
            builder = builder.header(header::CONTENT_TYPE, *kind).body(body.clone());
        }
        Ok(builder)
    }

    async fn failure(&self, response: Response) -> Error {
        let code = response.status();
        let path = response.url().path().to_owned();
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Status>(&body) {
            Ok(status) if !status.message.is_empty() || !status.reason.as_str().is_empty() => status.into(),
            // A path that nothing serves is answered without a Status: what Go's clients make of it.
            _ if code == StatusCode::NOT_FOUND => {
                let mut status = Status::no_such_path();
                status.message += &asked_for(&path);
                status.into()
            }
            _ => {
                let text = String::from_utf8_lossy(&body);
                let text = text.trim();
                let about = if text.is_empty() { code.canonical_reason().unwrap_or("no reason given") } else { text };
                Error::Plain(format!("Error from server: {} ({})", about, code.as_u16()))
            }
        }
    }

    pub fn transport(&self, error: &reqwest::Error) -> Error {
        let mut source: Option<&dyn std::error::Error> = Some(error);
        while let Some(cause) = source {
            let refused =
                cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
            if refused {
                return Error::Refused { host: self.host() };
            }
            source = cause.source();
        }
        Error::Connect(chain(error))
    }
}

/// The client of a cluster: through its proxy if it has one, else as the environment says (`HTTPS_PROXY`, `NO_PROXY`).
fn connector(config: &client::Config, builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    let failed = |error: reqwest::Error| Error::message(chain(&error));
    let builder = match &config.proxy_url {
        Some(url) => builder.proxy(reqwest::Proxy::all(url).map_err(failed)?),
        None if is_loopback(&config.host) => builder.no_proxy(),
        None => builder,
    };
    builder.connect_timeout(CONNECT_TIMEOUT).user_agent(concat!("kctl/", env!("CARGO_PKG_VERSION"))).build().map_err(failed)
}

/// ` (get widgets.example.com)` for the path of a resource.
fn asked_for(path: &str) -> String {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match &segments[..] {
        ["api", _version, rest @ ..] => ("", rest),
        ["apis", group, _version, rest @ ..] => (*group, rest),
        _ => return String::new(),
    };
    let (resource, name) = match rest {
        ["namespaces", _, resource, name @ ..] | [resource, name @ ..] => (resource, name.first()),
        [] => return String::new(),
    };
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    format!(" (get {resource}{group}{})", name.map_or_else(String::new, |name| format!(" {name}")))
}

/// Go's clients never ask a proxy for this host itself.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost causes say what happened; reqwest's own words are about its URL.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        parts.push(cause.to_string());
        source = cause.source();
    }
    parts.dedup();
    parts.join(": ")
}

/// `299 - "text"`: warnings are talk, for stderr.
fn print_warning(header: &str) {
    let text = header.split_once('"').map_or(header, |(_, rest)| rest.strip_suffix('"').unwrap_or(rest));
    eprintln!("Warning: {}", text.replace("\\\"", "\""));
}

#[cfg(test)]
mod tests {
    use super::asked_for;

    #[test]
    fn what_was_asked_for() {
        for (path, want) in [
            ("/nothing", ""),
            ("/apis/example.com/v1", ""),
            ("/apis/example.com/v1/widgets", " (get widgets.example.com)"),
            ("/apis/example.com/v1/namespaces/default/widgets/w", " (get widgets.example.com w)"),
            ("/api/v1/namespaces/default/things", " (get things)"),
        ] {
            assert_eq!(asked_for(path), want, "{path}");
        }
    }
}
