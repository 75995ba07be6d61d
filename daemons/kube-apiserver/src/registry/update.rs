//! Update, and the one way every change of a stored object takes: read, change, check, write if nothing came between.

use ::store::{Entry, StoreError};
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::store::Stored;
use super::{Context, Registry, Served, TypeSource, managers, metadata, traits};
use crate::admission::{Operation, Request};
use crate::service_ip::Held;
use crate::subresources::scale;

/// How often a change is tried again on an object that moved on meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// What a change became.
#[derive(Debug)]
pub struct Written {
    pub object: Value,
    /// The same as memory has it, with bytes that can be sent.
    pub entry: Option<Entry>,
    pub created: bool,
    /// The change took away the last reason to keep the object.
    pub deleted: bool,
}

/// Where a change goes.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub served: &'a Served,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
}

/// What a client wants to make of an object, and whose change it is in managedFields.
#[derive(Clone)]
pub enum Changed {
    /// The new object, whose fields the request's manager takes over where they differ.
    Object(Value),
    /// What the manager applies.
    Applied(Value),
}

/// The new object.
#[derive(Clone)]
pub(super) struct Made {
    pub object: Value,
    /// Its managedFields are worked out already.
    pub managed: bool,
}

/// Makes the new object of the old one (none: it does not exist). Called again when the object moved on meanwhile.
pub type Change<'c> = dyn Fn(Option<&Value>) -> Result<Changed, Status> + Send + Sync + 'c;

impl Registry {
    /// Replaces an object by the one in the request.
    pub async fn update(&self, cx: &Context, target: Target<'_>, object: Value) -> Result<Written, Status> {
        let change = move |_old: Option<&Value>| Ok(Changed::Object(object.clone()));
        self.modify(cx, target, &change, false).await
    }

    /// Applies a change. `create` allows it to make the object where the resource alone would not.
    pub async fn modify(&self, cx: &Context, target: Target<'_>, change: &Change<'_>, create: bool) -> Result<Written, Status> {
        let Target { served, namespace, name, .. } = target;
        let mut snapshot = served.store.recent().await?;
        let key = served.store.key(namespace, name);
        for _ in 0..ATTEMPTS_MAX {
            let entry = snapshot.get(&key).cloned();
            let attempt = match &entry {
                Some(entry) => self.try_modify(cx, target, entry, change).await,
                None if create || traits::creates_on_update(&served.group_resource()) => {
                    // Memory may be behind the store: look again before anything is made.
                    snapshot = served.store.consistent().await?;
                    if snapshot.get(&key).is_some() {
                        continue;
                    }
                    Attempt::Done(self.create_by_update(cx, target, change).await)
                }
                None => {
                    snapshot = served.store.consistent().await?;
                    if snapshot.get(&key).is_some() {
                        continue;
                    }
                    return Err(served.not_found(name));
                }
            };
            match attempt {
                Attempt::Done(result) => return result,
                Attempt::Moved => snapshot = served.store.consistent().await?,
                // What the client asked may fit the newest state.
                Attempt::Stale(status) => {
                    let newer = served.store.consistent().await?;
                    if newer.get(&key).map(Entry::revision) == entry.as_ref().map(Entry::revision) {
                        return Err(status);
                    }
                    snapshot = newer;
                }
            }
        }
        Err(Status::modified(served.group_resource(), name))
    }

    async fn create_by_update(&self, cx: &Context, target: Target<'_>, change: &Change<'_>) -> Result<Written, Status> {
        let Target { served, namespace, name, subresource } = target;
        if !subresource.is_empty() {
            return Err(served.not_found(name));
        }
        let mut made = self.made(cx, target, None, change(None)?).await?;
        meta::metadata_mut(&mut made.object).remove("resourceVersion");
        self.create_made(cx, served, namespace, name, made).await
    }

    async fn try_modify(&self, cx: &Context, target: Target<'_>, entry: &Entry, change: &Change<'_>) -> Attempt {
        let Target { served, .. } = target;
        let old = match served.object(entry).await {
            Ok(old) => old,
            Err(status) => return Attempt::Done(Err(status)),
        };
        let mut held = Held::default();
        let attempt = match self.changed(cx, target, &old, change, &mut held).await {
            Ok(new) => self.write_changed(cx, target, entry, old, new).await,
            Err(status) => Attempt::Stale(status),
        };
        self.hooks.settle(self, held, matches!(attempt, Attempt::Done(Ok(_)))).await;
        if let Attempt::Done(Ok(Written { object, deleted: true, .. })) = &attempt
            && !cx.options.dry_run
        {
            self.hooks.after_delete(self, served, object).await;
        }
        attempt
    }

    /// Stores the new object, unless it says nothing new.
    async fn write_changed(&self, cx: &Context, target: Target<'_>, entry: &Entry, old: Value, new: Value) -> Attempt {
        let Target { served, namespace, name, subresource } = target;
        if same_content(&new, &old) {
            match is_stale(served, entry, &old).await {
                Ok(true) => {}
                Ok(false) => return Attempt::Done(Ok(Written { object: old, entry: None, created: false, deleted: false })),
                Err(status) => return Attempt::Done(Err(status)),
            }
        }
        let deleted = subresource != "ephemeralcontainers" && is_finished(&new, &old);
        if cx.options.dry_run {
            return Attempt::Done(Ok(Written { object: new, entry: None, created: false, deleted }));
        }
        let result = if deleted {
            served.store.delete(namespace, name, entry.revision()).await.map(|revision| Stored { revision, entry: None })
        } else {
            match served.to_storage(&new).await {
                Ok(stored) => served.store.update(namespace, name, &stored, entry.revision()).await,
                Err(status) => return Attempt::Done(Err(status)),
            }
        };
        match result {
            Ok(stored) => {
                let mut object = new;
                meta::metadata_mut(&mut object).insert("resourceVersion".to_owned(), stored.revision.to_string().into());
                Attempt::Done(Ok(Written { object, entry: served.answer_of(stored), created: false, deleted }))
            }
            Err(StoreError::Conflict { .. } | StoreError::NotFound) => Attempt::Moved,
            Err(error) => Attempt::Done(Err(served.store.error(error, name))),
        }
    }

    /// The object as it would be stored: changed, completed, admitted and found valid.
    /// The numbers it needed are in `held`, also when it is refused.
    async fn changed(
        &self,
        cx: &Context,
        target: Target<'_>,
        old: &Value,
        change: &Change<'_>,
        held: &mut Held,
    ) -> Result<Value, Status> {
        let Target { served, namespace, name, subresource } = target;
        let Made { object: mut new, managed } = self.made(cx, target, Some(old), change(Some(old))?).await?;
        metadata::set_namespace(&mut new, namespace)?;
        metadata::set_name(&mut new, name)?;
        check_version(served, &mut new, old, name)?;
        check_uid(served, &new, old, name)?;
        metadata::keep(&mut new, old);
        if !managed && new["metadata"].get("managedFields").is_none() {
            managers::carry_over(&mut new, old);
        }
        served.default(&mut new);
        // A binding is the scheduler's decision about the pod, not a claim to its fields.
        if !managed && subresource != "binding" {
            // Before admission: what plugins add belongs to nobody.
            new = managers::update(served, Some(old), new, &cx.options.field_manager, subresource, cx.now).await?;
        }
        let request = Request::new(cx, served, Operation::Update, subresource, namespace, name);
        let seen = Seen::of(served, subresource);
        self.admit(&request, served, seen, &mut new, old).await?;
        served.default(&mut new);
        served.strategy.prepare_for_update(&mut new, old, subresource);
        if subresource == "binding" {
            set_generation(&mut new, old);
        }
        *held = self.hooks.before_update(self, cx, served, &mut new, old, subresource).await?;
        let mut errors = metadata::validate(&new, served.resource.namespaced, traits::NameRule::PathSegment);
        errors.extend(metadata::validate_update(&new, old));
        errors.extend(served.metadata_errors(&new));
        errors.extend(served.strategy.validate_update(&new, old, subresource));
        errors.extend(served.schema_errors(cx, &new, Some(old), subresource));
        if !errors.is_empty() {
            return Err(Status::invalid(served.group_kind(), name, errors));
        }
        if subresource.is_empty() {
            served.strategy.warnings(&new).into_iter().for_each(|warning| cx.warn(warning));
        }
        match seen {
            Seen::Whole => self.admission.validate(&request, &new, Some(old)).await?,
            Seen::Scale => {
                let request = request.of_kind("autoscaling/v1", "Scale");
                self.admission.validate(&request, &scale::show(served, &new), Some(&scale::show(served, old))).await?;
            }
            Seen::Nothing => {}
        }
        Ok(new)
    }

    /// Lets admission change what it sees of the object.
    async fn admit(
        &self,
        request: &Request<'_>,
        served: &Served,
        seen: Seen,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        match seen {
            Seen::Whole => self.admission.mutate(request, new, Some(old)).await,
            Seen::Scale => {
                let (mut scale, old_scale) = (scale::show(served, new), scale::show(served, old));
                let request = Request::new(request.cx, served, Operation::Update, "scale", request.namespace, request.name)
                    .of_kind("autoscaling/v1", "Scale");
                self.admission.mutate(&request, &mut scale, Some(&old_scale)).await?;
                *new = scale::write(served, new, &scale)?;
                Ok(())
            }
            Seen::Nothing => Ok(()),
        }
    }
}

/// What admission sees of an object that is changed through a subresource.
#[derive(Clone, Copy)]
enum Seen {
    Whole,
    Scale,
    /// A binding was admitted as the object it is.
    Nothing,
}

impl Seen {
    fn of(served: &Served, subresource: &str) -> Self {
        match subresource {
            "scale" if served.resource.subresource("scale").is_some() => Self::Scale,
            "binding" => Self::Nothing,
            _ => Self::Whole,
        }
    }
}

fn set_generation(new: &mut Value, old: &Value) {
    if let Some(generation) = old["metadata"].get("generation") {
        meta::metadata_mut(new).insert("generation".to_owned(), generation.clone());
    }
}

enum Attempt {
    Done(Result<Written, Status>),
    /// Someone else wrote in between.
    Moved,
    /// Refused, on a state from memory that may be behind the store's.
    Stale(Status),
}

/// Optimistic concurrency: who names the version they read loses against whoever wrote since.
fn check_version(served: &Served, new: &mut Value, old: &Value, name: &str) -> Result<(), Status> {
    let given = meta::text(new, &["metadata", "resourceVersion"]).to_owned();
    let current = meta::text(old, &["metadata", "resourceVersion"]).to_owned();
    if given.is_empty() || given == "0" {
        let custom = matches!(served.types, TypeSource::Custom(_));
        if traits::needs_resource_version(&served.group_resource(), custom) {
            let path = machinery::field::Path::new("metadata").child("resourceVersion");
            let error = machinery::field::FieldError::invalid(&path, 0, "must be specified for an update");
            return Err(Status::invalid((served.resource.group.as_str(), served.resource.plural.as_str()), name, vec![error]));
        }
        meta::metadata_mut(new).insert("resourceVersion".to_owned(), current.into());
        return Ok(());
    }
    if given != current {
        if given.parse::<u64>().is_err() {
            return Err(Status::unexpected(format!(
                "strconv.ParseUint: parsing {}: invalid syntax",
                machinery::gotext::quote(&given)
            )));
        }
        return Err(Status::modified(served.group_resource(), name));
    }
    Ok(())
}

fn check_uid(served: &Served, new: &Value, old: &Value, name: &str) -> Result<(), Status> {
    let (given, current) = (meta::uid(new), meta::uid(old));
    if given.is_empty() || given == current {
        return Ok(());
    }
    let namespace = meta::namespace(old);
    let slash = if namespace.is_empty() { "" } else { "/" };
    let resource = served.group_resource();
    let group = if resource.group.is_empty() { String::new() } else { format!("{}/", resource.group) };
    let key = format!("/registry/{group}{}/{namespace}{slash}{name}", resource.resource);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
         precondition: {given}, UID in object meta: {current}"
    );
    Err(Status::conflict(resource, name, why))
}

/// Whether an object that does not change is written all the same, because it would be kept otherwise than it is: under a newer
/// key, in another version. That is how keys are rotated and storage versions migrated (KEP-4192).
async fn is_stale(served: &Served, entry: &Entry, object: &Value) -> Result<bool, Status> {
    Ok(served.store.storage().is_stale(entry.key()) || served.is_stored_otherwise(entry, object).await?)
}

/// Whether nothing changed but the time in managedFields: such a write is not made.
fn same_content(new: &Value, old: &Value) -> bool {
    if new == old {
        return true;
    }
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(Value::Array(entries)) = object.get_mut("metadata").and_then(|m| m.get_mut("managedFields")) {
            for entry in entries {
                meta::as_object_mut(entry).remove("time");
            }
        }
        object
    };
    strip(new) == strip(old)
}

/// An object that is being deleted and has nothing more to wait for.
fn is_finished(new: &Value, old: &Value) -> bool {
    let no_grace = |object: &Value| object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0;
    let namespace_content = new["kind"] == "Namespace"
        && new["apiVersion"] == "v1"
        && new["spec"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
    meta::deletion_timestamp(new).is_some()
        && metadata::finalizers(new).is_empty()
        && no_grace(new)
        && no_grace(old)
        && !namespace_content
}
