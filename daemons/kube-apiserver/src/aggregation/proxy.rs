//! Requests for what other servers serve: passed on with the user's name, answers and upgrades passed back.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use machinery::status::Status;
use stream::{tunnel, upgrade};

use super::{Remote, dial};
use crate::authn::user::User;
use crate::pipeline::RequestBody;
use crate::proxy::strip_connection;
use crate::respond::{self, Body};
use crate::server::Server;

/// Answers a request by asking the server that serves its path.
pub async fn forward(
    server: &Arc<Server>,
    remote: Arc<Remote>,
    user: &User,
    parts: Parts,
    body: RequestBody,
) -> Result<Response<Body>, Status> {
    if !remote.available {
        return Ok(unavailable("service unavailable"));
    }
    let aggregation = &server.aggregation;
    let place = match dial::place(&remote, &aggregation.access, &*server.registry) {
        Ok(place) => place,
        Err(error) => {
            tracing::warn!(error, name = remote.name, "resolving an APIService");
            aggregation.doubt(&remote);
            return Ok(unavailable("service unavailable"));
        }
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = path.parse().map_err(|error| Status::bad_request(format!("invalid path: {error}")))?;
    let upgraded = upgrade::requested(&parts.headers).is_some();
    let mut headers = parts.headers.clone();
    if !upgraded {
        strip_connection(&mut headers);
    }
    identify(&mut headers, user);
    let request = |headers: HeaderMap| {
        let mut request = Request::builder().method(parts.method.clone()).uri(uri);
        if let Some(own) = request.headers_mut() {
            *own = headers;
        }
        request
    };
    let sent = if upgraded {
        let request = request(headers).body(Empty::<Bytes>::new()).map_err(Status::internal)?;
        dial::send(&remote, &place, request).await
    } else {
        let request = request(headers).body(body).map_err(Status::internal)?;
        dial::send(&remote, &place, request).await
    };
    match sent {
        Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS && upgraded => Ok(join(parts, answer)),
        Ok(answer) if leads_elsewhere(answer.status(), answer.headers()) => {
            Ok(respond::text(StatusCode::BAD_GATEWAY, "the backend attempted to redirect this request, which is not permitted"))
        }
        Ok(answer) => {
            let (mut head, body) = answer.into_parts();
            strip_connection(&mut head.headers);
            Ok(Response::from_parts(head, body.map_err(Into::into).boxed_unsync()))
        }
        Err(error) => {
            aggregation.doubt(&remote);
            Ok(unavailable(&format!("error trying to reach service: {error}")))
        }
    }
}

/// The OpenAPI v3 document of another server, asked for as the user.
pub async fn forward_document(
    server: &Arc<Server>,
    name: &str,
    user: &User,
    parts: &Parts,
) -> Option<Result<Response<Body>, Status>> {
    let remote = server.aggregation.of_path(&format!("/{name}")).filter(|remote| remote.document_url().is_some())?;
    let mut head = Request::new(()).into_parts().0;
    head.uri = parts.uri.clone();
    head.headers = parts.headers.clone();
    let body = http_body_util::Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    Some(forward(server, remote, user, head, body).await)
}

/// A client that followed would show its credentials to whomever the other server names (CVE-2022-3172).
fn leads_elsewhere(status: StatusCode, headers: &HeaderMap) -> bool {
    status.is_redirection() && headers.get(header::LOCATION).is_some_and(|location| !location.is_empty())
}

fn unavailable(text: &str) -> Response<Body> {
    respond::text(StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n"))
}

/// Says who asks, and nothing else that could say so.
pub(super) fn identify(headers: &mut HeaderMap, user: &User) {
    headers.remove(header::AUTHORIZATION);
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with("impersonate-") || name.starts_with("x-remote-")
        })
        .cloned()
        .collect();
    claims.into_iter().for_each(|name| {
        headers.remove(name);
    });
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    user.groups.iter().for_each(|group| add("x-remote-group", group));
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escape(key));
        values.iter().for_each(|value| add(&name, value));
    }
}

/// A key as a part of a header's name: what may not stand there is percent-encoded.
fn escape(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if plain { out.push(char::from(byte)) } else { out.push_str(&format!("%{byte:02x}")) }
    }
    out
}

/// Joins the two connections that have been upgraded.
fn join(parts: Parts, mut answer: Response<hyper::body::Incoming>) -> Response<Body> {
    let mut granted = Response::new(respond::full(""));
    *granted.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *granted.headers_mut() = answer.headers().clone();
    let client = hyper::upgrade::on(Request::from_parts(parts, ()));
    let backend = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let Ok((client, backend)) = tokio::try_join!(client, backend) else { return };
        if let Err(error) = tunnel::pass_through(TokioIo::new(client), TokioIo::new(backend)).await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    granted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_do_not_leave() {
        for (status, location, expected) in [
            (StatusCode::FOUND, Some("https://elsewhere"), true),
            (StatusCode::PERMANENT_REDIRECT, Some("/"), true),
            (StatusCode::NOT_MODIFIED, None, false),
            (StatusCode::CREATED, Some("/made"), false),
        ] {
            let headers = location.map(|location| (header::LOCATION, HeaderValue::from_static(location)));
            assert_eq!(leads_elsewhere(status, &headers.into_iter().collect()), expected, "{status}");
        }
    }

    #[test]
    fn who_asks() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("authorization", "Bearer x"), ("x-remote-user", "root"), ("impersonate-user", "y"), ("accept", "a/b")]
        {
            headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let mut user = User { name: "jane".to_owned(), groups: vec!["a".to_owned(), "b".to_owned()], ..User::default() };
        user.extra.insert("example.com/k".to_owned(), vec!["v".to_owned()]);
        identify(&mut headers, &user);
        let all: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert!(!headers.contains_key("authorization") && !headers.contains_key("impersonate-user"));
        for pair in [
            ("accept", "a/b"),
            ("x-remote-user", "jane"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-example.com%2fk", "v"),
        ] {
            assert!(all.contains(&pair), "{pair:?} in {all:?}");
        }
    }
}
