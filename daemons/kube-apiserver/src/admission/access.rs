//! `authorizer` in expressions: what the request's user, or a service account, may do.

use cel::{Decision, ResourceRequest};

use super::Request;
use crate::authn::user::User;
use crate::authz::{Attributes, Authorizer, ResourceAttributes};

/// The authorizer as the expressions of one request see it.
pub struct Access<'a> {
    authorizer: &'a Authorizer,
    user: &'a User,
    resource: ResourceRequest,
}

impl<'a> Access<'a> {
    pub fn new(authorizer: &'a Authorizer, request: &Request<'a>) -> Self {
        let resource = ResourceRequest {
            group: request.definition.group.clone(),
            resource: request.definition.plural.clone(),
            subresource: request.subresource.to_owned(),
            namespace: request.namespace.to_owned(),
            name: request.name.to_owned(),
            ..ResourceRequest::default()
        };
        Self { authorizer, user: request.user, resource }
    }

    /// `authorizer.requestResource`.
    pub fn resource(&self) -> ResourceRequest {
        self.resource.clone()
    }
}

impl cel::Authorizer for Access<'_> {
    fn authorize(&self, request: &cel::Request<'_>) -> Decision {
        let account = request.service_account.map(|(namespace, name)| User::service_account(namespace, name, ""));
        let user = account.as_ref().unwrap_or(self.user);
        let attributes = match request.on {
            cel::Subject::Path(path) => Attributes { user: Some(user), verb: request.verb, resource: None, path },
            cel::Subject::Resource(resource) => {
                let resource = ResourceAttributes {
                    group: &resource.group,
                    resource: &resource.resource,
                    subresource: &resource.subresource,
                    namespace: &resource.namespace,
                    name: &resource.name,
                    field_selector: &resource.field_selector,
                    label_selector: &resource.label_selector,
                    ..Default::default()
                };
                Attributes::resource(user, request.verb, resource)
            }
        };
        let decision = self.authorizer.authorize(&attributes);
        Decision { allowed: decision.allowed(), reason: decision.reason().to_owned(), error: None }
    }
}
