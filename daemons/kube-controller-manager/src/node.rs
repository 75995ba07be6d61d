//! Facts about nodes that several controllers ask for.

use api::core::{Node, NodeCondition, Taint, Toleration};

/// As whom the controllers of nodes act.
pub(crate) const IDENTITY: &str = "node-controller";

pub(crate) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == kind)
}

pub(crate) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

/// Key and effect, by which taints of one node differ.
pub(crate) fn is_same_taint(a: &Taint, b: &Taint) -> bool {
    a.key == b.key && a.effect == b.effect
}

pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |v: &Option<String>| v.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        Some("Exists") => true,
        // An operator of a later version: it is not for us to say what it tolerates.
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations() {
        let taint = Taint { key: "a".into(), value: Some("1".into()), effect: "NoExecute".into(), ..Taint::default() };
        for (key, operator, value, effect, want) in [
            ("a", "", "1", "", true),
            ("a", "Equal", "1", "NoExecute", true),
            ("a", "Equal", "2", "NoExecute", false),
            ("a", "Exists", "", "", true),
            ("a", "Exists", "", "NoSchedule", false),
            ("", "Exists", "", "", true),
            ("", "Exists", "", "NoExecute", true),
            ("b", "Exists", "", "", false),
            ("", "", "1", "", false),
            ("a", "Gt", "0", "", false),
        ] {
            let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
            let toleration = Toleration {
                key: some(key),
                operator: some(operator),
                value: some(value),
                effect: some(effect),
                toleration_seconds: None,
            };
            assert_eq!(tolerates(&toleration, &taint), want, "{toleration:?}");
        }
    }
}
