//! legacy-serviceaccount-token-cleaner-controller: once a day, tokens that nobody uses are first refused, then deleted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::core::{ConfigMap, Secret};
use api::jiff::SignedDuration;
use api::jiff::civil::Date;
use client::{Client, DeleteParams, Informer, Patch, PatchParams, Precondition};
use machinery::pod::references::References;
use serde_json::{Value, json};

use super::decide::{account_of, is_meant};
use super::unused::{Deadline, INVALID_SINCE, Verdict, judge};
use crate::context::Context;
use crate::error::{During, Error, GoneIsDone};

pub(crate) const NAME: &str = "legacy-serviceaccount-token-cleaner-controller";
const IDENTITY: &str = "legacy-service-account-token-cleaner";
const TRACKING_NAMESPACE: &str = "kube-system";
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

pub(crate) async fn run(ctx: Arc<Context>) {
    let secrets = super::secrets(ctx.root());
    secrets.synced().await;
    ctx.informers.service_accounts.synced().await;
    ctx.informers.pods.synced().await;
    let client = ctx.client(IDENTITY);
    loop {
        if let Err(error) = round(&ctx, &secrets, &client).await {
            tracing::warn!(controller = NAME, "looking for tokens that nobody uses: {error:#}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn round(ctx: &Context, secrets: &Informer<Secret>, client: &Client) -> Result<(), Error> {
    let tracking = client.get::<ConfigMap>(TRACKING_NAMESPACE, TRACKING).await;
    let tracking = tracking.during(|| format!("reading the ConfigMap {TRACKING}"))?;
    let since = tracking.data.as_ref().and_then(|data| data.get("since")).and_then(|day| day.parse::<Date>().ok());
    let since = since.ok_or_else(|| Error::Other(format!("the ConfigMap {TRACKING} does not say since when")))?;
    let period = SignedDuration::try_from(ctx.settings.legacy_token_clean_up_period).unwrap_or(SignedDuration::MAX);
    let Some(deadline) = Deadline::new(ctx.clock.now(), since, period) else { return Ok(()) };
    let mut mounted: HashMap<String, BTreeSet<String>> = HashMap::new();
    for secret in secrets.parsed() {
        let (namespace, name) = (secret.namespace(), secret.name());
        let account = ctx.informers.service_accounts.get(namespace, account_of(&secret).0).and_then(|a| a.parse().ok());
        let account = account.filter(|account| is_meant(&secret, account));
        let in_use = mounted.entry(namespace.to_owned()).or_insert_with(|| referred_to(ctx, namespace));
        let verdict = judge(&secret, account.as_ref(), in_use.contains(name), deadline);
        // One that cannot be written must not keep the others.
        if let Err(error) = apply(client, &secret, verdict).await {
            tracing::warn!(controller = NAME, "{error:#}");
        }
    }
    Ok(())
}

/// The Secrets that pods of a namespace refer to.
fn referred_to(ctx: &Context, namespace: &str) -> BTreeSet<String> {
    let pods = ctx.informers.pods.list_namespace(namespace);
    let of_pod =
        |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map(|pod| References::of(&pod).secrets).unwrap_or_default();
    pods.iter().flat_map(|pod| of_pod(pod.bytes())).collect()
}

async fn apply(client: &Client, secret: &Secret, verdict: Verdict) -> Result<(), Error> {
    let (namespace, name) = (secret.namespace(), secret.name());
    match verdict {
        Verdict::Keep => Ok(()),
        Verdict::Invalidate(day) => {
            tracing::info!(namespace, name, "an auto-generated service account token that nobody uses is refused from now on");
            let labels = json!({"metadata": {"uid": secret.uid(), "labels": {INVALID_SINCE: day.to_string()}}});
            let patched = client.patch::<Secret>(namespace, name, &Patch::Merge(labels), &PatchParams::default()).await;
            match patched {
                Err(error) if error.is_not_found() => Ok(()),
                patched => patched.during(|| format!("marking the token {namespace}/{name}")).map(|_| ()),
            }
        }
        Verdict::Delete => {
            tracing::info!(namespace, name, "an auto-generated service account token that nobody uses is deleted");
            let seen = Precondition { uid: Some(secret.uid().to_owned()), resource_version: Some(secret.resource_version()) };
            let params = DeleteParams { precondition: seen, ..DeleteParams::default() };
            match client.delete::<Secret>(namespace, name, &params).await.gone_is_done() {
                Err(error) if error.is_conflict() => Ok(()),
                deleted => deleted.during(|| format!("deleting the token {namespace}/{name}")),
            }
        }
    }
}
