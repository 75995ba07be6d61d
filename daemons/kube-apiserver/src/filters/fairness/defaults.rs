//! The FlowSchemas and PriorityLevelConfigurations that every cluster has, as upstream's.

use serde_json::{Value, json};

use super::config::{CATCH_ALL, EXEMPT, GROUP};

const EVERYBODY: [&str; 2] = ["g:system:unauthenticated", "g:system:authenticated"];

/// What no cluster can be without: administrators wait for nobody, and whoever is left gets something.
pub fn mandatory() -> Vec<Value> {
    vec![
        level(EXEMPT, json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})),
        level(
            CATCH_ALL,
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}}),
        ),
        schema(EXEMPT, EXEMPT, 1, None, &["g:system:masters"], everything()),
        schema(CATCH_ALL, CATCH_ALL, 10_000, Some("ByUser"), &EVERYBODY, everything()),
    ]
}

/// What an administrator may change.
pub fn suggested() -> Vec<Value> {
    let queued = |name, shares, lendable, queues, hand| {
        level(
            name,
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable,
                "limitResponse": {"type": "Queue",
                    "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}}}}),
        )
    };
    let leases = resources(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false);
    let node_objects = resources(&["*"], "", &["nodes", "nodes/status"], true);
    let node_leases = resources(&["*"], "coordination.k8s.io", &["leases"], false);
    let probes = json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    const KCM: &str = "u:system:kube-controller-manager";
    const SCHEDULER: &str = "u:system:kube-scheduler";
    const SYSTEM_ACCOUNTS: &str = "sa:kube-system/*";
    vec![
        queued("system", 30, 33, 64, 6),
        queued("node-high", 40, 25, 64, 6),
        queued("leader-election", 10, 0, 16, 4),
        queued("workload-high", 40, 50, 128, 6),
        queued("workload-low", 100, 90, 128, 6),
        queued("global-default", 20, 50, 128, 6),
        schema("probes", EXEMPT, 2, None, &EVERYBODY, probes),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            Some("ByUser"),
            &[KCM, SCHEDULER, SYSTEM_ACCOUNTS],
            json!({"resourceRules": [leases]}),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            Some("ByUser"),
            &["g:system:nodes"],
            json!({"resourceRules": [node_objects, node_leases]}),
        ),
        schema("system-nodes", "system", 500, Some("ByUser"), &["g:system:nodes"], everything()),
        schema("kube-controller-manager", "workload-high", 800, Some("ByNamespace"), &[KCM], everything()),
        schema("kube-scheduler", "workload-high", 800, Some("ByNamespace"), &[SCHEDULER], everything()),
        schema("kube-system-service-accounts", "workload-high", 900, Some("ByNamespace"), &[SYSTEM_ACCOUNTS], everything()),
        schema("service-accounts", "workload-low", 9000, Some("ByUser"), &["g:system:serviceaccounts"], everything()),
        schema("global-default", "global-default", 9900, Some("ByUser"), &EVERYBODY, everything()),
    ]
}

#[cfg(test)]
pub fn all() -> Vec<Value> {
    mandatory().into_iter().chain(suggested()).collect()
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}})
}

fn level(name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "PriorityLevelConfiguration", "metadata": metadata(name), "spec": spec})
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster_scope {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn everything() -> Value {
    json!({"resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
}

/// Subjects are `u:USER`, `g:GROUP`, `sa:NAMESPACE/NAME`.
fn schema(name: &str, level: &str, precedence: i32, distinguisher: Option<&str>, subjects: &[&str], rule: Value) -> Value {
    let subject = |text: &&str| match text.split_once(':') {
        Some(("g", name)) => json!({"kind": "Group", "group": {"name": name}}),
        Some(("sa", name)) => {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}})
        }
        Some((_, name)) => json!({"kind": "User", "user": {"name": name}}),
        None => json!({"kind": "User", "user": {"name": text}}),
    };
    let mut rule = rule;
    rule["subjects"] = subjects.iter().map(subject).collect();
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule]});
    if let Some(kind) = distinguisher {
        spec["distinguisherMethod"] = json!({"type": kind});
    }
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "FlowSchema", "metadata": metadata(name), "spec": spec})
}
