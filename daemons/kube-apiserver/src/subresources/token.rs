//! TokenRequest: a token for a service account, bound to a pod, secret or node, and to an audience.

use http::{Response, StatusCode};
use jiff::SignedDuration;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::admission::{Operation, Request};
use crate::authn::jwt::{self, Bound, Claims, Reference};
use crate::authn::user::SERVICE_ACCOUNT_PREFIX;
use crate::body;
use crate::endpoints::Call;
use crate::lookup::Lookup;
use crate::registry::store::EntryExt;
use crate::respond::Body;

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

pub(super) async fn handle(call: &Call<'_>, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let mut request = body::typed(&call.cx, &call.parts.headers, bytes, "authentication.k8s.io/v1", "TokenRequest")?;
    let Some(signer) = &call.server.token_signer else { return Err(Status::no_such_path()) };
    let name = call.path.name.as_str();
    let entry = call.server.registry.get(call.served, call.namespace(), name, &Default::default()).await?;
    let account = entry.value().ok_or_else(|| Status::internal("the stored object cannot be read"))?;
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    check_seconds(seconds)?;
    let admitted = Request::new(&call.cx, call.served, Operation::Create, "token", call.namespace(), name)
        .of_kind("authentication.k8s.io/v1", "TokenRequest");
    let admission = &call.server.registry.admission;
    admission.mutate(&admitted, &mut request, None).await?;
    admission.validate(&admitted, &request, None).await?;
    let seconds = call.server.token_seconds_max.map_or(seconds, |max| seconds.min(max));
    let bound = bound_to(call, &account, &request["spec"]["boundObjectRef"])?;
    let mut audiences: Vec<String> =
        request["spec"]["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let accounts = call.server.authenticator.service_accounts.as_ref().ok_or_else(Status::no_such_path)?;
    if audiences.is_empty() {
        audiences.clone_from(&accounts.api_audiences);
    }
    let now = call.cx.now;
    let claims = Claims {
        aud: audiences.clone(),
        exp: now.as_second() + seconds,
        iat: now.as_second(),
        iss: accounts.issuers.first().cloned().unwrap_or_default(),
        jti: call.server.registry.new_uid(),
        kubernetes: bound,
        nbf: now.as_second(),
        sub: format!("{SERVICE_ACCOUNT_PREFIX}{}:{name}", call.namespace()),
    };
    let token = jwt::sign(&claims, signer).map_err(Status::internal)?;
    let expires = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    meta::set_path(&mut request, &["spec", "expirationSeconds"], json!(seconds));
    meta::set_path(&mut request, &["spec", "audiences"], json!(audiences));
    meta::set_path(&mut request, &["metadata", "name"], json!(name));
    meta::set_path(&mut request, &["metadata", "namespace"], json!(call.namespace()));
    meta::set_path(&mut request, &["metadata", "creationTimestamp"], json!(machinery::time::format(now)));
    meta::set_path(&mut request, &["status"], json!({"token": token, "expirationTimestamp": machinery::time::format(expires)}));
    call.answer(StatusCode::CREATED, &request)
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
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(("authentication.k8s.io", "TokenRequest"), "", errors)) }
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
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to type {version}, Kind={kind}",
                call.path.name
            )));
        }
    };
    let object = registry.object("", plural, namespace, text("name")).ok_or_else(|| Status::not_found(plural, text("name")))?;
    let uid = text("uid");
    if !uid.is_empty() && uid != meta::uid(&object) {
        let current = meta::uid(&object);
        return Err(Status::conflict(
            plural,
            text("name"),
            format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record ({current}). The object might have been deleted and then recreated"
            ),
        ));
    }
    match plural {
        "pods" => {
            if object["spec"]["serviceAccountName"] != call.path.name.as_str() {
                let why = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.path.name
                );
                return Err(Status::bad_request(why));
            }
            bound.pod = Some(of(&object));
            let node = object["spec"]["nodeName"].as_str().and_then(|node| registry.object("", "nodes", "", node));
            bound.node = node.as_ref().map(of);
        }
        "secrets" => bound.secret = Some(of(&object)),
        _ => bound.node = Some(of(&object)),
    }
    Ok(bound)
}
