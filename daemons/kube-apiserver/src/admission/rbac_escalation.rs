//! The check that nobody gives rights they do not have, where every write passes.

use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::authz::{Authorizer, ResourceAttributes, escalation};
use crate::lookup::Lookup;

pub(super) struct RbacEscalation {
    authorizer: Authorizer,
}

impl RbacEscalation {
    pub(super) fn new(authorizer: Authorizer) -> Self {
        Self { authorizer }
    }
}

impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn validate(&self, request: &Request<'_>, object: &Value, old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let resource = ResourceAttributes {
            group: &request.resource.group,
            resource: &request.resource.resource,
            namespace: request.namespace,
            name: machinery::meta::name(object),
            ..Default::default()
        };
        escalation::check(&self.authorizer, request.user, resource, object, old)
    }
}
