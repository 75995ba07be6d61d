//! DefaultTolerationSeconds: pods tolerate a lost node for five minutes unless they say otherwise.

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

/// The plugin: how long a pod stays on a node that is not ready, and on one that does not answer, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultTolerationSeconds {
    pub not_ready: i64,
    pub unreachable: i64,
}

impl Default for DefaultTolerationSeconds {
    fn default() -> Self {
        Self { not_ready: 300, unreachable: 300 }
    }
}

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, _old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let concerns = request.is("", "pods") && matches!(request.operation, Operation::Create | Operation::Update);
        if concerns {
            self.add(pod);
        }
        Ok(())
    }
}

impl DefaultTolerationSeconds {
    fn add(self, pod: &mut Value) {
        let spec = meta::as_object_mut(meta::as_object_mut(pod).entry("spec").or_insert(Value::Null));
        let mut tolerations = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
        let before = tolerations.len();
        let taints = [("node.kubernetes.io/not-ready", self.not_ready), ("node.kubernetes.io/unreachable", self.unreachable)];
        for (taint, seconds) in taints {
            let tolerated = tolerations[..before].iter().any(|toleration| {
                let text = |field: &str| toleration[field].as_str().unwrap_or_default();
                (text("key") == taint || text("key").is_empty()) && matches!(text("effect"), "NoExecute" | "")
            });
            if !tolerated {
                tolerations
                    .push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}));
            }
        }
        if tolerations.len() > before {
            spec.insert("tolerations".to_owned(), Value::Array(tolerations));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added() {
        let check = |tolerations: Value, added: &[i64]| {
            let mut pod = json!({"spec": {"tolerations": tolerations}});
            let before = pod["spec"]["tolerations"].as_array().map_or(0, Vec::len);
            DefaultTolerationSeconds { not_ready: 60, unreachable: 30 }.add(&mut pod);
            let seconds =
                pod["spec"]["tolerations"].as_array().unwrap()[before..].iter().map(|t| t["tolerationSeconds"].as_i64().unwrap());
            assert_eq!(seconds.collect::<Vec<_>>(), added);
        };
        check(json!([]), &[60, 30]);
        check(json!([{"operator": "Exists"}]), &[]);
        check(json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]), &[30]);
        check(json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}]), &[60, 30]);
    }
}
