//! The pods that wait: ready to be tried, backing off, or waiting for something to change. Pure; time is an argument.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::pod::{PodInfo, PodKey};

/// Time since the scheduler started.
pub type Moment = Duration;

/// The first pause after a failed attempt; it doubles with each.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that waited this long is tried again without any event, unless the queue was told otherwise.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(5 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active {
        order: (i64, u64),
    },
    Backoff {
        until: Moment,
        seq: u64,
    },
    Unschedulable {
        since: Moment,
    },
    /// Kept out by a gate; only a change of the pod itself lets it in.
    Gated,
    /// An attempt is being bound.
    InFlight,
}

/// A waiting pod.
#[derive(Clone, Debug)]
pub struct Queued {
    pub pod: Arc<PodInfo>,
    pub attempts: u32,
    /// When it first came.
    pub since: Moment,
    /// The plugins that rejected it last; empty: anything may help.
    pub rejected_by: BTreeSet<&'static str>,
    place: Place,
    last_failure: Moment,
}

impl Queued {
    fn backoff_ends(&self) -> Moment {
        let doublings = self.attempts.saturating_sub(1).min(16);
        self.last_failure + (BACKOFF_FIRST * 2_u32.pow(doublings)).min(BACKOFF_MAX)
    }
}

/// How many pods wait where, as upstream's `scheduler_pending_pods` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

#[derive(Debug)]
pub struct Queue {
    pods: HashMap<PodKey, Queued>,
    /// Most important first, then first come.
    active: BTreeSet<((i64, u64), PodKey)>,
    backoff: BTreeSet<(Moment, u64, PodKey)>,
    unschedulable: BTreeSet<(Moment, PodKey)>,
    unschedulable_max: Duration,
    seq: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new(UNSCHEDULABLE_MAX)
    }
}

impl Queue {
    /// Pods wait for an event no longer than `unschedulable_max`.
    pub fn new(unschedulable_max: Duration) -> Self {
        Self {
            pods: HashMap::new(),
            active: BTreeSet::new(),
            backoff: BTreeSet::new(),
            unschedulable: BTreeSet::new(),
            unschedulable_max,
            seq: 0,
        }
    }

    pub fn get(&self, key: &PodKey) -> Option<&Queued> {
        self.pods.get(key)
    }

    pub fn pending(&self) -> Pending {
        let waiting = self.active.len() + self.backoff.len() + self.unschedulable.len();
        let in_flight = self.pods.values().filter(|q| q.place == Place::InFlight).count();
        Pending {
            active: self.active.len(),
            backoff: self.backoff.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.pods.len() - waiting - in_flight,
        }
    }

    /// A pod without a node came or changed. Unless its wants changed, one that was tried already stays where it is.
    pub fn set(&mut self, pod: &Arc<PodInfo>, gated: bool, now: Moment) {
        let Some(queued) = self.pods.get_mut(&pod.key) else {
            let place = Place::Gated;
            let queued =
                Queued { pod: Arc::clone(pod), attempts: 0, since: now, rejected_by: BTreeSet::new(), place, last_failure: now };
            self.pods.insert(pod.key.clone(), queued);
            if !gated {
                self.activate(&pod.key);
            }
            return;
        };
        let was = std::mem::replace(&mut queued.pod, Arc::clone(pod));
        let recreated = was.uid != pod.uid;
        if recreated {
            queued.attempts = 0;
        }
        if !recreated && was.wants == pod.wants {
            return;
        }
        match queued.place {
            Place::InFlight => {}
            _ if gated => self.move_to(&pod.key, Place::Gated),
            Place::Backoff { .. } if !recreated => {}
            Place::Unschedulable { .. } if !recreated => self.ready(&pod.key, now),
            _ => self.activate(&pod.key),
        }
    }

    pub fn remove(&mut self, key: &PodKey) -> Option<Queued> {
        self.unlink(key);
        self.pods.remove(key)
    }

    /// The next pod to try; it is in flight until `done`, `failed` or `retry`.
    pub fn pop(&mut self) -> Option<Queued> {
        let (_, key) = self.active.first()?.clone();
        self.move_to(&key, Place::InFlight);
        let queued = self.pods.get_mut(&key)?;
        queued.attempts += 1;
        Some(queued.clone())
    }

    /// No node would do: wait until something changes that could matter to one of the plugins.
    pub fn failed(&mut self, key: &PodKey, rejected_by: BTreeSet<&'static str>, now: Moment) {
        if let Some(queued) = self.pods.get_mut(key) {
            queued.last_failure = now;
            queued.rejected_by = rejected_by;
            self.move_to(key, Place::Unschedulable { since: now });
        }
    }

    /// The attempt failed for a reason outside the pod (a lost connection, a conflict): try again after the back-off.
    pub fn retry(&mut self, key: &PodKey, now: Moment) {
        if let Some(queued) = self.pods.get_mut(key) {
            queued.last_failure = now;
            self.ready(key, now);
        }
    }

    /// Something changed: lets back in the pods it may matter to.
    pub fn wake(&mut self, now: Moment, matters: impl Fn(&Queued) -> bool) {
        let woken: Vec<PodKey> = self
            .unschedulable
            .iter()
            .map(|(_, key)| key)
            .filter(|key| self.pods.get(key).is_some_and(&matters))
            .cloned()
            .collect();
        woken.iter().for_each(|key| self.ready(key, now));
    }

    /// Lets in whatever waited long enough.
    pub fn tick(&mut self, now: Moment) {
        while let Some((until, _, key)) = self.backoff.first().cloned()
            && until <= now
        {
            self.activate(&key);
        }
        while let Some((since, key)) = self.unschedulable.first().cloned()
            && since + self.unschedulable_max <= now
        {
            self.ready(&key, now);
        }
    }

    /// When `tick` has something to do next.
    pub fn next_tick(&self) -> Option<Moment> {
        let backoff = self.backoff.first().map(|(until, ..)| *until);
        let unschedulable = self.unschedulable.first().map(|(since, _)| *since + self.unschedulable_max);
        [backoff, unschedulable].into_iter().flatten().min()
    }

    pub fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// To the active queue, or first to the end of its back-off.
    fn ready(&mut self, key: &PodKey, now: Moment) {
        let Some(queued) = self.pods.get(key) else { return };
        let until = queued.backoff_ends();
        if queued.attempts > 0 && until > now {
            self.seq += 1;
            self.move_to(key, Place::Backoff { until, seq: self.seq });
        } else {
            self.activate(key);
        }
    }

    fn activate(&mut self, key: &PodKey) {
        self.seq += 1;
        let Some(queued) = self.pods.get(key) else { return };
        let order = (-i64::from(queued.pod.wants.priority), self.seq);
        self.move_to(key, Place::Active { order });
    }

    fn unlink(&mut self, key: &PodKey) {
        match self.pods.get(key).map(|q| q.place) {
            Some(Place::Active { order }) => {
                self.active.remove(&(order, key.clone()));
            }
            Some(Place::Backoff { until, seq }) => {
                self.backoff.remove(&(until, seq, key.clone()));
            }
            Some(Place::Unschedulable { since }) => {
                self.unschedulable.remove(&(since, key.clone()));
            }
            Some(Place::Gated | Place::InFlight) | None => {}
        }
    }

    fn move_to(&mut self, key: &PodKey, place: Place) {
        self.unlink(key);
        let Some(queued) = self.pods.get_mut(key) else { return };
        queued.place = place;
        match place {
            Place::Active { order } => {
                self.active.insert((order, key.clone()));
            }
            Place::Backoff { until, seq } => {
                self.backoff.insert((until, seq, key.clone()));
            }
            Place::Unschedulable { since } => {
                self.unschedulable.insert((since, key.clone()));
            }
            Place::Gated | Place::InFlight => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn pop(queue: &mut Queue) -> Option<String> {
        queue.pop().map(|q| q.pod.key.name.clone())
    }

    #[test]
    fn important_pods_first_then_first_come() {
        let mut queue = Queue::default();
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0)] {
            queue.set(&Arc::new(pod(name).priority(priority).info()), false, at(0));
        }
        assert_eq!(
            [pop(&mut queue), pop(&mut queue), pop(&mut queue), pop(&mut queue)],
            [Some("b".into()), Some("a".into()), Some("c".into()), None]
        );
    }

    #[test]
    fn back_off_doubles_from_one_second_to_ten() {
        let mut queue = Queue::default();
        let p = Arc::new(pod("a").info());
        queue.set(&p, false, at(0));
        let mut now = at(0);
        for expected in [1, 2, 4, 8, 10, 10] {
            assert!(queue.pop().is_some());
            queue.failed(&p.key, BTreeSet::new(), now);
            queue.wake(now, |_| true);
            assert_eq!(queue.next_tick(), Some(now + at(expected)));
            now += at(expected);
            queue.tick(now);
        }
    }

    #[test]
    fn an_unschedulable_pod_waits_for_an_event_or_five_minutes() {
        let mut queue = Queue::default();
        let p = Arc::new(pod("a").info());
        queue.set(&p, false, at(0));
        queue.pop();
        queue.failed(&p.key, BTreeSet::from(["NodeResourcesFit"]), at(0));
        queue.wake(at(60), |q| q.rejected_by.contains("NodePorts"));
        assert!(!queue.has_active());
        queue.wake(at(60), |q| q.rejected_by.contains("NodeResourcesFit"));
        assert!(queue.has_active());
        queue.pop();
        queue.failed(&p.key, BTreeSet::new(), at(60));
        queue.tick(at(359));
        assert!(!queue.has_active());
        queue.tick(at(360));
        assert!(queue.has_active());
    }

    #[test]
    fn an_unschedulable_pod_waits_no_longer_than_the_queue_was_told() {
        let mut queue = Queue::new(at(30));
        let p = Arc::new(pod("a").info());
        queue.set(&p, false, at(0));
        queue.pop();
        queue.failed(&p.key, BTreeSet::from(["NodeResourcesFit"]), at(0));
        assert_eq!(queue.next_tick(), Some(at(30)));
        queue.tick(at(29));
        assert!(!queue.has_active());
        queue.tick(at(30));
        assert!(queue.has_active());
    }

    #[test]
    fn only_a_change_of_wants_lets_a_pod_back_in() {
        let mut queue = Queue::default();
        queue.set(&Arc::new(pod("a").info()), false, at(0));
        let key = queue.pop().unwrap().pod.key.clone();
        queue.failed(&key, BTreeSet::new(), at(0));
        queue.set(&Arc::new(pod("a").info()), false, at(20));
        assert!(!queue.has_active());
        queue.set(&Arc::new(pod("a").toleration("x").info()), false, at(20));
        assert!(queue.has_active());
    }

    #[test]
    fn gates() {
        let mut queue = Queue::default();
        queue.set(&Arc::new(pod("a").gate("g").info()), true, at(0));
        assert_eq!(queue.pending(), Pending { gated: 1, ..Default::default() });
        queue.wake(at(1), |_| true);
        queue.tick(at(1000));
        assert!(!queue.has_active());
        queue.set(&Arc::new(pod("a").info()), false, at(1));
        assert!(queue.has_active());
    }
}
