//! root-ca-certificate-publisher-controller: every namespace has the cluster's CA in a ConfigMap, which pods mount.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::ConfigMap;
use api::metav1::ObjectMeta;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, ObjectKey};

use crate::context::Context;
use crate::error::{During, Error};

pub(crate) const NAME: &str = "root-ca-certificate-publisher-controller";
pub(crate) const IDENTITY: &str = "root-ca-cert-publisher";
pub(crate) const CONFIG_MAP: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

pub(crate) async fn run(ctx: Arc<Context>) {
    let Some(bundle) = ctx.settings.root_ca.clone() else {
        tracing::info!(controller = NAME, "not started: --root-ca-file is not given");
        return;
    };
    let queue: Queue<String> = Queue::new();
    let informers = &ctx.informers;
    informers.namespaces.synced().await;
    informers.config_maps.synced().await;
    let q = queue.clone();
    informers.namespaces.subscribe(move |change| q.add(change.object().name.clone()));
    let q = queue.clone();
    informers.config_maps.subscribe(move |change| q.add(change.object().namespace.clone()));
    let client = ctx.client(IDENTITY);
    client::controller::run(NAME, queue, 1, move |namespace| {
        let (ctx, client, bundle) = (ctx.clone(), client.clone(), bundle.clone());
        async move { reconcile(&ctx, &client, &namespace, &bundle).await }
    })
    .await;
}

async fn reconcile(ctx: &Context, client: &Client, namespace: &str, bundle: &str) -> Result<Outcome, Error> {
    let live = ctx.informers.namespaces.get("", namespace).filter(|n| !n.deleting);
    if live.is_none() {
        return Ok(Outcome::Done);
    }
    let current = ctx.informers.config_maps.get(namespace, CONFIG_MAP).map(|c| c.parse()).transpose()?;
    let Some(wanted) = decide(namespace, bundle, current.as_ref()) else { return Ok(Outcome::Done) };
    let result = match current {
        None => client.create(&wanted).await,
        Some(_) => client.update(&wanted).await,
    };
    match result {
        Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => {
            Err(error).during(|| format!("publishing {}", ObjectKey::new(namespace, CONFIG_MAP)))
        }
        _ => Ok(Outcome::Done),
    }
}

/// The ConfigMap to write, or `None` when it is right as it is.
fn decide(namespace: &str, bundle: &str, current: Option<&ConfigMap>) -> Option<ConfigMap> {
    let data: BTreeMap<String, String> = [(KEY.to_owned(), bundle.to_owned())].into();
    let described = |c: &ConfigMap| c.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(DESCRIPTION));
    if current.is_some_and(|c| c.data.as_ref() == Some(&data) && described(c)) {
        return None;
    }
    let mut wanted = current.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta { name: Some(CONFIG_MAP.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    });
    wanted.data = Some(data);
    wanted.metadata.annotations.get_or_insert_default().insert(DESCRIPTION.into(), DESCRIPTION_TEXT.into());
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_put_right() {
        let fresh = decide("a", "CA", None).unwrap();
        assert_eq!(decide("a", "CA", Some(&fresh)), None);
        assert_eq!(decide("a", "CA 2", Some(&fresh)).unwrap().data.unwrap()[KEY], "CA 2");
        let mut bare = fresh;
        bare.metadata.annotations = None;
        assert!(decide("a", "CA", Some(&bare)).unwrap().metadata.annotations.unwrap().contains_key(DESCRIPTION));
    }
}
