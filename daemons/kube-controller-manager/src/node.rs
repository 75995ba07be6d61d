//! Facts about nodes that several controllers ask for.

use api::Kind;
use api::core::{Node, NodeCondition, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};

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

/// Any term will do; a term without requirements matches nothing.
pub(crate) fn matches_selector(node: &Node, selector: &NodeSelector) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(node, term))
}

fn matches_term(node: &Node, term: &NodeSelectorTerm) -> bool {
    let labels = node.metadata.labels.as_ref();
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let field = |key: &str| (key == "metadata.name").then_some(node.name());
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| matches_requirement(r, labels.and_then(|l| l.get(&r.key)).map(String::as_str)))
        && fields.iter().all(|r| matches_requirement(r, field(&r.key)))
}

fn matches_requirement(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|v| v == value);
    let compared = |order: std::cmp::Ordering| {
        let numbers = value.and_then(|v| v.parse::<i64>().ok()).zip(values.first().and_then(|v| v.parse::<i64>().ok()));
        numbers.is_some_and(|(have, than)| have.cmp(&than) == order)
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(std::cmp::Ordering::Greater),
        "Lt" => compared(std::cmp::Ordering::Less),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::metav1::ObjectMeta;

    #[test]
    fn node_selectors() {
        let node = Node {
            metadata: ObjectMeta {
                name: Some("n1".into()),
                labels: Some([("zone".into(), "a".into()), ("cpus".into(), "8".into())].into()),
                ..ObjectMeta::default()
            },
            ..Node::default()
        };
        let requirement = |key: &str, operator: &str, values: &[&str]| NodeSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
        };
        for (key, operator, values, want) in [
            ("zone", "In", &["a", "b"][..], true),
            ("zone", "In", &["b"], false),
            ("zone", "NotIn", &["b"], true),
            ("none", "NotIn", &["b"], true),
            ("zone", "Exists", &[], true),
            ("none", "DoesNotExist", &[], true),
            ("cpus", "Gt", &["4"], true),
            ("cpus", "Gt", &["8"], false),
            ("cpus", "Lt", &["16"], true),
            ("zone", "Lt", &["16"], false),
            ("zone", "Near", &["a"], false),
        ] {
            let term = NodeSelectorTerm { match_expressions: Some(vec![requirement(key, operator, values)]), match_fields: None };
            assert_eq!(matches_term(&node, &term), want, "{key} {operator} {values:?}");
        }
        let by_name = |name: &str| NodeSelectorTerm {
            match_expressions: None,
            match_fields: Some(vec![requirement("metadata.name", "In", &[name])]),
        };
        let selector = |terms| NodeSelector { node_selector_terms: terms };
        assert!(matches_selector(&node, &selector(vec![by_name("other"), by_name("n1")])));
        assert!(!matches_selector(&node, &selector(vec![NodeSelectorTerm::default()])));
        assert!(!matches_selector(&node, &selector(vec![])));
    }

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
