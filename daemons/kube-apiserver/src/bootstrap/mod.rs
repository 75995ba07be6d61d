//! What every cluster has from its first moment: namespaces, roles, priority classes, the Service `kubernetes`, the ServiceCIDR
//! of the flags, and the ConfigMap by which other servers delegate authentication. Reconciled at every start.

mod flow;
pub mod identity;
mod kubernetes_service;
mod peers;
pub mod rbac;
mod service_cidr;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::feature_gates::FeatureGates;
use futures::{StreamExt, TryStreamExt};
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::registry::update::{Changed, Target};
use crate::registry::{Context, Registry};
use crate::server::Server;
use crate::service_ip::ServiceNetwork;

/// What the bootstrap objects are made of.
pub struct Facts {
    pub services: ServiceNetwork,
    pub advertise: Option<(IpAddr, u16)>,
    /// Whether that address is an endpoint of the Service `kubernetes`.
    pub is_endpoint: bool,
    pub authentication_configmap: Vec<(String, String)>,
    pub gates: FeatureGates,
}

const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// How many looks after the endpoints are between two after the Leases of servers that are gone.
const ROUNDS_PER_CLEANING: u64 = 60;
const WRITES_AT_ONCE: usize = 16;
const RETRY: Duration = Duration::from_millis(500);
/// The Service `kubernetes` is looked after for as long as the server runs.
const ENDPOINT_INTERVAL: Duration = Duration::from_secs(10);
/// Authentication, authorization and admission read these from memory.
const LOOKED_UP: [(&str, &str); 22] = [
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("", "secrets"),
    ("", "pods"),
    ("", "nodes"),
    ("", "limitranges"),
    ("", "resourcequotas"),
    ("", "services"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("node.k8s.io", "runtimeclasses"),
    ("networking.k8s.io", "ingressclasses"),
    ("networking.k8s.io", "ipaddresses"),
    ("networking.k8s.io", "servicecidrs"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("policy", "poddisruptionbudgets"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
];

/// Starts the work; the receiver turns true when it is done for the first time.
pub fn start(server: &Arc<Server>, facts: Facts) -> watch::Receiver<bool> {
    let (done, receiver) = watch::channel(false);
    let server = server.clone();
    tokio::spawn(async move {
        let shutdown = server.shutdown.clone();
        tokio::select! {
            () = shutdown.requested() => {}
            () = run(&server, &facts, done) => {}
        }
        let leaving = kubernetes_service::leave(&server, &facts);
        if !matches!(tokio::time::timeout(LEAVE_LIMIT, leaving).await, Ok(Ok(()))) {
            tracing::warn!("the Service kubernetes may name this server for some seconds more");
        }
    });
    receiver
}

async fn run(server: &Arc<Server>, facts: &Facts, done: watch::Sender<bool>) {
    server.registry.load(&LOOKED_UP).await;
    while let Err(status) = everything(server, facts).await {
        tracing::warn!(error = %status, "bringing in what every cluster has; trying again");
        tokio::time::sleep(RETRY).await;
    }
    tokio::spawn(crate::service_ip::repair::run(server.clone()));
    done.send_replace(true);
    let identity = identity::Identity::new(&identity::hostname(), &server.registry.new_uid());
    let mut endpoints = tokio::time::interval(ENDPOINT_INTERVAL);
    let mut rounds: u64 = 0;
    loop {
        let result = tokio::select! {
            _ = endpoints.tick() => {
                rounds += 1;
                regularly(server, facts, &identity, rounds).await
            }
            () = server.fairness.changed.notified() => flow::reconcile(server).await,
        };
        if let Err(status) = result {
            tracing::warn!(error = %status, "looking after what every cluster has");
        }
    }
}

/// What shows that this server is there.
async fn regularly(server: &Server, facts: &Facts, identity: &identity::Identity, rounds: u64) -> Result<(), Status> {
    kubernetes_service::reconcile(server, facts).await?;
    if facts.advertise.is_none() {
        return Ok(()); // nobody else is to know of it
    }
    identity.renew(server).await?;
    if rounds.is_multiple_of(ROUNDS_PER_CLEANING) { identity::remove_expired(server).await } else { Ok(()) }
}

async fn everything(server: &Server, facts: &Facts) -> Result<(), Status> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(server, "", "namespaces", namespace).await?;
    }
    tokio::try_join!(
        rbac::reconcile(server, &facts.gates),
        priority_classes(server),
        flow::reconcile(server),
        token_tracking(server)
    )?;
    if !facts.authentication_configmap.is_empty() {
        let data: serde_json::Map<String, Value> =
            facts.authentication_configmap.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "kube-system", "name": "extension-apiserver-authentication"}, "data": data});
        replace(server, "", "configmaps", config_map, &["data"]).await?;
    }
    service_cidr::ensure(server, &facts.services).await?;
    kubernetes_service::reconcile(server, facts).await
}

async fn priority_classes(server: &Server) -> Result<(), Status> {
    for (name, value, description) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
    ] {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description});
        ensure(server, "scheduling.k8s.io", "priorityclasses", class).await?;
    }
    Ok(())
}

/// Writes that wait for the store side by side, a bounded number at once.
async fn together(writes: impl Iterator<Item = impl Future<Output = Result<(), Status>>>) -> Result<(), Status> {
    futures::stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).try_collect().await
}

/// Since when it is noted which tokens in Secrets are used: those that are not noted were not used since.
async fn token_tracking(server: &Server) -> Result<(), Status> {
    let today = (server.now)().strftime("%Y-%m-%d").to_string();
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"since": today},
        "metadata": {"namespace": "kube-system", "name": "kube-apiserver-legacy-service-account-token-tracking"}});
    let change = |old: &Value| {
        let mut new = old.clone();
        let since = old["data"]["since"].as_str().unwrap_or_default();
        if since.parse::<jiff::civil::Date>().is_err() {
            new["data"] = config_map["data"].clone();
        }
        new
    };
    reconcile(server, "", "configmaps", &config_map, &change).await
}

/// Creates an object unless it is there.
async fn ensure(server: &Server, group: &str, plural: &str, object: Value) -> Result<(), Status> {
    let served = stored(&server.registry, group, plural)?;
    let namespace = meta::namespace(&object).to_owned();
    if served.store.consistent().await?.get(&served.store.key(&namespace, meta::name(&object))).is_some() {
        return Ok(());
    }
    let cx = Context::server((server.now)());
    match server.registry.create(&cx, &served, &namespace, "", object).await {
        Err(status) if status.code() != 409 => Err(status),
        _ => Ok(()),
    }
}

/// Creates an object, or gives one that is there these fields.
async fn replace(server: &Server, group: &str, plural: &str, object: Value, fields: &[&str]) -> Result<(), Status> {
    let change = |old: &Value| {
        let mut new = old.clone();
        for field in fields {
            let map = meta::as_object_mut(&mut new);
            match object.get(*field) {
                Some(value) => map.insert((*field).to_owned(), value.clone()),
                None => map.remove(*field),
            };
        }
        new
    };
    reconcile(server, group, plural, &object, &change).await
}

/// Creates an object, or changes the one that is there.
async fn reconcile(
    server: &Server,
    group: &str,
    plural: &str,
    object: &Value,
    change: &(dyn Fn(&Value) -> Value + Send + Sync),
) -> Result<(), Status> {
    let served = stored(&server.registry, group, plural)?;
    let target = Target { served: &served, namespace: meta::namespace(object), name: meta::name(object), subresource: "" };
    let cx = Context::server((server.now)());
    let make = |old: Option<&Value>| Ok(Changed::Object(old.map_or_else(|| object.clone(), change)));
    match server.registry.modify(&cx, target, &make, true).await {
        // Another server was as fast.
        Err(status) if status.code() != 409 => Err(status),
        _ => Ok(()),
    }
}

fn stored(registry: &Registry, group: &str, plural: &str) -> Result<Arc<crate::registry::Served>, Status> {
    registry.stored(group, plural).ok_or_else(|| Status::internal(format!("{plural} are not served")))
}
