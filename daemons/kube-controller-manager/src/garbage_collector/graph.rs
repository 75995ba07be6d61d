//! Who owns whom, over all resources: a graph of uids fed by watches. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use api::{Meta, OwnerRef, ResourceId};

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// An object as the graph knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub resource: Arc<ResourceId>,
    pub namespace: String,
    pub name: String,
    pub owners: Vec<OwnerRef>,
    pub deleting: bool,
    pub stage: Stage,
}

/// What a deletion waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not being deleted, or nothing that concerns dependents.
    None,
    /// `propagationPolicy: Foreground`: the dependents go first.
    AwaitsDependents,
    /// `propagationPolicy: Orphan`: the dependents are set free first.
    Orphans,
}

impl Stage {
    pub(super) fn of(meta: &Meta) -> Self {
        let has = |finalizer: &str| meta.deleting && meta.finalizers.iter().any(|f| f == finalizer);
        if has(ORPHAN) {
            Self::Orphans
        } else if has(FOREGROUND) {
            Self::AwaitsDependents
        } else {
            Self::None
        }
    }
}

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Work {
    /// Whether this object may live.
    Check(String),
    /// Set the dependents of this object free.
    Orphan(String),
}

#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    /// By owner's uid, whether the owner is known or not.
    dependents: HashMap<String, BTreeSet<String>>,
    absent: Absent,
}

impl Graph {
    /// An object was seen, new or changed.
    pub(super) fn observe(&mut self, resource: &Arc<ResourceId>, meta: &Meta) -> Vec<Work> {
        let uid = &meta.uid;
        let node = Node {
            resource: resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            owners: meta.owners.clone(),
            deleting: meta.deleting,
            stage: Stage::of(meta),
        };
        self.absent.remove(uid);
        let old = self.nodes.insert(uid.clone(), node.clone());
        let mut work = Vec::new();
        let old_owners = old.as_ref().map(|o| o.owners.clone()).unwrap_or_default();
        for owner in &old_owners {
            if !node.owners.iter().any(|o| o.uid == owner.uid) {
                self.unlink(&owner.uid, uid);
            }
            // An owner that awaited this one may wait no more.
            if !node.owners.contains(owner) && self.stage(&owner.uid) == Stage::AwaitsDependents {
                work.push(Work::Check(owner.uid.clone()));
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        if old.is_none() || old_owners != node.owners {
            let unsure = |o: &OwnerRef| self.nodes.get(&o.uid).is_none_or(|n| n.stage == Stage::AwaitsDependents);
            if node.owners.iter().any(unsure) {
                work.push(Work::Check(uid.clone()));
            }
        }
        let old_stage = old.map_or(Stage::None, |o| o.stage);
        match node.stage {
            Stage::Orphans if old_stage != Stage::Orphans => work.push(Work::Orphan(uid.clone())),
            Stage::AwaitsDependents if old_stage != Stage::AwaitsDependents => {
                work.extend(self.dependents(uid).map(|d| Work::Check(d.clone())));
                work.push(Work::Check(uid.clone()));
            }
            _ => {}
        }
        work
    }

    /// An object is gone.
    pub(super) fn gone(&mut self, uid: &str) -> Vec<Work> {
        self.absent.insert(uid);
        let mut work: Vec<Work> = self.dependents(uid).map(|d| Work::Check(d.clone())).collect();
        let Some(node) = self.nodes.remove(uid) else { return work };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            if self.stage(&owner.uid) == Stage::AwaitsDependents {
                work.push(Work::Check(owner.uid.clone()));
            }
        }
        work
    }

    pub(super) fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &String> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// The dependents that their owner's foreground deletion waits for.
    pub(super) fn blocking_dependents(&self, uid: &str) -> Vec<(String, Node)> {
        let blocks = |node: &Node| node.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion);
        let nodes = self.dependents(uid).filter_map(|d| Some((d.clone(), self.nodes.get(d)?.clone())));
        nodes.filter(|(_, node)| blocks(node)).collect()
    }

    /// What the graph alone says about an owner.
    pub(super) fn owner(&self, uid: &str) -> Known {
        match self.nodes.get(uid) {
            Some(node) if node.stage == Stage::AwaitsDependents => Known::AwaitsDependents,
            Some(_) => Known::Lives,
            None if self.absent.contains(uid) => Known::Gone,
            None => Known::Unknown,
        }
    }

    /// The server says there is no such owner.
    pub(super) fn note_absent(&mut self, uid: &str) {
        self.absent.insert(uid);
    }

    /// Uids of the objects of a resource that is no longer watched.
    pub(super) fn of_resource(&self, resource: &ResourceId) -> Vec<String> {
        self.nodes.iter().filter(|(_, n)| *n.resource == *resource).map(|(uid, _)| uid.clone()).collect()
    }

    fn stage(&self, uid: &str) -> Stage {
        self.nodes.get(uid).map_or(Stage::None, |n| n.stage)
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(dependent);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Lives,
    AwaitsDependents,
    /// A uid never comes back.
    Gone,
    /// Not watched, or not seen yet: the server must be asked.
    Unknown,
}

/// The uids last known to be gone, so that the server is not asked again for each of a dead owner's dependents.
#[derive(Default)]
struct Absent {
    set: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Absent {
    const MAX: usize = 2000;

    fn insert(&mut self, uid: &str) {
        if self.set.insert(uid.to_owned()) {
            self.order.push_back(uid.to_owned());
        }
        if self.order.len() > Self::MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }

    fn remove(&mut self, uid: &str) {
        if self.set.remove(uid) {
            self.order.retain(|u| u != uid);
        }
    }

    fn contains(&self, uid: &str) -> bool {
        self.set.contains(uid)
    }
}

/// What is to become of an object, by its live owners. Decided when every owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Lives,
    /// It has a living owner: only the references to dead and dying ones go.
    Trim,
    /// To be deleted, its own dependents first, since its owner waits for it.
    DeleteForeground,
    /// To be deleted as its own finalizers say.
    Delete,
}

pub(super) fn judge(owners: &[Known], has_dependents: bool) -> Verdict {
    let count = |known: Known| owners.iter().filter(|o| **o == known).count();
    let (living, waiting) = (count(Known::Lives) + count(Known::Unknown), count(Known::AwaitsDependents));
    let dead = count(Known::Gone);
    match (living, waiting, dead) {
        (_, 0, 0) => Verdict::Lives,
        (1.., _, _) => Verdict::Trim,
        (0, 1.., _) if has_dependents => Verdict::DeleteForeground,
        _ => Verdict::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource() -> Arc<ResourceId> {
        Arc::new(ResourceId {
            group: "apps".into(),
            version: "v1".into(),
            kind: "ReplicaSet".into(),
            plural: "replicasets".into(),
            namespaced: true,
        })
    }

    fn meta(uid: &str, owners: &[&str]) -> Meta {
        let owner = |uid: &&str| OwnerRef { uid: (*uid).into(), block_owner_deletion: true, ..OwnerRef::default() };
        Meta { uid: uid.into(), name: uid.into(), owners: owners.iter().map(owner).collect(), ..Meta::default() }
    }

    fn deleting(mut meta: Meta, finalizer: &str) -> Meta {
        meta.deleting = true;
        meta.finalizers = vec![finalizer.into()];
        meta
    }

    fn check(uid: &str) -> Work {
        Work::Check(uid.into())
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let (mut g, r) = (Graph::default(), resource());
        assert_eq!(g.observe(&r, &meta("owner", &[])), []);
        assert_eq!(g.observe(&r, &meta("child", &["owner"])), []);
        assert_eq!(g.gone("owner"), [check("child")]);
        assert_eq!(g.owner("owner"), Known::Gone);
    }

    #[test]
    fn an_unknown_owner_is_asked_for() {
        let (mut g, r) = (Graph::default(), resource());
        assert_eq!(g.observe(&r, &meta("child", &["owner"])), [check("child")]);
        assert_eq!(g.owner("owner"), Known::Unknown);
        assert_eq!(g.observe(&r, &meta("child", &["owner"])), [], "once is enough");
        g.observe(&r, &meta("owner", &[]));
        assert_eq!(g.owner("owner"), Known::Lives);
    }

    #[test]
    fn foreground_deletion_works_up_from_the_leaves() {
        let (mut g, r) = (Graph::default(), resource());
        g.observe(&r, &meta("owner", &[]));
        g.observe(&r, &meta("child", &["owner"]));
        assert_eq!(g.observe(&r, &deleting(meta("owner", &[]), FOREGROUND)), [check("child"), check("owner")]);
        assert_eq!(g.blocking_dependents("owner").len(), 1);
        assert_eq!(g.gone("child"), [check("owner")]);
        assert!(g.blocking_dependents("owner").is_empty());
    }

    #[test]
    fn a_child_born_under_a_dying_owner_is_looked_at() {
        let (mut g, r) = (Graph::default(), resource());
        g.observe(&r, &deleting(meta("owner", &[]), FOREGROUND));
        assert_eq!(g.observe(&r, &meta("child", &["owner"])), [check("child")]);
    }

    #[test]
    fn orphaning_is_asked_for_once() {
        let (mut g, r) = (Graph::default(), resource());
        g.observe(&r, &meta("owner", &[]));
        assert_eq!(g.observe(&r, &deleting(meta("owner", &[]), ORPHAN)), [Work::Orphan("owner".into())]);
        assert_eq!(g.observe(&r, &deleting(meta("owner", &[]), ORPHAN)), []);
    }

    #[test]
    fn a_released_dependent_frees_its_owner() {
        let (mut g, r) = (Graph::default(), resource());
        g.observe(&r, &deleting(meta("owner", &[]), FOREGROUND));
        g.observe(&r, &meta("child", &["owner"]));
        assert_eq!(g.observe(&r, &meta("child", &[])), [check("owner")]);
        assert_eq!(g.dependents("owner").count(), 0);
    }

    #[test]
    fn verdicts() {
        use Known::{AwaitsDependents as W, Gone as G, Lives as L, Unknown as U};
        for (owners, has_dependents, want) in [
            (&[][..], false, Verdict::Lives),
            (&[L], false, Verdict::Lives),
            (&[L, L], true, Verdict::Lives),
            (&[U], false, Verdict::Lives),
            (&[L, G], false, Verdict::Trim),
            (&[L, W], true, Verdict::Trim),
            (&[U, G], false, Verdict::Trim),
            (&[G], false, Verdict::Delete),
            (&[G], true, Verdict::Delete),
            (&[G, W], false, Verdict::Delete),
            (&[G, W], true, Verdict::DeleteForeground),
            (&[W], true, Verdict::DeleteForeground),
            (&[W], false, Verdict::Delete),
        ] {
            assert_eq!(judge(owners, has_dependents), want, "{owners:?} {has_dependents}");
        }
    }
}
