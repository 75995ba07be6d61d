//! Admission: plugins that complete an object before it is checked, and plugins that refuse it afterwards.
//!
//! Plugins are pure over the object and what [`Lookup`] has in memory; they await nothing.

mod default_tolerations;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod rbac_escalation;
mod service_account;
mod storage_class;
mod taint_nodes;

use std::sync::{Arc, OnceLock};

use machinery::gvk::GroupResource;
use machinery::status::Status;
use serde_json::Value;

use crate::authn::user::User;
use crate::authz::Authorizer;
use crate::lookup::Lookup;
use crate::registry::{Context, Served};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What is to be admitted.
pub struct Request<'r> {
    pub user: &'r User,
    pub operation: Operation,
    pub resource: GroupResource,
    pub kind: &'r str,
    pub subresource: &'r str,
    pub namespace: &'r str,
    /// Empty when the name is still to be generated.
    pub name: &'r str,
    /// Of a deletion.
    pub grace_period_seconds: Option<i64>,
}

impl<'r> Request<'r> {
    pub fn new(
        cx: &'r Context,
        served: &'r Served,
        operation: Operation,
        subresource: &'r str,
        namespace: &'r str,
        name: &'r str,
    ) -> Self {
        Self {
            user: &cx.user,
            operation,
            resource: served.group_resource(),
            kind: &served.resource.kind,
            subresource,
            namespace,
            name,
            grace_period_seconds: None,
        }
    }

    /// Whether this is about the resource itself, not a subresource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource && self.subresource.is_empty()
    }

    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.resource, self.name, why)
    }
}

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
    /// Set once the registry, which answers it, exists.
    lookup: OnceLock<Arc<dyn Lookup>>,
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
        if let Some(unknown) = enable.iter().chain(disable).find(|name| {
            !name.is_empty() && !ACCEPTED.contains(&name.as_str()) && !all.iter().any(|plugin| plugin.name() == name.as_str())
        }) {
            return Err(UnknownPlugin(unknown.clone()));
        }
        let on = |name: &str| {
            let named = |list: &[String]| list.iter().any(|other| other == name);
            !named(disable) && (DEFAULT.contains(&name) || named(enable))
        };
        let plugins = all.into_iter().filter(|plugin| on(plugin.name())).collect();
        Ok(Self { plugins, lookup: OnceLock::new() })
    }

    pub fn connect(&self, lookup: Arc<dyn Lookup>) {
        // Called once, at start.
        let _ = self.lookup.set(lookup);
    }

    fn lookup(&self) -> Result<&dyn Lookup, Status> {
        self.lookup.get().map(AsRef::as_ref).ok_or_else(|| Status::unavailable("the server is starting"))
    }

    pub fn mutate(&self, request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let lookup = self.lookup()?;
        self.plugins.iter().try_for_each(|plugin| plugin.mutate(request, object, old, lookup))
    }

    pub fn validate(&self, request: &Request<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        let lookup = self.lookup()?;
        self.plugins.iter().try_for_each(|plugin| plugin.validate(request, object, old, lookup))
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
