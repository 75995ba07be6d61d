//! Certificates: who may approve requests for a signer, and who may sign for it.

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use crate::authz::{Attributes, ResourceAttributes};
use crate::endpoints::Call;
use crate::lookup::Lookup;

const GROUP: &str = "certificates.k8s.io";

/// Asks for the permission that this change of a CertificateSigningRequest needs; other resources pass.
pub(super) fn check(call: &Call<'_>, change: &Value) -> Result<(), Status> {
    if call.served.resource.group != GROUP || call.served.resource.plural != "certificatesigningrequests" {
        return Ok(());
    }
    let verb = match call.path.subresource.as_str() {
        "approval" => "approve",
        // A status that says nothing of a certificate needs no signer's permission; what cannot be seen does.
        "status" if change.is_null() || change["status"].get("certificate").is_some() || failed(change) => "sign",
        _ => return Ok(()),
    };
    let Some(request) = call.server.registry.object(GROUP, "certificatesigningrequests", "", &call.path.name) else {
        return Err(call.served.not_found(&call.path.name));
    };
    let signer = meta::text(&request, &["spec", "signerName"]);
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    let allowed = [signer, &domain].into_iter().any(|name| {
        let resource = ResourceAttributes { group: GROUP, resource: "signers", name, ..Default::default() };
        call.server.authorizer.authorize(&Attributes::resource(&call.cx.user, verb, resource)).allowed()
    });
    if allowed {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(Status::forbidden(call.served.group_resource(), &call.path.name, why))
}

fn failed(change: &Value) -> bool {
    change["status"]["conditions"].as_array().into_iter().flatten().any(|condition| condition["type"] == "Failed")
}
