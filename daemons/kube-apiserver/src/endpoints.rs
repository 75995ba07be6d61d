//! From a request to the part of the server that answers it.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use machinery::meta;
use machinery::status::Status;
use schema::Verb;
use serde_json::Value;

use crate::authn::user::User;
use crate::filters::audit::event::Content;
use crate::filters::audit::{Annotation, BodyWanted};
use crate::pipeline::RequestBody;
use crate::registry::options::{ListOptions, WriteOptions, check_patch};
use crate::registry::patch::Patch;
use crate::registry::update::{Target, Written};
use crate::registry::{Context, Served};
use crate::request_info::{RequestInfo, ResourcePath};
use crate::respond::accept::{Accept, Offer, negotiate};
use crate::respond::{self, Body, frames};
use crate::server::Server;
use crate::{aggregation, body, component_status, paths, proxy, reviews, subresources};

/// The name of an object that the path does not have: for the audit log.
#[derive(Clone, Debug)]
pub struct ObjectName(pub String);

/// An authorised request for a resource.
pub struct Call<'c> {
    pub server: &'c Arc<Server>,
    pub served: &'c Arc<Served>,
    pub path: &'c ResourcePath,
    pub parts: &'c Parts,
    pub query: &'c str,
    pub cx: Context,
}

pub async fn handle(
    server: &Arc<Server>,
    info: Arc<RequestInfo>,
    user: Arc<User>,
    parts: &mut Parts,
    body: RequestBody,
    now: Timestamp,
) -> Result<Response<Body>, Status> {
    if let Some(remote) = server.aggregation.of_path(&info.path) {
        let parts = std::mem::replace(parts, empty_parts());
        return aggregation::forward(server, remote, &user, parts, body).await;
    }
    let Some(path) = &info.resource else { return paths::handle(server, &info.path, &user, parts, now).await };
    let Some(served) = server.registry.served(&path.group, &path.version, &path.resource) else {
        return paths::nothing_at(server, &info.path);
    };
    // CVE-2019-11247: what belongs to no namespace is not found below one, where other rights apply. `namespaces` names itself.
    if !served.resource.namespaced && !path.namespace.is_empty() && path.resource != "namespaces" {
        return Err(Status::no_such_path());
    }
    if served.resource.namespaced
        && path.namespace.is_empty()
        && !path.name.is_empty()
        && info.verb == "get"
        && !path_names(&parts.uri, path)
    {
        return Err(Status::no_such_path());
    }
    if proxy::is_connect(path) {
        let connect = proxy::Connect { path: path.clone(), user, parts: std::mem::replace(parts, empty_parts()), body };
        return proxy::connect(server, connect).await;
    }
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let agent = parts.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let cx = Context::new(user, now, WriteOptions::parse(&query, agent, options_kind(&info.verb))?);
    let bytes = body::read(body).await?;
    if let Some(wanted) = parts.extensions.get::<BodyWanted>() {
        let media_type = parts.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        // Nobody else sets it.
        let _ = wanted.0.set(Content { media_type: media_type.to_owned(), bytes: bytes.clone() });
    }
    let call = Call { server, served: &served, path, parts, query: &query, cx };
    let is_served = Verb::parse(&info.verb).is_none_or(|verb| served.resource.has_verb(verb));
    if is_served && let Some(warning) = deprecation(path).or_else(|| served.custom()?.deprecation()) {
        call.cx.warn(warning);
    }
    // A refusal carries the warnings too: they often say why.
    let mut response = call.dispatch(&info, &bytes).await.unwrap_or_else(|status| respond::error(&call.parts.headers, &status));
    add_warnings(&mut response, &call.cx);
    let annotations = std::mem::take(&mut *call.cx.annotations.lock().unwrap_or_else(|e| e.into_inner()));
    if !annotations.is_empty() {
        let mut notes = response.extensions_mut().remove::<Annotation>().map(|known| known.0).unwrap_or_default();
        notes.extend(annotations.into_iter().map(|(name, text)| (name.into(), text)));
        response.extensions_mut().insert(Annotation(notes));
    }
    Ok(response)
}

/// Resources that clients should leave.
fn deprecation(path: &ResourcePath) -> Option<&'static str> {
    match (path.group.as_str(), path.resource.as_str()) {
        ("", "endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

/// A list whose field selector names one object carries that name; its path does not.
fn path_names(uri: &http::Uri, path: &ResourcePath) -> bool {
    uri.path().trim_end_matches('/').ends_with(&path.resource)
}

/// The kind of the options that a verb's query stands for.
fn options_kind(verb: &str) -> &'static str {
    match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        _ => "DeleteOptions",
    }
}

fn empty_parts() -> Parts {
    http::Request::new(()).into_parts().0
}

fn add_warnings(response: &mut Response<Body>, cx: &Context) {
    for warning in cx.warnings.lock().unwrap_or_else(|e| e.into_inner()).iter() {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = format!("299 - \"{quoted}\"").parse() {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
}

impl Call<'_> {
    async fn dispatch(&self, info: &RequestInfo, bytes: &[u8]) -> Result<Response<Body>, Status> {
        if !self.path.subresource.is_empty() {
            return subresources::handle(self, &info.verb, bytes).await;
        }
        if reviews::is_review(&self.served.resource) {
            return reviews::handle(self, &info.verb, bytes).await;
        }
        if component_status::is_component_status(&self.served.resource) {
            return component_status::handle(self, &info.verb).await;
        }
        let verb = Verb::parse(&info.verb).ok_or_else(Status::method_not_served)?;
        if !self.served.resource.has_verb(verb) {
            return Err(Status::method_not_served());
        }
        if self.served.resource.namespaced && self.path.namespace.is_empty() && !matches!(verb, Verb::List | Verb::Watch) {
            return Err(Status::method_not_served());
        }
        let names_one = matches!(verb, Verb::Get | Verb::Update | Verb::Patch | Verb::Delete);
        if names_one && self.path.name.is_empty() {
            return Err(Status::method_not_served());
        }
        match verb {
            Verb::Get => self.get().await,
            Verb::List => self.list().await,
            Verb::Watch => self.watch().await,
            Verb::Create => self.create(bytes).await,
            Verb::Update => self.update(bytes).await,
            Verb::Patch => self.patch(bytes).await,
            Verb::Delete => self.delete(bytes).await,
            Verb::DeleteCollection => self.delete_collection(bytes).await,
        }
    }

    fn offer(&self, views: bool, watch: bool) -> Offer {
        let protobuf = matches!(self.served.types, crate::registry::TypeSource::Builtin);
        Offer { protobuf, views, watch }
    }

    pub fn accept(&self, views: bool) -> Result<Accept, Status> {
        let accept = negotiate(&self.parts.headers, self.query, self.offer(views, false))?;
        if accept.view == respond::accept::View::Table {
            respond::table::Include::check(self.query)?;
        }
        Ok(accept)
    }

    /// The namespace to look in: none for namespaces themselves, whose path names one.
    pub fn namespace(&self) -> &str {
        if self.served.resource.namespaced { &self.path.namespace } else { "" }
    }

    pub fn target(&self) -> Target<'_> {
        Target { served: self.served, namespace: self.namespace(), name: &self.path.name, subresource: &self.path.subresource }
    }

    async fn get(&self) -> Result<Response<Body>, Status> {
        let accept = self.accept(true)?;
        let options = ListOptions::parse(self.query)?;
        let entry = self.server.registry.get(self.served, self.namespace(), &self.path.name, &options).await?;
        Ok(respond::entry(accept, self.served, &entry, self.query, self.cx.now))
    }

    /// The options in the query, with fields as the store names them.
    fn list_options(&self, parse: fn(&str) -> Result<ListOptions, Status>) -> Result<ListOptions, Status> {
        let mut options = parse(self.query)?;
        if !options.fields.is_empty() {
            options.fields = self.served.strategy.stored_selector(options.fields);
        }
        Ok(options)
    }

    async fn list(&self) -> Result<Response<Body>, Status> {
        let accept = self.accept(true)?;
        let options = self.list_options(ListOptions::parse_list)?;
        let page = self.server.registry.list(self.served, self.namespace(), &options).await?;
        Ok(respond::list(accept, self.served, page, self.query, self.cx.now))
    }

    async fn watch(&self) -> Result<Response<Body>, Status> {
        let accept = negotiate(&self.parts.headers, self.query, self.offer(true, true))?;
        let mut options = self.list_options(ListOptions::parse)?;
        let legacy_name = !self.path.name.is_empty() && options.fields.is_empty();
        if legacy_name {
            options.fields = machinery::selector::FieldSelector::equal("metadata.name", &self.path.name);
        }
        let shutdown = self.server.shutdown.clone();
        let events = self.server.registry.watch(self.served.clone(), self.namespace(), options, shutdown).await?;
        Ok(frames::stream(accept, self.served.clone(), self.query, self.server.now, events))
    }

    async fn create(&self, bytes: &[u8]) -> Result<Response<Body>, Status> {
        let accept = self.accept(true)?;
        if !self.path.name.is_empty() {
            return Err(Status::method_not_served());
        }
        let object = body::object(&self.cx, self.served, &self.parts.headers, bytes)?;
        let written = self.server.registry.create(&self.cx, self.served, self.namespace(), "", object).await?;
        Ok(self.written(accept, written))
    }

    async fn update(&self, bytes: &[u8]) -> Result<Response<Body>, Status> {
        let accept = self.accept(true)?;
        let object = body::object(&self.cx, self.served, &self.parts.headers, bytes)?;
        body::require_name(&object, &self.path.name)?;
        let written = self.server.registry.update(&self.cx, self.target(), object).await?;
        Ok(self.written(accept, written))
    }

    async fn patch(&self, bytes: &[u8]) -> Result<Response<Body>, Status> {
        let accept = self.accept(true)?;
        let patch = self.parse_patch(bytes)?;
        let written = self.server.registry.patch(&self.cx, self.target(), patch).await?;
        Ok(self.written(accept, written))
    }

    /// The patch in the body, with options that fit it.
    pub fn parse_patch(&self, bytes: &[u8]) -> Result<Patch, Status> {
        let patch = body::patch(&self.cx, self.served, &self.parts.headers, bytes)?;
        check_patch(self.query, matches!(patch, Patch::Apply(_)))?;
        Ok(patch)
    }

    async fn delete(&self, bytes: &[u8]) -> Result<Response<Body>, Status> {
        let accept = self.accept(true)?;
        let options = body::delete_options(&self.parts.headers, bytes, self.query)?;
        options.check()?;
        let (namespace, name) = (self.namespace(), self.path.name.as_str());
        let deleted = self.server.registry.delete(&self.cx, self.served, namespace, name, &options).await?;
        let pending = matches!(deleted, crate::registry::delete::Deleted::Pending(_));
        let accepted = pending && options.orphan_dependents == Some(false);
        let code = if accepted { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok(respond::object(code, accept, self.served, deleted.answer(self.served), self.query, self.cx.now))
    }

    async fn delete_collection(&self, bytes: &[u8]) -> Result<Response<Body>, Status> {
        let accept = self.accept(false)?;
        let options = body::delete_options(&self.parts.headers, bytes, self.query)?;
        options.check()?;
        let list = self.list_options(ListOptions::parse_list)?;
        let registry = &self.server.registry;
        let (items, revision) = registry.delete_collection(&self.cx, self.served, self.namespace(), &list, &options).await?;
        let answer = serde_json::json!({"kind": self.served.resource.list_kind, "apiVersion": self.served.api_version(),
            "metadata": {"resourceVersion": revision.to_string()}, "items": items});
        Ok(respond::value(StatusCode::OK, accept.wire, &answer))
    }

    /// The answer to a write.
    pub fn written(&self, accept: Accept, written: Written) -> Response<Body> {
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        let name = meta::name(&written.object).to_owned();
        let Written { object, entry, .. } = written;
        let mut response = respond::written(code, accept, self.served, object, entry.as_ref(), self.query, self.cx.now);
        response.extensions_mut().insert(ObjectName(name));
        response
    }

    /// An answer of a kind that is neither the resource's own nor shown as a table.
    pub fn answer(&self, code: StatusCode, value: &Value) -> Result<Response<Body>, Status> {
        let accept = negotiate(&self.parts.headers, self.query, Offer { protobuf: true, views: false, watch: false })?;
        Ok(respond::value(code, accept.wire, value))
    }
}

/// The methods that read.
pub fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
