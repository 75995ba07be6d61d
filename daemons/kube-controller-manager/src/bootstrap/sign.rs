//! bootstrap-signer-controller: `cluster-info` carries a signature by each bootstrap token.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::{ConfigMap, Secret};
use api::jiff::Timestamp;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, Informer, InformerConfig};

use super::token::{Expiration, Token, expiration};
use crate::clock::until;
use crate::context::Context;
use crate::error::{During, Error};

pub(crate) const NAME: &str = "bootstrap-signer-controller";
const IDENTITY: &str = "bootstrap-signer";
const NAMESPACE: &str = "kube-public";
const CONFIG_MAP: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

pub(crate) async fn run(ctx: Arc<Context>) {
    let secrets = super::secrets(ctx.root());
    let config = InformerConfig {
        namespace: NAMESPACE.into(),
        field_selector: Some(format!("metadata.name={CONFIG_MAP}")),
        ..InformerConfig::default()
    };
    let infos = Informer::<ConfigMap>::start(ctx.root(), config);
    secrets.synced().await;
    infos.synced().await;
    let queue: Queue<()> = Queue::new();
    let q = queue.clone();
    secrets.subscribe(move |_| q.add(()));
    let q = queue.clone();
    infos.subscribe(move |_| q.add(()));
    let client = ctx.client(IDENTITY);
    client::controller::run(NAME, queue, 1, move |()| {
        let (ctx, secrets, infos, client) = (ctx.clone(), secrets.clone(), infos.clone(), client.clone());
        async move { reconcile(&ctx, &secrets, &infos, &client).await }
    })
    .await;
}

async fn reconcile(
    ctx: &Context,
    secrets: &Informer<Secret>,
    infos: &Informer<ConfigMap>,
    client: &Client,
) -> Result<Outcome, Error> {
    let Some(info) = infos.get(NAMESPACE, CONFIG_MAP) else { return Ok(Outcome::Done) };
    let (info, secrets, now) = (info.parse()?, secrets.parsed(), ctx.clock.now());
    if let Some(signed) = decide(&info, &secrets, now) {
        match client.update(&signed).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                return Err(error).during(|| format!("signing the ConfigMap {CONFIG_MAP}"));
            }
            _ => {}
        }
    }
    // A signature ends with its token, also when nobody deletes that.
    let ends = secrets.iter().filter_map(|s| match expiration(s) {
        Expiration::At(end) if end > now => Some(end),
        _ => None,
    });
    Ok(ends.min().map_or(Outcome::Done, |end| Outcome::Again(until(end, now))))
}

/// The ConfigMap with the signatures that it should have; `None` when it has them.
fn decide(info: &ConfigMap, secrets: &[Secret], now: Timestamp) -> Option<ConfigMap> {
    let data = info.data.as_ref()?;
    let content = data.get(KUBECONFIG)?;
    let plain = data.iter().filter(|(key, _)| !key.starts_with(SIGNATURE_PREFIX)).map(|(k, v)| (k.clone(), v.clone()));
    let tokens = secrets.iter().filter_map(|s| Token::read(s, now));
    let signatures = tokens.map(|t| (format!("{SIGNATURE_PREFIX}{}", t.id), t.sign(content)));
    let wanted: BTreeMap<String, String> = plain.chain(signatures).collect();
    (wanted != *data).then(|| ConfigMap { data: Some(wanted), ..info.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::token::tests::secret;
    use super::*;
    use api::Kind;
    use serde_json::json;

    #[test]
    fn signatures_come_and_go_with_tokens() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let info =
            ConfigMap::decode_value(json!({"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "x", "other": "y"}}));
        let info = info.unwrap();
        let keys = |info: &ConfigMap| info.data.as_ref().unwrap().keys().cloned().collect::<Vec<_>>();
        let tokens = [secret("abcdef", &[]), secret("fedcba", &[("expiration", "2026-06-01T00:00:00Z")])];
        let signed = decide(&info, &tokens, now).unwrap();
        assert_eq!(keys(&signed), ["jws-kubeconfig-abcdef", "jws-kubeconfig-fedcba", "kubeconfig", "other"]);
        assert_eq!(decide(&signed, &tokens, now), None);
        let later = decide(&signed, &tokens, "2026-07-01T00:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(keys(&later), ["jws-kubeconfig-abcdef", "kubeconfig", "other"]);
        let mut changed = signed;
        changed.data.as_mut().unwrap().insert("kubeconfig".into(), "z".into());
        assert!(decide(&changed, &tokens, now).is_some(), "another content needs another signature");
        let empty = ConfigMap::default();
        assert_eq!(decide(&empty, &tokens, now), None);
    }
}
