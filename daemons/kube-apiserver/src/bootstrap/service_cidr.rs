//! The ServiceCIDR `kubernetes`: the range that the flags give, which is ready from the start.

use machinery::status::Status;
use serde_json::{Value, json};

use super::{ensure as ensure_object, stored};
use crate::registry::Context;
use crate::registry::update::{Changed, Target};
use crate::server::Server;
use crate::service_ip::ServiceNetwork;

const NAME: &str = "kubernetes";

pub async fn ensure(server: &Server, network: &ServiceNetwork) -> Result<(), Status> {
    let cidrs: Vec<String> = network.ranges.iter().map(ToString::to_string).collect();
    let range = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": NAME}, "spec": {"cidrs": cidrs}});
    ensure_object(server, "networking.k8s.io", "servicecidrs", range).await?;
    let served = stored(&server.registry, "networking.k8s.io", "servicecidrs")?;
    let target = Target { served: &served, namespace: "", name: NAME, subresource: "status" };
    let now = (server.now)();
    let make = |old: Option<&Value>| Ok(Changed::Object(ready(old.unwrap_or(&Value::Null), &machinery::time::format(now))));
    match server.registry.modify(&Context::server(now), target, &make, false).await {
        Err(status) if status.code() != 409 => Err(status),
        _ => Ok(()),
    }
}

/// The same range with the condition that it can be used, which keeps its time when it was there.
fn ready(range: &Value, now: &str) -> Value {
    let mut range = range.clone();
    let conditions = range["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    if conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
        return range;
    }
    let condition = json!({"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": now});
    range["status"] = json!({"conditions": [condition]});
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_set_once() {
        let first = ready(&json!({"spec": {"cidrs": ["10.0.0.0/16"]}}), "2026-01-01T00:00:00Z");
        assert_eq!(first["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(ready(&first, "2026-01-02T00:00:00Z"), first);
    }
}
