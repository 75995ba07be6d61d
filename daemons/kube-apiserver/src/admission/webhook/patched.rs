//! The object as a webhook's patch makes it: of the same kind, of its types, pruned and completed again.

use machinery::meta;
use machinery::patch;
use schema::strict;
use serde_json::Value;

use crate::registry::{Served, TypeSource};

/// Applies the operations to the object, which is in the version `served` serves, or of a subresource's own kind.
///
/// # Errors
/// What does not fit, in words.
pub fn patched(operations: &[u8], object: &Value, served: &Served, own_kind: bool) -> Result<Value, PatchFailure> {
    let operations: Value = serde_json::from_slice(operations).map_err(|error| PatchFailure::Undecodable(error.to_string()))?;
    let operations = match operations {
        Value::Null => Value::Array(Vec::new()),
        other => other,
    };
    if operations.as_array().is_some_and(Vec::is_empty) {
        return Ok(object.clone());
    }
    if !object.is_object() {
        return Err(PatchFailure::NoObject);
    }
    let mut new = object.clone();
    patch::json::apply(&mut new, &operations).map_err(|error| PatchFailure::Unfit(error.to_string()))?;
    settle(&mut new, object, served, own_kind)?;
    Ok(new)
}

/// Checks what was made of an object, and brings it into its form.
pub fn settle(new: &mut Value, old: &Value, served: &Served, own_kind: bool) -> Result<(), PatchFailure> {
    if !new.is_object() || meta::kind(new) != meta::kind(old) || meta::api_version(new) != meta::api_version(old) {
        let (version, kind) = (meta::api_version(new), meta::kind(new));
        return Err(PatchFailure::Unfit(format!("the object became a {version}, Kind={kind}, which is not what it was")));
    }
    if own_kind {
        if let Some(ty) = schema::builtin().type_of_api_version(meta::api_version(new), meta::kind(new)) {
            fatal(new, ty)?;
            strict::normalise(new, ty);
        }
        return Ok(());
    }
    if let Some(ty) = served.type_ref() {
        match served.types {
            TypeSource::Builtin => {
                fatal(new, ty)?;
                strict::normalise(new, ty);
            }
            TypeSource::Custom(_) => strict::prune(new, ty),
        }
    }
    served.default(new);
    Ok(())
}

fn fatal(new: &Value, ty: schema::TypeRef<'_>) -> Result<(), PatchFailure> {
    match strict::check(new, ty).iter().find(|problem| problem.is_fatal()) {
        Some(problem) => Err(PatchFailure::Unfit(problem.to_string())),
        None => Ok(()),
    }
}

/// Why a patch was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum PatchFailure {
    /// Not a list of operations: the webhook's failure policy decides.
    Undecodable(String),
    /// The operation has no object to change.
    NoObject,
    /// It does not apply, or makes something else of the object.
    Unfit(String),
}
