//! certificatesigningrequest-signing-controller: signs what is approved, as three signers, with one authority or one for each.

use std::sync::Arc;
use std::time::Duration;

use api::ByteString;
use api::certificates::{CertificateSigningRequest, CertificateSigningRequestCondition};
use api::jiff::{SignedDuration, Timestamp};
use client::Client;
use client::controller::Outcome;
use client::queue::Queue;
use pki::{Ca, Request};

use super::policy;
use crate::clock::time;
use crate::context::Context;
use crate::error::{During, Error};
use crate::settings::{Signing, SigningFiles};

pub(crate) const NAME: &str = "certificatesigningrequest-signing-controller";
/// Shorter lives than this are not granted: certificates begin five minutes in the past.
const DURATION_MIN: Duration = Duration::from_secs(600);

pub(crate) async fn run(ctx: Arc<Context>) {
    if ctx.settings.signing == Signing::default() {
        tracing::info!(controller = NAME, "not started: --cluster-signing-cert-file is not given");
        return;
    }
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
    let request = cached.parse()?;
    let Some(files) = authority(&ctx.settings.signing, &request.spec.signer_name).filter(|_| is_due(&request)) else {
        return Ok(Outcome::Done);
    };
    // Read each time: the authority may have been renewed, and requests are rare.
    let ca = Ca::load(&files.certificate, &files.key).map_err(|e| Error::Other(format!("the signing authority: {e}")))?;
    let Some(after) = decide(&request, &ca, ctx.settings.signing_duration, ctx.clock.now())? else {
        return Ok(Outcome::Done);
    };
    client.update_status(&after).await.during(|| format!("signing {name}"))?;
    Ok(Outcome::Done)
}

/// The authority of a signer; `None`: not one of ours, or it was given none.
fn authority<'a>(signing: &'a Signing, signer: &str) -> Option<&'a SigningFiles> {
    match signer {
        policy::KUBELET_CLIENT => signing.kubelet_client.as_ref(),
        policy::KUBELET_SERVING => signing.kubelet_serving.as_ref(),
        policy::CLIENT => signing.client.as_ref(),
        _ => None,
    }
}

fn is_due(request: &CertificateSigningRequest) -> bool {
    super::has_condition(request, "Approved")
        && !super::has_condition(request, "Denied")
        && !super::has_condition(request, "Failed")
        && !super::is_issued(request)
}

/// The request with its certificate, or with the reason why it gets none.
fn decide(
    request: &CertificateSigningRequest,
    ca: &Ca,
    duration_max: Duration,
    now: Timestamp,
) -> Result<Option<CertificateSigningRequest>, Error> {
    let pem = String::from_utf8_lossy(&request.spec.request.0);
    let parsed = Request::from_pem(&pem).map_err(|e| Error::Other(format!("the request can't be read: {e}")))?;
    let usages = request.spec.usages.clone().unwrap_or_default();
    let mut after = request.clone();
    match policy::check(&request.spec.signer_name, &parsed, &usages) {
        None => return Ok(None),
        Some(Err(refusal)) => super::add_condition(
            &mut after,
            CertificateSigningRequestCondition {
                type_: "Failed".into(),
                status: "True".into(),
                reason: Some("SignerValidationFailure".into()),
                message: Some(refusal.to_string()),
                last_update_time: Some(time(now)),
                last_transition_time: None,
            },
        ),
        Some(Ok(usages)) => {
            let duration = duration(request.spec.expiration_seconds, duration_max);
            let signed = ca.sign(&parsed, usages, now, duration).map_err(|e| Error::Other(format!("signing: {e}")))?;
            after.status.get_or_insert_default().certificate = Some(ByteString(signed.into_bytes()));
        }
    }
    Ok(Some(after))
}

fn duration(asked_seconds: Option<i32>, max: Duration) -> SignedDuration {
    let asked = asked_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    let granted = asked.map_or(max, |asked| asked.max(DURATION_MIN).min(max));
    SignedDuration::try_from(granted).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::certificates::CertificateSigningRequestSpec;
    use pki::Certificate;

    fn approved(signer: &str, usages: &[&str]) -> CertificateSigningRequest {
        let pem = policy::tests::request("system:node:n1", Some("system:nodes"), &[]);
        let mut request = CertificateSigningRequest {
            spec: CertificateSigningRequestSpec {
                signer_name: signer.into(),
                request: ByteString(pem.into_bytes()),
                usages: Some(usages.iter().map(|u| (*u).to_owned()).collect()),
                expiration_seconds: Some(3600),
                ..CertificateSigningRequestSpec::default()
            },
            ..CertificateSigningRequest::default()
        };
        let condition =
            CertificateSigningRequestCondition { type_: "Approved".into(), status: "True".into(), ..Default::default() };
        crate::certificates::add_condition(&mut request, condition);
        request
    }

    #[test]
    fn an_approved_request_is_signed_for_what_it_asks() {
        let now = Timestamp::now();
        let ca = Ca::create("kubernetes", now, SignedDuration::from_hours(24)).unwrap();
        let request = approved(policy::KUBELET_CLIENT, &["digital signature", "client auth"]);
        let after = decide(&request, &ca, Duration::from_secs(365 * 86400), now).unwrap().unwrap();
        let pem = String::from_utf8(after.status.as_ref().unwrap().certificate.clone().unwrap().0).unwrap();
        let certificate = Certificate::from_pem(&pem).unwrap();
        assert_eq!(
            (certificate.common_name.as_str(), certificate.organizations.as_slice()),
            ("system:node:n1", &["system:nodes".to_owned()][..])
        );
        assert!(certificate.client_auth && !certificate.server_auth && certificate.names_issuer(ca.certificate()));
        assert!(certificate.validity.not_after.duration_since(now) <= SignedDuration::from_secs(3600));
        assert!(is_due(&request) && !is_due(&after));
    }

    #[test]
    fn a_request_against_the_rules_fails() {
        let now = Timestamp::now();
        let ca = Ca::create("kubernetes", now, SignedDuration::from_hours(24)).unwrap();
        let request = approved(policy::KUBELET_SERVING, &["digital signature", "server auth"]);
        let after = decide(&request, &ca, Duration::from_secs(3600), now).unwrap().unwrap();
        assert!(crate::certificates::has_condition(&after, "Failed") && !crate::certificates::is_issued(&after));
        assert!(!is_due(&after));
    }

    #[test]
    fn who_signs_with_what() {
        let files = |name: &str| Some(SigningFiles { certificate: name.into(), key: "k".into() });
        let signing = Signing { kubelet_client: files("node"), kubelet_serving: None, client: files("user") };
        for (signer, want) in [
            (policy::KUBELET_CLIENT, files("node")),
            (policy::KUBELET_SERVING, None),
            (policy::CLIENT, files("user")),
            ("example.com/own", None),
        ] {
            assert_eq!(authority(&signing, signer), want.as_ref(), "{signer}");
        }
    }

    #[test]
    fn lives() {
        let year = Duration::from_secs(365 * 86400);
        for (asked, want) in [(None, 365 * 86400), (Some(3600), 3600), (Some(60), 600), (Some(i32::MAX), 365 * 86400)] {
            assert_eq!(duration(asked, year), SignedDuration::from_secs(want), "{asked:?}");
        }
    }
}
