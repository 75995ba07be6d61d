//! CertificateSubjectRestriction: no client certificate makes its holder a cluster's master.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::authn::user::MASTERS;
use crate::lookup::Lookup;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct CertificateSubjectRestriction;

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn validate(&self, request: &Request<'_>, object: &Value, _old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let concerns = request.operation == Operation::Create && request.is("certificates.k8s.io", "certificatesigningrequests");
        if !concerns || object["spec"]["signerName"] != SIGNER {
            return Ok(());
        }
        let encoded = object["spec"]["request"].as_str().unwrap_or_default();
        let groups = organizations(encoded).ok_or_else(|| request.forbidden("failed to parse CSR"))?;
        if groups.iter().any(|group| group == MASTERS) {
            return Err(request.forbidden(format!("use of {SIGNER} signer with {MASTERS} group is not allowed")));
        }
        Ok(())
    }
}

/// The organizations that a certificate request asks for.
fn organizations(encoded: &str) -> Option<Vec<String>> {
    let pem = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    Some(pki::Request::from_pem(&pem).ok()?.organizations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_has_no_organizations() {
        assert_eq!(organizations("not base64"), None);
        assert_eq!(
            organizations(&STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")),
            None
        );
    }
}
