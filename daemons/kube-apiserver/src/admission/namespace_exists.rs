//! NamespaceExists: nothing is written in a namespace that nobody declared.

use machinery::status::Status;
use serde_json::Value;

use super::{Plugin, Request};
use crate::lookup::Lookup;

pub(super) struct NamespaceExists;

impl Plugin for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn validate(&self, request: &Request<'_>, _object: &Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        let is_namespace = request.resource.group.is_empty() && request.resource.resource == "namespaces";
        if request.namespace.is_empty() || is_namespace || lookup.object("", "namespaces", "", request.namespace).is_some() {
            return Ok(());
        }
        Err(Status::not_found("namespaces", request.namespace))
    }
}
