//! ResourceQuota: what is written is charged to the quotas of its namespace, and refused where it does not fit.
//!
//! The amounts are counted by `machinery::quota`; here they are written: each quota's `status.used` is replaced only if it
//! is still what was looked at, so that several API servers cannot spend the same amount twice.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use ::store::{Entry, StoreError};
use machinery::meta;
use machinery::quota::{self, Evaluator, IGNORED, Limited, Subject, limited};
use machinery::status::Status;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::dynamic::{Admitted, Dynamic, Validation};
use super::{Operation, Request};
use crate::registry::Served;
use crate::registry::store::EntryExt;

/// How often a charge is tried again after somebody else's.
const RETRIES: usize = 3;
/// Namespaces share these locks: enough that two busy ones seldom wait for each other.
const TURNS: usize = 64;

pub(super) struct ResourceQuota {
    /// Charges of one server to one namespace come one after another, so that they need no retries.
    turns: Vec<Mutex<()>>,
    /// What may only be taken where a quota covers it.
    limited: Vec<Limited>,
}

impl ResourceQuota {
    /// An `apiserver.config.k8s.io/v1` ResourceQuotaConfiguration.
    pub(super) fn configured(configuration: &Value) -> Self {
        Self { turns: (0..TURNS).map(|_| Mutex::default()).collect(), limited: Limited::of_configuration(configuration) }
    }
}

impl Dynamic for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn concerns(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && !request.namespace.is_empty()
            && !IGNORED.contains(&(request.resource.group.as_str(), request.resource.resource.as_str()))
    }

    fn validate<'a>(&'a self, validation: &'a Validation<'_>) -> Admitted<'a> {
        Box::pin(self.admit(validation))
    }
}

impl ResourceQuota {
    async fn turn(&self, namespace: &str) -> MutexGuard<'_, ()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(namespace);
        // The remainder of a division by the length is an index.
        self.turns[usize::try_from(hash % TURNS as u64).unwrap_or(0)].lock().await
    }

    async fn admit(&self, validation: &Validation<'_>) -> Result<(), Status> {
        let Validation { request, object, old, registry } = validation;
        let Some(evaluator) = Evaluator::of(&request.resource.group, &request.resource.resource) else { return Ok(()) };
        if !evaluator.handles(request.subresource, object, *old) {
            return Ok(());
        }
        let quotas = registry.stored("", "resourcequotas").ok_or_else(|| Status::internal("quotas are not served"))?;
        let is_empty = quotas.store.recent().await?.scan(&quotas.store.prefix(request.namespace), None).next().is_none();
        if is_empty && self.limited.is_empty() {
            return Ok(());
        }
        // Of a name that is taken nothing will be stored.
        let kind = registry.stored(&request.resource.group, &request.resource.resource);
        if old.is_none() && kind.is_some_and(|kind| kind.store.get_now(request.namespace, request.name).is_some()) {
            return Ok(());
        }
        let _turn = self.turn(request.namespace).await;
        let subject = Subject { subresource: request.subresource, new: object, old: *old, now: request.cx.now };
        if !self.limited.is_empty() {
            let (snapshot, prefix) = (quotas.store.recent().await?, quotas.store.prefix(request.namespace));
            let here = snapshot.scan(&prefix, None).filter_map(EntryExt::value);
            let (group, resource) = (request.resource.group.as_str(), request.resource.resource.as_str());
            limited::check(&self.limited, &here.collect::<Vec<_>>(), &evaluator, (group, resource), subject)
                .map_err(|why| request.forbidden(why))?;
        }
        charge(request, &quotas, &evaluator, subject).await
    }
}

/// Charges all quotas; those that somebody else wrote meanwhile are charged again as they are now.
async fn charge(request: &Request<'_>, served: &Arc<Served>, evaluator: &Evaluator, subject: Subject<'_>) -> Result<(), Status> {
    let mut only: Option<BTreeSet<String>> = None;
    for attempt in 0..=RETRIES {
        let snapshot = if attempt == 0 { served.store.recent().await? } else { served.store.consistent().await? };
        let (entries, values): (Vec<Entry>, Vec<Value>) = snapshot
            .scan(&served.store.prefix(request.namespace), None)
            .filter_map(|entry| Some((entry.clone(), entry.value()?)))
            .filter(|(_, value)| only.as_ref().is_none_or(|names| names.contains(meta::name(value))))
            .unzip();
        let charges = quota::charge(&values, evaluator, subject).map_err(|denied| request.forbidden(denied))?;
        if request.dry_run {
            return Ok(());
        }
        let mut moved = BTreeSet::new();
        for charge in charges {
            let mut value = values[charge.quota].clone();
            let name = meta::name(&value).to_owned();
            meta::set_path(&mut value, &["status", "used"], quota::to_value(&charge.used));
            match served.store.update(request.namespace, &name, &value, entries[charge.quota].revision()).await {
                Ok(_) => {}
                Err(StoreError::Conflict { .. } | StoreError::NotFound) => _ = moved.insert(name),
                Err(error) => return Err(served.store.error(error, &name)),
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        only = Some(moved);
    }
    let names = only.unwrap_or_default();
    Err(Status::modified(served.group_resource(), names.first().map_or("", String::as_str)))
}
