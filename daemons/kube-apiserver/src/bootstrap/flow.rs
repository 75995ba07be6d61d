//! The two mandatory pairs of FlowSchema and PriorityLevelConfiguration. Clients expect them; this server's fairness has
//! fixed lanes of the same meaning.

use machinery::status::Status;
use serde_json::{Value, json};

use crate::server::Server;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

pub(super) async fn ensure(server: &Server) -> Result<(), Status> {
    for level in [
        level("exempt", json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})),
        level(
            "catch-all",
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}}),
        ),
    ] {
        super::ensure(server, GROUP, "prioritylevelconfigurations", level).await?;
    }
    for schema in [
        flow("exempt", "exempt", 1, None, &["system:masters"]),
        flow("catch-all", "catch-all", 10_000, Some("ByUser"), &["system:unauthenticated", "system:authenticated"]),
    ] {
        super::ensure(server, GROUP, "flowschemas", schema).await?;
    }
    Ok(())
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}})
}

fn level(name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "PriorityLevelConfiguration", "metadata": metadata(name), "spec": spec})
}

fn flow(name: &str, level: &str, precedence: i32, distinguisher: Option<&str>, groups: &[&str]) -> Value {
    let subjects: Vec<Value> = groups.iter().map(|group| json!({"kind": "Group", "group": {"name": group}})).collect();
    let rules = json!([{"subjects": subjects,
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]);
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": rules});
    if let Some(kind) = distinguisher {
        spec["distinguisherMethod"] = json!({"type": kind});
    }
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "FlowSchema", "metadata": metadata(name), "spec": spec})
}
