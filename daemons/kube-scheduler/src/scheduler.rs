//! [`Scheduler`]: everything known, and what follows from it. Pure: changes go in, outcomes come out; I/O is `run`'s.
//!
//! **Invariants:** a pod is in the queue or on a node, never both, except while its binding is under way; a placement counts
//! against its node from the moment it is decided (it is *assumed*), not from when the API server confirms it.

use std::collections::HashMap;
use std::sync::Arc;

use api::core::Node;

use crate::cycle::{Nominated, Placement, place};
use crate::diagnosis::Diagnosis;
use crate::event::ClusterEvent;
use crate::nodes::NodeTable;
use crate::pod::{PodInfo, PodKey};
use crate::preemption::preempt;
use crate::profile::Profile;
use crate::queue::{Moment, Pending, Queue};
use crate::random::Random;
use crate::world::World;

/// What one attempt came to, and what is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Bind {
        pod: Arc<PodInfo>,
        placement: Placement,
        attempts: u32,
        waited: Moment,
    },
    /// Claims that wait for their first consumer are to be told the node; the pod is tried again when they are bound.
    SelectNode {
        pod: Arc<PodInfo>,
        node: String,
        claims: Vec<String>,
    },
    Failed {
        pod: Arc<PodInfo>,
        message: String,
        nominate: Nominate,
        victims: Vec<Arc<PodInfo>>,
    },
}

/// What becomes of `status.nominatedNodeName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nominate {
    Keep,
    Clear,
    Set(String),
}

/// What upstream's DynamicResources says, before DefaultPreemption, of a pod without resource claims: part of every message
/// that users know.
const NO_CLAIMS: &str = "no new claims to deallocate";

#[derive(Debug)]
struct Placed {
    node: String,
    pod: Arc<PodInfo>,
    /// Decided here and not yet seen from the API server.
    assumed: bool,
}

pub struct Scheduler {
    profiles: Vec<Profile>,
    pub world: World,
    nodes: NodeTable,
    queue: Queue,
    placed: HashMap<PodKey, Placed>,
    nominated: Nominated,
    random: Random,
}

impl Scheduler {
    /// `queue` is empty.
    pub fn new(profiles: Vec<Profile>, queue: Queue, random: Random) -> Self {
        Self {
            profiles,
            random,
            world: World::default(),
            nodes: NodeTable::default(),
            queue,
            placed: HashMap::new(),
            nominated: Nominated::new(),
        }
    }

    pub fn nodes(&self) -> &NodeTable {
        &self.nodes
    }

    pub fn pending(&self) -> Pending {
        self.queue.pending()
    }

    /// When [`Scheduler::tick`] has something to do next.
    pub fn next_tick(&self) -> Option<Moment> {
        self.queue.next_tick()
    }

    pub fn has_work(&self) -> bool {
        self.queue.has_active()
    }

    pub fn tick(&mut self, now: Moment) {
        self.queue.tick(now);
    }

    fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().find(|p| p.name == name)
    }

    /// Lets pods that the event may matter to be tried again.
    pub fn wake(&mut self, event: &ClusterEvent, now: Moment) {
        let profiles = &self.profiles;
        self.queue.wake(now, |queued| {
            let profile = profiles.iter().find(|p| p.name == queued.pod.wants.scheduler_name);
            queued.rejected_by.is_empty()
                || profile.is_some_and(|p| p.wakes(|name| queued.rejected_by.contains(name), event, &queued.pod))
        });
    }

    /// A node is there, or is as given.
    pub fn set_node(&mut self, node: &Node, now: Moment) {
        let delta = self.nodes.set_node(node);
        if delta.is_empty() {
            return;
        }
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let name = node.metadata.name.clone().unwrap_or_default();
        self.wake(&ClusterEvent::Node { name, delta, labels }, now);
    }

    pub fn remove_node(&mut self, name: &str, now: Moment) {
        if self.nodes.remove_node(name) {
            self.wake(&ClusterEvent::NodeRemoved, now);
        }
    }

    /// A pod is as given; `None` when it is gone.
    pub fn set_pod(&mut self, key: &PodKey, pod: Option<Arc<PodInfo>>, now: Moment) {
        let pod = pod.filter(|p| !p.state.finished);
        let known = self.placed.get(key).map(|p| (p.pod.uid.clone(), p.assumed));
        if let Some((uid, assumed)) = known {
            match &pod {
                Some(pod) if pod.uid == uid && pod.node.is_empty() && assumed => return,
                Some(pod) if pod.uid == uid && !pod.node.is_empty() => return self.update_placed(pod, now),
                _ => self.take_off(key, now),
            }
        }
        match pod {
            None => {
                if let Some(queued) = self.queue.remove(key) {
                    self.nominated.remove(&queued.pod.uid);
                }
            }
            Some(pod) if !pod.node.is_empty() => {
                self.queue.remove(key);
                self.nominated.remove(&pod.uid);
                self.put_on(&pod, pod.node.clone(), false);
                self.wake(&ClusterEvent::PodPlaced(pod), now);
            }
            // On its way out before it was anywhere.
            Some(pod) if pod.wants.deleting => {
                self.queue.remove(key);
                self.nominated.remove(&pod.uid);
            }
            Some(pod) => {
                let Some(profile) = self.profile(&pod.wants.scheduler_name) else { return };
                let gated = profile.gate(&pod).is_some();
                if !pod.state.nominated_node.is_empty() {
                    self.nominated.insert(pod.uid.clone(), (pod.state.nominated_node.clone(), Arc::clone(&pod)));
                }
                self.queue.set(&pod, gated, now);
            }
        }
    }

    /// A pod known to be on a node came again from the API server.
    fn update_placed(&mut self, pod: &Arc<PodInfo>, now: Moment) {
        let Some(was) = self.placed.remove(&pod.key) else { return };
        self.nodes.remove_pod(&was.pod.uid, &was.node);
        self.put_on(pod, pod.node.clone(), false);
        self.queue.remove(&pod.key);
        let (old, new) = (&was.pod.wants, &pod.wants);
        if was.assumed || was.node != pod.node {
            self.wake(&ClusterEvent::PodPlaced(Arc::clone(pod)), now);
        }
        if old.labels != new.labels {
            self.wake(&ClusterEvent::PodRelabelled(Arc::clone(pod)), now);
        }
        let (before, after) = (&old.request.exact, &new.request.exact);
        if after.milli_cpu < before.milli_cpu || after.memory < before.memory {
            self.wake(&ClusterEvent::PodShrunk(Arc::clone(pod)), now);
        }
    }

    fn put_on(&mut self, pod: &Arc<PodInfo>, node: String, assumed: bool) {
        self.nodes.add_pod(pod, &node);
        self.placed.insert(pod.key.clone(), Placed { node, pod: Arc::clone(pod), assumed });
    }

    fn take_off(&mut self, key: &PodKey, now: Moment) {
        if let Some(placed) = self.placed.remove(key) {
            self.nodes.remove_pod(&placed.pod.uid, &placed.node);
            self.wake(&ClusterEvent::PodGone(placed.pod), now);
        }
    }

    /// Tries the next pod, if one is ready.
    pub fn schedule_next(&mut self, now: Moment) -> Option<Outcome> {
        let queued = self.queue.pop()?;
        let pod = queued.pod;
        // Only pods of known profiles are queued.
        let profile = self.profiles.iter().find(|p| p.name == pod.wants.scheduler_name)?;
        match place(profile, &pod, &mut self.nodes, &self.world, &self.nominated, &mut self.random) {
            Ok(placement) => {
                let claims = self.unbound_claims(&pod);
                if !claims.is_empty() {
                    self.queue.failed(&pod.key, ["VolumeBinding"].into(), now);
                    return Some(Outcome::SelectNode { pod, node: placement.node, claims });
                }
                self.nominated.remove(&pod.uid);
                self.put_on(&pod, placement.node.clone(), true);
                let waited = now.saturating_sub(queued.since);
                Some(Outcome::Bind { pod, placement, attempts: queued.attempts, waited })
            }
            Err(diagnosis) => Some(self.give_up(pod, *diagnosis, now)),
        }
    }

    fn unbound_claims(&self, pod: &PodInfo) -> Vec<String> {
        let unbound = |name: &&String| self.world.claim(&pod.key.namespace, name).is_some_and(|c| !c.bound);
        pod.wants.claims.iter().filter(unbound).cloned().collect()
    }

    fn give_up(&mut self, pod: Arc<PodInfo>, mut diagnosis: Diagnosis, now: Moment) -> Outcome {
        let profile = self.profiles.iter().find(|p| p.name == pod.wants.scheduler_name);
        let mut victims = Vec::new();
        let mut nominate = Nominate::Keep;
        if let Some(profile) = profile
            && profile.preempts
            && !self.nodes.is_empty()
            && diagnosis.pre_filter.is_empty()
        {
            let failed = &diagnosis.verdicts;
            let (nodes, nominated) = (&mut self.nodes, &self.nominated);
            match preempt(profile, &pod, nodes, &self.world, nominated, failed, &mut self.random) {
                Ok(candidate) => {
                    // Pods that were promised this node for less may not fit any more: they look elsewhere.
                    let lower = |(node, guest): &(String, Arc<PodInfo>)| {
                        *node == candidate.node && guest.wants.priority < pod.wants.priority
                    };
                    self.nominated.retain(|_, entry| !lower(entry));
                    self.nominated.insert(pod.uid.clone(), (candidate.node.clone(), Arc::clone(&pod)));
                    victims = candidate.victims.into_iter().filter(|v| !v.wants.deleting).collect();
                    nominate = Nominate::Set(candidate.node);
                }
                Err(reason) => {
                    let waits = reason.contains("not eligible");
                    if !waits && self.nominated.remove(&pod.uid).is_some() {
                        nominate = Nominate::Clear;
                    }
                    diagnosis.post_filter = format!("{NO_CLAIMS}, {reason}");
                }
            }
        }
        self.queue.failed(&pod.key, std::mem::take(&mut diagnosis.plugins), now);
        Outcome::Failed { message: diagnosis.to_string(), pod, nominate, victims }
    }

    /// The API server took the binding. The pod leaves the queue; its node is confirmed when the change arrives.
    pub fn bound(&mut self, key: &PodKey, uid: &str) {
        if self.queue.get(key).is_some_and(|q| q.pod.uid == uid) {
            self.queue.remove(key);
        }
    }

    /// The binding failed: the node gets its room back and the pod another try.
    pub fn unbound(&mut self, key: &PodKey, uid: &str, now: Moment) {
        if self.placed.get(key).is_some_and(|p| p.assumed && p.pod.uid == uid) {
            self.take_off(key, now);
            self.queue.retry(key, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NodeBuilder, PodBuilder, node, pod};

    const NOW: Moment = Moment::ZERO;

    fn scheduler(nodes: impl IntoIterator<Item = NodeBuilder>) -> Scheduler {
        let mut s = Scheduler::new(vec![Profile::standard()], Queue::default(), Random::new(7));
        nodes.into_iter().for_each(|n| s.set_node(&n.build(), NOW));
        s
    }

    fn add(s: &mut Scheduler, pod: PodBuilder, now: Moment) -> PodKey {
        let info = Arc::new(pod.info());
        s.set_pod(&info.key.clone(), Some(Arc::clone(&info)), now);
        info.key.clone()
    }

    fn next(s: &mut Scheduler, now: Moment) -> String {
        match s.schedule_next(now) {
            None => "nothing".into(),
            Some(Outcome::Bind { pod, placement, .. }) => format!("{} on {}", pod.key.name, placement.node),
            Some(Outcome::Failed { message, .. }) => message,
            Some(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn a_deleted_pod_is_not_tried() {
        let mut s = scheduler([node("a").cpu("2")]);
        add(&mut s, pod("p").deleting(), NOW);
        assert_eq!(next(&mut s, NOW), "nothing");
    }

    #[test]
    fn an_assumed_pod_takes_room_at_once_and_gives_it_back_when_binding_fails() {
        let mut s = scheduler([node("a").cpu("2")]);
        let first = add(&mut s, pod("p").cpu("2"), NOW);
        add(&mut s, pod("q").cpu("2"), NOW);
        assert_eq!(next(&mut s, NOW), "p on a");
        assert!(next(&mut s, NOW).contains("Insufficient cpu"));
        s.unbound(&first, "uid-p", NOW);
        assert_eq!(next(&mut s, NOW), "nothing", "both back off");
        s.tick(Moment::from_secs(1));
        let mut placed = vec![next(&mut s, Moment::from_secs(1)), next(&mut s, Moment::from_secs(1))];
        placed.sort();
        assert!(placed[0].starts_with("0/1") && placed[1].ends_with("on a"), "{placed:?}");
    }

    #[test]
    fn a_confirmed_pod_is_counted_once() {
        let mut s = scheduler([node("a").cpu("2")]);
        let key = add(&mut s, pod("p").cpu("1"), NOW);
        assert_eq!(next(&mut s, NOW), "p on a");
        s.bound(&key, "uid-p");
        add(&mut s, pod("p").cpu("1"), NOW);
        assert_eq!(next(&mut s, NOW), "nothing", "an older view of the pod does not queue it again");
        add(&mut s, pod("p").cpu("1").on("a"), NOW);
        add(&mut s, pod("q").cpu("1"), NOW);
        assert_eq!(next(&mut s, NOW), "q on a");
        s.set_pod(&key, None, NOW);
        add(&mut s, pod("r").cpu("1"), NOW);
        assert_eq!(next(&mut s, NOW), "r on a");
    }

    #[test]
    fn the_right_event_wakes_the_right_pod() {
        let mut s = scheduler([node("a").cpu("1")]);
        add(&mut s, pod("big").cpu("2"), NOW);
        add(&mut s, pod("picky").selector("disk", "ssd"), NOW);
        next(&mut s, NOW);
        next(&mut s, NOW);
        let later = Moment::from_secs(60);
        s.set_node(&node("a").cpu("1").label("disk", "ssd").build(), later);
        assert_eq!(next(&mut s, later), "picky on a");
        assert_eq!(next(&mut s, later), "nothing");
        s.set_node(&node("a").cpu("4").label("disk", "ssd").build(), later);
        assert_eq!(next(&mut s, later), "big on a");
    }

    #[test]
    fn a_preemptor_waits_for_its_victims_and_gets_their_place() {
        let mut s = scheduler([node("a").cpu("2")]);
        let low = add(&mut s, pod("low").cpu("2").on("a"), NOW);
        let vip = pod("vip").cpu("2").priority(10);
        add(&mut s, vip, NOW);
        match s.schedule_next(NOW) {
            Some(Outcome::Failed { nominate, victims, message, .. }) => {
                assert_eq!(nominate, Nominate::Set("a".into()));
                assert_eq!(victims[0].key, low);
                assert_eq!(message, "0/1 nodes are available: 1 Insufficient cpu.");
            }
            other => panic!("{other:?}"),
        }
        let later = Moment::from_secs(30);
        add(&mut s, pod("sneaky").cpu("1"), later);
        s.set_pod(&low, None, later);
        assert_eq!(next(&mut s, later), "vip on a");
        assert!(next(&mut s, later).starts_with("0/1 nodes are available: 1 Insufficient cpu."));
    }

    #[test]
    fn another_schedulers_pods_count_but_are_not_placed() {
        let mut s = scheduler([node("a").cpu("1")]);
        add(&mut s, pod("other").scheduler("mine"), NOW);
        assert_eq!(next(&mut s, NOW), "nothing");
        add(&mut s, pod("other").cpu("1").scheduler("mine").on("a"), NOW);
        add(&mut s, pod("p").cpu("1"), NOW);
        assert!(next(&mut s, NOW).contains("1 Insufficient cpu"));
    }
}
