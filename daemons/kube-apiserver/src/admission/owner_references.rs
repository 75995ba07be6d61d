//! OwnerReferencesPermissionEnforcement: who makes an object depend on another must be allowed what follows of it.

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::authz::{Attributes, Authorizer, ResourceAttributes};
use crate::lookup::Lookup;

pub(super) struct OwnerReferencesPermissionEnforcement {
    pub authorizer: Authorizer,
}

impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn validate(&self, request: &Request<'_>, object: &Value, old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let is_pod_status =
            request.resource.group.is_empty() && request.resource.resource == "pods" && request.subresource == "status";
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        let before = old.map_or(&[][..], meta::owner_references);
        let after = meta::owner_references(object);
        if !writes || is_pod_status || before == after {
            return Ok(());
        }
        let resource = ResourceAttributes {
            group: &request.resource.group,
            resource: &request.resource.resource,
            subresource: request.subresource,
            namespace: request.namespace,
            name: request.name,
            ..Default::default()
        };
        let ask = |verb: &str, resource: ResourceAttributes<'_>| {
            self.authorizer.authorize(&Attributes::resource(request.user, verb, resource))
        };
        if request.operation == Operation::Update {
            let decision = ask("delete", resource);
            if !decision.allowed() {
                let why = decision.reason();
                return Err(request.forbidden(format!("cannot set an ownerRef on a resource you can't delete: {why}, <nil>")));
            }
        }
        let anything =
            ResourceAttributes { group: "*", resource: "*", subresource: "finalizers", name: "*", ..Default::default() };
        let blocking = newly_blocking(after, before);
        if blocking.is_empty() || ask("update", anything).allowed() {
            return Ok(());
        }
        for owner in blocking {
            self.check_owner(request, owner)?;
        }
        Ok(())
    }
}

impl OwnerReferencesPermissionEnforcement {
    /// To hold up an owner's deletion is to have a say over its finalizers.
    fn check_owner(&self, request: &Request<'_>, owner: &Value) -> Result<(), Status> {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let Some(resource) = schema::builtin().by_kind(group, version, kind) else {
            // What a CustomResourceDefinition declares is asked for by the usual form of its name.
            return self.check_resource(request, group, &format!("{}s", kind.to_lowercase()), true, text("name"));
        };
        self.check_resource(request, group, &resource.plural, resource.namespaced, text("name"))
    }

    fn check_resource(
        &self,
        request: &Request<'_>,
        group: &str,
        plural: &str,
        namespaced: bool,
        name: &str,
    ) -> Result<(), Status> {
        let namespace = if namespaced { request.namespace } else { "" };
        let resource =
            ResourceAttributes { group, resource: plural, subresource: "finalizers", namespace, name, ..Default::default() };
        let decision = self.authorizer.authorize(&Attributes::resource(request.user, "update", resource));
        if decision.allowed() {
            return Ok(());
        }
        Err(request.forbidden(format!(
            "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {}, <nil>",
            decision.reason()
        )))
    }
}

/// The references that hold up their owner's deletion and did not before.
fn newly_blocking<'a>(after: &'a [Value], before: &[Value]) -> Vec<&'a Value> {
    let blocks = |reference: &Value| reference["blockOwnerDeletion"] == true;
    let blocked = |uid: &Value| before.iter().any(|reference| reference["uid"] == *uid && blocks(reference));
    after.iter().filter(|reference| blocks(reference) && !blocked(&reference["uid"])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn which_references_block_anew() {
        let reference = |uid: &str, block: bool| json!({"uid": uid, "blockOwnerDeletion": block});
        let after = [reference("a", true), reference("b", true), reference("c", false), reference("d", true)];
        let before = [reference("a", true), reference("b", false)];
        let uids: Vec<_> = newly_blocking(&after, &before).iter().map(|r| r["uid"].clone()).collect();
        assert_eq!(uids, ["b", "d"]);
    }
}
