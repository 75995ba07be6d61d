//! DefaultTolerationSeconds: pods tolerate a lost node for five minutes unless they say otherwise.

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, _old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let concerns = request.is("", "pods") && matches!(request.operation, Operation::Create | Operation::Update);
        if concerns {
            add(pod);
        }
        Ok(())
    }
}

fn add(pod: &mut Value) {
    let spec = meta::as_object_mut(meta::as_object_mut(pod).entry("spec").or_insert(Value::Null));
    let mut tolerations = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = tolerations.len();
    for taint in TAINTS {
        let tolerated = tolerations[..before].iter().any(|toleration| {
            let text = |field: &str| toleration[field].as_str().unwrap_or_default();
            (text("key") == taint || text("key").is_empty()) && matches!(text("effect"), "NoExecute" | "")
        });
        if !tolerated {
            tolerations.push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
    }
    if tolerations.len() > before {
        spec.insert("tolerations".to_owned(), Value::Array(tolerations));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added() {
        let check = |tolerations: Value, added: usize| {
            let mut pod = json!({"spec": {"tolerations": tolerations}});
            let before = pod["spec"]["tolerations"].as_array().map_or(0, Vec::len);
            add(&mut pod);
            assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len() - before, added);
        };
        check(json!([]), 2);
        check(json!([{"operator": "Exists"}]), 0);
        check(json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]), 1);
        check(json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}]), 2);
    }
}
