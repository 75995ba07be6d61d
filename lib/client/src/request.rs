//! [`Client`]: the API's verbs on typed objects, and on resources known only at run time.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::{Kind, RawList, ResourceId};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use machinery::status::{Reason, Status};
use serde_json::{Value, json};

use crate::Error;
use crate::config::{Config, ConfigError};
use crate::transport::{Body, Http2, Transport, TransportError};

/// An answer larger than this is refused: a LIST of everything is asked for in pages.
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const PAGE_ITEMS: u32 = 500;
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// A connection to an API server. Clones share it.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    namespace: Arc<str>,
}

/// Which objects a request is about: a resource, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    pub resource: &'a ResourceId,
    /// Empty: all namespaces, or a cluster-scoped resource.
    pub namespace: &'a str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListParams {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// `None` asks for the newest state; `Some(0)` for any that the server's cache has.
    pub resource_version: Option<u64>,
}

impl ListParams {
    pub fn labels(selector: impl Into<String>) -> Self {
        Self { label_selector: Some(selector.into()), ..Self::default() }
    }
    pub fn fields(selector: impl Into<String>) -> Self {
        Self { field_selector: Some(selector.into()), ..Self::default() }
    }
}

/// A list's items and the revision that they are of.
#[derive(Clone, Debug)]
pub struct List<K> {
    pub resource_version: u64,
    pub items: Vec<K>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchParams {
    /// `status`, `scale`, …
    pub subresource: Option<&'static str>,
    pub field_manager: Option<String>,
    /// Of an apply: take fields over from other managers.
    pub force: bool,
    pub dry_run: bool,
}

impl PatchParams {
    pub fn status() -> Self {
        Self { subresource: Some("status"), ..Self::default() }
    }
}

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    pub uid: Option<String>,
    pub resource_version: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteParams {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub precondition: Precondition,
}

impl DeleteParams {
    /// Only the object with this uid: never its namesake that came after.
    pub fn uid(uid: impl Into<String>) -> Self {
        Self { precondition: Precondition { uid: Some(uid.into()), resource_version: None }, ..Self::default() }
    }

    pub fn grace(mut self, seconds: i64) -> Self {
        self.grace_period_seconds = Some(seconds);
        self
    }

    fn body(&self) -> Value {
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(grace) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = grace.into();
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = format!("{propagation:?}").into();
        }
        if let Some(uid) = &self.precondition.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(rv) = self.precondition.resource_version {
            body["preconditions"]["resourceVersion"] = rv.to_string().into();
        }
        body
    }
}

impl Client {
    pub fn new(config: Config) -> Self {
        let namespace = config.namespace.as_str().into();
        Self { transport: Arc::new(Http2::new(config)), namespace }
    }

    pub fn with_transport(transport: impl Transport) -> Self {
        Self { transport: Arc::new(transport), namespace: "default".into() }
    }

    pub fn from_kubeconfig(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self::new(Config::from_kubeconfig(path)?))
    }

    pub fn in_cluster() -> Result<Self, ConfigError> {
        Ok(Self::new(Config::in_cluster()?))
    }

    /// The namespace of the kubeconfig's context.
    pub fn default_namespace(&self) -> &str {
        &self.namespace
    }

    /// Credential files were renewed: the next request opens a new connection.
    pub fn reconnect(&self) {
        self.transport.reconnect();
    }

    // --- typed ---

    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<K, Error> {
        let resource = ResourceId::of::<K>();
        Ok(K::decode(&self.get_bytes(Scope { resource: &resource, namespace }, name).await?)?)
    }

    /// All objects, read page by page from one snapshot.
    pub async fn list<K: Kind>(&self, namespace: &str, params: &ListParams) -> Result<List<K>, Error> {
        let resource = ResourceId::of::<K>();
        let list = self.list_bytes(Scope { resource: &resource, namespace }, params).await?;
        let items = list.items.iter().map(|b| K::decode(b)).collect::<Result<_, _>>()?;
        Ok(List { resource_version: list.resource_version, items })
    }

    /// Creates in the namespace that the object names.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let resource = ResourceId::of::<K>();
        let path = object_path(Scope { resource: &resource, namespace: object.namespace() }, "", "");
        Ok(K::decode(&self.call(Method::POST, &path, Some((JSON, object.encode()))).await?)?)
    }

    pub async fn update<K: Kind>(&self, object: &K) -> Result<K, Error> {
        self.put(object, "").await
    }

    pub async fn update_status<K: Kind>(&self, object: &K) -> Result<K, Error> {
        self.put(object, "status").await
    }

    async fn put<K: Kind>(&self, object: &K, subresource: &str) -> Result<K, Error> {
        let resource = ResourceId::of::<K>();
        let path = object_path(Scope { resource: &resource, namespace: object.namespace() }, object.name(), subresource);
        Ok(K::decode(&self.call(Method::PUT, &path, Some((JSON, object.encode()))).await?)?)
    }

    pub async fn patch<K: Kind>(&self, namespace: &str, name: &str, patch: &Patch, params: &PatchParams) -> Result<K, Error> {
        let resource = ResourceId::of::<K>();
        Ok(K::decode(&self.patch_bytes(Scope { resource: &resource, namespace }, name, patch, params).await?)?)
    }

    pub async fn delete<K: Kind>(&self, namespace: &str, name: &str, params: &DeleteParams) -> Result<(), Error> {
        let resource = ResourceId::of::<K>();
        self.delete_object(Scope { resource: &resource, namespace }, name, params).await
    }

    /// Posts to a subresource such as `binding`, `eviction` or `token`; answers what the server answers.
    pub async fn create_sub<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        let resource = ResourceId::of::<K>();
        self.post_value(&object_path(Scope { resource: &resource, namespace }, name, subresource), body).await
    }

    // --- by resource ---

    pub async fn get_bytes(&self, scope: Scope<'_>, name: &str) -> Result<Bytes, Error> {
        self.call(Method::GET, &object_path(scope, name, ""), None).await
    }

    pub async fn list_bytes(&self, scope: Scope<'_>, params: &ListParams) -> Result<RawList, Error> {
        let mut all = RawList::default();
        loop {
            let mut query = selectors(params);
            // A cached read is not paged, as upstream does not page it.
            match params.resource_version {
                Some(rv) => query.push(("resourceVersion", rv.to_string())),
                None => query.push(("limit", PAGE_ITEMS.to_string())),
            }
            if !all.continue_token.is_empty() {
                query.push(("continue", all.continue_token.clone()));
            }
            let path = with_query(object_path(scope.clone(), "", ""), &query);
            let bytes = self.call(Method::GET, &path, None).await?;
            let page = api::decode_list(&bytes).map_err(|source| Error::Answer { what: format!("GET {path}"), source })?;
            all.items.extend(page.items);
            all.resource_version = page.resource_version;
            all.continue_token = page.continue_token;
            if all.continue_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// One page of a list, of which the metadata alone. An empty token is that of the first page.
    pub async fn metadata_page(&self, scope: Scope<'_>, limit: u32, token: &str) -> Result<RawList, Error> {
        let mut query = vec![("limit", limit.to_string())];
        if !token.is_empty() {
            query.push(("continue", token.to_owned()));
        }
        let path = with_query(object_path(scope, "", ""), &query);
        let bytes = self.get_as(&path, METADATA_LIST).await?;
        api::decode_list(&bytes).map_err(|source| Error::Answer { what: format!("GET {path}"), source })
    }

    pub async fn patch_bytes(&self, scope: Scope<'_>, name: &str, patch: &Patch, params: &PatchParams) -> Result<Bytes, Error> {
        let (kind, body) = match patch {
            Patch::Json(v) => ("application/json-patch+json", v),
            Patch::Merge(v) => ("application/merge-patch+json", v),
            Patch::Strategic(v) => ("application/strategic-merge-patch+json", v),
            Patch::Apply(v) => ("application/apply-patch+yaml", v),
        };
        let mut query = Vec::new();
        if let Some(manager) = &params.field_manager {
            query.push(("fieldManager", manager.clone()));
        }
        if params.force {
            query.push(("force", "true".to_owned()));
        }
        if params.dry_run {
            query.push(("dryRun", "All".to_owned()));
        }
        let path = with_query(object_path(scope, name, params.subresource.unwrap_or("")), &query);
        self.call(Method::PATCH, &path, Some((kind, encode(body)))).await
    }

    pub async fn delete_object(&self, scope: Scope<'_>, name: &str, params: &DeleteParams) -> Result<(), Error> {
        let path = object_path(scope, name, "");
        self.call(Method::DELETE, &path, Some((JSON, encode(&params.body())))).await.map(drop)
    }

    pub async fn delete_collection(&self, scope: Scope<'_>, list: &ListParams, params: &DeleteParams) -> Result<(), Error> {
        let path = with_query(object_path(scope, "", ""), &selectors(list));
        self.call(Method::DELETE, &path, Some((JSON, encode(&params.body())))).await.map(drop)
    }

    pub async fn post_value(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let bytes = self.call(Method::POST, path, Some((JSON, encode(body)))).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Answer { what: format!("POST {path}"), source })
    }

    pub async fn get_value(&self, path: &str) -> Result<Value, Error> {
        let bytes = self.call(Method::GET, path, None).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Answer { what: format!("GET {path}"), source })
    }

    /// A GET with an `Accept` header of its own: aggregated discovery, metadata alone.
    pub async fn get_as(&self, path: &str, accept: &'static str) -> Result<Bytes, Error> {
        let mut request = request(Method::GET, path, None)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        self.whole(request).await
    }

    /// One request whose whole answer is read, within a minute; a failure becomes [`Error::Api`].
    pub async fn call(&self, method: Method, path: &str, body: Option<(&'static str, Bytes)>) -> Result<Bytes, Error> {
        self.whole(request(method, path, body)?).await
    }

    async fn whole(&self, request: Request<Bytes>) -> Result<Bytes, Error> {
        let exchange = async {
            let response = self.raw(request).await?;
            let status = response.status();
            let bytes = collect(response.into_body()).await?;
            if status.is_success() { Ok(bytes) } else { Err(failure(status.as_u16(), &bytes)) }
        };
        tokio::time::timeout(REQUEST_TIMEOUT, exchange).await.map_err(|_| TransportError::Timeout(REQUEST_TIMEOUT))?
    }

    /// One request as it is, its answer as it comes.
    pub async fn raw(&self, request: Request<Bytes>) -> Result<Response<Body>, Error> {
        Ok(self.transport.send(request).await?)
    }
}

const JSON: &str = "application/json";

fn encode(value: &Value) -> Bytes {
    // A Value's keys are strings: encoding it can't fail.
    serde_json::to_vec(value).expect("a Value encodes").into()
}

pub(crate) fn request(method: Method, path: &str, body: Option<(&'static str, Bytes)>) -> Result<Request<Bytes>, TransportError> {
    let mut builder = Request::builder().method(method).uri(path).header(header::ACCEPT, HeaderValue::from_static(JSON));
    let mut bytes = Bytes::new();
    if let Some((kind, content)) = body {
        builder = builder.header(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        bytes = content;
    }
    Ok(builder.body(bytes)?)
}

async fn collect(mut body: Body) -> Result<Bytes, Error> {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(TransportError::Body)?.into_data() else { continue };
        if all.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(Error::TooLarge { limit: ANSWER_BYTES_MAX });
        }
        match first.take() {
            // Most answers are one frame: it is handed on as it is.
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(before) => {
                all.extend_from_slice(&before);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

/// The failure that an answer tells of; one that is not a `Status` is wrapped in one.
pub(crate) fn failure(code: u16, bytes: &[u8]) -> Error {
    let status = serde_json::from_slice::<Status>(bytes).ok().filter(|s| s.kind == "Status").unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]);
        let mut status = Status::internal(format!("the server answered {code}: {}", text.trim()));
        status.code = code;
        match code {
            401 => status.reason = Reason::Unauthorized,
            403 => status.reason = Reason::Forbidden,
            404 => status.reason = Reason::NotFound,
            _ => {}
        }
        status
    });
    Error::Api(Box::new(status))
}

pub(crate) fn selectors(params: &ListParams) -> Vec<(&'static str, String)> {
    let labels = params.label_selector.iter().map(|s| ("labelSelector", s.clone()));
    let fields = params.field_selector.iter().map(|s| ("fieldSelector", s.clone()));
    labels.chain(fields).collect()
}

/// `/api/v1/namespaces/NS/pods/NAME/log`; name and subresource may be empty.
pub fn object_path(scope: Scope<'_>, name: &str, subresource: &str) -> String {
    let resource = scope.resource;
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    if resource.namespaced && !scope.namespace.is_empty() {
        path.push_str("/namespaces/");
        escape(&mut path, scope.namespace);
    }
    path.push('/');
    path.push_str(&resource.plural);
    for part in [name, subresource] {
        if !part.is_empty() {
            path.push('/');
            escape(&mut path, part);
        }
    }
    path
}

pub(crate) fn with_query(mut path: String, query: &[(&str, String)]) -> String {
    for (i, (key, value)) in query.iter().enumerate() {
        path.push(if i == 0 { '?' } else { '&' });
        path.push_str(key);
        path.push('=');
        escape(&mut path, value);
    }
    path
}

/// Percent-encodes all but the unreserved characters: a name can't leave its place in a path.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let pods = ResourceId::of::<api::core::Pod>();
        let roles = ResourceId::of::<api::rbac::ClusterRole>();
        for (resource, namespace, name, sub, want) in [
            (&pods, "web", "a", "log", "/api/v1/namespaces/web/pods/a/log"),
            (&pods, "", "", "", "/api/v1/pods"),
            (&roles, "", "system:node", "", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"),
            (&pods, "web", "../../x", "", "/api/v1/namespaces/web/pods/..%2F..%2Fx"),
        ] {
            assert_eq!(object_path(Scope { resource, namespace }, name, sub), want);
        }
        let query = [("labelSelector", "a in (b,c)".to_owned()), ("limit", "5".to_owned())];
        assert_eq!(with_query("/x".into(), &query), "/x?labelSelector=a%20in%20%28b%2Cc%29&limit=5");
    }

    #[test]
    fn a_failure_that_is_no_status_keeps_its_code() {
        let error = failure(403, b"forbidden by a proxy");
        assert!(error.is_forbidden());
        assert_eq!(error.status().unwrap().code, 403);
    }

    #[test]
    fn delete_options() {
        let params = DeleteParams { propagation: Some(Propagation::Foreground), ..DeleteParams::uid("u").grace(0) };
        assert_eq!(
            params.body(),
            json!({"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":0,"propagationPolicy":"Foreground","preconditions":{"uid":"u"}})
        );
    }
}
