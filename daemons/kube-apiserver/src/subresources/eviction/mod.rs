//! Eviction: a deletion that asks disruption budgets first.

mod budget;

use http::Response;
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use self::budget::Passage;
use crate::admission::{Operation, Request};
use crate::body;
use crate::endpoints::Call;
use crate::lookup::Lookup;
use crate::registry::options::DeleteOptions;
use crate::registry::store::EntryExt;
use crate::registry::update::{Changed, Target};
use crate::respond::Body;

/// How often an eviction looks again at a pod that moved on meanwhile.
const ATTEMPTS_MAX: usize = 5;

pub(super) async fn handle(call: &Call<'_>, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let mut eviction = body::typed(&call.cx, &call.parts.headers, bytes, "policy/v1", "Eviction")?;
    let name = &call.path.name;
    if meta::name(&eviction) != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options: DeleteOptions = match eviction.get("deleteOptions") {
        Some(options) => serde_json::from_value(options.clone()).map_err(|error| Status::bad_request(error.to_string()))?,
        None => DeleteOptions::default(),
    };
    let request = Request::new(&call.cx, call.served, Operation::Create, "eviction", call.namespace(), name)
        .of_kind("policy/v1", "Eviction");
    let admission = &call.server.registry.admission;
    admission.mutate(&request, &mut eviction, None).await?;
    admission.validate(&request, &eviction, None).await?;
    let dry_run = call.cx.options.dry_run || options.is_dry_run()?;
    for _ in 0..ATTEMPTS_MAX {
        if evict(call, &options, dry_run).await? == Outcome::Gone {
            return super::done(call);
        }
    }
    Err(Status::modified(call.served.group_resource(), name))
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Gone,
    /// The pod changed since it was looked at, and the client did not ask for a version.
    LookAgain,
}

fn version_of(options: &DeleteOptions) -> Option<&String> {
    options.preconditions.as_ref()?.resource_version.as_ref()
}

async fn evict(call: &Call<'_>, options: &DeleteOptions, dry_run: bool) -> Result<Outcome, Status> {
    let registry = &call.server.registry;
    let entry = registry.get(call.served, call.namespace(), &call.path.name, &Default::default()).await?;
    let pod = entry.value().ok_or_else(|| Status::internal("the stored object cannot be read"))?;
    let budgets = registry.objects("policy", "poddisruptionbudgets", call.namespace());
    let passage = budget::passage(&pod, &budgets)?;
    let (given, mut options) = (version_of(options).is_some(), options.clone());
    match &passage {
        Passage::Free { as_seen: false } => {}
        // It must not have become healthy since it was looked at.
        Passage::Free { as_seen: true } | Passage::Unhealthy { .. } => pin(&mut options, &pod),
        Passage::Charged { budget } => charge(call, budget, meta::name(&pod), dry_run).await?,
    }
    match (go(call, options, dry_run).await, passage) {
        (Err(status), Passage::Free { .. }) if status.code() == 409 && !given => Ok(Outcome::LookAgain),
        (Err(status), Passage::Unhealthy { budget }) if status.code() == 409 && !given => Err(budget::still_processed(&budget)),
        (result, _) => result.map(|()| Outcome::Gone),
    }
}

fn pin(options: &mut DeleteOptions, pod: &Value) {
    let version = meta::text(pod, &["metadata", "resourceVersion"]).to_owned();
    options.preconditions.get_or_insert_default().resource_version.get_or_insert(version);
}

/// Takes one disruption from the budget. Not written in a dry run.
async fn charge(call: &Call<'_>, name: &str, pod: &str, dry_run: bool) -> Result<(), Status> {
    let registry = &call.server.registry;
    let served = registry.stored("policy", "poddisruptionbudgets").ok_or_else(Status::no_such_path)?;
    let target = Target { served: &served, namespace: call.namespace(), name, subresource: "status" };
    let now = machinery::time::format(call.cx.now);
    let change = |old: Option<&Value>| {
        let old = old.ok_or_else(|| served.not_found(name))?;
        budget::charge(old, pod, &now).map(Changed::Object)
    };
    let mut cx = crate::registry::Context::server(call.cx.now);
    cx.options.dry_run = dry_run;
    registry.modify(&cx, target, &change, false).await.map(|_| ())
}

/// Marks the pod, then deletes it as it is then.
async fn go(call: &Call<'_>, mut options: DeleteOptions, dry_run: bool) -> Result<(), Status> {
    let registry = &call.server.registry;
    if !dry_run {
        let target = Target { served: call.served, namespace: call.namespace(), name: &call.path.name, subresource: "status" };
        let now = machinery::time::format(call.cx.now);
        let preconditions = options.preconditions.clone().unwrap_or_default();
        let change = |old: Option<&Value>| {
            let old = old.ok_or_else(|| call.served.not_found(&call.path.name))?;
            let conflict = |what: &str, asked: &str, is: &str| {
                let why = format!("the {what} in the precondition ({asked}) does not match the {what} in record ({is})");
                Err(Status::conflict("Pod", &call.path.name, why))
            };
            if let Some(uid) = preconditions.uid.as_deref().filter(|uid| !uid.is_empty() && *uid != meta::uid(old)) {
                return conflict("UID", uid, meta::uid(old));
            }
            let is = meta::text(old, &["metadata", "resourceVersion"]);
            if let Some(version) = preconditions.resource_version.as_deref().filter(|v| !v.is_empty() && *v != is) {
                return conflict("ResourceVersion", version, is);
            }
            Ok(Changed::Object(budget::mark(old, &now)))
        };
        let cx = crate::registry::Context::server(call.cx.now);
        let marked = registry.modify(&cx, target, &change, false).await?.object;
        if let Some(version) = options.preconditions.as_mut().and_then(|p| p.resource_version.as_mut()) {
            meta::text(&marked, &["metadata", "resourceVersion"]).clone_into(version);
        }
    }
    registry.delete(&call.cx, call.served, call.namespace(), &call.path.name, &options).await.map(|_| ())
}
