//! TaintNodesByCondition: a new node is not used before the node controller has seen that it is ready.

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn mutate(&self, request: &Request<'_>, node: &mut Value, _old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is("", "nodes") {
            return Ok(());
        }
        let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        if !taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule") {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
            meta::set_path(node, &["spec", "taints"], Value::Array(taints));
        }
        Ok(())
    }
}
