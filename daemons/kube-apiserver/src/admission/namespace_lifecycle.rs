//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going; the first three stay.

use machinery::meta;
use machinery::status::{Cause, Status};
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn mutate(
        &self,
        request: &Request<'_>,
        _object: &mut Value,
        _old: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        if request.operation != Operation::Create || request.namespace.is_empty() || request.is("", "namespaces") {
            return Ok(());
        }
        // Reviews are questions, not objects.
        if request.resource.group == "authorization.k8s.io" {
            return Ok(());
        }
        let Some(namespace) = lookup.object("", "namespaces", "", request.namespace) else {
            return Err(Status::not_found("namespaces", request.namespace));
        };
        let going = meta::deletion_timestamp(&namespace).is_some() || namespace["status"]["phase"] == "Terminating";
        if !going {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {} because it is being terminated", request.namespace);
        Err(request.forbidden(why).with_cause(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {} is being terminated", request.namespace),
            field: "metadata.namespace".to_owned(),
        }))
    }

    fn validate(&self, request: &Request<'_>, _object: &Value, _old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation == Operation::Delete && request.is("", "namespaces") && IMMORTAL.contains(&request.name) {
            return Err(request.forbidden("this namespace may not be deleted"));
        }
        Ok(())
    }
}
