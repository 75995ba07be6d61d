//! certificatesigningrequest-cleaner-controller: requests are not kept for ever.

use std::sync::Arc;

use api::Kind;
use api::certificates::CertificateSigningRequest;
use api::jiff::Timestamp;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, DeleteParams};
use pki::Certificate;

use crate::clock::{plus_seconds, until};
use crate::context::Context;
use crate::error::{During, Error, GoneIsDone};

pub(crate) const NAME: &str = "certificatesigningrequest-cleaner-controller";
const HOUR: i64 = 3600;

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<String> = Queue::new();
    ctx.informers.csrs.synced().await;
    super::feed(&ctx.informers.csrs, &queue);
    let client = ctx.client(super::IDENTITY);
    client::controller::run(NAME, queue, 1, move |name| {
        let (ctx, client) = (ctx.clone(), client.clone());
        async move { reconcile(&ctx, &client, &name).await }
    })
    .await;
}

async fn reconcile(ctx: &Context, client: &Client, name: &str) -> Result<Outcome, Error> {
    let Some(cached) = ctx.informers.csrs.get("", name) else { return Ok(Outcome::Done) };
    let request = cached.parse()?;
    let (end, now) = (end(&request), ctx.clock.now());
    if end > now {
        return Ok(Outcome::Again(until(end, now)));
    }
    let params = DeleteParams::uid(request.uid());
    let deleted = client.delete::<CertificateSigningRequest>("", name, &params).await;
    deleted.gone_is_done().during(|| format!("deleting the old request {name}"))?;
    Ok(Outcome::Done)
}

/// Until when a request is kept: an hour once it is decided, a day while it waits, and never beyond its certificate.
fn end(request: &CertificateSigningRequest) -> Timestamp {
    let created = request.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    let conditions = request.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let decided = conditions.filter(|c| c.status != "False").filter_map(|c| c.last_update_time.as_ref().map(|t| t.0)).max();
    let expires = request.status.as_ref().and_then(|s| s.certificate.as_ref()).and_then(|c| {
        let pem = String::from_utf8_lossy(&c.0);
        Certificate::from_pem(&pem).ok().map(|c| c.validity.not_after)
    });
    let kept = match decided {
        Some(at) => plus_seconds(at, HOUR),
        None => plus_seconds(created, 24 * HOUR),
    };
    expires.map_or(kept, |e| e.min(kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::certificates::{CertificateSigningRequestCondition, CertificateSigningRequestStatus};
    use api::metav1::{ObjectMeta, Time};

    #[test]
    fn requests_are_kept_for_a_while() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let request = |decided: Option<i64>| CertificateSigningRequest {
            metadata: ObjectMeta { creation_timestamp: Some(Time(at(0))), ..ObjectMeta::default() },
            status: Some(CertificateSigningRequestStatus {
                conditions: decided.map(|s| {
                    vec![CertificateSigningRequestCondition {
                        type_: "Denied".into(),
                        status: "True".into(),
                        last_update_time: Some(Time(at(s))),
                        ..Default::default()
                    }]
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(end(&request(None)), at(24 * HOUR));
        assert_eq!(end(&request(Some(100))), at(100 + HOUR));
    }
}
