//! Admission: plugins that complete an object before it is checked, and plugins that refuse it afterwards.
//!
//! A [`Plugin`] is pure over the object and what [`Lookup`] has in memory; it awaits nothing. Behind them come those that may
//! wait, each a [`Dynamic`].

pub mod access;
mod always_pull_images;
mod anti_affinity;
mod claim_resize;
pub mod conditions;
pub mod configuration;
pub mod criteria;
mod default_class;
mod default_tolerations;
pub mod dynamic;
mod event_rate_limit;
pub mod expression;
mod extended_resources;
mod external_ips;
mod limit_ranger;
mod metrics;
mod mountable_secrets;
mod namespace_auto_provision;
mod namespace_exists;
mod namespace_lifecycle;
mod node_restriction;
mod owner_references;
mod plugins;
mod pod_node_selector;
mod pod_security;
mod pod_toleration_restriction;
mod pod_topology_labels;
mod policy;
mod priority;
mod rbac_escalation;
mod request;
mod resource_quota;
pub mod rules;
mod runtime_class;
mod service_account;
mod signers;
pub mod source;
mod storage_protection;
mod subject_restriction;
mod taint_nodes;
mod tolerations;
mod webhook;

use std::sync::{Arc, OnceLock};

use machinery::status::Status;
use serde_json::Value;

pub use self::configuration::Configuration;
pub use self::default_tolerations::DefaultTolerationSeconds;
pub use self::dynamic::Dynamic;
use self::dynamic::{Mutation, Reinvocation, Validation};
use self::metrics::{Measured, Step};
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
    /// Those that may wait, and without which the others could not judge.
    first: Vec<Arc<dyn Dynamic>>,
    plugins: Vec<Box<dyn Plugin>>,
    /// Those that may wait, after the others.
    dynamic: Vec<Arc<dyn Dynamic>>,
    /// Set once the registry, which answers them, exists.
    registry: OnceLock<Arc<Registry>>,
}

/// Plugins of upstream that a configuration may name and that have nothing to do here.
const ACCEPTED: [&str; 1] = ["AlwaysAdmit"];

#[derive(Debug, thiserror::Error)]
#[error("enable-admission-plugins plugin {0:?} is unknown")]
pub struct UnknownPlugin(String);

impl Chain {
    pub fn new(
        enable: &[String],
        disable: &[String],
        configuration: &Configuration,
        authorizer: &Authorizer,
    ) -> Result<Self, UnknownPlugin> {
        let all = plugins::statics(authorizer, configuration);
        let (all_first, all_dynamic) = (plugins::first(), plugins::dynamics(authorizer, configuration));
        let waiting = all_first.iter().chain(&all_dynamic).map(|(p, _)| p.name());
        let names: Vec<&str> = all.iter().map(|(p, _)| p.name()).chain(waiting).collect();
        let known = |name: &String| name.is_empty() || ACCEPTED.contains(&name.as_str()) || names.contains(&name.as_str());
        if let Some(unknown) = enable.iter().chain(disable).find(|name| !known(name)) {
            return Err(UnknownPlugin(unknown.clone()));
        }
        let on = |name: &str, default: plugins::Switch| {
            let named = |list: &[String]| list.iter().any(|other| other == name);
            !named(disable) && (default == plugins::Switch::On || named(enable))
        };
        let plugins = all.into_iter().filter(|(plugin, default)| on(plugin.name(), *default)).map(|(p, _)| p).collect();
        let chosen = |all: Vec<(Arc<dyn Dynamic>, plugins::Switch)>| {
            all.into_iter().filter(|(plugin, default)| on(plugin.name(), *default)).map(|(p, _)| p).collect()
        };
        Ok(Self { first: chosen(all_first), plugins, dynamic: chosen(all_dynamic), registry: OnceLock::new() })
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

    fn mutate_statically(
        &self,
        request: &Request<'_>,
        object: &mut Value,
        old: Option<&Value>,
        measured: &mut Measured,
    ) -> Result<(), Status> {
        let lookup: &dyn Lookup = self.registry()?.as_ref();
        self.plugins.iter().try_for_each(|plugin| measured.plugin(plugin.name(), plugin.mutate(request, object, old, lookup)))
    }

    fn concerned(&self, request: &Request<'_>) -> impl Iterator<Item = &Arc<dyn Dynamic>> {
        self.dynamic.iter().filter(|plugin| plugin.concerns(request))
    }

    /// Completes the object.
    pub async fn mutate(&self, request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let mut measured = Measured::begin(Step::Admit, request.operation);
        let result = self.mutate_measured(request, object, old, &mut measured).await;
        measured.end(result)
    }

    async fn mutate_measured(
        &self,
        request: &Request<'_>,
        object: &mut Value,
        old: Option<&Value>,
        measured: &mut Measured,
    ) -> Result<(), Status> {
        for plugin in self.first.iter().filter(|plugin| plugin.concerns(request)) {
            let registry = self.registry()?;
            let mut mutation = Mutation { request, object, old, registry, reinvocation: Reinvocation::default() };
            measured.plugin(plugin.name(), plugin.mutate(&mut mutation).await)?;
        }
        self.mutate_statically(request, object, old, measured)?;
        self.mutate_dynamically(request, object, old, measured).await
    }

    /// The plugins that may wait; twice, if one of them changed what another saw and both want to know.
    async fn mutate_dynamically(
        &self,
        request: &Request<'_>,
        object: &mut Value,
        old: Option<&Value>,
        measured: &mut Measured,
    ) -> Result<(), Status> {
        if self.concerned(request).next().is_none() {
            return Ok(());
        }
        let registry = self.registry()?;
        let mut mutation = Mutation { request, object, old, registry, reinvocation: Reinvocation::default() };
        for plugin in self.concerned(request) {
            measured.plugin(plugin.name(), plugin.mutate(&mut mutation).await)?;
        }
        if !mutation.reinvocation.wanted {
            return Ok(());
        }
        mutation.reinvocation.again = true;
        self.mutate_statically(request, mutation.object, old, measured)?;
        for plugin in self.concerned(request) {
            measured.plugin(plugin.name(), plugin.mutate(&mut mutation).await)?;
        }
        Ok(())
    }

    pub async fn validate(&self, request: &Request<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        let mut measured = Measured::begin(Step::Validate, request.operation);
        let result = self.validate_measured(request, object, old, &mut measured).await;
        measured.end(result)
    }

    async fn validate_measured(
        &self,
        request: &Request<'_>,
        object: &Value,
        old: Option<&Value>,
        measured: &mut Measured,
    ) -> Result<(), Status> {
        let registry = self.registry()?;
        let lookup: &dyn Lookup = registry.as_ref();
        self.plugins
            .iter()
            .try_for_each(|plugin| measured.plugin(plugin.name(), plugin.validate(request, object, old, lookup)))?;
        if self.concerned(request).next().is_none() {
            return Ok(());
        }
        let validation = Validation { request, object, old, registry };
        for plugin in self.concerned(request) {
            measured.plugin(plugin.name(), plugin.validate(&validation).await)?;
        }
        Ok(())
    }
}

/// Where webhooks and policies are configured.
const GROUP: &str = "admissionregistration.k8s.io";

/// What configures admission is not subject to it, or nobody could repair a bad configuration.
fn is_exempt(request: &Request<'_>) -> bool {
    const EXEMPT: [&str; 6] = [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
    ];
    request.definition.group == GROUP && EXEMPT.contains(&request.kind)
}

fn not_ready(request: &Request<'_>) -> Status {
    request.forbidden("not yet ready to handle request")
}

/// The mark of pods that show what a kubelet runs from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

fn is_mirror_pod(pod: &Value) -> bool {
    machinery::meta::annotation(pod, MIRROR).is_some()
}
