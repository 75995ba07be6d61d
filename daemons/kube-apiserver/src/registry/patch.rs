//! Patch: the four kinds, and what they make of an object. Server-side apply is one of them.

use machinery::meta;
use machinery::patch;
use machinery::status::Status;
use serde_json::Value;

use super::update::{Changed, Made, Target, Written};
use super::{Context, Registry, Served, TypeSource, managers, metadata};

/// A patch body with its kind.
#[derive(Clone, Debug)]
pub enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

pub const JSON: &str = "application/json-patch+json";
pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

impl Patch {
    /// The media types that a resource accepts.
    pub fn accepted(served: &Served) -> &'static [&'static str] {
        match served.types {
            TypeSource::Builtin => &[JSON, MERGE, STRATEGIC, APPLY],
            TypeSource::Custom(_) => &[JSON, MERGE, APPLY],
        }
    }
}

/// How an object shows itself to a patch that is made for a subresource (`scale`), and how what comes of it goes back.
pub struct View<'v> {
    pub show: &'v (dyn Fn(&Value) -> Result<Value, Status> + Send + Sync),
    pub write: &'v (dyn Fn(&Value, &Value) -> Result<Value, Status> + Send + Sync),
}

impl Registry {
    pub async fn patch(&self, cx: &Context, target: Target<'_>, patch: Patch) -> Result<Written, Status> {
        let served = target.served;
        let create = matches!(patch, Patch::Apply(_)) && target.subresource.is_empty();
        if let Patch::Apply(object) = &patch {
            check_applied(served, object)?;
        }
        let change = |old: Option<&Value>| match &patch {
            Patch::Apply(applied) => Ok(Changed::Applied(applied.clone())),
            other => {
                let old = old.ok_or_else(|| served.not_found(target.name))?;
                let mut new = patched(served, old, other)?;
                match other {
                    Patch::Strategic(body) => crate::body::settle_merged(cx, served, &mut new, body)?,
                    _ => crate::body::settle_patched(cx, served, &mut new)?,
                }
                Ok(Changed::Object(new))
            }
        };
        self.modify(cx, target, &change, create).await
    }

    /// The object that a change makes of the old one.
    pub(super) async fn made(
        &self,
        cx: &Context,
        target: Target<'_>,
        old: Option<&Value>,
        changed: Changed,
    ) -> Result<Made, Status> {
        match changed {
            Changed::Object(object) => Ok(Made { object, managed: false }),
            Changed::Applied(configuration) => {
                let mut object = applied_to(cx, target, old, configuration).await?;
                // What is stored looks the same, however it came: no empty lists, no nulls.
                crate::body::settle_patched(cx, target.served, &mut object)?;
                Ok(Made { object, managed: true })
            }
        }
    }

    /// Patches what a subresource shows of an object.
    pub async fn patch_view(&self, cx: &Context, target: Target<'_>, patch: &Patch, view: View<'_>) -> Result<Written, Status> {
        let change = |old: Option<&Value>| {
            let old = old.ok_or_else(|| target.served.not_found(target.name))?;
            let mut shown = (view.show)(old)?;
            match patch {
                Patch::Json(operations) => patch::json::apply(&mut shown, operations)?,
                // A view is small and has no lists to merge.
                Patch::Merge(body) | Patch::Strategic(body) | Patch::Apply(body) => patch::merge::apply(&mut shown, body),
            }
            (view.write)(old, &shown).map(Changed::Object)
        };
        self.modify(cx, target, &change, false).await
    }
}

/// The object as the patch makes it.
pub fn patched(served: &Served, old: &Value, patch: &Patch) -> Result<Value, Status> {
    let mut new = old.clone();
    match patch {
        Patch::Json(operations) => patch::json::apply(&mut new, operations)?,
        Patch::Merge(body) => {
            patch::merge::require_object(body)?;
            patch::merge::apply(&mut new, body);
        }
        Patch::Strategic(body) => {
            let ty = served.type_ref().ok_or_else(|| Status::unsupported_media_type(&[JSON, MERGE, APPLY]))?;
            new = patch::strategic::apply(&new, body, ty)?;
            // Upstream decodes what comes of it into the type it had.
            for field in ["apiVersion", "kind"] {
                meta::as_object_mut(&mut new).insert(field.to_owned(), old[field].clone());
            }
        }
        Patch::Apply(_) => return Err(Status::internal("an applied object is not a patch")),
    }
    check_kind(&new, old)?;
    check_uid(served, &new, old)?;
    Ok(new)
}

/// What upstream's validation of an update says of a uid that a patch sets; twice, as metadata is looked at twice.
fn check_uid(served: &Served, new: &Value, old: &Value) -> Result<(), Status> {
    let given = meta::uid(new);
    if given == meta::uid(old) || given.is_empty() {
        return Ok(());
    }
    let path = machinery::field::Path::new("metadata").child("uid");
    let error = machinery::field::FieldError::invalid(&path, given, "field is immutable");
    let kind = (served.resource.group.as_str(), served.resource.kind.as_str());
    Err(Status::invalid(kind, meta::name(old), vec![error.clone(), error]))
}

/// A patch cannot make another kind of an object.
fn check_kind(new: &Value, old: &Value) -> Result<(), Status> {
    if new.is_object() && new["apiVersion"] == old["apiVersion"] && new["kind"] == old["kind"] {
        return Ok(());
    }
    Err(crate::body::unfit(&new.to_string(), "a patch may not change apiVersion or kind"))
}

fn check_applied(served: &Served, object: &Value) -> Result<(), Status> {
    let (version, kind) = (meta::api_version(object), meta::kind(object));
    if kind != served.resource.kind || version != served.api_version() {
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format!("invalid object type: {slash}{version}, Kind={kind}")));
    }
    Ok(())
}

async fn applied_to(cx: &Context, target: Target<'_>, old: Option<&Value>, mut applied: Value) -> Result<Value, Status> {
    let Target { served, namespace, name, subresource } = target;
    metadata::set_namespace(&mut applied, namespace)?;
    metadata::set_name(&mut applied, name)?;
    let given = meta::text(&applied, &["metadata", "resourceVersion"]);
    if !given.is_empty() && old.is_none() {
        return Err(Status::conflict(served.group_resource(), name, "the object does not exist"));
    }
    let (manager, force) = (cx.options.field_manager.as_str(), cx.options.force.unwrap_or(false));
    managers::apply(served, old, &applied, manager, subresource, force, cx.now).await
}
