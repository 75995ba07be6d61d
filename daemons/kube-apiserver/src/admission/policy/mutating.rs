//! MutatingAdmissionPolicy: every policy that is bound, each sees what those before it made of the object.

use std::sync::Arc;

use futures::FutureExt;
use machinery::status::{Cause, Reason, Status};
use serde_json::Value;

use super::definition::{Binding, Mutations, Policy};
use super::mutation::{key, mutated};
use super::params;
use super::validating::Shown;
use crate::admission::access::Access;
use crate::admission::criteria::{Candidate, Equivalents, Matched};
use crate::admission::dynamic::{Admitted, Dynamic, Mutation, Validation};
use crate::admission::source::Source;
use crate::admission::webhook::{PatchFailure, settle};
use crate::admission::{Request, is_exempt, not_ready};
use crate::authz::Authorizer;
use crate::server::Server;

const NAME: &str = "MutatingAdmissionPolicy";

pub struct Mutating {
    policies: Arc<Source<Policy<Mutations>>>,
    bindings: Arc<Source<Binding>>,
    authorizer: Authorizer,
}

impl Mutating {
    pub fn new(authorizer: Authorizer) -> Self {
        Self { policies: Arc::default(), bindings: Arc::default(), authorizer }
    }
}

impl Dynamic for Mutating {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(self: Arc<Self>, server: &Arc<Server>) {
        self.policies.follow(server, "mutatingadmissionpolicies", Policy::mutating);
        self.bindings.follow(server, "mutatingadmissionpolicybindings", Binding::compile);
    }

    fn concerns(&self, request: &Request<'_>) -> bool {
        !self.policies.is_empty() && !self.bindings.is_empty() && !is_exempt(request)
    }

    fn mutate<'a>(&'a self, mutation: &'a mut Mutation<'_>) -> Admitted<'a> {
        self.dispatch(mutation).boxed()
    }
}

/// A policy with a binding and a parameter that are about the request.
struct Invocation<'i> {
    policy: &'i Policy<Mutations>,
    binding: &'i Binding,
    matched: Matched,
    params: Value,
}

/// Why a policy refuses the request, as upstream words it.
fn refusal(policy: &str, binding: Option<&str>, why: &str) -> String {
    match binding {
        Some(binding) => format!("policy '{policy}' with binding '{binding}' denied request: {why}"),
        None => format!("policy {policy:?} denied request: {why}"),
    }
}

impl Mutating {
    async fn dispatch(&self, mutation: &mut Mutation<'_>) -> Result<(), Status> {
        let (Some(policies), Some(bindings)) = (self.policies.get().await, self.bindings.get().await) else {
            return Err(not_ready(mutation.request));
        };
        let mut refusals = Vec::new();
        let mut invocations = Vec::new();
        for policy in policies.iter() {
            let bound = bindings.iter().filter(|binding| binding.policy == policy.name).map(AsRef::as_ref).collect();
            select(policy, bound, mutation, &mut invocations, &mut refusals).await;
        }
        if mutation.reinvocation.again {
            mutation.reinvocation.invoked.entry(NAME).or_default().begin_again(mutation.object);
        }
        for invocation in &invocations {
            self.invoke(invocation, mutation, &mut refusals).await?;
        }
        mutation.reinvocation.invoked.entry(NAME).or_default().end(mutation.object);
        refuse(mutation.request, refusals)
    }

    async fn invoke(
        &self,
        invocation: &Invocation<'_>,
        mutation: &mut Mutation<'_>,
        refusals: &mut Vec<Refused>,
    ) -> Result<(), Status> {
        let Invocation { policy, binding, matched, params } = invocation;
        let request = mutation.request;
        let mut refuse = |why: &str| {
            if !policy.failures_ignored {
                refusals.push(Refused { message: refusal(&policy.name, Some(&binding.name), why), invalid: true });
            }
        };
        let access = Access::new(&self.authorizer, request);
        let seen = Validation { request, object: mutation.object, old: mutation.old, registry: mutation.registry };
        let mut shown = Shown::of(&seen, matched, mutation.object).await?;
        match policy.conditions.hold(&shown.facts(params, &access).bindings()) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(why) => {
                refuse(&why);
                return Ok(());
            }
        }
        let id = key(&policy.name, &binding.name, params);
        let invoked = mutation.reinvocation.invoked.entry(NAME).or_default();
        if (mutation.reinvocation.again && !invoked.is_due(&id)) || !shown.object.is_object() {
            return Ok(());
        }
        let resource = &matched.resource;
        let served = mutation.registry.served(&resource.group, &resource.version, &resource.resource);
        let served = served.ok_or_else(|| Status::unavailable(format!("Resource kind {} not found.", matched.kind)))?;
        let own_kind = request.own_kind.is_some();
        let ty = match request.own_kind {
            Some((api_version, kind)) => schema::builtin().type_of_api_version(api_version, kind),
            None => served.type_ref(),
        };
        let before = shown.object.clone();
        for step in &policy.body.steps {
            match mutated(step, &shown.facts(params, &access), &policy.variables, ty) {
                Ok(mut new) => {
                    settle(&mut new, &shown.object, &served, own_kind).map_err(unfit)?;
                    shown.object = new;
                }
                Err(why) => refuse(&why),
            }
        }
        if shown.object != before {
            invoked.changed();
            mutation.reinvocation.wanted = true;
            *mutation.object = matched.take_back(mutation.registry, request, shown.object).await?;
        }
        if policy.body.reinvocable {
            invoked.called(&id);
        }
        Ok(())
    }
}

/// What of a policy is about the request.
async fn select<'i>(
    policy: &'i Policy<Mutations>,
    bindings: Vec<&'i Binding>,
    mutation: &Mutation<'_>,
    invocations: &mut Vec<Invocation<'i>>,
    refusals: &mut Vec<Refused>,
) {
    if bindings.is_empty() {
        return;
    }
    let Mutation { request, object, old, registry, .. } = mutation;
    let equivalents = Equivalents::default();
    let candidate = Candidate::new(request, object, *old, registry, &equivalents);
    let mut misconfigured = |binding: Option<&Binding>, why: &str| {
        let what = if binding.is_some() { "binding" } else { "policy" };
        let why = format!("failed to configure {what}: {why}");
        if !policy.failures_ignored {
            let message = refusal(&policy.name, binding.map(|binding| binding.name.as_str()), &why);
            refusals.push(Refused { message, invalid: false });
        }
    };
    let matched = match policy.criteria.matches(&candidate) {
        Ok(Some(matched)) => matched,
        Ok(None) => return,
        Err(status) => return misconfigured(None, &status.message),
    };
    for binding in bindings {
        match binding.criteria.as_ref().map_or(Ok(true), |criteria| criteria.matches(&candidate).map(|m| m.is_some())) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(status) => {
                misconfigured(Some(binding), &status.message);
                continue;
            }
        }
        let namespace = request.rule_namespace(object);
        match params::collect(registry, policy.params.as_ref(), binding.params.as_ref(), namespace).await {
            Ok(all) => {
                let matched = matched.clone();
                invocations.extend(all.into_iter().map(|params| Invocation {
                    policy,
                    binding,
                    matched: matched.clone(),
                    params,
                }));
            }
            Err(why) => misconfigured(Some(binding), &why),
        }
    }
}

#[derive(Debug)]
struct Refused {
    message: String,
    /// The reason of the answer; else it stays Forbidden.
    invalid: bool,
}

fn refuse(request: &Request<'_>, refusals: Vec<Refused>) -> Result<(), Status> {
    let Some(first) = refusals.first() else { return Ok(()) };
    let mut status = request.forbidden("admission request denied by policy");
    status.message.clone_from(&first.message);
    if first.invalid {
        status.reason = Reason::Invalid;
    }
    for refused in refusals {
        status = status.with_cause(Cause { message: refused.message, ..Cause::default() });
    }
    Err(status)
}

fn unfit(failure: PatchFailure) -> Status {
    match failure {
        PatchFailure::Undecodable(why) | PatchFailure::Unfit(why) => Status::internal(why),
        PatchFailure::NoObject => Status::internal("there is no object to change"),
    }
}
