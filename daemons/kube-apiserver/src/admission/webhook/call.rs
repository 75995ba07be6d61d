//! One call of one webhook, and what comes of its failure.

use std::time::Instant;

use bytes::Bytes;
use machinery::status::Status;
use serde_json::Value;

use super::configuration::Hook;
use super::review::{self, Answer};
use crate::admission::Request;
use crate::admission::criteria::Matched;
use crate::admission::metrics::{self, Called};
use crate::webhook::Client;

/// Why a call did not end well.
#[derive(Debug, PartialEq)]
pub enum Failure {
    /// The webhook did not answer, or not as it must: the failure policy decides.
    Calling(String),
    /// It said no.
    Rejected(Box<Status>),
    /// The request cannot go on, whatever the policy.
    Fatal(Box<Status>),
}

impl Failure {
    fn called(&self, hook: &Hook) -> Called {
        match self {
            Self::Rejected(status) => Called::Rejected(status.code()),
            Self::Fatal(_) => Called::Internal,
            Self::Calling(_) => Called::Failed { code: 500, ignored: hook.failures_ignored },
        }
    }

    /// What the client gets; none when the failure is to be ignored.
    pub fn status(self, hook: &Hook) -> Option<Status> {
        match self {
            Self::Rejected(status) | Self::Fatal(status) => Some(*status),
            Self::Calling(why) if hook.failures_ignored => {
                tracing::warn!(webhook = hook.name, why, "failed calling webhook, failing open");
                None
            }
            Self::Calling(why) => Some(Status::internal(format!("failed calling webhook {:?}: {why}", hook.name))),
        }
    }
}

/// Counts a call that began then. `kind` is `admit` or `validating`.
pub fn measure<T>(hook: &Hook, kind: &str, request: &Request<'_>, began: Instant, result: &Result<T, Failure>) {
    let called = result.as_ref().map_or_else(|failure| failure.called(hook), |_| Called::Allowed);
    metrics::webhook_called(&hook.name, kind, request.operation, began.elapsed(), called);
}

/// Asks a webhook. Warnings and audit annotations of its answer are noted; an answer that allows comes back.
pub async fn call(
    client: &Client,
    hook: &Hook,
    request: &Request<'_>,
    matched: &Matched,
    uid: &str,
    objects: (Value, Value),
    mutating: bool,
) -> Result<Answer, Failure> {
    if request.dry_run && hook.side_effects {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Fatal(Box::new(Status::bad_request(why))));
    }
    let version = review::version(&hook.review_versions).ok_or_else(|| {
        let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        Failure::Calling(why.to_owned())
    })?;
    let target = hook.target.as_ref().map_err(|why| Failure::Calling(format!("could not get REST client: {why}")))?;
    let question = review::question(version, uid, request, matched, objects.0, objects.1);
    let failed = |why: String| Failure::Calling(format!("failed to call webhook: {why}"));
    let body = client.post(target, Bytes::from(question.to_string()), hook.timeout).await.map_err(|e| failed(e.to_string()))?;
    let body: Value =
        serde_json::from_slice(&body).map_err(|error| failed(format!("couldn't get version/kind; json parse error: {error}")))?;
    let answer = review::answer(&body, version, uid, mutating)
        .map_err(|why| Failure::Calling(format!("received invalid webhook response: {why}")))?;
    for (key, value) in &answer.audit {
        request.cx.annotate(format!("{}/{key}", hook.name), value.clone());
    }
    answer.warnings.iter().for_each(|warning| request.cx.warn(warning.clone()));
    if answer.allowed {
        return Ok(answer);
    }
    Err(Failure::Rejected(Box::new(review::refusal(&hook.name, answer.result.as_ref()))))
}
