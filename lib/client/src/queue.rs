//! A work queue of keys: each key is handed to one worker at a time, is held once however often it is added, comes back
//! after a delay when it failed, and is never lost.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Who is told what happens in a named queue. Implementations must not block.
pub trait Meter: Send + Sync + 'static {
    /// A key came in.
    fn added(&self, queue: &'static str);
    /// So many keys are ready.
    fn depth(&self, queue: &'static str, keys: usize);
    /// A key was handed to a worker after it waited so long.
    fn started(&self, queue: &'static str, waited: Duration);
    /// A worker has finished with a key.
    fn finished(&self, queue: &'static str, took: Duration);
    /// A key failed and comes back.
    fn retried(&self, queue: &'static str);
}

static METER: OnceLock<Box<dyn Meter>> = OnceLock::new();

/// Has all queues of this process that get a name from then on measured. The first meter counts.
pub fn measure_by(meter: impl Meter) {
    let _ = METER.set(Box::new(meter));
}

/// What is known of a queue that is measured.
struct Measured<T> {
    name: &'static str,
    meter: &'static dyn Meter,
    waiting: HashMap<T, Instant>,
    working: HashMap<T, Instant>,
}

/// Exponential back-off: doubles from `base` to `max`.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// The delay before the next try.
    pub fn next_delay(&mut self) -> Duration {
        let delay = delay_after(self.base, self.max, self.failures);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `base · 2^failures`, at most `max`.
pub fn delay_after(base: Duration, max: Duration, failures: u32) -> Duration {
    base.checked_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).map_or(max, |d| d.min(max))
}

struct State<T> {
    ready: VecDeque<T>,
    /// In `ready`, or to be put there when its worker is done.
    dirty: HashSet<T>,
    processing: HashSet<T>,
    later: BTreeMap<(Instant, u64), T>,
    sequence: u64,
    failures: HashMap<T, u32>,
    measured: Option<Measured<T>>,
    closed: bool,
}

/// Clones share the queue.
pub struct Queue<T> {
    state: Arc<Mutex<State<T>>>,
    wake: Arc<Notify>,
    base: Duration,
    max: Duration,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), wake: self.wake.clone(), base: self.base, max: self.max }
    }
}

impl<T: Clone + Eq + Hash> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash> Queue<T> {
    /// Failed keys come back after 5 ms, doubling to 16 min 40 s, as upstream's controllers retry.
    pub fn new() -> Self {
        Self::with_backoff(Duration::from_millis(5), Duration::from_secs(1000))
    }

    pub fn with_backoff(base: Duration, max: Duration) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            later: BTreeMap::new(),
            sequence: 0,
            failures: HashMap::new(),
            measured: None,
            closed: false,
        };
        Self { state: Arc::new(Mutex::new(state)), wake: Arc::new(Notify::new()), base, max }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Names the queue for whoever measures, if anybody does.
    pub fn name(&self, name: &'static str) {
        let Some(meter) = METER.get() else { return };
        let mut state = self.lock();
        let waiting: HashMap<T, Instant> = state.ready.iter().map(|key| (key.clone(), Instant::now())).collect();
        waiting.iter().for_each(|_| meter.added(name));
        meter.depth(name, state.ready.len());
        state.measured = Some(Measured { name, meter: meter.as_ref(), waiting, working: HashMap::new() });
    }

    pub fn add(&self, key: T) {
        if self.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// The key becomes ready after `delay`, however often it is added in between.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.sequence += 1;
            let at = (Instant::now() + delay, state.sequence);
            state.later.insert(at, key);
        }
        self.wake.notify_one();
    }

    /// Comes back after this key's back-off.
    pub fn add_failed(&self, key: T) {
        let failures = {
            let mut state = self.lock();
            let count = state.failures.entry(key.clone()).or_insert(0);
            *count = count.saturating_add(1);
            let before = *count - 1;
            if let Some(measured) = &state.measured {
                measured.meter.retried(measured.name);
            }
            before
        };
        self.add_after(key, delay_after(self.base, self.max, failures));
    }

    /// The key succeeded: its next failure starts from the smallest delay again.
    pub fn forget(&self, key: &T) {
        self.lock().failures.remove(key);
    }

    pub fn failures(&self, key: &T) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key, which must be given back with [`Queue::done`]. `None` once the queue is closed.
    pub async fn next(&self) -> Option<T> {
        loop {
            let wait = {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    state.started(&key);
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.later.keys().next().map(|(at, _)| *at)
            };
            match wait {
                None => self.wake.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// The worker has finished with the key.
    pub fn done(&self, key: &T) {
        let again = {
            let mut state = self.lock();
            state.processing.remove(key);
            state.finished(key);
            let again = state.dirty.contains(key);
            if again {
                state.came(key);
                state.ready.push_back(key.clone());
            }
            again
        };
        if again {
            self.wake.notify_one();
        }
    }

    /// Ends all workers; what is queued is dropped.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    pub fn len(&self) -> usize {
        let state = self.lock();
        state.ready.len() + state.later.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    /// Whether a worker has something new to do.
    fn add(&mut self, key: T) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) || self.processing.contains(&key) {
            return false;
        }
        self.came(&key);
        self.ready.push_back(key);
        true
    }

    /// The key is about to be ready.
    fn came(&mut self, key: &T) {
        let ready = self.ready.len() + 1;
        if let Some(measured) = &mut self.measured {
            measured.waiting.entry(key.clone()).or_insert_with(Instant::now);
            measured.meter.added(measured.name);
            measured.meter.depth(measured.name, ready);
        }
    }

    fn started(&mut self, key: &T) {
        let ready = self.ready.len();
        if let Some(measured) = &mut self.measured {
            let now = Instant::now();
            let waited = measured.waiting.remove(key).map_or(Duration::ZERO, |since| now - since);
            measured.working.insert(key.clone(), now);
            measured.meter.depth(measured.name, ready);
            measured.meter.started(measured.name, waited);
        }
    }

    fn finished(&mut self, key: &T) {
        if let Some(measured) = &mut self.measured {
            let took = measured.working.remove(key).map_or(Duration::ZERO, |since| since.elapsed());
            measured.meter.finished(measured.name, took);
        }
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_held_once_and_worked_on_by_one() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.len(), 0, "it waits for its worker");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failed_keys_come_back_later_each_time() {
        let queue = Queue::with_backoff(Duration::from_secs(1), Duration::from_secs(3));
        let mut waited = Vec::new();
        for _ in 0..4 {
            queue.add_failed("a");
            let start = Instant::now();
            assert_eq!(queue.next().await, Some("a"));
            waited.push(start.elapsed().as_secs_f64().round());
            queue.done(&"a");
        }
        assert_eq!(waited, [1.0, 2.0, 3.0, 3.0]);
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_keys_come_in_order_of_time() {
        let queue = Queue::new();
        queue.add_after("late", Duration::from_secs(9));
        queue.add_after("early", Duration::from_secs(3));
        assert_eq!(queue.next().await, Some("early"));
        assert_eq!(queue.next().await, Some("late"));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_waiting_workers() {
        let queue: Queue<u8> = Queue::new();
        let worker = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(worker.await.unwrap(), None);
    }

    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    impl Notes {
        fn note(&self, queue: &str, what: String) {
            // Other tests of this process have queues too.
            if queue == "measured" {
                self.0.lock().unwrap().push(what);
            }
        }
    }

    impl Meter for Notes {
        fn added(&self, queue: &'static str) {
            self.note(queue, "added".into());
        }
        fn depth(&self, queue: &'static str, keys: usize) {
            self.note(queue, format!("depth {keys}"));
        }
        fn started(&self, queue: &'static str, waited: Duration) {
            self.note(queue, format!("started after {} s", waited.as_secs()));
        }
        fn finished(&self, queue: &'static str, took: Duration) {
            self.note(queue, format!("finished after {} s", took.as_secs()));
        }
        fn retried(&self, queue: &'static str) {
            self.note(queue, "retried".into());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_named_queue_is_measured() {
        let notes = Notes::default();
        measure_by(notes.clone());
        let queue = Queue::with_backoff(Duration::from_secs(1), Duration::from_secs(1));
        queue.add("a");
        queue.name("measured");
        tokio::time::advance(Duration::from_secs(2)).await;
        let key = queue.next().await.unwrap();
        tokio::time::advance(Duration::from_secs(3)).await;
        queue.add_failed(key);
        queue.done(&key);
        assert_eq!(queue.next().await, Some("a"));
        let expected = [
            "added",
            "depth 1",
            "depth 0",
            "started after 2 s",
            "retried",
            "finished after 3 s",
            "added",
            "depth 1",
            "depth 0",
            "started after 0 s",
        ];
        assert_eq!(*notes.0.lock().unwrap(), expected);
    }

    #[test]
    fn delays_do_not_overflow() {
        let (base, max) = (Duration::from_millis(5), Duration::from_secs(1000));
        assert_eq!(delay_after(base, max, 0), base);
        assert_eq!(delay_after(base, max, 3), Duration::from_millis(40));
        assert_eq!(delay_after(base, max, 500), max);
    }
}
