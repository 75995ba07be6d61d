//! Binding: the scheduler's decision, written into the pod.

use http::Response;
use jiff::Timestamp;
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::admission::{Operation, Request};
use crate::body;
use crate::endpoints::Call;
use crate::registry::update::{Changed, Target};
use crate::respond::Body;

/// `pods/NAME/binding`, and the older resource `bindings`.
pub async fn handle(call: &Call<'_>, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let mut binding = body::typed(&call.cx, &call.parts.headers, bytes, "v1", "Binding")?;
    let name = if call.path.name.is_empty() { meta::name(&binding).to_owned() } else { call.path.name.clone() };
    if !meta::name(&binding).is_empty() && meta::name(&binding) != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let registry = &call.server.registry;
    let pods = registry.stored("", "pods").ok_or_else(Status::no_such_path)?;
    let request =
        Request::new(&call.cx, &pods, Operation::Create, "binding", &call.path.namespace, &name).of_kind("v1", "Binding");
    registry.admission.mutate(&request, &mut binding, None).await?;
    registry.admission.validate(&request, &binding, None).await?;
    let target = Target { served: &pods, namespace: &call.path.namespace, name: &name, subresource: "binding" };
    let now = call.cx.now;
    let change = |old: Option<&Value>| {
        let pod = old.ok_or_else(|| pods.not_found(&name))?;
        bind(pod, &binding, now).map(Changed::Object)
    };
    registry.modify(&call.cx, target, &change, false).await?;
    super::done(call)
}

/// The pod on its node.
fn bind(pod: &Value, binding: &Value, now: Timestamp) -> Result<Value, Status> {
    let name = meta::name(pod);
    let conflict = |why: String| Err(Status::conflict("pods/binding", name, why));
    let node = meta::text(binding, &["target", "name"]);
    let kind = meta::text(binding, &["target", "kind"]);
    if node.is_empty() || !matches!(kind, "" | "Node") {
        let path = machinery::field::Path::new("target").child(if node.is_empty() { "name" } else { "kind" });
        let error = if node.is_empty() {
            machinery::field::FieldError::required(&path, "")
        } else {
            machinery::field::FieldError::not_supported(&path, kind, &["Node", "<empty>"])
        };
        return Err(Status::invalid("Binding", name, vec![error]));
    }
    let uid = meta::uid(binding);
    if !uid.is_empty() && uid != meta::uid(pod) {
        return conflict(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(pod)));
    }
    if meta::deletion_timestamp(pod).is_some() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let current = meta::text(pod, &["spec", "nodeName"]);
    if !current.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {current:?}"));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    meta::set_path(&mut pod, &["spec", "nodeName"], json!(node));
    for (key, value) in meta::annotations(binding).into_iter().flatten() {
        meta::set_path(&mut pod, &["metadata", "annotations", key], value.clone());
    }
    for (key, value) in meta::labels(binding).into_iter().flatten() {
        meta::set_path(&mut pod, &["metadata", "labels", key], value.clone());
    }
    set_scheduled(&mut pod, now);
    Ok(pod)
}

fn set_scheduled(pod: &mut Value, now: Timestamp) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": machinery::time::format(now)});
    let status = meta::as_object_mut(meta::as_object_mut(pod).entry("status").or_insert(Value::Null));
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|condition| condition["type"] != "PodScheduled");
        conditions.push(condition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        let check = |pod: Value, binding: Value, code: Option<u16>| {
            let result = bind(&pod, &binding, Timestamp::UNIX_EPOCH);
            assert_eq!(result.as_ref().err().map(Status::code), code, "{result:?}");
            if let Ok(pod) = result {
                assert_eq!(pod["spec"]["nodeName"], "n");
                assert_eq!(pod["status"]["conditions"][0]["status"], "True");
            }
        };
        let to = |name: &str| json!({"target": {"kind": "Node", "name": name}});
        check(json!({"spec": {}}), to("n"), None);
        check(json!({"spec": {}}), to(""), Some(422));
        check(json!({"spec": {"nodeName": "m"}}), to("n"), Some(409));
        check(json!({"metadata": {"deletionTimestamp": "t"}}), to("n"), Some(409));
        check(json!({"spec": {"schedulingGates": [{"name": "g"}]}}), to("n"), Some(409));
        check(json!({"metadata": {"uid": "a"}}), json!({"metadata": {"uid": "b"}, "target": {"name": "n"}}), Some(409));
    }
}
