//! The table of controllers: by what name each is switched on and off, and what runs it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use daemon::feature_gates::FeatureGates;

use crate::context::Context;
use crate::{
    autoscaler, bootstrap, certificates, cluster_role_aggregation, cronjob, daemonset, deployment, disruption, endpoints,
    garbage_collector, job, namespace, node_ipam, node_lifecycle, pod_gc, replicaset, resource_quota, root_ca, service_account,
    service_cidr, statefulset, storage_version_migrator, taint_eviction, tokens, ttl_after_finished, volume,
};

type Run = fn(Arc<Context>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A row of the table.
pub struct Controller {
    /// As `--controllers` names it.
    pub name: &'static str,
    /// The name it had before v1.28, if it had one; `--controllers` still takes it.
    pub alias: &'static str,
    pub run: Run,
}

macro_rules! controllers {
    ($($name:expr, $alias:literal, $run:path;)*) => {
        /// Every controller there is.
        pub const CONTROLLERS: &[Controller] =
            &[$(Controller { name: $name, alias: $alias, run: |ctx| Box::pin($run(ctx)) }),*];
    };
}

controllers! {
    bootstrap::clean::NAME, "tokencleaner", bootstrap::clean::run;
    bootstrap::sign::NAME, "bootstrapsigner", bootstrap::sign::run;
    certificates::approve::NAME, "csrapproving", certificates::approve::run;
    certificates::clean::NAME, "csrcleaner", certificates::clean::run;
    certificates::sign::NAME, "csrsigning", certificates::sign::run;
    cluster_role_aggregation::NAME, "clusterrole-aggregation", cluster_role_aggregation::run;
    cronjob::NAME, "cronjob", cronjob::run;
    daemonset::NAME, "daemonset", daemonset::run;
    deployment::NAME, "deployment", deployment::run;
    disruption::NAME, "disruption", disruption::run;
    endpoints::legacy::NAME, "endpoint", endpoints::legacy::run;
    endpoints::slice::NAME, "endpointslice", endpoints::slice::run;
    endpoints::mirror::NAME, "endpointslicemirroring", endpoints::mirror::run;
    garbage_collector::NAME, "garbagecollector", garbage_collector::run;
    autoscaler::NAME, "horizontalpodautoscaling", autoscaler::run;
    job::NAME, "job", job::run;
    namespace::NAME, "namespace", namespace::run;
    node_ipam::NAME, "nodeipam", node_ipam::run;
    node_lifecycle::NAME, "nodelifecycle", node_lifecycle::run;
    pod_gc::NAME, "podgc", pod_gc::run;
    "replicaset-controller", "replicaset", replicaset::run_replica_sets;
    "replicationcontroller-controller", "replicationcontroller", replicaset::run_replication_controllers;
    resource_quota::NAME, "resourcequota", resource_quota::run;
    root_ca::NAME, "root-ca-cert-publisher", root_ca::run;
    service_cidr::NAME, "", service_cidr::run;
    service_account::NAME, "serviceaccount", service_account::run;
    statefulset::NAME, "statefulset", statefulset::run;
    storage_version_migrator::NAME, "svm", storage_version_migrator::run;
    tokens::NAME, "serviceaccount-token", tokens::run;
    tokens::clean::NAME, "legacy-service-account-token-cleaner", tokens::clean::run;
    taint_eviction::NAME, "taint-eviction", taint_eviction::run;
    ttl_after_finished::NAME, "ttl-after-finished", ttl_after_finished::run;
    volume::binder::NAME, "persistentvolume-binder", volume::binder::run;
    volume::ephemeral::NAME, "ephemeral-volume", volume::ephemeral::run;
    volume::protection::CLAIMS, "pvc-protection", volume::protection::run_claims;
    volume::protection::VOLUMES, "pv-protection", volume::protection::run_volumes;
    // Never had another name.
    volume::protection::CLASSES, "", volume::protection::run_classes;
}

/// Controllers that upstream has and this daemon does not: naming them is no mistake, but nothing runs.
const ELSEWHERE: &[&str] = &[
    "attachdetach",
    "device-taint-eviction-controller",
    "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    "persistentvolume-attach-detach-controller",
    "persistentvolume-expander",
    "persistentvolume-expander-controller",
    "podcertificaterequest-cleaner-controller",
    "podgroup-protection-controller",
    "resource-claim-controller",
    "resourceclaim-controller",
    "resourcepoolstatusrequest-controller",
    "selinux-warning-controller",
    "service-ca-cert-publisher",
    "service-ca-certificate-publisher-controller",
    "storage-version-gc",
    "storageversion-garbage-collector-controller",
    "ttl",
    "ttl-controller",
    "validatingadmissionpolicy-status-controller",
];

/// Upstream starts these only when they are named.
const OFF_BY_DEFAULT: &[&str] = &["bootstrap-signer-controller", "token-cleaner-controller"];

/// These run only when their feature gate is on.
const GATED: &[(&str, &str)] = &[(storage_version_migrator::NAME, storage_version_migrator::GATE)];

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("--controllers: {0:?} is not a controller")]
pub struct UnknownController(String);

/// The controllers that a `--controllers` list asks for, `*` all, `name` one, `-name` not that one, and that feature gates let run.
pub fn selected(list: &[String], gates: &FeatureGates) -> Result<Vec<&'static Controller>, UnknownController> {
    let mut on: BTreeSet<&str> = BTreeSet::new();
    let mut off: BTreeSet<&str> = BTreeSet::new();
    let mut all = list.is_empty();
    for item in list {
        match item.strip_prefix('-') {
            _ if item == "*" => all = true,
            Some(name) => _ = off.insert(canonical(name)?),
            None => _ = on.insert(canonical(item)?),
        }
    }
    let wanted = |c: &&Controller| on.contains(c.name) || (all && !off.contains(c.name) && !OFF_BY_DEFAULT.contains(&c.name));
    let gated = |c: &Controller| GATED.iter().any(|(name, gate)| *name == c.name && !gates.is_on(gate));
    Ok(CONTROLLERS.iter().filter(wanted).filter(|c| !gated(c)).collect())
}

fn canonical(name: &str) -> Result<&'static str, UnknownController> {
    let ours = CONTROLLERS.iter().find(|c| !name.is_empty() && (c.name == name || c.alias == name)).map(|c| c.name);
    let theirs = || ELSEWHERE.iter().find(|n| **n == name).copied();
    ours.or_else(theirs).ok_or_else(|| UnknownController(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_controllers() {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<String>>();
        let gates = FeatureGates::parse(&owned(&["StorageVersionMigrator=true"])).unwrap();
        let with = |list: &[&str], gates: &FeatureGates| {
            selected(&owned(list), gates).map(|c| c.into_iter().map(|c| c.name).collect::<Vec<_>>())
        };
        let names = |list: &[&str]| with(list, &gates);
        let all = names(&["*"]).unwrap();
        assert_eq!(all.len(), CONTROLLERS.len() - OFF_BY_DEFAULT.len());
        assert_eq!(names(&[]).unwrap(), all);
        assert_eq!(names(&["*", "bootstrapsigner", "tokencleaner"]).unwrap().len(), CONTROLLERS.len());
        assert_eq!(names(&["*", "ttl-controller"]).unwrap(), all);
        assert_eq!(names(&["deployment", "replicaset-controller"]).unwrap(), ["deployment-controller", "replicaset-controller"]);
        assert!(!names(&["*", "-deployment"]).unwrap().contains(&"deployment-controller"));
        let gated = |name: &&str| GATED.iter().any(|(gated, _)| gated == name);
        assert!(names(&["svm"]).unwrap().iter().all(gated));
        for list in [&["*"][..], &["*", "svm"], &["storage-version-migrator-controller", "job"]] {
            assert!(!with(list, &FeatureGates::default()).unwrap().iter().any(gated), "{list:?}");
        }
        for name in ["nope", "", "-"] {
            assert!(names(&[name]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn names_are_distinct() {
        let named: Vec<&str> = CONTROLLERS.iter().flat_map(|c| [c.name, c.alias]).filter(|n| !n.is_empty()).collect();
        let all: BTreeSet<&str> = named.iter().chain(ELSEWHERE).copied().collect();
        assert_eq!(all.len(), named.len() + ELSEWHERE.len());
    }
}
