//! LimitPodHardAntiAffinityTopology: a pod may keep others off its node, not off a whole zone.

use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) struct LimitPodHardAntiAffinityTopology;

impl Plugin for LimitPodHardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn validate(&self, request: &Request<'_>, pod: &Value, _old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) || !request.is("", "pods") {
            return Ok(());
        }
        match wider_key(pod) {
            None => Ok(()),
            Some(key) => Err(request.forbidden(format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} is allowed"
            ))),
        }
    }
}

fn wider_key(pod: &Value) -> Option<&str> {
    let terms = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let keys = terms.as_array().into_iter().flatten().map(|term| term["topologyKey"].as_str().unwrap_or_default());
    keys.into_iter().find(|key| *key != HOSTNAME)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn topology_keys() {
        let pod = |kind: &str, key: &str| json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": key}]}}}});
        assert_eq!(wider_key(&pod("podAntiAffinity", "zone")), Some("zone"));
        assert_eq!(wider_key(&pod("podAntiAffinity", HOSTNAME)), None);
        assert_eq!(wider_key(&pod("podAffinity", "zone")), None);
    }
}
