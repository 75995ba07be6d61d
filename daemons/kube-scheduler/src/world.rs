//! [`World`]: the objects besides nodes and pods that placement depends on.

use std::collections::{BTreeMap, BTreeSet};

use api::Kind;
use api::core::{PersistentVolume, PersistentVolumeClaim, Service};
use machinery::selector::LabelSelector;

use crate::affinity::{Labels, NodeTerm, compile};
use crate::counts::NO_LABELS;
use crate::pod::PodInfo;

type Key = (String, String);

/// Selects pods that should be spread because one object stands for all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub kind: WorkloadKind,
    pub selector: LabelSelector,
    pub uid: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkloadKind {
    Service,
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

/// A PodDisruptionBudget's present state.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    pub selector: LabelSelector,
    pub allowed: i32,
    pub already_disrupted: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub volume: String,
    /// `pv.kubernetes.io/bind-completed` is set and a volume named.
    pub bound: bool,
    pub class: String,
    pub selected_node: String,
    pub deleting: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Where it can be used; `None` is everywhere.
    pub nodes: Option<Vec<NodeTerm>>,
    pub class: String,
    pub available: bool,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    namespaces: BTreeMap<String, Labels>,
    /// By namespace, then by kind and name.
    workloads: BTreeMap<String, BTreeMap<(WorkloadKind, String), Workload>>,
    budgets: BTreeMap<Key, Budget>,
    claims: BTreeMap<Key, Claim>,
    volumes: BTreeMap<String, Volume>,
    /// Storage classes, by name: whether they bind on first use.
    classes: BTreeMap<String, bool>,
}

impl World {
    pub fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.namespaces.get(namespace).unwrap_or(&NO_LABELS)
    }

    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
    }

    /// The namespaces a selector means today; `None` is all of them.
    pub fn namespaces(&self, selector: &LabelSelector) -> Option<BTreeSet<String>> {
        let chosen: BTreeSet<String> =
            self.namespaces.iter().filter(|(_, labels)| selector.matches(labels)).map(|(name, _)| name.clone()).collect();
        (chosen.len() < self.namespaces.len() || self.namespaces.is_empty()).then_some(chosen)
    }

    pub fn set_workload(&mut self, kind: WorkloadKind, namespace: &str, name: &str, workload: Option<Workload>) {
        let of_namespace = self.workloads.entry(namespace.to_owned()).or_default();
        match workload {
            Some(workload) => of_namespace.insert((kind, name.to_owned()), workload),
            None => of_namespace.remove(&(kind, name.to_owned())),
        };
        if of_namespace.is_empty() {
            self.workloads.remove(namespace);
        }
    }

    pub fn set_service(&mut self, service: &Service, gone: bool) {
        let selector = service.spec.as_ref().and_then(|s| s.selector.clone()).filter(|s| !s.is_empty() && !gone);
        let workload = selector.and_then(|labels| {
            let selector = compile(&api::metav1::LabelSelector { match_labels: Some(labels), match_expressions: None })?;
            Some(Workload { kind: WorkloadKind::Service, selector, uid: service.uid().to_owned() })
        });
        self.set_workload(WorkloadKind::Service, service.namespace(), service.name(), workload);
    }

    /// All that select the pod: services, and its own controller.
    pub fn workloads_of<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = &'a Workload> {
        let controller = pod.wants.controller.as_ref().map_or("", |c| c.uid.as_str());
        self.workloads
            .get(&pod.key.namespace)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(move |w| w.uid == controller || (w.kind == WorkloadKind::Service && w.selector.matches(&pod.wants.labels)))
    }

    pub fn set_budget(&mut self, namespace: &str, name: &str, budget: Option<Budget>) {
        let key = (namespace.to_owned(), name.to_owned());
        match budget {
            Some(budget) => self.budgets.insert(key, budget),
            None => self.budgets.remove(&key),
        };
    }

    pub fn budgets(&self, namespace: &str) -> impl Iterator<Item = &Budget> {
        self.budgets.iter().filter(move |((ns, _), _)| ns == namespace).map(|(_, budget)| budget)
    }

    pub fn set_claim(&mut self, claim: &PersistentVolumeClaim, gone: bool) {
        let key = (claim.namespace().to_owned(), claim.name().to_owned());
        if gone {
            self.claims.remove(&key);
            return;
        }
        let spec = claim.spec.clone().unwrap_or_default();
        let annotations = claim.meta().annotations.clone().unwrap_or_default();
        let volume = spec.volume_name.unwrap_or_default();
        let read = Claim {
            bound: !volume.is_empty() && annotations.contains_key("pv.kubernetes.io/bind-completed"),
            volume,
            class: spec.storage_class_name.unwrap_or_default(),
            selected_node: annotations.get("volume.kubernetes.io/selected-node").cloned().unwrap_or_default(),
            deleting: claim.meta().deletion_timestamp.is_some(),
        };
        self.claims.insert(key, read);
    }

    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Claim> {
        self.claims.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub fn set_volume(&mut self, volume: &PersistentVolume, gone: bool) {
        if gone {
            self.volumes.remove(volume.name());
            return;
        }
        let spec = volume.spec.clone().unwrap_or_default();
        let read = Volume {
            nodes: spec.node_affinity.and_then(|a| a.required).map(|r| r.node_selector_terms.iter().map(NodeTerm::of).collect()),
            class: spec.storage_class_name.unwrap_or_default(),
            available: spec.claim_ref.is_none()
                && volume.status.as_ref().and_then(|s| s.phase.as_deref()).is_none_or(|p| p == "Available"),
        };
        self.volumes.insert(volume.name().to_owned(), read);
    }

    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.get(name)
    }

    pub fn set_class(&mut self, name: &str, waits_for_consumer: Option<bool>) {
        match waits_for_consumer {
            Some(waits) => self.classes.insert(name.to_owned(), waits),
            None => self.classes.remove(name),
        };
    }

    pub fn class_waits(&self, name: &str) -> bool {
        self.classes.get(name).copied().unwrap_or(false)
    }
}
