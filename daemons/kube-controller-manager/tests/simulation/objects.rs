//! What stands around workloads: Jobs that end, budgets, mirrored endpoints, volumes, autoscalers.

use std::time::Duration;

use api::Kind;
use api::apps::{Deployment, ReplicaSet, StatefulSet};
use api::autoscaling::HorizontalPodAutoscaler;
use api::batch::Job;
use api::core::{Endpoints, PersistentVolume, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use api::discovery::EndpointSlice;
use api::policy::PodDisruptionBudget;
use client::DeleteParams;
use serde_json::{Value, json};

use crate::faults::Faults;
use crate::kubelet::{DONE, FAILS};
use crate::world::{World, with_seeds};

const MINUTE: Duration = Duration::from_secs(60);

fn decode<K: Kind>(value: Value) -> K {
    K::decode_value(value).expect("a valid object")
}

async fn create<K: Kind>(world: &World, value: Value) -> K {
    world.client.create(&decode::<K>(value)).await.expect("created")
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(replicas: i32, template: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    })
}

fn job(name: &str, image: &str, more: &Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template(image)},
    });
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    more.as_object().expect("fields").iter().for_each(|(k, v)| job["spec"][k] = v.clone());
    job
}

fn condition(job: &Job, kind: &str) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind && c.status == "True").map(|c| c.reason.clone().unwrap_or_default())
}

#[test]
fn a_template_with_empty_lists_has_one_replica_set() {
    with_seeds(0..4, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults { stale_ms: 300, ..Faults::default() });
        let mut spelled = template("v1");
        spelled["spec"]["imagePullSecrets"] = json!([]);
        spelled["spec"]["nodeSelector"] = json!({});
        spelled["spec"]["tolerations"] = json!([]);
        spelled["spec"]["containers"][0]["env"] = json!([]);
        spelled["metadata"]["annotations"] = json!({});
        create::<Deployment>(&world, deployment(2, &spelled)).await;
        world.until("it rolls out", MINUTE, async |w| w.ready_pods("web").len() == 2).await;
        tokio::time::sleep(5 * MINUTE).await;
        assert_eq!(world.list::<ReplicaSet>().await.len(), 1);
        let status = world.get::<Deployment>("web").await.expect("it is there").status.expect("a status");
        assert_eq!(status.collision_count, None);
    });
}

#[test]
fn jobs_count_each_pod_once() {
    with_seeds(0..6, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults { stale_ms: 300, cut_watches: 60, ..Faults::default() });
        create::<Job>(&world, job("work", DONE, &json!({"completions": 7, "parallelism": 3}))).await;
        world
            .until("it completes", 5 * MINUTE, async |w| {
                let job = w.get::<Job>("work").await.expect("it is there");
                assert_eq!(condition(&job, "Failed"), None);
                condition(&job, "Complete").is_some()
            })
            .await;
        let status = world.get::<Job>("work").await.expect("it is there").status.expect("a status");
        assert_eq!((status.succeeded, status.failed.unwrap_or(0), status.active.unwrap_or(0)), (Some(7), 0, 0));
        let held = |w: &World| w.pods.parsed().iter().any(|p| p.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty()));
        world.until("no pod is held", MINUTE, async |w| !held(w)).await;
    });
}

#[test]
fn indexes_fail_one_by_one() {
    with_seeds(0..4, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults { stale_ms: 200, ..Faults::default() });
        let more = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1});
        create::<Job>(&world, job("work", FAILS, &more)).await;
        world
            .until("all have failed", 10 * MINUTE, async |w| {
                let job = w.get::<Job>("work").await.expect("it is there");
                condition(&job, "Failed").as_deref() == Some("FailedIndexes")
            })
            .await;
        let status = world.get::<Job>("work").await.expect("it is there").status.expect("a status");
        assert_eq!((status.failed_indexes.as_deref(), status.failed), (Some("0-2"), Some(6)), "each is tried twice");
    });
}

#[test]
fn a_budget_follows_its_pods() {
    with_seeds(0..4, |seed| async move {
        let mut world = World::start(seed, 3).await;
        world.start_manager(Faults { stale_ms: 300, cut_watches: 60, ..Faults::default() });
        create::<PodDisruptionBudget>(
            &world,
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", "namespace": "default"},
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}),
        )
        .await;
        create::<Deployment>(&world, deployment(3, &template("v1"))).await;
        world
            .until("one may go", 2 * MINUTE, async |w| {
                let status = w.get::<PodDisruptionBudget>("web").await.and_then(|b| b.status).unwrap_or_default();
                let counts = [status.expected_pods, status.desired_healthy, status.current_healthy, status.disruptions_allowed];
                counts == [3, 2, 3, 1].map(Some)
            })
            .await;
        let node = world.ready_pods("web")[0].spec.as_ref().and_then(|s| s.node_name.clone()).expect("it runs");
        world.kill_kubelet(node.trim_start_matches('n').parse().expect("nodes are numbered"));
        world
            .until("none may go while one is missing", 5 * MINUTE, async |w| {
                let status = w.get::<PodDisruptionBudget>("web").await.and_then(|b| b.status).unwrap_or_default();
                status.disruptions_allowed == Some(0)
            })
            .await;
    });
}

#[test]
fn endpoints_by_hand_are_mirrored() {
    with_seeds(0..4, |seed| async move {
        let mut world = World::start(seed, 1).await;
        world.start_manager(Faults { stale_ms: 200, cut_watches: 60, ..Faults::default() });
        let meta = json!({"name": "outside", "namespace": "default"});
        create::<Service>(
            &world,
            json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}),
        )
        .await;
        let mut endpoints: Endpoints = create(
            &world,
            json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets":
                [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 8080, "protocol": "TCP"}]}]}),
        )
        .await;
        let mirrored = async |w: &World| {
            let mut all: Vec<String> = Vec::new();
            for slice in w.list::<EndpointSlice>().await {
                let name = slice.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
                if name.is_some_and(|n| n == "outside") {
                    all.extend(slice.endpoints.into_iter().flatten().flat_map(|e| e.addresses));
                }
            }
            all
        };
        world.until("it is shown", MINUTE, async |w| mirrored(w).await == ["192.0.2.1"]).await;
        endpoints.subsets.as_mut().expect("subsets")[0].addresses.as_mut().expect("addresses")[0].ip = "192.0.2.2".into();
        world.client.update(&endpoints).await.expect("updated");
        world.until("it follows", MINUTE, async |w| mirrored(w).await == ["192.0.2.2"]).await;
        world.client.delete::<Endpoints>("default", "outside", &DeleteParams::default()).await.expect("deleted");
        world.until("it goes", MINUTE, async |w| mirrored(w).await.is_empty()).await;
    });
}

#[test]
fn a_claim_is_bound_protected_and_released() {
    with_seeds(0..6, |seed| async move {
        let mut world = World::start(seed, 1).await;
        world.start_manager(Faults { stale_ms: 200, lost_answers: 20, cut_watches: 60, ..Faults::default() });
        for (name, size) in [("small", "1Gi"), ("large", "9Gi"), ("right", "5Gi")] {
            create::<PersistentVolume>(
                &world,
                json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
                    "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"}}}),
            )
            .await;
        }
        let phase =
            async |w: &World, name: &str| w.get::<PersistentVolume>(name).await.and_then(|v| v.status?.phase).unwrap_or_default();
        world
            .until("they are available", MINUTE, async |w| {
                let mut all = Vec::new();
                for name in ["small", "large", "right"] {
                    all.push(phase(w, name).await);
                }
                all.iter().all(|p| p == "Available")
            })
            .await;
        create::<PersistentVolumeClaim>(
            &world,
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "default"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "4Gi"}}}}),
        )
        .await;
        world
            .until("it is bound", MINUTE, async |w| {
                let claim = w.get::<PersistentVolumeClaim>("data").await.expect("it is there");
                let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
                let volume = claim.spec.and_then(|s| s.volume_name);
                assert!(!bound || volume.as_deref() == Some("right"), "the smallest that fits");
                bound && phase(w, "right").await == "Bound"
            })
            .await;
        let protected = async |w: &World| {
            let claim = w.get::<PersistentVolumeClaim>("data").await.expect("it is there");
            claim.metadata.finalizers.unwrap_or_default().contains(&"kubernetes.io/pvc-protection".to_owned())
        };
        world.until("it is protected", MINUTE, async |w| protected(w).await).await;
        world.client.delete::<PersistentVolumeClaim>("default", "data", &DeleteParams::default()).await.expect("deleted");
        world.until("nobody uses it: it goes", MINUTE, async |w| w.get::<PersistentVolumeClaim>("data").await.is_none()).await;
        world.until("its volume is kept", MINUTE, async |w| phase(w, "right").await == "Released").await;
        world.client.delete::<PersistentVolume>("", "right", &DeleteParams::default()).await.expect("deleted");
        world.until("and goes when it is told to", MINUTE, async |w| w.get::<PersistentVolume>("right").await.is_none()).await;
        assert_eq!(phase(&world, "large").await, "Available");
    });
}

#[test]
fn an_autoscaler_without_metrics_says_so() {
    with_seeds(0..2, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults::default());
        create::<Deployment>(&world, deployment(1, &template("v1"))).await;
        create::<HorizontalPodAutoscaler>(
            &world,
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"minReplicas": 2, "maxReplicas": 5,
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                    "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 50}}}]}}),
        )
        .await;
        world.until("it sees to the least", 2 * MINUTE, async |w| w.ready_pods("web").len() == 2).await;
        let reason = async |w: &World| {
            let status = w.get::<HorizontalPodAutoscaler>("web").await.and_then(|a| a.status).unwrap_or_default();
            let active = status.conditions.into_iter().flatten().find(|c| c.type_ == "ScalingActive");
            active.and_then(|c| c.reason).unwrap_or_default()
        };
        world.until("it lacks the rest", 2 * MINUTE, async |w| reason(w).await == "FailedGetResourceMetric").await;
    });
}

#[test]
fn pods_of_a_stateful_set_name_their_revision() {
    with_seeds(0..3, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults { stale_ms: 300, ..Faults::default() });
        create::<StatefulSet>(
            &world,
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"}, "spec": {
                "replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "web"}}, "template": template("v1")}}),
        )
        .await;
        world.until("both run", 2 * MINUTE, async |w| w.ready_pods("web").len() == 2).await;
        let settled = async |w: &World| {
            let status = w.get::<StatefulSet>("db").await.and_then(|s| s.status).unwrap_or_default();
            let revision = status.update_revision.clone();
            let carried =
                |p: &api::core::Pod| p.metadata.labels.as_ref().and_then(|l| l.get("controller-revision-hash")).cloned();
            status.current_revision == revision && w.pods.parsed().iter().all(|p| carried(p) == revision)
        };
        world.until("their labels say which", MINUTE, async |w| settled(w).await).await;
    });
}

#[test]
fn a_token_in_a_secret_comes_and_goes_with_its_account() {
    with_seeds(0..3, |seed| async move {
        let mut world = World::start(seed, 0).await;
        world.start_manager(Faults { stale_ms: 300, ..Faults::default() });
        create::<ServiceAccount>(
            &world,
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "default"}}),
        )
        .await;
        let secret = |name: &str, account: &str| {
            json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                "metadata": {"name": name, "namespace": "default", "annotations": {"kubernetes.io/service-account.name": account}}})
        };
        create::<Secret>(&world, secret("bot-token", "bot")).await;
        create::<Secret>(&world, secret("nobodys", "nobody")).await;
        let data = async |w: &World| w.get::<Secret>("bot-token").await.and_then(|s| s.data).unwrap_or_default();
        world.until("it is filled", MINUTE, async |w| data(w).await.len() == 3).await;
        let text = |bytes: &api::ByteString| String::from_utf8(bytes.0.clone()).expect("text");
        let filled = data(&world).await;
        assert_eq!(
            (text(&filled["namespace"]), text(&filled["ca.crt"])),
            ("default".into(), "-----BEGIN CERTIFICATE-----".into())
        );
        let claims: Value = pki::TokenVerifier::peek(&text(&filled["token"])).expect("a token");
        assert_eq!(claims["sub"], "system:serviceaccount:default:bot");
        world.until("without an account it goes", MINUTE, async |w| w.get::<Secret>("nobodys").await.is_none()).await;
        // The same token stays, whatever is written besides.
        world.start_manager(Faults { stale_ms: 300, ..Faults::default() });
        tokio::time::sleep(MINUTE).await;
        assert_eq!(data(&world).await, filled);
        world.client.delete::<ServiceAccount>("default", "bot", &DeleteParams::default()).await.expect("deleted");
        world.until("it goes with its account", MINUTE, async |w| w.get::<Secret>("bot-token").await.is_none()).await;
    });
}
