//! Create.

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::store::EntryExt;
use super::traits::NameRule;
use super::update::{Made, Written};
use super::{Context, Registry, Served, managers, metadata};
use crate::admission::{Operation, Request};

/// How often a generated name that is taken is replaced by another.
const NAME_ATTEMPTS: usize = 8;

impl Registry {
    /// Stores a new object, or says what it would be when this is a dry run. `name` is empty unless the path has it.
    pub async fn create(
        &self,
        cx: &Context,
        served: &Served,
        namespace: &str,
        name: &str,
        object: Value,
    ) -> Result<Written, Status> {
        self.create_made(cx, served, namespace, name, Made { object, managed: false }).await
    }

    /// The same, for an object whose managers may be known already.
    pub(super) async fn create_made(
        &self,
        cx: &Context,
        served: &Served,
        namespace: &str,
        name: &str,
        made: Made,
    ) -> Result<Written, Status> {
        let object = &made.object;
        if served.custom().is_some_and(crate::custom::CustomType::is_terminating) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::forbidden(served.group_resource(), meta::name(object), why));
        }
        if !meta::text(object, &["metadata", "resourceVersion"]).trim_start_matches('0').is_empty() {
            return Err(Status::unexpected("resourceVersion should not be set on objects to be created"));
        }
        if meta::name(object).is_empty() && name.is_empty() {
            return self.create_generated(cx, served, namespace, made).await;
        }
        let wanted = if name.is_empty() { meta::name(object) } else { name }.to_owned();
        let result = self.try_create(cx, served, namespace, name, made).await;
        result.map_err(|mut status| {
            let there = (status.code() == 409).then(|| served.store.get_now(namespace, &wanted)?.value()).flatten();
            if there.is_some_and(|there| meta::deletion_timestamp(&there).is_some()) {
                status.message = format!("object is being deleted: {}", status.message);
            }
            status
        })
    }

    /// Makes up names until one is free.
    async fn create_generated(&self, cx: &Context, served: &Served, namespace: &str, made: Made) -> Result<Written, Status> {
        for _ in 0..NAME_ATTEMPTS {
            match self.try_create(cx, served, namespace, "", made.clone()).await {
                Err(status) if status.code() == 409 => {}
                result => return result,
            }
        }
        Err(Status::generate_name_conflict(served.group_resource(), meta::generate_name(&made.object), 1))
    }

    async fn try_create(
        &self,
        cx: &Context,
        served: &Served,
        namespace: &str,
        name: &str,
        made: Made,
    ) -> Result<Written, Status> {
        let Made { mut object, managed } = made;
        metadata::set_namespace(&mut object, namespace)?;
        if !name.is_empty() {
            metadata::set_name(&mut object, name)?;
        }
        metadata::fill(&mut object, self.new_uid(), cx.now, self.random());
        served.default(&mut object);
        if !managed {
            // Before admission: what plugins add belongs to nobody.
            object = managers::update(served, None, object, &cx.options.field_manager, "", cx.now).await?;
        }
        let given = meta::name(&object).to_owned();
        let request = Request::new(cx, served, Operation::Create, "", namespace, &given);
        self.admission.mutate(&request, &mut object, None).await?;
        served.default(&mut object);
        served.strategy.prepare_for_create(&mut object);
        served.strategy.set_creator(&mut object, &cx.user);
        // Numbers are held by keys of the store, not by a lock: a webhook that is asked below may write Services itself.
        let held = self.hooks.before_create(self, cx, served, &mut object).await?;
        let stored = self.store_new(cx, served, namespace, &request, object).await;
        self.hooks.settle(self, held, stored.is_ok()).await;
        stored
    }

    /// Checks the completed object a last time, and stores it.
    async fn store_new(
        &self,
        cx: &Context,
        served: &Served,
        namespace: &str,
        request: &Request<'_>,
        mut object: Value,
    ) -> Result<Written, Status> {
        let mut errors = metadata::validate(&object, served.resource.namespaced, NameRule::of(&served.group_resource()));
        errors.extend(served.metadata_errors(&object));
        errors.extend(served.strategy.validate_create(&object));
        errors.extend(served.schema_errors(cx, &object, None, ""));
        if !errors.is_empty() {
            return Err(Status::invalid(served.group_kind(), meta::name(&object), errors));
        }
        served.strategy.warnings(&object).into_iter().for_each(|warning| cx.warn(warning));
        self.admission.validate(request, &object, None).await?;
        if cx.options.dry_run {
            let name = meta::name(&object);
            if served.store.consistent().await?.get(&served.store.key(namespace, name)).is_some() {
                return Err(Status::already_exists(served.group_resource(), name));
            }
            return Ok(Written { object, entry: None, created: true, deleted: false });
        }
        let stored = served.store.create(namespace, meta::name(&object), &*served.to_storage(&object).await?).await?;
        meta::metadata_mut(&mut object).insert("resourceVersion".to_owned(), stored.revision.to_string().into());
        Ok(Written { object, entry: served.answer_of(stored), created: true, deleted: false })
    }
}
