//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest: who may speak for a signer.

use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::authn::user::User;
use crate::authz::{Attributes, Authorizer, ResourceAttributes};
use crate::lookup::Lookup;

const GROUP: &str = "certificates.k8s.io";

/// What is done in a signer's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Approve,
    Sign,
    Attest,
}

pub(super) struct SpeaksForSigner {
    pub act: Act,
    pub authorizer: Authorizer,
}

impl Plugin for SpeaksForSigner {
    fn name(&self) -> &'static str {
        match self.act {
            Act::Approve => "CertificateApproval",
            Act::Sign => "CertificateSigning",
            Act::Attest => "ClusterTrustBundleAttest",
        }
    }

    fn validate(&self, request: &Request<'_>, object: &Value, old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || request.resource.group != GROUP {
            return Ok(());
        }
        let Some(signer) = self.act.signer(&request.resource.resource, request.subresource, object, old) else { return Ok(()) };
        if self.may(request.user, signer) {
            return Ok(());
        }
        let what = match self.act {
            Act::Approve => "approve requests with",
            Act::Sign => "sign requests with",
            Act::Attest => "attest for",
        };
        Err(request.forbidden(format!("user not permitted to {what} signerName {signer:?}")))
    }
}

impl SpeaksForSigner {
    /// Allowed for the signer, or for all signers of its domain.
    fn may(&self, user: &User, signer: &str) -> bool {
        let verb = match self.act {
            Act::Approve => "approve",
            Act::Sign => "sign",
            Act::Attest => "attest",
        };
        let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
        [signer, &domain].into_iter().any(|name| {
            let resource = ResourceAttributes { group: GROUP, resource: "signers", name, ..Default::default() };
            self.authorizer.authorize(&Attributes::resource(user, verb, resource)).allowed()
        })
    }
}

impl Act {
    /// The signer for whom the write speaks; none when it does not.
    fn signer<'a>(self, resource: &str, subresource: &str, new: &'a Value, old: Option<&'a Value>) -> Option<&'a str> {
        let name = |object: &'a Value| object["spec"]["signerName"].as_str().unwrap_or_default();
        match (self, resource, subresource) {
            // The old object counts: what is asked for never changes.
            (Self::Approve, "certificatesigningrequests", "approval") => old.map(name),
            (Self::Sign, "certificatesigningrequests", "status") => {
                let status = |object: &'a Value, field: &str| &object["status"][field];
                old.filter(|old| ["certificate", "conditions"].iter().any(|field| status(old, field) != status(new, field)))
                    .map(name)
            }
            (Self::Attest, "clustertrustbundles", "") => {
                let content = |object: &Value| {
                    let mut object = object.clone();
                    object.as_object_mut().map(|object| object.remove("metadata"));
                    object
                };
                let same = old.is_some_and(|old| content(old) == content(new));
                Some(name(new)).filter(|signer| !signer.is_empty() && !same)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whose_permission_is_needed() {
        let csr =
            |signer: &str, certificate: &str| json!({"spec": {"signerName": signer}, "status": {"certificate": certificate}});
        let (old, signed, other) = (csr("a.b/c", ""), csr("a.b/c", "x"), csr("other", ""));
        let resource = "certificatesigningrequests";
        let check = |act: Act, resource: &str, sub: &str, new: &Value, old: Option<&Value>, expected: Option<&str>| {
            assert_eq!(act.signer(resource, sub, new, old), expected, "{act:?} {resource}/{sub}");
        };
        check(Act::Approve, resource, "approval", &other, Some(&old), Some("a.b/c"));
        check(Act::Approve, resource, "status", &old, Some(&old), None);
        check(Act::Sign, resource, "status", &signed, Some(&old), Some("a.b/c"));
        check(Act::Sign, resource, "status", &old, Some(&old), None);
        check(Act::Sign, resource, "", &signed, Some(&old), None);
        check(Act::Attest, "clustertrustbundles", "", &old, None, Some("a.b/c"));
        check(Act::Attest, "clustertrustbundles", "", &old, Some(&old), None);
        check(Act::Attest, "clustertrustbundles", "", &json!({"spec": {}}), None, None);
    }
}
