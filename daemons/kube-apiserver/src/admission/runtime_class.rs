//! RuntimeClass: what running a pod costs beyond its containers, and where its runtime is (KEP-688, KEP-894).

use machinery::meta;
use machinery::pod::resources::amounts;
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request, tolerations};
use crate::lookup::Lookup;

pub(super) struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is("", "pods") {
            return Ok(());
        }
        let Some(class) = class_of(pod, lookup).map_err(|why| request.forbidden(why))? else { return Ok(()) };
        complete(pod, &class).map_err(|why| request.forbidden(why))
    }

    fn validate(&self, request: &Request<'_>, pod: &Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is("", "pods") {
            return Ok(());
        }
        let class = class_of(pod, lookup).map_err(|why| request.forbidden(why))?;
        check_overhead(pod, class.as_ref()).map_err(|why| request.forbidden(why))
    }
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn class_of(pod: &Value, lookup: &dyn Lookup) -> Result<Option<Value>, String> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else { return Ok(None) };
    let class = lookup.object("node.k8s.io", "runtimeclasses", "", name);
    class.map(Some).ok_or_else(|| format!("pod rejected: RuntimeClass {name:?} not found"))
}

/// Adds the class's overhead, node selector and tolerations.
fn complete(pod: &mut Value, class: &Value) -> Result<(), String> {
    let overhead = &class["overhead"]["podFixed"];
    if class["overhead"].is_object() {
        let own = &pod["spec"]["overhead"];
        if own.as_object().is_some_and(|own| !own.is_empty()) && amounts(own) != amounts(overhead) {
            return Err(MISMATCH.to_owned());
        }
        meta::set_path(pod, &["spec", "overhead"], overhead.clone());
    }
    let scheduling = &class["scheduling"];
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let own = &pod["spec"]["nodeSelector"][key];
        if !own.is_null() && own != value {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            ));
        }
        meta::set_path(pod, &["spec", "nodeSelector", key], value.clone());
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let more = list(&scheduling["tolerations"]);
    if !more.is_empty() {
        let merged = tolerations::merge(&list(&pod["spec"]["tolerations"]), &more);
        meta::set_path(pod, &["spec", "tolerations"], Value::Array(merged));
    }
    Ok(())
}

fn check_overhead(pod: &Value, class: Option<&Value>) -> Result<(), String> {
    let own = &pod["spec"]["overhead"];
    match class.map(|class| &class["overhead"]).filter(|overhead| overhead.is_object()) {
        Some(overhead) if amounts(&overhead["podFixed"]) != amounts(own) => Err(MISMATCH.to_owned()),
        Some(_) => Ok(()),
        None if own.is_null() => Ok(()),
        None => Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lookup::Fixed;

    #[test]
    fn what_a_class_adds() {
        let class = json!({"overhead": {"podFixed": {"cpu": "100m"}}, "scheduling": {"nodeSelector": {"kata": "yes"},
            "tolerations": [{"key": "kata", "operator": "Exists"}]}});
        let mut pod = json!({"spec": {"nodeSelector": {"zone": "a"}}});
        complete(&mut pod, &class).unwrap();
        let expected = json!({"overhead": {"cpu": "100m"}, "nodeSelector": {"zone": "a", "kata": "yes"},
            "tolerations": [{"key": "kata", "operator": "Exists"}]});
        assert_eq!(pod["spec"], expected);
        assert_eq!(check_overhead(&pod, Some(&class)), Ok(()));
        let mut other = json!({"spec": {"overhead": {"cpu": "200m"}}});
        assert_eq!(complete(&mut other, &class).unwrap_err(), MISMATCH);
        let mut elsewhere = json!({"spec": {"nodeSelector": {"kata": "no"}}});
        let why = "conflict: runtimeClass.scheduling.nodeSelector[kata] = yes; pod.spec.nodeSelector[kata] = no";
        assert_eq!(complete(&mut elsewhere, &class).unwrap_err(), why);
    }

    #[test]
    fn overhead_comes_from_classes_only() {
        let pod = json!({"spec": {"overhead": {"cpu": "1"}}});
        assert!(check_overhead(&pod, None).unwrap_err().contains("without corresponding"));
        assert!(check_overhead(&pod, Some(&json!({"overhead": {"podFixed": {"cpu": "2"}}}))).is_err());
        assert_eq!(check_overhead(&pod, Some(&json!({"overhead": {"podFixed": {"cpu": "1000m"}}}))), Ok(()));
        let named = json!({"spec": {"runtimeClassName": "gone"}});
        assert_eq!(class_of(&named, &Fixed::default()).unwrap_err(), "pod rejected: RuntimeClass \"gone\" not found");
    }
}
