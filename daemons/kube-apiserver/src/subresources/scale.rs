//! Scale: the number of replicas as one small object, the same for every kind that has it.

use http::{Response, StatusCode};
use machinery::meta;
use machinery::selector::LabelSelector;
use machinery::status::Status;
use schema::Verb;
use serde_json::{Value, json};

use crate::body;
use crate::endpoints::Call;
use crate::registry::options::ListOptions;
use crate::registry::patch::View;
use crate::registry::store::EntryExt;
use crate::registry::update::Changed;
use crate::registry::{Served, TypeSource};
use crate::respond::Body;

/// Where a kind keeps its numbers: dotted paths.
struct Paths {
    spec: String,
    status: String,
    selector: Option<String>,
}

fn paths(served: &Served) -> Paths {
    match &served.types {
        TypeSource::Custom(custom) => {
            let (spec, status, selector) = custom.scale_paths();
            Paths { spec, status, selector }
        }
        TypeSource::Builtin => Paths { spec: "spec.replicas".into(), status: "status.replicas".into(), selector: None },
    }
}

pub(super) async fn handle(call: &Call<'_>, verb: Verb, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let served = call.served;
    let registry = &call.server.registry;
    let object = match verb {
        Verb::Get => {
            let options = ListOptions::parse(call.query)?;
            let entry = registry.get(served, call.namespace(), &call.path.name, &options).await?;
            let stored = entry.value().ok_or_else(|| Status::internal("the stored object cannot be read"))?;
            served.from_storage(stored)
        }
        Verb::Update => {
            let scale = body::typed(&call.cx, &call.parts.headers, bytes, "autoscaling/v1", "Scale")?;
            let change = |old: Option<&Value>| {
                let old = old.ok_or_else(|| served.not_found(&call.path.name))?;
                write(served, old, &scale).map(Changed::Object)
            };
            registry.modify(&call.cx, call.target(), &change, false).await?.object
        }
        Verb::Patch => {
            let patch = call.parse_patch(bytes)?;
            let view = View { show: &|object| Ok(show(served, object)), write: &|old, scale| write(served, old, scale) };
            registry.patch_view(&call.cx, call.target(), &patch, view).await?.object
        }
        _ => return Err(Status::method_not_served()),
    };
    call.answer(StatusCode::OK, &show(served, &object))
}

/// The scale of an object.
pub(crate) fn show(served: &Served, object: &Value) -> Value {
    let paths = paths(served);
    let number = |path: &str| meta::get_dotted(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": number(&paths.status)});
    let selector = match &paths.selector {
        Some(path) => meta::get_dotted(object, path).and_then(Value::as_str).map(str::to_owned),
        None => selector_of(&object["spec"]["selector"]),
    };
    if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
        status["selector"] = json!(selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {"replicas": number(&paths.spec)}, "status": status})
}

/// Label selectors, and the plain maps of ReplicationControllers.
fn selector_of(selector: &Value) -> Option<String> {
    let is_map = selector.as_object()?.values().all(Value::is_string);
    let selector = if is_map { json!({"matchLabels": selector}) } else { selector.clone() };
    LabelSelector::from_label_selector(&selector).ok().map(|selector| selector.to_string())
}

/// The object with the scale's number.
pub(crate) fn write(served: &Served, old: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let path = machinery::field::Path::new("spec").child("replicas");
        let error = machinery::field::FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(("autoscaling", "Scale"), meta::name(old), vec![error]));
    }
    let mut new = old.clone();
    let path = paths(served).spec;
    let steps: Vec<&str> = path.split('.').collect();
    meta::set_path(&mut new, &steps, json!(replicas));
    // The client's version and identity are those of the scale it read.
    for field in ["resourceVersion", "uid"] {
        let given = meta::text(scale, &["metadata", field]);
        if !given.is_empty() {
            meta::metadata_mut(&mut new).insert(field.to_owned(), json!(given));
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        assert_eq!(selector_of(&json!({"app": "x"})).as_deref(), Some("app=x"));
        assert_eq!(selector_of(&json!({"matchLabels": {"app": "x"}})).as_deref(), Some("app=x"));
        assert_eq!(selector_of(&Value::Null), None);
    }
}
