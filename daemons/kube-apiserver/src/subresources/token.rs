//! TokenRequest: a token for a service account, bound to a pod, secret or node, and to an audience.

use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::admission::{Operation, Request};
use crate::authn::claims::{Bound, Claims, Reference};
use crate::authn::user::SERVICE_ACCOUNT_PREFIX;
use crate::body;
use crate::endpoints::Call;
use crate::filters::audit::Annotation;
use crate::lookup::Lookup;
use crate::registry::store::EntryExt;
use crate::respond::Body;

const GROUP: &str = "authentication.k8s.io";
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What admission asks for when it mounts a token into a pod that did not ask for one: of such pods it is not known whether
/// they read their token again.
const INJECTED_SECONDS: i64 = 3607;
/// How long such a token lives instead.
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// How long tokens live here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lifetimes {
    /// `--service-account-max-token-expiration`.
    pub seconds_max: Option<i64>,
    /// `--service-account-extend-token-expiration`.
    pub extend: bool,
}

pub(super) async fn handle(call: &Call<'_>, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let mut request = body::typed(&call.cx, &call.parts.headers, bytes, "authentication.k8s.io/v1", "TokenRequest")?;
    let Some(signer) = &call.server.token_signer else { return Err(Status::no_such_path()) };
    let accounts = call.server.authenticator.service_accounts.as_ref().ok_or_else(Status::no_such_path)?;
    check_metadata(call, &request)?;
    let name = call.path.name.as_str();
    let entry = call.server.registry.get(call.served, call.namespace(), name, &Default::default()).await?;
    let account = entry.value().ok_or_else(|| Status::internal("the stored object cannot be read"))?;
    check_uid(name, &request, &account)?;
    let now = call.cx.now;
    complete(&mut request, &account, &accounts.api_audiences, now);
    check_seconds(request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS))?;
    let admitted = Request::new(&call.cx, call.served, Operation::Create, "token", call.namespace(), name)
        .of_kind("authentication.k8s.io/v1", "TokenRequest");
    let admission = &call.server.registry.admission;
    admission.mutate(&admitted, &mut request, None).await?;
    admission.validate(&admitted, &request, None).await?;
    let bound = bound_to(call, &account, &request["spec"]["boundObjectRef"])?;
    let asked = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    let seconds = call.server.token_lifetimes.seconds_max.map_or(asked, |max| asked.min(max));
    if seconds < asked {
        call.cx.warn(format!("requested expiration of {asked} seconds shortened to {seconds} seconds"));
        meta::set_path(&mut request, &["spec", "expirationSeconds"], json!(seconds));
    }
    let audiences = strings(&request["spec"]["audiences"]);
    let ours = audiences.iter().all(|audience| accounts.api_audiences.contains(audience));
    let extended = call.server.token_lifetimes.extend && bound.pod.is_some() && seconds == INJECTED_SECONDS && ours;
    let claims = Claims {
        aud: audiences,
        exp: now.as_second() + if extended { EXTENDED_SECONDS } else { seconds },
        iat: now.as_second(),
        iss: accounts.issuers.first().cloned().unwrap_or_default(),
        jti: call.server.registry.new_uid(),
        kubernetes: Bound { warnafter: extended.then(|| now.as_second() + seconds), ..bound },
        nbf: now.as_second(),
        sub: format!("{SERVICE_ACCOUNT_PREFIX}{}:{name}", call.namespace()),
    };
    let token = signer.sign(&claims).map_err(Status::internal)?;
    let expires = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    meta::set_path(&mut request, &["status"], json!({"token": token, "expirationTimestamp": machinery::time::format(expires)}));
    let mut response = call.answer(StatusCode::CREATED, &request)?;
    let issued = ("authentication.kubernetes.io/issued-credential-id".into(), format!("JTI={}", claims.jti));
    response.extensions_mut().insert(Annotation(vec![issued]));
    Ok(response)
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the body says about itself must be what the path says.
fn check_metadata(call: &Call<'_>, request: &Value) -> Result<(), Status> {
    for (field, what, expected) in
        [("name", "name", call.path.name.as_str()), ("namespace", "namespace", call.path.namespace.as_str())]
    {
        let given = meta::text(request, &["metadata", field]);
        if !given.is_empty() && given != expected {
            let path = Path::new("metadata").child(field);
            let error = FieldError::invalid(&path, given, format!("must match the service account {what} if specified"));
            return Err(Status::invalid((GROUP, "TokenRequest"), &call.path.name, vec![error]));
        }
    }
    Ok(())
}

fn check_uid(name: &str, request: &Value, account: &Value) -> Result<(), Status> {
    let (given, current) = (meta::uid(request), meta::uid(account));
    if given.is_empty() || given == current {
        return Ok(());
    }
    let why = format!("the UID in the token request ({given}) does not match the UID of the service account ({current})");
    Err(Status::conflict((GROUP, "TokenRequest"), name, why))
}

/// What the answer shows of the request, with what was left out.
fn complete(request: &mut Value, account: &Value, api_audiences: &[String], now: Timestamp) {
    if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        meta::set_path(request, &["spec", "audiences"], json!(api_audiences));
    }
    if request["spec"]["expirationSeconds"].as_i64().is_none() {
        meta::set_path(request, &["spec", "expirationSeconds"], json!(DEFAULT_SECONDS));
    }
    meta::set_path(request, &["metadata", "name"], json!(meta::name(account)));
    meta::set_path(request, &["metadata", "namespace"], json!(meta::namespace(account)));
    meta::set_path(request, &["metadata", "uid"], json!(meta::uid(account)));
    meta::set_path(request, &["metadata", "creationTimestamp"], json!(machinery::time::format(now)));
}

fn check_seconds(seconds: i64) -> Result<(), Status> {
    let path = Path::new("spec").child("expirationSeconds");
    let mut errors = FieldErrors::new();
    if seconds < MIN_SECONDS {
        errors.push(FieldError::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX_SECONDS {
        errors.push(FieldError::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid((GROUP, "TokenRequest"), "", errors)) }
}

/// The claims about what the token is bound to: it must exist, and be what the client takes it for.
fn bound_to(call: &Call<'_>, account: &Value, reference: &Value) -> Result<Bound, Status> {
    let of = |object: &Value| Reference { name: meta::name(object).to_owned(), uid: meta::uid(object).to_owned() };
    let mut bound = Bound { namespace: call.namespace().to_owned(), serviceaccount: of(account), ..Bound::default() };
    if reference.is_null() {
        return Ok(bound);
    }
    let registry = &call.server.registry;
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (plural, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1" | "", "Pod") => ("pods", call.namespace()),
        ("v1" | "", "Secret") => ("secrets", call.namespace()),
        ("v1" | "", "Node") => ("nodes", ""),
        (version, kind) => {
            return Err(Status::bad_request(format!("cannot bind token to object of type {version}, Kind={kind}")));
        }
    };
    let object = registry.object("", plural, namespace, text("name")).ok_or_else(|| Status::not_found(plural, text("name")))?;
    if plural == "pods" && object["spec"]["serviceAccountName"] != call.path.name.as_str() {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            call.path.name
        )));
    }
    let uid = text("uid");
    if !uid.is_empty() && uid != meta::uid(&object) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(text("kind"), text("name"), why));
    }
    match plural {
        "pods" => {
            bound.pod = Some(of(&object));
            bound.node = object["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()).map(|node| {
                // A node that is not registered is named all the same: it says where the token was handed out.
                let registered = registry.object("", "nodes", "", node);
                registered.as_ref().map_or_else(|| Reference { name: node.to_owned(), uid: String::new() }, of)
            });
        }
        "secrets" => bound.secret = Some(of(&object)),
        _ => bound.node = Some(of(&object)),
    }
    Ok(bound)
}
