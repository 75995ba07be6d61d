//! Certificate signing requests: approving nodes' own, signing what is approved, clearing away the old.

pub(crate) mod approve;
pub(crate) mod clean;
mod policy;
pub(crate) mod sign;

use api::certificates::{CertificateSigningRequest, CertificateSigningRequestCondition};
use client::Informer;
use client::queue::Queue;

/// As whom all three act.
const IDENTITY: &str = "certificate-controller";

fn has_condition(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    conditions.into_iter().any(|c| c.type_ == kind && c.status != "False")
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|s| s.certificate.as_ref()).is_some_and(|c| !c.0.is_empty())
}

fn add_condition(request: &mut CertificateSigningRequest, condition: CertificateSigningRequestCondition) {
    request.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
}

/// Every request that is there or changes.
fn feed(requests: &Informer<CertificateSigningRequest>, queue: &Queue<String>) {
    let queue = queue.clone();
    requests.subscribe(move |change| queue.add(change.object().name.clone()));
}
