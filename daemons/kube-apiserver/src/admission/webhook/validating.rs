//! ValidatingAdmissionWebhook: all webhooks at once, over the object as it would be stored.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures::FutureExt;
use futures::future::join_all;
use machinery::status::Status;
use serde_json::Value;

use super::call::{call, measure};
use super::conditions_hold;
use super::configuration::{Configuration, Hook};
use crate::admission::criteria::{Candidate, Equivalents, Matched};
use crate::admission::dynamic::{Admitted, Dynamic, Validation};
use crate::admission::source::Source;
use crate::admission::{Request, is_exempt, not_ready};
use crate::authz::Authorizer;
use crate::server::Server;
use crate::webhook::Client;

pub struct Validating {
    source: Arc<Source<Configuration>>,
    client: OnceLock<Client>,
    authorizer: Authorizer,
}

impl Validating {
    pub fn new(authorizer: Authorizer) -> Self {
        Self { source: Arc::default(), client: OnceLock::new(), authorizer }
    }
}

impl Dynamic for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn start(self: Arc<Self>, server: &Arc<Server>) {
        let _ = self.client.set(Client::new(server.registry.clone()));
        self.source.follow(server, "validatingwebhookconfigurations", Configuration::compile);
    }

    fn concerns(&self, request: &Request<'_>) -> bool {
        !self.source.is_empty() && !is_exempt(request)
    }

    fn validate<'a>(&'a self, validation: &'a Validation<'_>) -> Admitted<'a> {
        self.dispatch(validation).boxed()
    }
}

struct Invocation<'i> {
    hook: &'i Hook,
    matched: Matched,
    objects: (Value, Value),
}

impl Validating {
    async fn dispatch(&self, validation: &Validation<'_>) -> Result<(), Status> {
        let (Some(configurations), Some(client)) = (self.source.get().await, self.client.get()) else {
            return Err(not_ready(validation.request));
        };
        let Validation { request, object, old, registry } = *validation;
        let equivalents = Equivalents::default();
        let candidate = Candidate::new(request, object, old, registry, &equivalents);
        let mut invocations = Vec::new();
        for hook in configurations.iter().flat_map(|configuration| &configuration.hooks) {
            let Some(matched) = hook.criteria.matches(&candidate)? else { continue };
            let objects = (matched.show(registry, object).await?, matched.show_old(registry, old).await?);
            if conditions_hold(hook, &self.authorizer, request, &matched, &objects.0, &objects.1)? {
                invocations.push(Invocation { hook, matched, objects });
            }
        }
        let calls = invocations.into_iter().enumerate().map(|(index, invocation)| async move {
            let Invocation { hook, matched, objects } = invocation;
            let uid = registry.new_uid();
            let began = Instant::now();
            let result = call(client, hook, request, &matched, &uid, objects, false).await;
            measure(hook, "validating", request, began, &result);
            let Err(failure) = result else { return Ok(()) };
            match failure.status(hook) {
                Some(status) => Err(status),
                None => {
                    let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                    request.cx.annotate(key, hook.name.clone());
                    Ok(())
                }
            }
        });
        join_all(calls).await.into_iter().collect()
    }
}
