//! Affinity terms, compiled: to nodes (labels and names) and to other pods.

use std::collections::{BTreeMap, BTreeSet};

use api::core::{NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, WeightedPodAffinityTerm};
use machinery::selector::LabelSelector;

use crate::pod::PodInfo;

pub type Labels = BTreeMap<String, String>;

/// `nodeSelector` and `affinity.nodeAffinity`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeAffinity {
    pub selector: Labels,
    /// Alternatives; `None` asks for nothing, an empty list can never be met.
    pub required: Option<Vec<NodeTerm>>,
    pub preferred: Vec<(i32, NodeTerm)>,
}

/// Requirements that hold together. A term without any matches no node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeTerm {
    pub labels: Vec<NodeRequirement>,
    pub fields: Vec<NodeRequirement>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NodeRequirement {
    pub key: String,
    pub test: NodeTest,
}

#[derive(Clone, Debug, PartialEq)]
pub enum NodeTest {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
    /// An operator or operand that has no meaning: matches nothing.
    Invalid,
}

impl NodeTest {
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Self::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::Gt(bound) => number().is_some_and(|n| n > *bound),
            Self::Lt(bound) => number().is_some_and(|n| n < *bound),
            Self::Invalid => false,
        }
    }
}

impl NodeRequirement {
    fn of(requirement: &NodeSelectorRequirement) -> Self {
        let values = requirement.values.clone().unwrap_or_default();
        let bound = || values.first().and_then(|v| v.parse().ok());
        let test = match requirement.operator.as_str() {
            "In" => NodeTest::In(values),
            "NotIn" => NodeTest::NotIn(values),
            "Exists" => NodeTest::Exists,
            "DoesNotExist" => NodeTest::DoesNotExist,
            "Gt" => bound().map_or(NodeTest::Invalid, NodeTest::Gt),
            "Lt" => bound().map_or(NodeTest::Invalid, NodeTest::Lt),
            _ => NodeTest::Invalid,
        };
        Self { key: requirement.key.clone(), test }
    }
}

impl NodeTerm {
    pub fn of(term: &NodeSelectorTerm) -> Self {
        let read = |list: &Option<Vec<NodeSelectorRequirement>>| list.iter().flatten().map(NodeRequirement::of).collect();
        Self { labels: read(&term.match_expressions), fields: read(&term.match_fields) }
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The only nodes this term can match, when it names them (`metadata.name` in one value, as daemon pods have it).
    pub fn named_nodes(&self) -> Option<BTreeSet<&str>> {
        let mut names: Option<BTreeSet<&str>> = None;
        for field in &self.fields {
            let NodeTest::In(values) = &field.test else { continue };
            if field.key != "metadata.name" {
                continue;
            }
            let these: BTreeSet<&str> = values.iter().map(String::as_str).collect();
            names = Some(match names {
                Some(before) => before.intersection(&these).copied().collect(),
                None => these,
            });
        }
        names
    }

    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        !self.is_empty()
            && self.labels.iter().all(|r| r.test.matches(labels.get(&r.key).map(String::as_str)))
            && self.fields.iter().all(|r| r.key == "metadata.name" && r.test.matches(Some(name)))
    }
}

impl NodeAffinity {
    pub fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        Self {
            selector: spec.node_selector.clone().unwrap_or_default(),
            required: affinity
                .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
                .map(|r| r.node_selector_terms.iter().map(NodeTerm::of).collect()),
            preferred: affinity
                .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
                .into_iter()
                .flatten()
                .filter(|p| p.weight != 0)
                .map(|p| (p.weight, NodeTerm::of(&p.preference)))
                .collect(),
        }
    }

    /// The nodes that every alternative names, when all of them name some.
    pub fn named_nodes(&self) -> Option<BTreeSet<&str>> {
        let mut all = BTreeSet::new();
        for term in self.required.as_ref()? {
            all.extend(term.named_nodes()?);
        }
        Some(all)
    }

    /// The hard part.
    pub fn allows(&self, name: &str, labels: &Labels) -> bool {
        self.selector.iter().all(|(k, v)| labels.get(k) == Some(v))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(name, labels)))
    }
}

/// `affinity.podAffinity` and `affinity.podAntiAffinity`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodAffinities {
    pub required: Vec<PodTerm>,
    pub required_anti: Vec<PodTerm>,
    pub preferred: Vec<(i32, PodTerm)>,
    pub preferred_anti: Vec<(i32, PodTerm)>,
}

/// Pods of some namespaces with some labels, in one topology domain.
#[derive(Clone, Debug, PartialEq)]
pub struct PodTerm {
    pub topology_key: String,
    pub namespaces: BTreeSet<String>,
    pub namespace_selector: Option<LabelSelector>,
    /// `None` matches no pod.
    pub selector: Option<LabelSelector>,
}

impl PodTerm {
    fn of(term: &PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Self {
            topology_key: term.topology_key.clone(),
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().and_then(compile),
            selector: term.label_selector.as_ref().and_then(compile),
        }
    }

    /// `namespace_labels` are those of the pod's own namespace.
    pub fn matches(&self, pod: &PodInfo, namespace_labels: &Labels) -> bool {
        (self.namespaces.contains(&pod.key.namespace)
            || self.namespace_selector.as_ref().is_some_and(|s| s.matches(namespace_labels)))
            && self.selector.as_ref().is_some_and(|s| s.matches(&pod.wants.labels))
    }
}

impl PodAffinities {
    pub fn of(spec: &PodSpec, namespace: &str) -> Option<Self> {
        let affinity = spec.affinity.as_ref()?;
        let terms = |list: Option<&Vec<PodAffinityTerm>>| list.into_iter().flatten().map(|t| PodTerm::of(t, namespace)).collect();
        let weighted = |list: Option<&Vec<WeightedPodAffinityTerm>>| {
            list.into_iter().flatten().map(|w| (w.weight, PodTerm::of(&w.pod_affinity_term, namespace))).collect()
        };
        let (near, far) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let all = Self {
            required: terms(near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            required_anti: terms(far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            preferred: weighted(near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())),
            preferred_anti: weighted(far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())),
        };
        (all != Self::default()).then_some(all)
    }
}

/// A selector the API server accepted; one it would refuse matches nothing.
pub fn compile(selector: &api::metav1::LabelSelector) -> Option<LabelSelector> {
    LabelSelector::from_label_selector(&serde_json::to_value(selector).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(affinity: serde_json::Value) -> PodSpec {
        serde_json::from_value(serde_json::json!({"containers": [], "affinity": affinity})).unwrap()
    }

    #[test]
    fn node_requirements() {
        let some = |v: &'static str| Some(v);
        let list = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        for (test, value, expected) in [
            (NodeTest::In(list(&["a", "b"])), some("b"), true),
            (NodeTest::In(list(&["a"])), None, false),
            (NodeTest::NotIn(list(&["a"])), None, true),
            (NodeTest::NotIn(list(&["a"])), some("a"), false),
            (NodeTest::Gt(3), some("4"), true),
            (NodeTest::Gt(3), some("3"), false),
            (NodeTest::Lt(3), some("x"), false),
            (NodeTest::Exists, some(""), true),
            (NodeTest::DoesNotExist, None, true),
            (NodeTest::Invalid, some("a"), false),
        ] {
            assert_eq!(test.matches(value), expected, "{test:?} {value:?}");
        }
    }

    #[test]
    fn terms_are_alternatives_and_an_empty_one_matches_nothing() {
        let affinity =
            NodeAffinity::of(&spec(serde_json::json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{}, {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}})));
        let labels = |zone: &str| Labels::from([("zone".to_owned(), zone.to_owned())]);
        assert!(affinity.allows("n", &labels("a")));
        assert!(!affinity.allows("n", &labels("b")));
        assert_eq!(affinity.named_nodes(), None);
    }

    #[test]
    fn a_daemon_pod_names_its_node() {
        let affinity =
            NodeAffinity::of(&spec(serde_json::json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}})));
        assert_eq!(affinity.named_nodes(), Some(BTreeSet::from(["n1"])));
        assert!(affinity.allows("n1", &Labels::new()) && !affinity.allows("n2", &Labels::new()));
    }

    #[test]
    fn a_pod_term_defaults_to_its_own_namespace() {
        let affinity = PodAffinities::of(
            &spec(serde_json::json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                [{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}}]}})),
            "ns",
        )
        .unwrap();
        let mut pod = PodInfo::default();
        pod.key.namespace = "ns".into();
        pod.wants.labels = Labels::from([("app".into(), "a".into())]);
        assert!(affinity.required_anti[0].matches(&pod, &Labels::new()));
        pod.key.namespace = "other".into();
        assert!(!affinity.required_anti[0].matches(&pod, &Labels::new()));
    }
}
