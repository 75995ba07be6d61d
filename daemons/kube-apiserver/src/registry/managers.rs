//! `metadata.managedFields`: whose change a change was.

use std::sync::LazyLock;

use jiff::Timestamp;
use machinery::apply::{self, Set, Writer};
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::Served;

static STATUS: LazyLock<Set> = LazyLock::new(|| Set::of_fields(["status"]));
static SPEC: LazyLock<Set> = LazyLock::new(|| Set::of_fields(["spec"]));

/// A client that says nothing about managedFields leaves them as they are.
pub fn carry_over(new: &mut Value, old: &Value) {
    if let Some(managers) = old["metadata"].get("managedFields") {
        meta::metadata_mut(new).insert("managedFields".to_owned(), managers.clone());
    }
}

fn with_writer<R>(served: &Served, manager: &str, subresource: &str, now: Timestamp, run: impl FnOnce(&Writer<'_>) -> R) -> R {
    let ignored: Option<&Set> = match subresource {
        "" if served.resource.subresource("status").is_some() => Some(&STATUS),
        "status" => Some(&SPEC),
        _ => None,
    };
    let api_version = served.api_version();
    run(&Writer { manager, api_version: &api_version, subresource, now, ignored })
}

/// Gives the manager the fields that this create or update set.
pub fn update(served: &Served, old: Option<&Value>, new: &mut Value, manager: &str, subresource: &str, now: Timestamp) {
    let Some(ty) = served.type_ref() else { return };
    with_writer(served, manager, subresource, now, |writer| apply::update_managers(old, new, ty, writer));
}

/// The object that applying a configuration makes, with its managers.
pub fn apply(
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
    let result = with_writer(served, manager, subresource, now, |writer| apply::apply(old, applied, ty, writer, force));
    result.map_err(Status::from)
}
