//! Admission: plugins that complete an object before it is checked, and plugins that refuse it afterwards.
//!
//! A [`Plugin`] is pure over the object and what [`Lookup`] has in memory; it awaits nothing. Behind them come those that may
//! wait, each a [`Dynamic`].

mod default_tolerations;
pub mod dynamic;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod rbac_escalation;
mod request;
mod service_account;
mod storage_class;
mod taint_nodes;

use std::sync::{Arc, OnceLock};

use machinery::status::Status;
use serde_json::Value;

pub use self::dynamic::Dynamic;
use self::dynamic::{Mutation, Reinvocation, Validation};
pub use self::request::{Operation, Request};
use crate::authz::Authorizer;
use crate::lookup::Lookup;
use crate::registry::Registry;
use crate::server::Server;

/// One plugin. Hooks it does not need have defaults.
pub trait Plugin: Send + Sync + 'static {
    /// As `--enable-admission-plugins` names it.
    fn name(&self) -> &'static str;
    /// Completes the object.
    fn mutate(
        &self,
        _request: &Request<'_>,
        _object: &mut Value,
        _old: Option<&Value>,
        _lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        Ok(())
    }
    /// Refuses what must not be. Of a deletion the object is null.
    fn validate(
        &self,
        _request: &Request<'_>,
        _object: &Value,
        _old: Option<&Value>,
        _lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        Ok(())
    }
}

/// All plugins that are switched on, in upstream's order.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    /// Those that may wait, after the others.
    dynamic: Vec<Arc<dyn Dynamic>>,
    /// Set once the registry, which answers them, exists.
    registry: OnceLock<Arc<Registry>>,
}

/// Switched on unless `--disable-admission-plugins` names them.
const DEFAULT: [&str; 8] = [
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "TaintNodesByCondition",
    "Priority",
    "DefaultTolerationSeconds",
    "DefaultStorageClass",
    "RBACEscalation",
];

/// Plugins of upstream that a configuration may name and that have nothing to do here.
const ACCEPTED: [&str; 16] = [
    "StorageObjectInUseProtection",
    "PodSecurity",
    "PersistentVolumeClaimResize",
    "RuntimeClass",
    "CertificateApproval",
    "CertificateSigning",
    "ClusterTrustBundleAttest",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "PodTopologyLabels",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
    "AlwaysAdmit",
];

#[derive(Debug, thiserror::Error)]
#[error("enable-admission-plugins plugin {0:?} is unknown")]
pub struct UnknownPlugin(String);

impl Chain {
    pub fn new(enable: &[String], disable: &[String], authorizer: &Authorizer) -> Result<Self, UnknownPlugin> {
        let all: Vec<Box<dyn Plugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(limit_ranger::LimitRanger),
            Box::new(service_account::ServiceAccount),
            Box::new(node_restriction::NodeRestriction),
            Box::new(taint_nodes::TaintNodesByCondition),
            Box::new(priority::Priority),
            Box::new(default_tolerations::DefaultTolerationSeconds),
            Box::new(storage_class::DefaultStorageClass),
            Box::new(rbac_escalation::RbacEscalation::new(authorizer.clone())),
        ];
        // Mutating policies before mutating webhooks, validating policies before validating webhooks, quota behind everything
        // that could still refuse.
        let all_dynamic: Vec<Arc<dyn Dynamic>> = vec![];
        let names: Vec<&str> = all.iter().map(|p| p.name()).chain(all_dynamic.iter().map(|p| p.name())).collect();
        let known = |name: &String| name.is_empty() || ACCEPTED.contains(&name.as_str()) || names.contains(&name.as_str());
        if let Some(unknown) = enable.iter().chain(disable).find(|name| !known(name)) {
            return Err(UnknownPlugin(unknown.clone()));
        }
        let on = |name: &str| {
            let named = |list: &[String]| list.iter().any(|other| other == name);
            !named(disable) && (DEFAULT.contains(&name) || named(enable))
        };
        let plugins = all.into_iter().filter(|plugin| on(plugin.name())).collect();
        let dynamic = all_dynamic.into_iter().filter(|plugin| on(plugin.name())).collect();
        Ok(Self { plugins, dynamic, registry: OnceLock::new() })
    }

    pub fn connect(&self, registry: Arc<Registry>) {
        // Called once, at start.
        let _ = self.registry.set(registry);
    }

    /// Lets the plugins begin to follow what configures them.
    pub fn start(&self, server: &Arc<Server>) {
        self.dynamic.iter().for_each(|plugin| plugin.clone().start(server));
    }

    fn registry(&self) -> Result<&Arc<Registry>, Status> {
        self.registry.get().ok_or_else(|| Status::unavailable("the server is starting"))
    }

    fn mutate_statically(&self, request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let lookup: &dyn Lookup = self.registry()?.as_ref();
        self.plugins.iter().try_for_each(|plugin| plugin.mutate(request, object, old, lookup))
    }

    fn concerned(&self, request: &Request<'_>) -> impl Iterator<Item = &Arc<dyn Dynamic>> {
        self.dynamic.iter().filter(|plugin| plugin.concerns(request))
    }

    /// Completes the object.
    pub async fn mutate(&self, request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        self.mutate_statically(request, object, old)?;
        self.mutate_dynamically(request, object, old).await
    }

    /// The plugins that may wait; twice, if one of them changed what another saw and both want to know.
    async fn mutate_dynamically(&self, request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        if self.concerned(request).next().is_none() {
            return Ok(());
        }
        let registry = self.registry()?;
        let mut mutation = Mutation { request, object, old, registry, reinvocation: Reinvocation::default() };
        for plugin in self.concerned(request) {
            plugin.mutate(&mut mutation).await?;
        }
        if !mutation.reinvocation.wanted {
            return Ok(());
        }
        mutation.reinvocation.again = true;
        self.mutate_statically(request, mutation.object, old)?;
        for plugin in self.concerned(request) {
            plugin.mutate(&mut mutation).await?;
        }
        Ok(())
    }

    pub async fn validate(&self, request: &Request<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        let registry = self.registry()?;
        let lookup: &dyn Lookup = registry.as_ref();
        self.plugins.iter().try_for_each(|plugin| plugin.validate(request, object, old, lookup))?;
        if self.concerned(request).next().is_none() {
            return Ok(());
        }
        let validation = Validation { request, object, old, registry };
        for plugin in self.concerned(request) {
            plugin.validate(&validation).await?;
        }
        Ok(())
    }
}

/// All containers of a pod, of whatever kind, with the field they are in.
fn containers_mut(pod: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = pod.get_mut("spec").and_then(Value::as_object_mut);
    spec.into_iter()
        .flat_map(|spec| spec.iter_mut())
        .filter(|(field, _)| matches!(field.as_str(), "containers" | "initContainers" | "ephemeralContainers"))
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
}

fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| pod["spec"][field].as_array().into_iter().flatten().map(move |container| (field, container)))
}

/// The mark of pods that show what a kubelet runs from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

fn is_mirror_pod(pod: &Value) -> bool {
    machinery::meta::annotation(pod, MIRROR).is_some()
}
