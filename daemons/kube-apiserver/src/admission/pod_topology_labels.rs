//! PodTopologyLabels: a pod that is bound carries the zone and region of its node (KEP-4742).

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

const LABELS: &[&str] = &["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) struct PodTopologyLabels;

impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn mutate(&self, request: &Request<'_>, object: &mut Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        let is_pod = request.resource.group.is_empty() && request.resource.resource == "pods";
        if request.operation != Operation::Create || !is_pod {
            return Ok(());
        }
        let node = match request.subresource {
            "" => &object["spec"]["nodeName"],
            "binding" if object["target"]["kind"].as_str().unwrap_or("Node") == "Node" => &object["target"]["name"],
            _ => return Ok(()),
        };
        let Some(node) = node.as_str().filter(|name| !name.is_empty()) else { return Ok(()) };
        if let Some(node) = lookup.object("", "nodes", "", node) {
            copy(object, &node);
        }
        Ok(())
    }
}

fn copy(object: &mut Value, node: &Value) {
    for key in LABELS {
        if let Some(value) = meta::label(node, key) {
            meta::set_path(object, &["metadata", "labels", key], value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn zone_and_region_are_copied() {
        let node = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z", "other": "x"}}});
        let mut pod = json!({"metadata": {"labels": {"app": "a", "topology.kubernetes.io/zone": "mine"}}});
        copy(&mut pod, &node);
        assert_eq!(pod["metadata"]["labels"], json!({"app": "a", "topology.kubernetes.io/zone": "z"}));
    }
}
