//! certificatesigningrequest-approving-controller: approves the client certificates of kubelets, when the requester may
//! have them. Serving certificates are for people to approve.

use std::sync::Arc;

use api::Kind;
use api::certificates::{CertificateSigningRequest, CertificateSigningRequestCondition};
use client::Client;
use client::controller::Outcome;
use client::queue::Queue;
use pki::Request;
use serde_json::{Value, json};

use super::policy::{self, KUBELET_CLIENT};
use crate::clock::time;
use crate::context::Context;
use crate::error::{During, Error};

pub(crate) const NAME: &str = "certificatesigningrequest-approving-controller";

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<String> = Queue::new();
    ctx.informers.csrs.synced().await;
    super::feed(&ctx.informers.csrs, &queue);
    let client = ctx.client(super::IDENTITY);
    client::controller::run(NAME, queue, 2, move |name| {
        let (ctx, client) = (ctx.clone(), client.clone());
        async move { reconcile(&ctx, &client, &name).await }
    })
    .await;
}

async fn reconcile(ctx: &Context, client: &Client, name: &str) -> Result<Outcome, Error> {
    let Some(cached) = ctx.informers.csrs.get("", name) else { return Ok(Outcome::Done) };
    let mut request = cached.parse()?;
    let candidates = candidates(&request);
    if candidates.is_empty() {
        return Ok(Outcome::Done);
    }
    for candidate in &candidates {
        if !may(client, &request, candidate.subresource).await? {
            continue;
        }
        super::add_condition(
            &mut request,
            CertificateSigningRequestCondition {
                type_: "Approved".into(),
                status: "True".into(),
                reason: Some("AutoApproved".into()),
                message: Some(candidate.message.into()),
                last_update_time: Some(time(ctx.clock.now())),
                last_transition_time: None,
            },
        );
        let path = format!("/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}/approval");
        let written = client.call(http::Method::PUT, &path, Some(("application/json", request.encode()))).await;
        return written.map(|_| Outcome::Done).during(|| format!("approving {name}"));
    }
    // The permission may be granted later: it is asked again, ever less often.
    Err(Error::Other(format!("{name} is a kubelet's client certificate, but its requester may not have it")))
}

/// A way in which the request may be approved without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    /// Of `certificatesigningrequests`: who may create it gets the certificate.
    subresource: &'static str,
    message: &'static str,
}

fn candidates(request: &CertificateSigningRequest) -> Vec<Candidate> {
    let decided = ["Approved", "Denied", "Failed"].iter().any(|c| super::has_condition(request, c));
    if super::is_issued(request) || decided || request.spec.signer_name != KUBELET_CLIENT {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&request.spec.request.0);
    let Ok(parsed) = Request::from_pem(&text) else { return Vec::new() };
    let usages = request.spec.usages.clone().unwrap_or_default();
    if !matches!(policy::check(KUBELET_CLIENT, &parsed, &usages), Some(Ok(_))) {
        return Vec::new();
    }
    let own = Candidate {
        subresource: "selfnodeclient",
        message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    };
    let new =
        Candidate { subresource: "nodeclient", message: "Auto approving kubelet client certificate after SubjectAccessReview." };
    let is_own = request.spec.username.as_deref() == Some(&parsed.common_name);
    is_own.then_some(own).into_iter().chain([new]).collect()
}

/// Asks the API server whether the requester may create that subresource.
async fn may(client: &Client, request: &CertificateSigningRequest, subresource: &str) -> Result<bool, Error> {
    let spec = &request.spec;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "version": "*",
                "verb": "create", "subresource": subresource,
            },
        },
    });
    let answer = client.post_value("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await;
    let answer: Value = answer.during(|| "asking for a review of access".to_owned())?;
    Ok(answer["status"]["allowed"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ByteString;
    use api::certificates::CertificateSigningRequestSpec;

    #[test]
    fn which_requests_are_approved() {
        let request = |user: &str, node: &str| {
            let mut request = CertificateSigningRequest::default();
            let pem = super::policy::tests::request(node, Some("system:nodes"), &[]);
            request.spec = CertificateSigningRequestSpec {
                signer_name: KUBELET_CLIENT.into(),
                request: ByteString(pem.into_bytes()),
                usages: Some(vec!["digital signature".into(), "client auth".into()]),
                username: Some(user.into()),
                ..CertificateSigningRequestSpec::default()
            };
            request
        };
        let names = |r: &CertificateSigningRequest| candidates(r).iter().map(|c| c.subresource).collect::<Vec<_>>();
        assert_eq!(names(&request("system:bootstrap:abc", "system:node:n1")), ["nodeclient"]);
        assert_eq!(names(&request("system:node:n1", "system:node:n1")), ["selfnodeclient", "nodeclient"]);
        assert_eq!(names(&request("system:node:n1", "jane")), [""; 0]);
        let mut other = request("system:node:n1", "system:node:n1");
        other.spec.signer_name = policy::KUBELET_SERVING.into();
        assert_eq!(names(&other), [""; 0]);
        let mut denied = request("system:node:n1", "system:node:n1");
        let condition =
            CertificateSigningRequestCondition { type_: "Denied".into(), status: "True".into(), ..Default::default() };
        crate::certificates::add_condition(&mut denied, condition);
        assert_eq!(names(&denied), [""; 0]);
        let mut garbage = request("system:node:n1", "system:node:n1");
        garbage.spec.request = ByteString(b"-----BEGIN".to_vec());
        assert_eq!(names(&garbage), [""; 0]);
    }
}
