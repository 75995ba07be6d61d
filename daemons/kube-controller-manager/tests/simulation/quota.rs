//! Quotas: what the API server charges and what the controller counts stay the same thing.

use std::time::Duration;

use api::Kind;
use api::apps::Deployment;
use api::core::{ConfigMap, ResourceQuota};
use client::{DeleteParams, Patch, PatchParams, Propagation};
use serde_json::{Value, json};

use crate::faults::Faults;
use crate::world::{World, with_seeds};

const MINUTE: Duration = Duration::from_secs(60);

fn decode<K: Kind>(value: Value) -> K {
    K::decode_value(value).expect("a valid object")
}

fn quota(hard: Value) -> ResourceQuota {
    decode(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"},
        "spec": {"hard": hard}}))
}

fn config_map(name: &str) -> ConfigMap {
    decode(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}))
}

async fn used(world: &World, name: &str) -> Option<String> {
    let status = world.get::<ResourceQuota>("q").await?.status?;
    status.used?.get(name).map(|amount| amount.0.clone())
}

async fn until_used(world: &World, name: &str, amount: &str) {
    let what = format!("{name} used: {amount}");
    world.until(&what, 10 * MINUTE, async |w| used(w, name).await.as_deref() == Some(amount)).await;
}

#[test]
fn pods_stay_within_their_quota() {
    with_seeds(0..6, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults::default());
        world.client.create(&quota(json!({"pods": "2", "requests.cpu": "1"}))).await.expect("a quota");
        until_used(&world, "pods", "0").await;
        let resources = json!({"requests": {"cpu": "100m"}});
        let deployment: Deployment = decode(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 5, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "x", "resources": resources}]}}}}));
        world.client.create(&deployment).await.expect("a deployment");
        world.until("two pods", 5 * MINUTE, async |w| w.active_pods("web").len() == 2).await;
        tokio::time::sleep(MINUTE).await;
        assert_eq!(world.active_pods("web").len(), 2);
        until_used(&world, "requests.cpu", "200m").await;
        // More is allowed: the replica set tries again by itself.
        let more = Patch::Merge(json!({"spec": {"hard": {"pods": "4"}}}));
        world.client.patch::<ResourceQuota>("default", "q", &more, &PatchParams::default()).await.expect("a patch");
        world.until("four pods", 20 * MINUTE, async |w| w.active_pods("web").len() == 4).await;
        until_used(&world, "pods", "4").await;
        // What ends is given back.
        let params = DeleteParams { propagation: Some(Propagation::Foreground), ..DeleteParams::default() };
        world.client.delete::<Deployment>("default", "web", &params).await.expect("a deletion");
        until_used(&world, "pods", "0").await;
    });
}

#[test]
fn objects_are_counted_by_their_numbers() {
    with_seeds(0..2, |seed| async move {
        let mut world = World::start(seed, 0).await;
        world.start_manager(Faults::default());
        // The namespace has one already.
        world.until("the root certificate", MINUTE, async |w| w.get::<ConfigMap>("kube-root-ca.crt").await.is_some()).await;
        world.client.create(&quota(json!({"count/configmaps": "2"}))).await.expect("a quota");
        until_used(&world, "count/configmaps", "1").await;
        world.client.create(&config_map("a")).await.expect("room for one");
        assert_eq!(used(&world, "count/configmaps").await.as_deref(), Some("2"), "charged at once");
        let refused = world.client.create(&config_map("b")).await.expect_err("no room");
        let why = "exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2";
        assert!(refused.to_string().contains(why), "{refused}");
        world.client.delete::<ConfigMap>("default", "a", &DeleteParams::default()).await.expect("a deletion");
        until_used(&world, "count/configmaps", "1").await;
    });
}
