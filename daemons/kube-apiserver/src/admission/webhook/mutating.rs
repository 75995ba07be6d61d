//! MutatingAdmissionWebhook: the webhooks in order, each sees what those before it made of the object.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures::FutureExt;
use machinery::status::Status;
use serde_json::{Value, json};

use super::call::{Failure, call, measure};
use super::conditions_hold;
use super::configuration::{Configuration, Hook};
use super::patched::{PatchFailure, patched};
use crate::admission::criteria::{Candidate, Equivalents, Matched};
use crate::admission::dynamic::{Admitted, Dynamic, Mutation};
use crate::admission::source::Source;
use crate::admission::{Request, is_exempt, not_ready};
use crate::authz::Authorizer;
use crate::server::Server;
use crate::webhook::Client;

const NAME: &str = "MutatingAdmissionWebhook";

pub struct Mutating {
    source: Arc<Source<Configuration>>,
    client: OnceLock<Client>,
    authorizer: Authorizer,
}

impl Mutating {
    pub fn new(authorizer: Authorizer) -> Self {
        Self { source: Arc::default(), client: OnceLock::new(), authorizer }
    }
}

impl Dynamic for Mutating {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(self: Arc<Self>, server: &Arc<Server>) {
        let _ = self.client.set(Client::new(server.registry.clone()));
        self.source.follow(server, "mutatingwebhookconfigurations", Configuration::compile);
    }

    fn concerns(&self, request: &Request<'_>) -> bool {
        !self.source.is_empty() && !is_exempt(request)
    }

    fn mutate<'a>(&'a self, mutation: &'a mut Mutation<'_>) -> Admitted<'a> {
        self.dispatch(mutation).boxed()
    }
}

impl Mutating {
    async fn dispatch(&self, mutation: &mut Mutation<'_>) -> Result<(), Status> {
        let (Some(configurations), Some(client)) = (self.source.get().await, self.client.get()) else {
            return Err(not_ready(mutation.request));
        };
        if mutation.reinvocation.again {
            mutation.reinvocation.invoked.entry(NAME).or_default().begin_again(mutation.object);
        }
        let equivalents = Equivalents::default();
        for (index, hook) in configurations.iter().flat_map(|configuration| &configuration.hooks).enumerate() {
            self.turn(client, hook, index, mutation, &equivalents).await?;
        }
        mutation.reinvocation.invoked.entry(NAME).or_default().end(mutation.object);
        Ok(())
    }

    /// One webhook's turn, if the request is its business.
    async fn turn(
        &self,
        client: &Client,
        hook: &Hook,
        index: usize,
        mutation: &mut Mutation<'_>,
        equivalents: &Equivalents,
    ) -> Result<(), Status> {
        let request = mutation.request;
        let candidate = Candidate::new(request, mutation.object, mutation.old, mutation.registry, equivalents);
        let Some(matched) = hook.criteria.matches(&candidate)? else { return Ok(()) };
        let again = mutation.reinvocation.again;
        if again && !mutation.reinvocation.invoked.entry(NAME).or_default().is_due(&hook.id) {
            return Ok(());
        }
        let shown = matched.show(mutation.registry, mutation.object).await?;
        let old = matched.show_old(mutation.registry, mutation.old).await?;
        if !conditions_hold(hook, &self.authorizer, request, &matched, &shown, &old)? {
            return Ok(());
        }
        let began = Instant::now();
        let result = self.ask(client, hook, mutation, &matched, shown, old).await;
        measure(hook, "admit", request, began, &result);
        let changed = matches!(result, Ok(true));
        let noted = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
        let place = format!("round_{}_index_{index}", u8::from(again));
        request.cx.annotate(format!("mutation.webhook.admission.k8s.io/{place}"), noted.to_string());
        let invoked = mutation.reinvocation.invoked.entry(NAME).or_default();
        if changed {
            invoked.changed();
            mutation.reinvocation.wanted = true;
        }
        if hook.reinvocable {
            invoked.called(&hook.id);
        }
        let Err(failure) = result else { return Ok(()) };
        match failure.status(hook) {
            Some(status) => Err(status),
            None => {
                request.cx.annotate(format!("failed-open.mutation.webhook.admission.k8s.io/{place}"), hook.name.clone());
                Ok(())
            }
        }
    }

    /// Asks the webhook and takes its patch. Whether the object changed.
    async fn ask(
        &self,
        client: &Client,
        hook: &Hook,
        mutation: &mut Mutation<'_>,
        matched: &Matched,
        shown: Value,
        old: Value,
    ) -> Result<bool, Failure> {
        let request = mutation.request;
        let uid = mutation.registry.new_uid();
        let answer = call(client, hook, request, matched, &uid, (shown.clone(), old), true).await?;
        let Some(operations) = answer.patch else { return Ok(false) };
        let resource = &matched.resource;
        let fatal = |why: String| Failure::Fatal(Box::new(Status::internal(why)));
        let served = mutation.registry.served(&resource.group, &resource.version, &resource.resource);
        let served = served.ok_or_else(|| fatal(format!("unable to convert to {}: unknown kind", resource.resource)))?;
        let new = patched(&operations, &shown, &served, request.own_kind.is_some()).map_err(|failure| match failure {
            PatchFailure::Undecodable(why) => Failure::Calling(format!("received undecodable patch in webhook response: {why}")),
            PatchFailure::NoObject => fatal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            )),
            PatchFailure::Unfit(why) => fatal(why),
        })?;
        if new == shown {
            return Ok(false);
        }
        let taken = matched.take_back(mutation.registry, request, new).await;
        *mutation.object = taken.map_err(|status| Failure::Fatal(Box::new(status)))?;
        Ok(true)
    }
}
