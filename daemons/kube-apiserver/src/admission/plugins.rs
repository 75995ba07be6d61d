//! The table of plugins: in upstream's order, with what is switched on without being asked for.

use std::sync::Arc;

use super::configuration::Configuration;
use super::signers::{Act, SpeaksForSigner};
use super::*;

/// Whether a plugin runs when nobody names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    On,
    Off,
}

use Switch::{Off, On};

/// The plugins that answer from memory.
pub(super) fn statics(authorizer: &Authorizer, configuration: &Configuration) -> Vec<(Box<dyn Plugin>, Switch)> {
    let signer = |act| Box::new(SpeaksForSigner { act, authorizer: authorizer.clone() });
    let authorizer = || authorizer.clone();
    vec![
        (Box::new(namespace_lifecycle::NamespaceLifecycle), On),
        (Box::new(namespace_exists::NamespaceExists), Off),
        (Box::new(anti_affinity::LimitPodHardAntiAffinityTopology), Off),
        (Box::new(limit_ranger::LimitRanger), On),
        (Box::new(service_account::ServiceAccount), On),
        (Box::new(node_restriction::NodeRestriction), Off),
        (Box::new(taint_nodes::TaintNodesByCondition), On),
        (Box::new(always_pull_images::AlwaysPullImages), Off),
        (Box::new(pod_security::PodSecurity::configured(configuration.of("PodSecurity"))), On),
        (Box::new(pod_node_selector::PodNodeSelector::configured(configuration.of("PodNodeSelector"))), Off),
        (Box::new(priority::Priority), On),
        (Box::new(configuration.tolerations), On),
        (
            Box::new(pod_toleration_restriction::PodTolerationRestriction::configured(
                configuration.of("PodTolerationRestriction"),
            )),
            Off,
        ),
        (Box::new(event_rate_limit::EventRateLimit::configured(configuration.of("EventRateLimit"))), Off),
        (Box::new(extended_resources::ExtendedResourceToleration), Off),
        (Box::new(default_class::STORAGE), On),
        (Box::new(storage_protection::StorageObjectInUseProtection), On),
        (Box::new(owner_references::OwnerReferencesPermissionEnforcement { authorizer: authorizer() }), Off),
        (Box::new(claim_resize::PersistentVolumeClaimResize), On),
        (Box::new(runtime_class::RuntimeClass), On),
        (signer(Act::Approve), On),
        (signer(Act::Sign), On),
        (signer(Act::Attest), On),
        (Box::new(subject_restriction::CertificateSubjectRestriction), On),
        (Box::new(default_class::INGRESS), On),
        (Box::new(external_ips::DenyServiceExternalIps), Off),
        (Box::new(pod_topology_labels::PodTopologyLabels), On),
        (Box::new(rbac_escalation::RbacEscalation::new(authorizer())), On),
    ]
}

/// The plugins before all others.
pub(super) fn first() -> Vec<(Arc<dyn Dynamic>, Switch)> {
    vec![(Arc::new(namespace_auto_provision::NamespaceAutoProvision), Off)]
}

/// The plugins that may wait: mutating policies before mutating webhooks, validating policies before validating webhooks,
/// quota behind everything that could still refuse.
pub(super) fn dynamics(authorizer: &Authorizer, configuration: &Configuration) -> Vec<(Arc<dyn Dynamic>, Switch)> {
    let authorizer = || authorizer.clone();
    vec![
        (Arc::new(policy::Mutating::new(authorizer())), On),
        (Arc::new(webhook::Mutating::new(authorizer())), On),
        (Arc::new(policy::Validating::new(authorizer())), On),
        (Arc::new(webhook::Validating::new(authorizer())), On),
        (Arc::new(resource_quota::ResourceQuota::configured(configuration.of("ResourceQuota"))), On),
    ]
}

#[cfg(test)]
mod tests {
    use daemon::reload::Reloading;

    use super::*;
    use crate::authz::Local;

    /// Upstream's names (`AllOrderedPlugins`), in its order: what of them is here stands in the same order.
    const UPSTREAM: &[&str] = &[
        "NamespaceLifecycle",
        "NamespaceExists",
        "LimitPodHardAntiAffinityTopology",
        "LimitRanger",
        "ServiceAccount",
        "NodeRestriction",
        "TaintNodesByCondition",
        "AlwaysPullImages",
        "PodSecurity",
        "PodNodeSelector",
        "Priority",
        "DefaultTolerationSeconds",
        "PodTolerationRestriction",
        "EventRateLimit",
        "ExtendedResourceToleration",
        "DefaultStorageClass",
        "StorageObjectInUseProtection",
        "OwnerReferencesPermissionEnforcement",
        "PersistentVolumeClaimResize",
        "RuntimeClass",
        "CertificateApproval",
        "CertificateSigning",
        "ClusterTrustBundleAttest",
        "CertificateSubjectRestriction",
        "DefaultIngressClass",
        "DenyServiceExternalIPs",
        "PodTopologyLabels",
    ];

    #[test]
    fn the_order_is_upstreams() {
        let nobody = Authorizer::new(Reloading::fixed(Vec::new()), Local::default());
        let all = statics(&nobody, &Configuration::default());
        let names: Vec<&str> = all.iter().map(|(plugin, _)| plugin.name()).filter(|name| *name != "RBACEscalation").collect();
        assert_eq!(names, UPSTREAM);
        assert_eq!(dynamics(&nobody, &Configuration::default()).last().map(|(plugin, _)| plugin.name()), Some("ResourceQuota"));
    }
}
