//! PodTolerationRestriction: a namespace says which tolerations its pods have, and which they may have.

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request, tolerations};
use crate::lookup::Lookup;

const DEFAULT: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

/// What holds where a namespace says nothing.
pub(super) struct PodTolerationRestriction {
    default: Vec<Value>,
    allowed: Vec<Value>,
}

impl PodTolerationRestriction {
    pub(super) fn configured(configuration: &Value) -> Self {
        let list = |field: &str| configuration[field].as_array().cloned().unwrap_or_default();
        Self { default: list("default"), allowed: list("whitelist") }
    }
}

impl Plugin for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) || !request.is("", "pods") {
            return Ok(());
        }
        let more = match request.operation {
            Operation::Create => annotated(request, lookup, DEFAULT)?.unwrap_or_else(|| self.default.clone()),
            _ => Vec::new(),
        };
        add(pod, more);
        Ok(())
    }

    fn validate(&self, request: &Request<'_>, pod: &Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        let own = pod["spec"]["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is("", "pods") || own.is_empty() {
            return Ok(());
        }
        let (allowed, scope) = match annotated(request, lookup, ALLOWED)? {
            Some(allowed) => (allowed, "namespace"),
            None => (self.allowed.clone(), "cluster"),
        };
        if tolerations::all_allowed(own, &allowed) {
            return Ok(());
        }
        Err(request.forbidden(format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
        )))
    }
}

/// The tolerations in a namespace's annotation; none when there is no annotation.
fn annotated(request: &Request<'_>, lookup: &dyn Lookup, key: &str) -> Result<Option<Vec<Value>>, Status> {
    let namespace = lookup.object("", "namespaces", "", request.namespace);
    let Some(text) = namespace.as_ref().and_then(|namespace| meta::annotation(namespace, key)) else { return Ok(None) };
    if text.is_empty() {
        return Ok(Some(Vec::new()));
    }
    serde_json::from_str(text).map(Some).map_err(|error| request.forbidden(error))
}

/// Pods that were promised memory stay on a node that runs short of it.
fn add(pod: &mut Value, mut more: Vec<Value>) {
    if crate::kinds::qos_class(&pod["spec"]) != "BestEffort" {
        more.push(json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}));
    }
    if !more.is_empty() {
        let own = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        meta::set_path(pod, &["spec", "tolerations"], Value::Array(tolerations::merge(&own, &more)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added() {
        let mut idle = json!({"spec": {"containers": [{"name": "c"}]}});
        add(&mut idle, Vec::new());
        assert!(idle["spec"]["tolerations"].is_null());
        let mut pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        add(&mut pod, vec![json!({"key": "a", "operator": "Exists"})]);
        let keys: Vec<_> = pod["spec"]["tolerations"].as_array().unwrap().iter().map(|t| t["key"].clone()).collect();
        assert_eq!(keys, ["a", "node.kubernetes.io/memory-pressure"]);
    }
}
