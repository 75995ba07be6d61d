//! NamespaceAutoProvision: a namespace comes with the first object that is created in it.

use futures::FutureExt;
use machinery::status::Status;
use serde_json::json;

use super::dynamic::{Admitted, Dynamic, Mutation};
use super::{Operation, Request};
use crate::lookup::Lookup;
use crate::registry::{Context, Registry};

pub(super) struct NamespaceAutoProvision;

impl Dynamic for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    /// A dry run makes no namespace either: what follows says that there is none.
    fn concerns(&self, request: &Request<'_>) -> bool {
        let is_namespace = request.resource.group.is_empty() && request.resource.resource == "namespaces";
        request.operation == Operation::Create && !request.dry_run && !request.namespace.is_empty() && !is_namespace
    }

    fn mutate<'a>(&'a self, mutation: &'a mut Mutation<'_>) -> Admitted<'a> {
        provide(mutation.request, mutation.registry).boxed()
    }
}

async fn provide(request: &Request<'_>, registry: &Registry) -> Result<(), Status> {
    let name = request.namespace;
    if registry.object("", "namespaces", "", name).is_some() {
        return Ok(());
    }
    let served = registry.stored("", "namespaces").ok_or_else(|| Status::internal("namespaces are not served"))?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    match registry.create(&Context::server(request.cx.now), &served, "", "", namespace).await {
        Err(status) if status.code() != 409 => return Err(request.forbidden(status)),
        _ => {}
    }
    // Those that come after look into memory.
    served.store.consistent().await.map(|_| ())
}
