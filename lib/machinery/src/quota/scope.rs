//! The scopes of a quota: which objects it is about.

use std::fmt;

use serde_json::Value;

/// One requirement of a quota's scopes or scope selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub scope: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// All of a quota's: `spec.scopes` says that something exists.
    pub fn of_quota(quota: &Value) -> Vec<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        let plain = list(&quota["spec"]["scopes"]).into_iter().map(|scope| Self {
            scope,
            operator: Operator::Exists,
            values: Vec::new(),
        });
        plain.chain(Self::of_expressions(&quota["spec"]["scopeSelector"]["matchExpressions"])).collect()
    }

    /// A list of requirements.
    pub fn of_expressions(expressions: &Value) -> Vec<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let requirement = |expression: &Value| {
            let operator = match expression["operator"].as_str() {
                Some("In") => Operator::In,
                Some("NotIn") => Operator::NotIn,
                Some("DoesNotExist") => Operator::DoesNotExist,
                _ => Operator::Exists,
            };
            let values = expression["values"].as_array().into_iter().flatten().map(text).collect();
            Self { scope: text(&expression["scopeName"]), operator, values }
        };
        expressions.as_array().into_iter().flatten().map(requirement).collect()
    }

    pub fn matches_pod(&self, pod: &Value) -> bool {
        match self.scope.as_str() {
            "Terminating" => is_terminating(pod),
            "NotTerminating" => !is_terminating(pod),
            "BestEffort" => is_best_effort(pod),
            "NotBestEffort" => !is_best_effort(pod),
            "PriorityClass" => self.matches_names(pod["spec"]["priorityClassName"].as_str().filter(|name| !name.is_empty())),
            "CrossNamespacePodAffinity" => uses_other_namespaces(&pod["spec"]["affinity"]),
            _ => false,
        }
    }

    /// A PersistentVolumeClaim.
    pub fn matches_claim(&self, claim: &Value) -> bool {
        self.scope == "VolumeAttributesClass" && self.matches_names(attributes_classes(claim))
    }

    fn matches_names<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        let names: Vec<&str> = names.into_iter().collect();
        let listed = |name: &&str| self.values.iter().any(|value| value == name);
        match self.operator {
            Operator::Exists => !names.is_empty(),
            Operator::DoesNotExist => names.is_empty(),
            Operator::In => names.iter().any(listed),
            Operator::NotIn => names.is_empty() || names.iter().any(|name| !listed(name)),
        }
    }
}

impl fmt::Display for Selector {
    /// As Go prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} {:?} [{}]}}", self.scope, self.operator, self.values.join(" "))
    }
}

/// Whether the pod has a time limit.
pub(super) fn is_terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Value) -> bool {
    if let Some(class) = pod["status"]["qosClass"].as_str().filter(|class| !class.is_empty()) {
        return class == "BestEffort";
    }
    let spec = &pod["spec"];
    let asks = |resources: &Value| {
        ["requests", "limits"].iter().any(|bound| {
            let amounts = crate::pod::resources::amounts(&resources[*bound]);
            ["cpu", "memory"].iter().any(|name| amounts.get(*name).is_some_and(|amount| !amount.is_zero()))
        })
    };
    let lists = ["containers", "initContainers"].iter().flat_map(|list| spec[*list].as_array().into_iter().flatten());
    !asks(&spec["resources"]) && !lists.into_iter().any(|container| asks(&container["resources"]))
}

fn uses_other_namespaces(affinity: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let terms = |when: &str| affinity[*kind][when].as_array().into_iter().flatten();
        let required = terms("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = terms("preferredDuringSchedulingIgnoredDuringExecution").map(|term| &term["podAffinityTerm"]);
        required.chain(preferred).any(|term| {
            term["namespaces"].as_array().is_some_and(|namespaces| !namespaces.is_empty()) || !term["namespaceSelector"].is_null()
        })
    })
}

/// The classes that a claim has, asks for, or is on its way to.
pub(super) fn attributes_classes(claim: &Value) -> impl Iterator<Item = &str> {
    [
        &claim["spec"]["volumeAttributesClassName"],
        &claim["status"]["currentVolumeAttributesClassName"],
        &claim["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ]
    .into_iter()
    .filter_map(Value::as_str)
    .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: Value, object: Value, expected: bool) {
        let selectors = Selector::of_quota(&json!({"spec": spec}));
        assert!(!selectors.is_empty());
        let matches = selectors.iter().all(|selector| selector.matches_pod(&object) || selector.matches_claim(&object));
        assert_eq!(matches, expected, "{spec} {object}");
    }

    #[test]
    fn scopes() {
        let pod = |spec: Value| json!({ "spec": spec });
        check(json!({"scopes": ["Terminating"]}), pod(json!({"activeDeadlineSeconds": 5})), true);
        check(json!({"scopes": ["Terminating"]}), pod(json!({})), false);
        check(json!({"scopes": ["NotTerminating"]}), pod(json!({})), true);
        let burst = json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]});
        check(json!({"scopes": ["BestEffort"]}), pod(burst.clone()), false);
        check(json!({"scopes": ["NotBestEffort"]}), pod(burst), true);
        check(json!({"scopes": ["BestEffort", "NotTerminating"]}), pod(json!({"containers": [{}]})), true);
        let term = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "podAffinityTerm": {"namespaceSelector": {}}}]}});
        check(json!({"scopes": ["CrossNamespacePodAffinity"]}), pod(json!({"affinity": term})), true);
        check(json!({"scopes": ["CrossNamespacePodAffinity"]}), pod(json!({})), false);
    }

    #[test]
    fn selectors() {
        let quota = |scope: &str, operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]}});
        let pod = |class: &str| json!({"spec": {"priorityClassName": class}});
        for (operator, class, expected) in [
            ("In", "high", true),
            ("In", "low", false),
            ("In", "", false),
            ("NotIn", "low", true),
            ("NotIn", "high", false),
            ("NotIn", "", true),
            ("Exists", "low", true),
            ("Exists", "", false),
            ("DoesNotExist", "", true),
        ] {
            check(quota("PriorityClass", operator, json!(["high"])), pod(class), expected);
        }
        let claim =
            json!({"spec": {"volumeAttributesClassName": "gold"}, "status": {"currentVolumeAttributesClassName": "iron"}});
        check(quota("VolumeAttributesClass", "In", json!(["iron"])), claim.clone(), true);
        check(quota("VolumeAttributesClass", "In", json!(["tin"])), claim, false);
    }
}
