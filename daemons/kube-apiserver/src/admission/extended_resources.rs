//! ExtendedResourceToleration: who asks for a special device may go to the nodes that are kept for it.

use std::collections::BTreeSet;

use machinery::meta;
use machinery::pod::containers::{self, Role};
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

pub(super) struct ExtendedResourceToleration;

impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, _old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if matches!(request.operation, Operation::Create | Operation::Update) && request.is("", "pods") {
            tolerate(pod);
        }
        Ok(())
    }
}

fn tolerate(pod: &mut Value) {
    let asked: BTreeSet<String> = containers::each(&pod["spec"])
        .filter(|(role, _)| *role != Role::Ephemeral)
        .flat_map(|(_, container)| container["resources"]["requests"].as_object().into_iter().flatten())
        .map(|(name, _)| name.clone())
        .filter(|name| name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests."))
        .collect();
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    for resource in asked {
        let toleration = json!({"key": resource, "operator": "Exists", "effect": "NoSchedule"});
        let same = |other: &Value| ["key", "operator", "effect", "value"].iter().all(|field| other[field] == toleration[field]);
        if !tolerations.iter().any(same) {
            tolerations.push(toleration);
        }
    }
    if !tolerations.is_empty() {
        meta::set_path(pod, &["spec", "tolerations"], Value::Array(tolerations));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_tolerated() {
        let mut pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1", "b.com/x": "1"}}}],
            "initContainers": [{"resources": {"requests": {"a.com/y": "1", "kubernetes.io/z": "1"}}}]}});
        tolerate(&mut pod);
        tolerate(&mut pod);
        let keys: Vec<_> = pod["spec"]["tolerations"].as_array().unwrap().iter().map(|t| t["key"].as_str().unwrap()).collect();
        assert_eq!(keys, ["a.com/y", "b.com/x"]);
    }
}
