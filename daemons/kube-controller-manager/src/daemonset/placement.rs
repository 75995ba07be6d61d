//! On which nodes a DaemonSet's pods belong, and how a pod is bound to its node. Pure.

use std::collections::BTreeMap;

use api::Kind;
use api::apps::DaemonSet;
use api::core::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use crate::node::{matches_selector, taints, tolerates};
use crate::{owner, pod};

pub(super) use crate::history::HASH_LABEL;
const GENERATION_LABEL: &str = "pod-template-generation";
/// Where the API server keeps a field of a long gone version.
const GENERATION: &str = "deprecated.daemonset.template.generation";

/// Whether a node is one of the DaemonSet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Runs,
    /// No new pod, because of a taint; one that is there may stay.
    Stays,
    No,
}

/// Tolerations that a DaemonSet's pods have in any case: they are what makes a node work.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NO_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    for (key, effect) in TOLERATED.into_iter().chain(host_network.then_some(NO_NETWORK)) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            value: None,
            toleration_seconds: None,
        };
        // The same but for its seconds gives way.
        let same = |t: &Toleration| Toleration { toleration_seconds: None, ..t.clone() } == toleration;
        match all.iter_mut().find(|t| same(t)) {
            Some(t) => *t = toleration,
            None => all.push(toleration),
        }
    }
    all
}

/// Judges many nodes for one DaemonSet.
pub(super) struct Judge {
    spec: PodSpec,
    tolerations: Vec<Toleration>,
}

impl Judge {
    pub(super) fn new(set: &DaemonSet) -> Self {
        let spec = set.spec.as_ref().and_then(|s| s.template.spec.clone()).unwrap_or_default();
        let tolerations = tolerations(&spec);
        Self { spec, tolerations }
    }

    pub(super) fn fit(&self, node: &Node) -> Fit {
        if !self.selects(node) {
            return Fit::No;
        }
        let untolerated = |effect: &str| {
            let mut of_effect = taints(node).iter().filter(|t| t.effect == effect);
            of_effect.any(|taint| !self.tolerations.iter().any(|t| tolerates(t, taint)))
        };
        match (untolerated("NoExecute"), untolerated("NoSchedule")) {
            (true, _) => Fit::No,
            (false, true) => Fit::Stays,
            (false, false) => Fit::Runs,
        }
    }

    fn selects(&self, node: &Node) -> bool {
        let named = self.spec.node_name.as_deref().filter(|n| !n.is_empty());
        let labels = node.metadata.labels.as_ref();
        let mut wanted = self.spec.node_selector.iter().flatten();
        let affinity = self.spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        named.is_none_or(|n| n == node.name())
            && wanted.all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
            && required.is_none_or(|selector| matches_selector(node, selector))
    }
}

/// A new pod of the DaemonSet, bound to the node by affinity, so that the scheduler places it.
pub(super) fn pod_for(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let mut pod = pod::from_template(&template, set, owner::controller_ref(set));
    let labels: &mut BTreeMap<String, String> = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.into());
    if let Some(generation) = set.metadata.annotations.as_ref().and_then(|a| a.get(GENERATION)) {
        labels.insert(GENERATION_LABEL.into(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    bind(spec, node);
    pod
}

fn bind(spec: &mut PodSpec, node: &str) {
    let term = NodeSelectorTerm {
        match_expressions: None,
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec![node.to_owned()]),
        }]),
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a pod is on, or meant for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return Some(node);
    }
    let required =
        spec.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    fields.filter(|r| r.key == "metadata.name" && r.operator == "In").find_map(|r| match r.values.as_deref() {
        Some([node]) => Some(node.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::apps::DaemonSetSpec;
    use api::core::{NodeSpec, PodTemplateSpec, Taint};
    use api::metav1::ObjectMeta;

    fn set(spec: PodSpec) -> DaemonSet {
        DaemonSet {
            metadata: ObjectMeta { name: Some("agent".into()), uid: Some("ds".into()), ..ObjectMeta::default() },
            spec: Some(DaemonSetSpec {
                template: PodTemplateSpec { metadata: None, spec: Some(spec) },
                ..DaemonSetSpec::default()
            }),
            status: None,
        }
    }

    fn node(taints: &[(&str, &str)]) -> Node {
        let taint = |(key, effect): &(&str, &str)| Taint { key: (*key).into(), effect: (*effect).into(), ..Taint::default() };
        Node {
            metadata: ObjectMeta {
                name: Some("n1".into()),
                labels: Some([("disk".into(), "ssd".into())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec { taints: Some(taints.iter().map(taint).collect()), ..NodeSpec::default() }),
            status: None,
        }
    }

    #[test]
    fn which_nodes() {
        let plain = PodSpec::default();
        let check = |spec: &PodSpec, taints: &[(&str, &str)], want| {
            assert_eq!(Judge::new(&set(spec.clone())).fit(&node(taints)), want, "{taints:?}");
        };
        check(&plain, &[], Fit::Runs);
        check(
            &plain,
            &[("node.kubernetes.io/not-ready", "NoExecute"), ("node.kubernetes.io/unschedulable", "NoSchedule")],
            Fit::Runs,
        );
        check(&plain, &[("node.kubernetes.io/not-ready", "NoSchedule")], Fit::Stays);
        check(&plain, &[("own", "NoSchedule")], Fit::Stays);
        check(&plain, &[("own", "NoExecute")], Fit::No);
        check(&plain, &[("own", "PreferNoSchedule")], Fit::Runs);
        check(&plain, &[("node.kubernetes.io/network-unavailable", "NoSchedule")], Fit::Stays);
        let host = PodSpec { host_network: Some(true), ..PodSpec::default() };
        check(&host, &[("node.kubernetes.io/network-unavailable", "NoSchedule")], Fit::Runs);
        let selects = |value: &str| PodSpec { node_selector: Some([("disk".into(), value.into())].into()), ..PodSpec::default() };
        check(&selects("ssd"), &[], Fit::Runs);
        check(&selects("hdd"), &[], Fit::No);
        check(&PodSpec { node_name: Some("n2".into()), ..PodSpec::default() }, &[], Fit::No);
        let mut affine = PodSpec::default();
        bind(&mut affine, "n2");
        check(&affine, &[], Fit::No);
    }

    #[test]
    fn a_pod_is_bound_to_its_node() {
        let pod = pod_for(&set(PodSpec::default()), "n7", "abc");
        assert_eq!(target(&pod), Some("n7"));
        assert_eq!(pod.metadata.labels.as_ref().unwrap()[HASH_LABEL], "abc");
        assert_eq!(pod.spec.as_ref().unwrap().tolerations.as_ref().unwrap().len(), TOLERATED.len());
        assert_eq!(target(&Pod::default()), None);
    }

    #[test]
    fn a_toleration_for_a_while_becomes_one_for_ever() {
        let short = Toleration {
            key: Some("node.kubernetes.io/not-ready".into()),
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            toleration_seconds: Some(300),
            value: None,
        };
        let all = tolerations(&PodSpec { tolerations: Some(vec![short]), ..PodSpec::default() });
        assert_eq!(all.len(), TOLERATED.len());
        assert!(all.iter().all(|t| t.toleration_seconds.is_none()));
    }
}
