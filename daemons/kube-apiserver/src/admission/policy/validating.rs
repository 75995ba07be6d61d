//! ValidatingAdmissionPolicy: every policy that is bound, over the object as it would be stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use machinery::status::{Cause, Reason, Status};
use serde_json::{Value, json};

use super::definition::{Binding, Policy, Validations};
use super::verdict::{Denial, verdict};
use super::{params, status};
use crate::admission::access::Access;
use crate::admission::criteria::{Candidate, Equivalents, Matched};
use crate::admission::dynamic::{Admitted, Dynamic, Validation};
use crate::admission::expression::{Facts, namespace_object};
use crate::admission::source::Source;
use crate::admission::{Request, is_exempt, not_ready, webhook};
use crate::authz::Authorizer;
use crate::lookup::Lookup;
use crate::server::Server;

pub struct Validating {
    policies: Arc<Source<Policy<Validations>>>,
    bindings: Arc<Source<Binding>>,
    authorizer: Authorizer,
}

impl Validating {
    pub fn new(authorizer: Authorizer) -> Self {
        Self { policies: Arc::default(), bindings: Arc::default(), authorizer }
    }
}

impl Dynamic for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn start(self: Arc<Self>, server: &Arc<Server>) {
        self.policies.follow(server, "validatingadmissionpolicies", Policy::validating);
        self.bindings.follow(server, "validatingadmissionpolicybindings", Binding::compile);
        status::start(server);
    }

    fn concerns(&self, request: &Request<'_>) -> bool {
        !self.policies.is_empty() && !self.bindings.is_empty() && !is_exempt(request)
    }

    fn validate<'a>(&'a self, validation: &'a Validation<'_>) -> Admitted<'a> {
        self.dispatch(validation).boxed()
    }
}

/// A policy's refusal, with the binding that made it one.
#[derive(Debug, PartialEq)]
struct Refusal {
    policy: String,
    binding: Option<String>,
    message: String,
    /// Empty is Invalid.
    reason: String,
}

impl Validating {
    async fn dispatch(&self, validation: &Validation<'_>) -> Result<(), Status> {
        let (Some(policies), Some(bindings)) = (self.policies.get().await, self.bindings.get().await) else {
            return Err(not_ready(validation.request));
        };
        let mut refusals = Vec::new();
        let equivalents = Equivalents::default();
        for policy in policies.iter() {
            let bound: Vec<&Binding> =
                bindings.iter().filter(|binding| binding.policy == policy.name).map(AsRef::as_ref).collect();
            if !bound.is_empty() {
                self.ask(policy, &bound, validation, &equivalents, &mut refusals).await?;
            }
        }
        match refusals.into_iter().next() {
            Some(first) => Err(refuse(validation.request, &first)),
            None => Ok(()),
        }
    }

    /// One policy, with all its bindings.
    async fn ask(
        &self,
        policy: &Policy<Validations>,
        bindings: &[&Binding],
        validation: &Validation<'_>,
        equivalents: &Equivalents,
        refusals: &mut Vec<Refusal>,
    ) -> Result<(), Status> {
        let Validation { request, object, old, registry } = *validation;
        let candidate = Candidate::new(request, object, old, registry, equivalents);
        let mut misconfigured = |binding: Option<&Binding>, why: String| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            if !policy.failures_ignored {
                refusals.push(Refusal {
                    policy: policy.name.clone(),
                    binding: binding.map(|binding| binding.name.clone()),
                    message: format!("failed to configure {what}: {why}"),
                    reason: String::new(),
                });
            }
        };
        let matched = match policy.criteria.matches(&candidate) {
            Ok(Some(matched)) => matched,
            Ok(None) => return Ok(()),
            Err(status) => {
                misconfigured(None, status.to_string());
                return Ok(());
            }
        };
        let mut work = Vec::new();
        for binding in bindings {
            match binding.criteria.as_ref().map_or(Ok(true), |criteria| criteria.matches(&candidate).map(|m| m.is_some())) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(status) => {
                    misconfigured(Some(binding), status.to_string());
                    continue;
                }
            }
            let namespace = request.rule_namespace(object);
            match params::collect(registry, policy.params.as_ref(), binding.params.as_ref(), namespace).await {
                Ok(params) => work.push((*binding, params)),
                Err(why) => misconfigured(Some(binding), why),
            }
        }
        if work.is_empty() {
            return Ok(());
        }
        let shown = Shown::of(validation, &matched, object).await?;
        let access = Access::new(&self.authorizer, request);
        let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (binding, params) in &work {
            for params in params {
                let verdict = verdict(policy, &shown.facts(params, &access));
                verdict.denials.iter().for_each(|denial| act(request, policy, binding, denial, refusals));
                for message in verdict.annotation_errors {
                    let (policy, binding) = (policy.name.clone(), Some(binding.name.clone()));
                    refusals.push(Refusal { policy, binding, message, reason: String::new() });
                }
                for (key, value) in verdict.annotations {
                    let values = annotations.entry(key).or_default();
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
            }
        }
        for (key, values) in annotations {
            request.cx.annotate(format!("{}/{key}", policy.name), values.join(", "));
        }
        Ok(())
    }
}

/// What expressions see of a request.
pub(super) struct Shown {
    pub(super) object: Value,
    old: Value,
    request: Value,
    namespace: Value,
}

impl Shown {
    pub(super) async fn of(validation: &Validation<'_>, matched: &Matched, object: &Value) -> Result<Self, Status> {
        let Validation { request, old, registry, .. } = *validation;
        let is_namespace = request.resource.group.is_empty() && request.resource.resource == "namespaces";
        let namespace = match request.namespace {
            "" => None,
            _ if is_namespace => None,
            name => {
                let namespace = registry.object("", "namespaces", "", name);
                Some(namespace.ok_or_else(|| Status::not_found("namespaces", name))?)
            }
        };
        let mut attributes = webhook::attributes("", request, matched, object);
        attributes.remove("uid");
        Ok(Self {
            object: matched.show(registry, object).await?,
            old: matched.show_old(registry, old).await?,
            request: Value::Object(attributes),
            namespace: namespace_object(namespace.as_ref()),
        })
    }

    pub(super) fn facts<'f>(&'f self, params: &'f Value, access: &'f Access<'f>) -> Facts<'f> {
        Facts {
            object: &self.object,
            old: &self.old,
            request: &self.request,
            namespace: &self.namespace,
            params,
            access: Some(access),
        }
    }
}

/// Does with a denial what the binding says.
fn act(request: &Request<'_>, policy: &Policy<Validations>, binding: &Binding, denial: &Denial, refusals: &mut Vec<Refusal>) {
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => refusals.push(Refusal {
                policy: policy.name.clone(),
                binding: Some(binding.name.clone()),
                message: denial.message.clone(),
                reason: denial.reason.clone(),
            }),
            "Warn" => request.cx.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                policy.name, binding.name, denial.message
            )),
            "Audit" => {
                let value = json!([{"message": denial.message, "policy": policy.name, "binding": binding.name,
                    "expressionIndex": denial.index, "validationActions": binding.actions}]);
                request.cx.annotate("validation.policy.admission.k8s.io/validation_failure", value.to_string());
            }
            _ => {}
        }
    }
}

fn refuse(request: &Request<'_>, refusal: &Refusal) -> Status {
    let Refusal { policy, binding, message, reason } = refusal;
    let message = match binding {
        Some(binding) => format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}"),
        None => format!("ValidatingAdmissionPolicy '{policy}' denied request: {message}"),
    };
    let mut status = request.forbidden(&message);
    let (reason, code) = match reason.as_str() {
        "Forbidden" => (Reason::Forbidden, 403),
        "Unauthorized" => (Reason::Unauthorized, 401),
        "RequestEntityTooLarge" => (Reason::RequestEntityTooLarge, 413),
        "" | "Invalid" => (Reason::Invalid, 422),
        other => (Reason::from(other.to_owned()), 422),
    };
    status.reason = reason;
    status.code = code;
    status.with_cause(Cause { message, ..Cause::default() })
}
