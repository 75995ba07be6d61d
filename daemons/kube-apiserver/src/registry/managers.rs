//! `metadata.managedFields`: whose change a change was.

use std::sync::{LazyLock, Mutex};

use jiff::Timestamp;
use machinery::apply::{self, Set, Writer};
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::Served;
use super::managed_versions::with_versions;

static STATUS: LazyLock<Set> = LazyLock::new(|| Set::of_fields(["status"]));
static SPEC: LazyLock<Set> = LazyLock::new(|| Set::of_fields(["spec"]));

/// A client that says nothing about managedFields leaves them as they are.
pub fn carry_over(new: &mut Value, old: &Value) {
    if let Some(managers) = old["metadata"].get("managedFields") {
        meta::metadata_mut(new).insert("managedFields".to_owned(), managers.clone());
    }
}

/// Runs a function of the one who writes, and of the versions in which others did.
async fn with_writer<R>(
    served: &Served,
    manager: &str,
    subresource: &str,
    now: Timestamp,
    run: impl Fn(&Writer<'_>) -> R,
) -> Result<R, Status> {
    let ignored: Option<&Set> = match subresource {
        "" if served.resource.subresource("status").is_some() => Some(&STATUS),
        "status" => Some(&SPEC),
        _ => None,
    };
    let api_version = served.api_version();
    with_versions(served, |versions| run(&Writer { manager, api_version: &api_version, subresource, now, ignored, versions }))
        .await
}

/// Gives the manager the fields that this create or update set.
///
/// # Errors
/// Of a conversion webhook.
pub async fn update(
    served: &Served,
    old: Option<&Value>,
    new: Value,
    manager: &str,
    subresource: &str,
    now: Timestamp,
) -> Result<Value, Status> {
    let Some(ty) = served.type_ref() else { return Ok(new) };
    // Without other versions this runs once, on the object itself.
    let given = Mutex::new(Some(new));
    with_writer(served, manager, subresource, now, |writer| {
        let mut given = given.lock().unwrap_or_else(|e| e.into_inner());
        let mut new = if writer.versions.is_some() { given.clone() } else { given.take() }.unwrap_or_default();
        apply::update_managers(old, &mut new, ty, writer);
        new
    })
    .await
}

/// The object that applying a configuration makes, with its managers.
pub async fn apply(
    served: &Served,
    old: Option<&Value>,
    applied: &Value,
    manager: &str,
    subresource: &str,
    force: bool,
    now: Timestamp,
) -> Result<Value, Status> {
    let Some(ty) = served.type_ref() else {
        return Err(Status::unsupported_media_type(&[super::patch::JSON, super::patch::MERGE]));
    };
    let result = with_writer(served, manager, subresource, now, |writer| apply::apply(old, applied, ty, writer, force)).await?;
    result.map_err(|error| match &error {
        // Upstream's typed object is made where nobody expects an error of the client.
        apply::ApplyError::Type { .. } => Status::unexpected(error.to_string()),
        _ => Status::from(error),
    })
}
