//! What users do, and what must hold meanwhile.

use std::time::Duration;

use api::Kind;
use api::apps::{DaemonSet, Deployment, ReplicaSet};
use api::core::{ConfigMap, Namespace, Node, Pod, Service, ServiceAccount};
use api::discovery::EndpointSlice;
use client::{DeleteParams, Patch, PatchParams, Propagation};
use serde_json::{Value, json};

use crate::faults::Faults;
use crate::world::{World, with_seeds};

const MINUTE: Duration = Duration::from_secs(60);

fn deployment(replicas: i32, image: &str) -> Deployment {
    decode(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    }))
}

fn decode<K: Kind>(value: Value) -> K {
    K::decode_value(value).expect("a valid object")
}

async fn patch<K: Kind>(world: &World, name: &str, patch: Value) {
    let namespace = if K::NAMESPACED { "default" } else { "" };
    let patched = world.client.patch::<K>(namespace, name, &Patch::Merge(patch), &PatchParams::default()).await;
    patched.expect("a patch");
}

async fn set_image(world: &World, image: &str) {
    let spec = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    patch::<Deployment>(world, "web", spec).await;
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.containers.first()).and_then(|c| c.image.as_deref()).unwrap_or_default()
}

/// All replicas run `image`, no other pod exists, and the Deployment says so.
async fn rolled_out(world: &World, replicas: usize, wanted: &str) -> bool {
    let ready = world.ready_pods("web");
    let Some(deployment) = world.get::<Deployment>("web").await else { return false };
    let status = deployment.status.clone().unwrap_or_default();
    let said = usize::try_from(status.updated_replicas.unwrap_or(0)).ok();
    ready.len() == replicas
        && ready.iter().all(|p| image(p) == wanted)
        && world.pods.len() == replicas
        && said == Some(replicas)
        && status.available_replicas == status.replicas
        && status.observed_generation == deployment.metadata.generation
}

/// One ReplicaSet for each template, each of a name of its own.
async fn one_replica_set_for_each_template(world: &World) {
    let mut templates: Vec<String> = Vec::new();
    for set in world.list::<ReplicaSet>().await {
        let spec = set.spec.expect("a spec").template.expect("a template").spec.expect("a pod");
        templates.push(spec.containers[0].image.clone().expect("an image"));
    }
    let count = templates.len();
    templates.sort();
    templates.dedup();
    assert_eq!(templates.len(), count, "two ReplicaSets for one template: {templates:?}");
}

#[test]
fn a_deployment_rolls_out_rolls_back_scales_and_goes() {
    with_seeds(0..8, |seed| async move {
        let mut world = World::start(seed, 3).await;
        world.start_manager(Faults { stale_ms: 500, cut_watches: 60, ..Faults::default() });
        world.client.create(&deployment(5, "v1")).await.expect("created");
        world.until("the first rollout", MINUTE, async |w| rolled_out(w, 5, "v1").await).await;
        assert_eq!(world.created(), 5, "no pod too many is ever made");

        // 25 % of 5: one may be missing, two may be too many.
        for (image, made) in [("v2", 10), ("v1", 15)] {
            set_image(&world, image).await;
            world
                .until("the rollout", 2 * MINUTE, async |w| {
                    assert!(w.ready_pods("web").len() >= 4, "too few are ready");
                    assert!(w.active_pods("web").len() <= 7, "too many run");
                    rolled_out(w, 5, image).await
                })
                .await;
            assert_eq!(world.created(), made, "each pod was replaced once");
        }
        one_replica_set_for_each_template(&world).await;
        let revision = |d: Deployment| d.metadata.annotations.and_then(|a| a.get("deployment.kubernetes.io/revision").cloned());
        assert_eq!(world.get::<Deployment>("web").await.and_then(revision).as_deref(), Some("3"));

        patch::<Deployment>(&world, "web", json!({"spec": {"replicas": 2}})).await;
        world.until("fewer", MINUTE, async |w| rolled_out(w, 2, "v1").await).await;
        assert_eq!(world.created(), 15);

        let params = DeleteParams { propagation: Some(Propagation::Background), ..DeleteParams::default() };
        world.client.delete::<Deployment>("default", "web", &params).await.expect("deleted");
        world.until("nothing is left", MINUTE, async |w| w.pods.is_empty() && w.list::<ReplicaSet>().await.is_empty()).await;
    });
}

/// The manager dies after its first write, another after its second, … and the next one finishes the work.
#[test]
fn a_manager_may_die_after_any_write() {
    with_seeds(1..26, |seed| async move {
        let mut world = World::start(seed, 2).await;
        let dies = Faults { dies_after_write: usize::try_from(seed).expect("small"), stale_ms: 200, ..Faults::default() };
        world.start_manager(dies);
        world.client.create(&deployment(3, "v1")).await.expect("created");
        let died = world.manager_died(MINUTE).await;
        world.start_manager(Faults { stale_ms: 200, ..Faults::default() });
        world.until("the rollout", MINUTE, async |w| rolled_out(w, 3, "v1").await).await;
        assert_eq!(world.created(), 3, "no pod too many, died: {died}");

        set_image(&world, "v2").await;
        world.start_manager(dies);
        world.manager_died(MINUTE).await;
        world.start_manager(Faults::default());
        world.until("the second rollout", 2 * MINUTE, async |w| rolled_out(w, 3, "v2").await).await;
        one_replica_set_for_each_template(&world).await;
        assert_eq!(world.created(), 6);
    });
}

/// Requests and answers get lost. What was done twice is taken back; in the end all is as it was asked for.
#[test]
fn a_bad_network_delays_but_does_not_mislead() {
    with_seeds(0..8, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults { lost_requests: 12, lost_answers: 12, cut_watches: 40, stale_ms: 1000, ..Faults::default() });
        world.client.create(&deployment(4, "v1")).await.expect("created");
        world.until("the first rollout", 10 * MINUTE, async |w| rolled_out(w, 4, "v1").await).await;
        set_image(&world, "v2").await;
        world.until("the second rollout", 10 * MINUTE, async |w| rolled_out(w, 4, "v2").await).await;
        one_replica_set_for_each_template(&world).await;
    });
}

#[test]
fn a_rollout_that_cannot_succeed_stops_and_says_so() {
    with_seeds(0..2, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults::default());
        world.client.create(&deployment(4, "v1")).await.expect("created");
        world.until("the first rollout", MINUTE, async |w| rolled_out(w, 4, "v1").await).await;
        set_image(&world, "broken").await;
        world
            .until("the deadline", 12 * MINUTE, async |w| {
                assert!(w.ready_pods("web").len() >= 3, "too few are ready");
                let status = w.get::<Deployment>("web").await.and_then(|d| d.status).unwrap_or_default();
                status.conditions.iter().flatten().any(|c| {
                    c.type_ == "Progressing" && c.status == "False" && c.reason.as_deref() == Some("ProgressDeadlineExceeded")
                })
            })
            .await;
        set_image(&world, "v1").await;
        world.until("back again", MINUTE, async |w| rolled_out(w, 4, "v1").await).await;
    });
}

#[test]
fn a_silent_node_is_given_up_after_forty_seconds_and_its_pods_after_five_minutes() {
    with_seeds(0..4, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults { stale_ms: 200, ..Faults::default() });
        world.client.create(&deployment(4, "v1")).await.expect("created");
        world.until("the rollout", MINUTE, async |w| rolled_out(w, 4, "v1").await).await;
        let on = |w: &World, node: &str| {
            let pods = w.active_pods("web");
            pods.iter().filter(|p| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node)).count()
        };
        assert!(on(&world, "n1") > 0, "the scheduler spreads");
        world.kill_kubelet(1);

        let condition = |node: &Node| {
            let conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
            conditions.into_iter().find(|c| c.type_ == "Ready").map(|c| c.status)
        };
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(world.get::<Node>("n1").await.as_ref().and_then(condition).as_deref(), Some("True"), "too early");
        world
            .until("it is unknown", Duration::from_secs(30), async |w| {
                w.get::<Node>("n1").await.as_ref().and_then(condition).as_deref() == Some("Unknown")
            })
            .await;
        world
            .until("it is tainted", Duration::from_secs(30), async |w| {
                let node = w.get::<Node>("n1").await.expect("the node");
                let taints = node.spec.and_then(|s| s.taints).unwrap_or_default();
                let has = |effect: &str| taints.iter().any(|t| t.key == "node.kubernetes.io/unreachable" && t.effect == effect);
                has("NoSchedule") && has("NoExecute")
            })
            .await;
        assert!(world.ready_pods("web").len() < 4, "pods of a silent node are not ready");
        tokio::time::sleep(Duration::from_secs(280)).await;
        assert!(on(&world, "n1") > 0, "they are tolerated for five minutes");
        world.until("they are replaced elsewhere", MINUTE, async |w| on(w, "n1") == 0 && w.ready_pods("web").len() == 4).await;

        // The node never comes back: once its object is gone, so is what was on it.
        world.client.delete::<Node>("", "n1", &DeleteParams::default()).await.expect("deleted");
        world.until("no pod is left behind", 2 * MINUTE, async |w| w.pods.len() == 4).await;
    });
}

#[test]
fn one_pod_on_each_node_also_on_those_that_come_later() {
    with_seeds(0..4, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults { stale_ms: 300, cut_watches: 60, ..Faults::default() });
        let set: DaemonSet = decode(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"app": "agent"}},
                "template": {
                    "metadata": {"labels": {"app": "agent"}},
                    "spec": {"containers": [{"name": "c", "image": "v1"}]},
                },
            },
        }));
        world.client.create(&set).await.expect("created");
        let each = async |w: &World, nodes: usize, wanted: &str| {
            let pods = w.ready_pods("agent");
            let mut on: Vec<_> = pods.iter().filter_map(|p| p.spec.as_ref().and_then(|s| s.node_name.clone())).collect();
            on.sort();
            on.dedup();
            on.len() == nodes && w.pods.len() == nodes && pods.iter().all(|p| image(p) == wanted)
        };
        world.until("a pod on each of two", MINUTE, async |w| each(w, 2, "v1").await).await;
        let third = crate::kubelet::Kubelet::start(&world.client, "n2", 2, world.dice.clone()).await;
        world.until("a pod on each of three", MINUTE, async |w| each(w, 3, "v1").await).await;
        let spec = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
        patch::<DaemonSet>(&world, "agent", spec).await;
        world
            .until("the rolling update", 2 * MINUTE, async |w| {
                assert!(w.ready_pods("agent").len() >= 2, "one node at a time");
                each(w, 3, "v2").await
            })
            .await;
        assert_eq!(world.created(), 6);
        drop(third);
    });
}

#[test]
fn endpoints_are_the_ready_pods() {
    with_seeds(0..4, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults { stale_ms: 200, cut_watches: 60, ..Faults::default() });
        world.client.create(&deployment(3, "v1")).await.expect("created");
        let service: Service = decode(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }));
        world.client.create(&service).await.expect("created");
        let published = async |w: &World| {
            let mut ready = Vec::new();
            for slice in w.list::<EndpointSlice>().await {
                if slice.metadata.labels.as_ref().is_some_and(|l| l.get("kubernetes.io/service-name").is_some_and(|s| s == "web"))
                {
                    for endpoint in slice.endpoints.into_iter().flatten() {
                        if endpoint.conditions.is_some_and(|c| c.ready == Some(true)) {
                            ready.extend(endpoint.addresses);
                        }
                    }
                }
            }
            ready.sort();
            ready
        };
        let expected = |w: &World| {
            let pods = w.ready_pods("web");
            let mut ips: Vec<String> = pods.into_iter().filter_map(|p| p.status.and_then(|s| s.pod_ip)).collect();
            ips.sort();
            ips
        };
        for replicas in [3, 5, 1] {
            patch::<Deployment>(&world, "web", json!({"spec": {"replicas": replicas}})).await;
            world
                .until("endpoints follow", MINUTE, async |w| {
                    let ips = expected(w);
                    ips.len() == replicas && published(w).await == ips
                })
                .await;
        }
        world.client.delete::<Service>("default", "web", &DeleteParams::default()).await.expect("deleted");
        world.until("its slices go with it", MINUTE, async |w| published(w).await.is_empty()).await;
    });
}

#[test]
fn a_namespace_is_furnished_and_emptied() {
    with_seeds(0..4, |seed| async move {
        let mut world = World::start(seed, 1).await;
        world.start_manager(Faults { stale_ms: 200, lost_answers: 30, ..Faults::default() });
        let namespace: Namespace = decode(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}));
        world.client.create(&namespace).await.expect("created");
        world
            .until("it has an account and the authority", MINUTE, async |w| {
                w.client.get::<ServiceAccount>("team", "default").await.is_ok()
                    && w.client.get::<ConfigMap>("team", "kube-root-ca.crt").await.is_ok()
            })
            .await;
        let mut d = deployment(2, "v1");
        d.metadata.namespace = Some("team".into());
        world.client.create(&d).await.expect("created");
        world.until("pods run", MINUTE, async |w| w.ready_pods("web").len() == 2).await;
        world.client.delete::<Namespace>("", "team", &DeleteParams::default()).await.expect("deleted");
        world
            .until("it is gone with all it held", 2 * MINUTE, async |w| {
                w.get::<Namespace>("team").await.is_none() && w.pods.is_empty()
            })
            .await;
        assert!(world.client.get::<Deployment>("team", "web").await.is_err());
    });
}

#[test]
fn dependents_go_first_or_stay_as_it_is_asked() {
    with_seeds(0..4, |seed| async move {
        let mut world = World::start(seed, 2).await;
        world.start_manager(Faults { stale_ms: 300, ..Faults::default() });
        let delete = async |w: &World, propagation| {
            let params = DeleteParams { propagation: Some(propagation), ..DeleteParams::default() };
            w.client.delete::<Deployment>("default", "web", &params).await.expect("deleted");
        };
        world.client.create(&deployment(2, "v1")).await.expect("created");
        world.until("the rollout", MINUTE, async |w| rolled_out(w, 2, "v1").await).await;
        delete(&world, Propagation::Foreground).await;
        world
            .until("leaves first", MINUTE, async |w| {
                let gone = w.get::<Deployment>("web").await.is_none();
                assert!(!gone || w.list::<ReplicaSet>().await.is_empty(), "the Deployment went before its ReplicaSet");
                gone
            })
            .await;

        world.client.create(&deployment(2, "v1")).await.expect("created");
        world.until("the rollout", MINUTE, async |w| rolled_out(w, 2, "v1").await).await;
        let made = world.created();
        delete(&world, Propagation::Orphan).await;
        world
            .until("it goes alone", MINUTE, async |w| {
                w.get::<Deployment>("web").await.is_none()
                    && w.list::<ReplicaSet>().await.iter().all(|s| s.metadata.owner_references.is_none())
            })
            .await;
        world.client.create(&deployment(2, "v1")).await.expect("created");
        world.until("what was left is adopted", MINUTE, async |w| rolled_out(w, 2, "v1").await).await;
        assert_eq!(world.created(), made, "no new pod is needed");
    });
}
