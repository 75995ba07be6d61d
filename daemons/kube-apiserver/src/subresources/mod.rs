//! What is below an object: parts of it with rules of their own, and actions upon it.

mod binding;
mod eviction;
pub(crate) mod scale;
mod token;

use http::{Response, StatusCode};
use machinery::status::Status;
use schema::Verb;

use crate::body;
use crate::endpoints::Call;
use crate::registry::options::ListOptions;
use crate::respond::{self, Body};

pub use binding::handle as bind;
pub use token::Lifetimes;

/// Answers a request below an object. Streams (`log`, `exec`, …) do not come here.
pub async fn handle(call: &Call<'_>, verb: &str, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let Some(sub) = call.served.resource.subresource(&call.path.subresource) else { return Err(Status::no_such_path()) };
    if call.served.resource.namespaced && call.path.namespace.is_empty() {
        return Err(Status::no_such_path());
    }
    let verb = Verb::parse(verb).filter(|verb| sub.verbs.contains(verb)).ok_or_else(Status::method_not_served)?;
    match (call.path.subresource.as_str(), verb) {
        ("scale", _) => scale::handle(call, verb, bytes).await,
        ("binding", Verb::Create) => binding::handle(call, bytes).await,
        ("eviction", Verb::Create) => eviction::handle(call, bytes).await,
        ("token", Verb::Create) => token::handle(call, bytes).await,
        // The others are parts of the object, read and written as the object is.
        (_, Verb::Get) => get(call).await,
        (_, Verb::Update) => update(call, bytes).await,
        (_, Verb::Patch) => patch(call, bytes).await,
        _ => Err(Status::method_not_served()),
    }
}

async fn get(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let accept = call.accept(true)?;
    let options = ListOptions::parse(call.query)?;
    let entry = call.server.registry.get(call.served, call.namespace(), &call.path.name, &options).await?;
    Ok(respond::entry(accept, call.served, &entry, call.query, call.cx.now))
}

async fn update(call: &Call<'_>, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let accept = call.accept(true)?;
    let object = body::object(&call.cx, call.served, &call.parts.headers, bytes)?;
    body::require_name(&object, &call.path.name)?;
    let written = call.server.registry.update(&call.cx, call.target(), object).await?;
    Ok(call.written(accept, written))
}

async fn patch(call: &Call<'_>, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let accept = call.accept(true)?;
    let patch = call.parse_patch(bytes)?;
    let written = call.server.registry.patch(&call.cx, call.target(), patch).await?;
    Ok(call.written(accept, written))
}

/// The answer of an action that has no object of its own to show.
fn done(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let mut status = Status::success();
    status.code = 201;
    call.answer(StatusCode::CREATED, &status.to_value())
}
