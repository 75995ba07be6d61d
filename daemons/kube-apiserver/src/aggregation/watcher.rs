//! Follows APIServices, Services and endpoints, and asks other servers whether they are there: when something about them
//! changes, when a request to them fails, and with growing pauses while they do not answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::availability::{self, Finding, Verdict};
use super::remote::Remote;
use super::{Access, GROUP, Key, PLURAL, dial, proxy};
use crate::authn::user::User;
use crate::follow;
use crate::lookup::Lookup;
use crate::registry::Context;
use crate::registry::update::{Changed, Target};
use crate::server::Server;

/// One of so many attempts must succeed: a Service may have endpoints that are about to go.
const ATTEMPTS: usize = 5;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Larger descriptions of what a server serves are not read.
const DISCOVERY_BYTES_MAX: usize = 4 << 20;

pub(super) fn start(server: &Arc<Server>) {
    let to = server.clone();
    follow::spawn(server, GROUP, PLURAL, move |_namespace, name, service| note(&to, name, service));
    let to = server.clone();
    follow::spawn(server, "", "services", move |namespace, name, _service| recheck(&to, namespace, name));
    let to = server.clone();
    follow::spawn(server, "discovery.k8s.io", "endpointslices", move |namespace, name, slice| {
        let service = slice.and_then(|slice| meta::label(slice, "kubernetes.io/service-name"));
        // Of a deleted slice only the name is left, which begins with the Service's.
        match service {
            Some(service) => recheck(&to, namespace, service),
            None => recheck_all(&to, namespace, name),
        }
    });
    let server = server.clone();
    tokio::spawn(async move {
        let shutdown = server.shutdown.clone();
        tokio::select! {
            () = shutdown.requested() => {}
            () = work(&server) => {}
        }
    });
}

/// Takes note of an APIService; what is new about it is checked.
fn note(server: &Arc<Server>, name: &str, service: Option<&Value>) {
    let Some((version, group)) = name.split_once('.') else { return };
    let key: Key = (group.to_owned(), version.to_owned());
    let aggregation = &server.aggregation;
    let known = aggregation.remotes.load().get(&key).cloned();
    let Some(mut remote) = service.and_then(Remote::read) else {
        if known.is_some() {
            aggregation.set(&key, None);
        }
        let is_known = service.is_none_or(|service| is_marked(service, "Local"));
        if !is_known {
            aggregation.checks.add(name);
        }
        return;
    };
    if let Some(known) = known.filter(|known| known.is_like(&remote)) {
        remote.available = known.available;
        remote.remember(&known);
        remote.tls = known.tls.clone();
    } else {
        aggregation.checks.add(name);
    }
    aggregation.set(&key, Some(remote));
}

fn is_marked(service: &Value, reason: &str) -> bool {
    let conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Available" && condition["reason"] == reason)
}

fn recheck(server: &Server, namespace: &str, service: &str) {
    let remotes = server.aggregation.remotes.load();
    let theirs = remotes.values().filter(|remote| remote.namespace == namespace && remote.service == service);
    theirs.for_each(|remote| server.aggregation.checks.add(&remote.name));
}

fn recheck_all(server: &Server, namespace: &str, slice: &str) {
    let remotes = server.aggregation.remotes.load();
    let theirs = remotes.values().filter(|remote| remote.namespace == namespace && slice.starts_with(&remote.service));
    theirs.for_each(|remote| server.aggregation.checks.add(&remote.name));
}

async fn work(server: &Arc<Server>) {
    server.registry.load(&[("discovery.k8s.io", "endpointslices"), (GROUP, PLURAL)]).await;
    let queue = server.aggregation.checks.clone();
    // How long to wait before a server that fails is asked again.
    let mut pauses: HashMap<String, Duration> = HashMap::new();
    loop {
        let name = queue.next().await;
        match check(server, &name).await {
            Ok(true) => {
                pauses.remove(&name);
            }
            Ok(false) => {
                let pause = pauses.entry(name.clone()).or_insert(PAUSE_MIN);
                queue.add_after(&name, *pause);
                *pause = (*pause * 2).min(PAUSE_MAX);
            }
            Err(status) => {
                tracing::warn!(error = %status, name, "the availability of an APIService");
                queue.add_after(&name, PAUSE_MIN);
            }
        }
    }
}

/// Whether that is all for now: false when a server that should answer did not.
async fn check(server: &Arc<Server>, name: &str) -> Result<bool, Status> {
    let registry = &server.registry;
    let Some(service) = registry.object(GROUP, PLURAL, "", name) else { return Ok(true) };
    let Some(mut remote) = Remote::read(&service) else {
        set(server, name, &Finding::local()).await?;
        return Ok(true);
    };
    let access = &server.aggregation.access;
    let key = (remote.group.clone(), remote.version.clone());
    if let Some(known) = server.aggregation.remotes.load().get(&key) {
        // What it last said of itself is shown, as stale if need be.
        remote.remember(known);
    }
    let object = registry.object("", "services", &remote.namespace, &remote.service);
    let slices = dial::endpoint_slices(&remote, &**registry);
    let finding = match availability::decide(&remote, object.as_ref(), &slices) {
        Verdict::Known(finding) => finding,
        Verdict::Ask => {
            let prepared = dial::prepare(&mut remote, access);
            match prepared {
                Err(error) => Finding::failed(error),
                Ok(()) => ask(&mut remote, access, &**registry).await,
            }
        }
    };
    remote.available = finding.available;
    let settled = finding.reason != "FailedDiscoveryCheck";
    server.aggregation.set(&key, Some(remote));
    set(server, name, &finding).await?;
    Ok(settled)
}

/// Asks a server what it serves, several times at once; the first answer counts.
async fn ask(remote: &mut Remote, access: &Access, lookup: &dyn Lookup) -> Finding {
    let asked: &Remote = remote;
    let mut attempts: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| attempt(asked, access, lookup, asked.root())).collect();
    let mut last = String::new();
    let mut found = None;
    while let Some(result) = attempts.next().await {
        match result {
            Ok(resources) => {
                found = Some(resources);
                break;
            }
            Err(error) => last = error,
        }
    }
    drop(attempts);
    let Some(resources) = found else { return Finding::failed(last) };
    let (index, document) = futures::join!(
        attempt(remote, access, lookup, "/openapi/v3".to_owned()),
        attempt(remote, access, lookup, "/openapi/v2".to_owned())
    );
    remote.document_hash = match index {
        Ok(index) => document_hash(&index, &remote.root()),
        Err(_) => String::new(),
    };
    // Older servers may have the one or the other.
    match document {
        Ok(document) => remote.describe(&document),
        Err(error) => tracing::debug!(error, name = remote.name, "no OpenAPI v2 document"),
    }
    remote.resources = resources;
    Finding::passed()
}

/// The hash in the index of a server's OpenAPI v3 documents.
fn document_hash(index: &Value, root: &str) -> String {
    let url = index["paths"][root.trim_start_matches('/')]["serverRelativeURL"].as_str().unwrap_or_default();
    url.split_once("hash=").map_or("", |(_, hash)| hash).to_owned()
}

async fn attempt(remote: &Remote, access: &Access, lookup: &dyn Lookup, path: String) -> Result<Value, String> {
    let place = dial::place(remote, access, lookup)?;
    let url = format!("https://{}:{}{path}", place.0, place.1);
    let mut request = Request::builder().uri(&path).header(header::ACCEPT, "application/json");
    if let Some(headers) = request.headers_mut() {
        let user =
            User { name: "system:kube-aggregator".to_owned(), groups: vec!["system:masters".to_owned()], ..User::default() };
        proxy::identify(headers, &user);
    }
    let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = dial::send(remote, &place, request).await?;
        let code = answer.status();
        if !code.is_success() {
            return Err(format!("bad status from {url}: {}", code.as_u16()));
        }
        let body = Limited::new(answer.into_body(), DISCOVERY_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&body.to_bytes()).unwrap_or_default())
    };
    let failed = |why: String| format!("failing or missing response from {url}: {why}");
    match tokio::time::timeout(ATTEMPT_TIMEOUT, exchange).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(format!("Get {url:?}: context deadline exceeded"))),
    }
}

/// Writes the condition, unless it is there.
async fn set(server: &Arc<Server>, name: &str, finding: &Finding) -> Result<(), Status> {
    let registry = &server.registry;
    let Some(served) = registry.stored(GROUP, PLURAL) else { return Ok(()) };
    let now = machinery::time::format((server.now)());
    let target = Target { served: &served, namespace: "", name, subresource: "status" };
    let change = |old: Option<&Value>| {
        let mut new = old.ok_or_else(|| served.not_found(name))?.clone();
        if let Some(status) = availability::status(&new, finding, &now) {
            meta::as_object_mut(&mut new).insert("status".to_owned(), status);
        }
        Ok(Changed::Object(new))
    };
    match registry.modify(&Context::server((server.now)()), target, &change, false).await {
        Err(status) if !matches!(status.code(), 404 | 409) => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hashes() {
        let index = json!({"paths": {"apis/g.io/v1": {"serverRelativeURL": "/openapi/v3/apis/g.io/v1?hash=AB"}}});
        assert_eq!(document_hash(&index, "/apis/g.io/v1"), "AB");
        assert_eq!(document_hash(&json!({}), "/apis/g.io/v1"), "");
    }
}
