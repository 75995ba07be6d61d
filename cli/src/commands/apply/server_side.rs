//! Server-side apply: the server keeps who set which field, so a field that leaves the files leaves the object.

use machinery::apply::LAST_APPLIED;
use serde_json::{Value, json};

use super::ApplyArgs;
use crate::kube::{
    Error, Info, Request, Result, Session,
    session::{APPLY_PATCH, JSON_PATCH},
};

/// In whose name fields are managed: with kubectl's name, objects can go back and forth between it and us, and the server keeps
/// the annotation of client-side apply current.
pub const MANAGER: &str = "kubectl";
/// Who keeps the annotation of client-side apply, so that it stays for those who go back.
const ANNOTATION_MANAGER: &str = "kubectl-last-applied";
/// Tries while others change the object.
const TRIES_MAX: u32 = 5;

pub async fn apply(args: &ApplyArgs, session: &Session, info: &Info) -> Result<Value> {
    let mut after = session.json(request(args, info)).await.map_err(conflict)?;
    if let Err(error) = keep_annotation(args, session, info, &mut after).await {
        eprintln!(
            "Warning: failed to migrate kubectl.kubernetes.io/last-applied-configuration for Server-Side Apply. This is non-fatal \
             and will be retried next time you apply. Error: {}",
            error.bare()
        );
    } else {
        match migrate(args, session, info, &mut after).await {
            Ok(false) => {}
            // Fields that left the files can go only now that they are ours.
            Ok(true) => match session.json(request(args, info)).await {
                Ok(object) => after = object,
                Err(error) => eprintln!(
                    "Warning: failed to re-apply configuration after performing Server-Side Apply migration. This is non-fatal and \
                     will be retried next time you apply. Error: {}",
                    error.bare()
                ),
            },
            Err(error) => eprintln!(
                "Warning: server rejected managed fields migration to Server-Side Apply. This is non-fatal and will be retried next \
                 time you apply. Error: {}",
                error.bare()
            ),
        }
    }
    super::warn_if_deleting(info, &after);
    Ok(after)
}

fn path(args: &ApplyArgs, info: &Info) -> String {
    args.subresource.as_ref().map_or_else(|| info.path(), |subresource| format!("{}/{subresource}", info.path()))
}

fn request(args: &ApplyArgs, info: &Info) -> Request {
    let patch = Request::patch(path(args, info), APPLY_PATCH, &info.object);
    args.named(patch, MANAGER).query("force", args.how.force_conflicts)
}

/// Has a manager of its own keep the annotation of client-side apply, which our fields do not have.
async fn keep_annotation(args: &ApplyArgs, session: &Session, info: &Info, object: &mut Value) -> Result<()> {
    let Some(text) = machinery::meta::annotation(object, LAST_APPLIED) else { return Ok(()) };
    if args.how.manager(MANAGER) != MANAGER || !owners(object, "Apply").is_empty() {
        return Ok(());
    }
    let mut metadata = json!({"name": info.name, "annotations": {LAST_APPLIED: text}});
    if !info.namespace.is_empty() {
        metadata["namespace"] = info.namespace.as_str().into();
    }
    let only = json!({"apiVersion": info.resource.api_version(), "kind": info.resource.kind, "metadata": metadata});
    let request = Request::patch(path(args, info), APPLY_PATCH, &only).query("fieldManager", ANNOTATION_MANAGER);
    *object = session.json(args.write.ask(request)).await?;
    Ok(())
}

/// Gives the fields of client-side apply to us; whether there were some.
async fn migrate(args: &ApplyArgs, session: &Session, info: &Info, object: &mut Value) -> Result<bool> {
    let managers: Vec<String> = owners(object, "Update").into_iter().map(str::to_owned).collect();
    let mut tries = 1;
    loop {
        let Some(patch) = upgrade(object, args.how.manager(MANAGER), &managers) else { return Ok(false) };
        match session.json(args.named(Request::patch(path(args, info), JSON_PATCH, &patch), MANAGER)).await {
            Ok(after) => {
                *object = after;
                return Ok(true);
            }
            Err(error) if error.is(machinery::status::Reason::Conflict) && tries < TRIES_MAX => {
                tries += 1;
                *object = session.json(Request::get(info.path())).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Managers that have the annotation of client-side apply by an operation.
fn owners<'a>(object: &'a Value, operation: &str) -> Vec<&'a str> {
    let field = format!("f:{LAST_APPLIED}");
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let has = |entry: &&Value| {
        entry["operation"] == operation && !entry["fieldsV1"]["f:metadata"]["f:annotations"][field.as_str()].is_null()
    };
    entries.filter(has).filter_map(|entry| entry["manager"].as_str()).collect()
}

/// The patch that gives the fields of client-side managers to `manager`; `None` when there are none.
fn upgrade(object: &Value, manager: &str, client_side: &[String]) -> Option<Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let of_client = |entry: &Value| {
        entry["operation"] == "Update"
            && entry["subresource"].is_null()
            && client_side.iter().any(|client| entry["manager"] == client.as_str())
    };
    if !entries.iter().any(of_client) {
        return None;
    }
    let mut kept: Vec<Value> = entries.iter().filter(|entry| !of_client(entry)).cloned().collect();
    let ours = kept
        .iter_mut()
        .find(|entry| entry["manager"] == manager && entry["operation"] == "Apply" && entry["subresource"].is_null())?;
    for entry in entries.iter().filter(|entry| of_client(entry)) {
        union(&mut ours["fieldsV1"], &entry["fieldsV1"]);
    }
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": object["metadata"]["resourceVersion"]},
    ]))
}

/// Field sets are trees of objects: their union is the union of the trees.
fn union(into: &mut Value, from: &Value) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else { return };
    for (key, value) in from {
        match into.get_mut(key) {
            Some(own) => union(own, value),
            None => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

fn conflict(error: Error) -> Error {
    let Some(status) = error.status().filter(|status| status.code() == 409) else { return error };
    Error::message(format!(
        "{}\n\
         Please review the fields above--they currently have other managers. Here\n\
         are the ways you can resolve this warning:\n\
         * If you intend to manage all of these fields, please re-run the apply\n  command with the `--force-conflicts` flag.\n\
         * If you do not intend to manage all of the fields, please edit your\n  manifest to remove references to the fields that should keep their\n  current managers.\n\
         * You may co-own fields by updating your manifest to match the existing\n  value; in this case, you'll become the manager if the other manager(s)\n  stop managing the field (remove it from their configuration).\n\
         See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
        status.message
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_over_client_side_fields() {
        let entry = |manager: &str, operation: &str, fields: Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
        let object = |entries: Value| json!({"metadata": {"resourceVersion": "7", "managedFields": entries}});
        let ours = entry("kubectl", "Apply", json!({"f:data": {"f:a": {}}}));
        let fields = json!({"f:data": {".": {}, "f:b": {}}, "f:metadata": {"f:annotations": {format!("f:{LAST_APPLIED}"): {}}}});
        let theirs = entry("client", "Update", fields.clone());
        let other = entry("x", "Update", json!({}));
        let clients = ["client".to_owned()];
        assert_eq!(upgrade(&object(json!([ours, other])), "kubectl", &clients), None);
        let all = object(json!([ours, theirs, other]));
        assert_eq!((owners(&all, "Update"), owners(&all, "Apply")), (vec!["client"], vec![]));
        let patch = upgrade(&all, "kubectl", &clients).unwrap();
        let mut merged = fields;
        merged["f:data"]["f:a"] = json!({});
        assert_eq!(patch[0]["value"], json!([entry("kubectl", "Apply", merged), other]));
        assert_eq!(patch[1]["value"], "7");
    }
}
