//! Seats and queues (KEP-1040): pure, with the time given.
//!
//! Each limited priority level has seats. A request that finds none waits in one of the level's queues, the shortest of the
//! few that its flow was dealt, so that one busy flow fills few queues and the others pass it by. Queues take turns by how
//! much they have used: the one whose virtual time is lowest is served next. A level with idle seats lends some to others,
//! and gets them back as the requests that hold them end.

use std::collections::{BTreeMap, VecDeque};

/// Seconds that a request is assumed to take until it is known.
const ASSUMED_SECONDS: f64 = 0.003;

/// What a level may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub nominal: u32,
    /// Of those, how many others may use while they are idle.
    pub lendable: u32,
    /// How many it may use of others.
    pub borrow_max: u32,
    pub overload: Overload,
}

/// What becomes of requests that find no seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overload {
    Reject,
    Queue { queues: usize, hand: usize, length_max: usize },
}

/// Seats that a request holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    level: String,
    own: u32,
    /// Seats of other levels.
    borrowed: Vec<(String, u32)>,
    queue: Option<usize>,
}

/// Names a request that waits.
pub type Ticket = u64;

#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    Now(Grant),
    Wait(Ticket),
    /// With upstream's word for why.
    Refused(&'static str),
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Ticket, u32)>,
    /// Seat-seconds used so far, as turns are counted.
    virtual_time: f64,
    /// Requests of this queue that hold seats.
    executing: u32,
}

#[derive(Debug)]
struct Level {
    limits: Limits,
    /// Own seats in use by own requests.
    used: u32,
    /// Own seats in use by others.
    lent: u32,
    /// Seats of others in use by own requests.
    borrowed: u32,
    queues: Vec<Queue>,
    waiting: usize,
}

impl Level {
    fn new(limits: Limits) -> Self {
        let mut level = Self { limits, used: 0, lent: 0, borrowed: 0, queues: Vec::new(), waiting: 0 };
        level.resize();
        level
    }

    /// Queues are added at once; those that are too many go when the level is made anew.
    fn resize(&mut self) {
        if let Overload::Queue { queues, .. } = self.limits.overload
            && self.queues.len() < queues
        {
            self.queues.resize_with(queues, Queue::default);
        }
    }

    fn free(&self) -> u32 {
        self.limits.nominal.saturating_sub(self.used + self.lent)
    }

    /// What it would lend now: idle seats, as far as they are lendable, and none while its own requests wait.
    fn offers(&self) -> u32 {
        if self.waiting > 0 { 0 } else { self.free().min(self.limits.lendable.saturating_sub(self.lent)) }
    }

    fn is_idle(&self) -> bool {
        self.used + self.lent + self.borrowed == 0 && self.waiting == 0
    }

    /// The virtual time at which a queue that was idle joins: it gets nothing for the time it did not ask.
    fn now(&self) -> f64 {
        let active = self.queues.iter().filter(|queue| queue.executing > 0 || !queue.waiting.is_empty());
        active.map(|queue| queue.virtual_time).reduce(f64::min).unwrap_or(0.0)
    }
}

/// All limited levels. Levels that are configured no longer stay until their last request has ended.
#[derive(Debug, Default)]
pub struct Dispatcher {
    levels: BTreeMap<String, Level>,
    next_ticket: Ticket,
}

impl Dispatcher {
    pub fn configure<'l>(&mut self, limits: impl IntoIterator<Item = (&'l str, &'l Limits)>) {
        let wanted: BTreeMap<&str, &Limits> = limits.into_iter().collect();
        self.levels.retain(|name, level| wanted.contains_key(name.as_str()) || !level.is_idle());
        for (name, limits) in wanted {
            match self.levels.get_mut(name) {
                Some(level) => {
                    level.limits = limits.clone();
                    level.resize();
                }
                None => {
                    self.levels.insert(name.to_owned(), Level::new(limits.clone()));
                }
            }
        }
    }

    /// A request of a flow asks for `width` seats of a level.
    pub fn arrive(&mut self, name: &str, flow: u64, width: u32) -> Admission {
        let Some(level) = self.levels.get(name) else { return Admission::Refused("concurrency-limit") };
        // Nobody asks for more than there is, or would wait for ever.
        let width = width.clamp(1, level.limits.nominal.max(1));
        let queue = match level.limits.overload {
            Overload::Reject => None,
            Overload::Queue { queues, hand, .. } => Some(shortest(&level.queues, deal(flow, queues, hand))),
        };
        if level.waiting == 0
            && let Some(grant) = self.take(name, width, queue)
        {
            return Admission::Now(grant);
        }
        // It was there a moment ago.
        let Some(level) = self.levels.get_mut(name) else { return Admission::Refused("concurrency-limit") };
        match (&level.limits.overload, queue) {
            (Overload::Queue { length_max, .. }, Some(index)) => {
                if level.queues[index].waiting.len() >= *length_max {
                    return Admission::Refused("queue-full");
                }
                let now = level.now();
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                let queue = &mut level.queues[index];
                if queue.waiting.is_empty() && queue.executing == 0 {
                    queue.virtual_time = queue.virtual_time.max(now);
                }
                queue.waiting.push_back((ticket, width));
                level.waiting += 1;
                Admission::Wait(ticket)
            }
            _ => Admission::Refused("concurrency-limit"),
        }
    }

    /// A request ends after so many seconds. Those that get its seats are returned.
    pub fn finish(&mut self, grant: Grant, seconds: f64) -> Vec<(Ticket, Grant)> {
        if let Some(level) = self.levels.get_mut(&grant.level) {
            let borrowed: u32 = grant.borrowed.iter().map(|(_, seats)| seats).sum();
            level.used -= grant.own.min(level.used);
            level.borrowed -= borrowed.min(level.borrowed);
            if let Some(queue) = grant.queue.and_then(|index| level.queues.get_mut(index)) {
                queue.executing = queue.executing.saturating_sub(1);
                queue.virtual_time += (seconds - ASSUMED_SECONDS) * f64::from(grant.own + borrowed);
            }
        }
        let mut names = vec![];
        for (lender, seats) in grant.borrowed {
            if let Some(level) = self.levels.get_mut(&lender) {
                level.lent -= seats.min(level.lent);
            }
            names.push(lender);
        }
        // Who lent is served before who borrowed.
        names.push(grant.level);
        names.into_iter().flat_map(|name| self.serve(&name)).collect()
    }

    /// A request waits no longer. False when it has a seat already.
    pub fn give_up(&mut self, name: &str, ticket: Ticket) -> bool {
        let Some(level) = self.levels.get_mut(name) else { return false };
        for queue in &mut level.queues {
            if let Some(at) = queue.waiting.iter().position(|(other, _)| *other == ticket) {
                queue.waiting.remove(at);
                level.waiting -= 1;
                return true;
            }
        }
        false
    }

    /// How many requests of a level wait.
    #[cfg(test)]
    pub fn waiting(&self, name: &str) -> usize {
        self.levels.get(name).map_or(0, |level| level.waiting)
    }

    /// Gives seats to those who wait, as long as there are some.
    fn serve(&mut self, name: &str) -> Vec<(Ticket, Grant)> {
        let mut served = Vec::new();
        loop {
            let Some(level) = self.levels.get(name).filter(|level| level.waiting > 0) else { return served };
            let waiting = level.queues.iter().enumerate().filter_map(|(i, queue)| queue.waiting.front().map(|w| (i, queue, *w)));
            let next = waiting.min_by(|(_, a, _), (_, b, _)| a.virtual_time.total_cmp(&b.virtual_time));
            let Some((index, _, (ticket, width))) = next else { return served };
            let Some(grant) = self.take(name, width, Some(index)) else { return served };
            if let Some(level) = self.levels.get_mut(name) {
                level.queues[index].waiting.pop_front();
                level.waiting -= 1;
            }
            served.push((ticket, grant));
        }
    }

    /// Own seats first, then those of others. None when there are not enough.
    fn take(&mut self, name: &str, width: u32, queue: Option<usize>) -> Option<Grant> {
        let level = self.levels.get(name)?;
        let own = level.free().min(width);
        let mut missing = width - own;
        if missing > level.limits.borrow_max.saturating_sub(level.borrowed) {
            return None;
        }
        let mut borrowed = Vec::new();
        if missing > 0 {
            for (lender, other) in self.levels.iter().filter(|(lender, _)| lender.as_str() != name) {
                let seats = other.offers().min(missing);
                if seats > 0 {
                    borrowed.push((lender.clone(), seats));
                    missing -= seats;
                }
            }
            if missing > 0 {
                return None;
            }
            for (lender, seats) in &borrowed {
                self.levels.get_mut(lender)?.lent += seats;
            }
        }
        let level = self.levels.get_mut(name)?;
        level.used += own;
        level.borrowed += width - own;
        let now = level.now();
        if let Some(queue) = queue.and_then(|index| level.queues.get_mut(index)) {
            if queue.executing == 0 && queue.waiting.is_empty() {
                queue.virtual_time = queue.virtual_time.max(now);
            }
            queue.executing += 1;
            queue.virtual_time += ASSUMED_SECONDS * f64::from(width);
        }
        Some(Grant { level: name.to_owned(), own, borrowed, queue })
    }
}

/// The queues that a flow may use: `hand` different ones of `deck`, always the same for the same flow.
fn deal(mut flow: u64, deck: usize, hand: usize) -> impl Iterator<Item = usize> {
    let mut dealt: Vec<usize> = Vec::with_capacity(hand);
    (0..hand).map(move |count| {
        let left = (deck - count) as u64;
        let mut card = (flow % left) as usize;
        flow /= left;
        // The card-th of those that were not dealt yet.
        for earlier in &dealt {
            if card >= *earlier {
                card += 1;
            }
        }
        let at = dealt.partition_point(|other| *other < card);
        dealt.insert(at, card);
        card
    })
}

fn shortest(queues: &[Queue], hand: impl Iterator<Item = usize>) -> usize {
    hand.min_by_key(|index| queues.get(*index).map_or(0, |queue| (queue.waiting.len() as u64) << 32 | u64::from(queue.executing)))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(nominal: u32, lendable: u32) -> Limits {
        Limits { nominal, lendable, borrow_max: u32::MAX, overload: Overload::Queue { queues: 8, hand: 2, length_max: 3 } }
    }

    fn dispatcher(levels: &[(&str, Limits)]) -> Dispatcher {
        let mut dispatcher = Dispatcher::default();
        dispatcher.configure(levels.iter().map(|(name, limits)| (*name, limits)));
        dispatcher
    }

    fn now(admission: Admission) -> Grant {
        match admission {
            Admission::Now(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    fn ticket(admission: Admission) -> Ticket {
        match admission {
            Admission::Wait(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hand_has_different_queues() {
        for flow in [0, 1, 63, 12345, u64::MAX] {
            let mut hand: Vec<usize> = deal(flow, 64, 6).collect();
            assert_eq!(hand, deal(flow, 64, 6).collect::<Vec<_>>());
            hand.sort_unstable();
            hand.dedup();
            assert!(hand.len() == 6 && hand[5] < 64, "{hand:?}");
        }
        assert_eq!(deal(7, 2, 2).count(), 2);
    }

    #[test]
    fn seats_then_a_queue_then_no_more() {
        let mut d = dispatcher(&[("a", limits(2, 0))]);
        let first = now(d.arrive("a", 1, 1));
        let _second = now(d.arrive("a", 1, 1));
        // Two queues of three places each.
        let waiting: Vec<Ticket> = (0..6).map(|_| ticket(d.arrive("a", 1, 1))).collect();
        assert_eq!(d.arrive("a", 1, 1), Admission::Refused("queue-full"));
        assert_eq!(d.waiting("a"), 6);
        assert!(d.give_up("a", waiting[5]) && !d.give_up("a", waiting[5]));
        let served = d.finish(first, 0.1);
        assert_eq!(served.len(), 1);
        assert!(!d.give_up("a", served[0].0), "it has a seat");
        assert_eq!(d.waiting("a"), 4);
    }

    #[test]
    fn a_level_that_rejects() {
        let mut d = dispatcher(&[("a", Limits { overload: Overload::Reject, ..limits(1, 0) })]);
        let grant = now(d.arrive("a", 1, 1));
        assert_eq!(d.arrive("a", 2, 1), Admission::Refused("concurrency-limit"));
        assert!(d.finish(grant, 1.0).is_empty());
        now(d.arrive("a", 2, 1));
        assert_eq!(d.arrive("none", 2, 1), Admission::Refused("concurrency-limit"));
    }

    #[test]
    fn a_wide_request_takes_many_seats() {
        let mut d = dispatcher(&[("a", limits(4, 0))]);
        let wide = now(d.arrive("a", 1, 3));
        let narrow = now(d.arrive("a", 2, 1));
        let waits = ticket(d.arrive("a", 3, 2));
        assert!(d.finish(narrow, 0.1).is_empty(), "one seat is too few");
        assert_eq!(d.finish(wide, 0.1)[0].0, waits);
        // Wider than the level is as wide as the level.
        let mut d = dispatcher(&[("a", limits(4, 0))]);
        assert_eq!(now(d.arrive("a", 1, 100)).own, 4);
    }

    #[test]
    fn idle_seats_are_lent_and_come_back() {
        let mut d = dispatcher(&[("a", limits(2, 0)), ("b", limits(4, 2))]);
        let grants: Vec<Grant> = (0..4).map(|flow| now(d.arrive("a", flow, 1))).collect();
        let waits = ticket(d.arrive("a", 9, 1));
        // What is left of b is its own.
        let own = [now(d.arrive("b", 1, 1)), now(d.arrive("b", 2, 1))];
        let lender_waits = ticket(d.arrive("b", 3, 1));
        // A borrowed seat goes back to who lent it.
        let mut grants = grants.into_iter();
        let (local, other) = (grants.next().unwrap(), grants.next_back().unwrap());
        assert_eq!(d.finish(other, 0.1).iter().map(|(t, _)| *t).collect::<Vec<_>>(), [lender_waits]);
        assert_eq!(d.finish(local, 0.1).iter().map(|(t, _)| *t).collect::<Vec<_>>(), [waits]);
        drop(own);
        let mut bounded = dispatcher(&[("a", Limits { borrow_max: 1, ..limits(1, 0) }), ("b", limits(4, 4))]);
        now(bounded.arrive("a", 1, 1));
        now(bounded.arrive("a", 1, 1));
        ticket(bounded.arrive("a", 1, 1));
    }

    #[test]
    fn a_busy_flow_does_not_starve_a_quiet_one() {
        let wide = Limits { overload: Overload::Queue { queues: 64, hand: 4, length_max: 50 }, ..limits(1, 0) };
        let mut d = dispatcher(&[("a", wide)]);
        let mut running = Some(now(d.arrive("a", 1 << 40, 1)));
        for _ in 0..100 {
            ticket(d.arrive("a", 1 << 40, 1));
        }
        let quiet = ticket(d.arrive("a", 77_777_777, 1));
        let mut before = 0;
        while let Some(grant) = running.take() {
            let (next, grant) = d.finish(grant, 1.0).pop().expect("the quiet one waits still");
            if next == quiet {
                break;
            }
            before += 1;
            running = Some(grant);
        }
        assert!(before <= 4, "{before} of the busy flow went first");
    }

    #[test]
    fn levels_change_under_way() {
        let mut d = dispatcher(&[("a", limits(1, 0)), ("b", limits(1, 0))]);
        let grant = now(d.arrive("a", 1, 1));
        let (a, b) = (limits(3, 0), limits(1, 0));
        d.configure([("b", &b)]);
        assert!(d.levels.contains_key("a"), "its request has not ended");
        d.configure([("a", &a), ("b", &b)]);
        now(d.arrive("a", 1, 1));
        d.finish(grant, 0.1);
        d.configure([("b", &b)]);
        d.configure([("b", &b)]);
        assert_eq!(d.levels.len(), 2);
    }
}
