//! API Priority and Fairness (KEP-1040): how many requests are under way at once, and who goes next when there are more.
//!
//! Requests fall under FlowSchemas, whose priority levels share the server's seats; within a level, flows take turns. The
//! objects are followed live, and the mandatory ones hold whatever becomes of them: administrators never wait.

pub mod config;
pub mod defaults;
mod matching;
mod queues;
pub mod width;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use daemon::metrics::{Counter, Gauge, Histogram, LATENCY_SECONDS};
use http::{HeaderMap, HeaderName};
use machinery::status::Status;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::config::{Configuration, Schema};
use self::queues::{Admission, Dispatcher, Grant, Ticket};
use crate::authn::user::User;
use crate::request_info::RequestInfo;

const RETRY_AFTER_SECONDS: u32 = 1;
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

static DISPATCHED: Counter = Counter::new(
    "apiserver_flowcontrol_dispatched_requests_total",
    "Number of requests executed by API Priority and Fairness subsystem",
    &["priority_level", "flow_schema"],
);
static REJECTED: Counter = Counter::new(
    "apiserver_flowcontrol_rejected_requests_total",
    "Number of requests rejected by API Priority and Fairness subsystem",
    &["priority_level", "flow_schema", "reason"],
);
static IN_QUEUE: Gauge = Gauge::new(
    "apiserver_flowcontrol_current_inqueue_requests",
    "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
    &["priority_level", "flow_schema"],
);
static EXECUTING: Gauge = Gauge::new(
    "apiserver_flowcontrol_current_executing_requests",
    "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
    &["priority_level", "flow_schema"],
);
static NOMINAL_SEATS: Gauge = Gauge::new(
    "apiserver_flowcontrol_nominal_limit_seats",
    "Nominal number of execution seats configured for each priority level",
    &["priority_level"],
);
static WAITED: Histogram = Histogram::new(
    "apiserver_flowcontrol_request_wait_duration_seconds",
    "Length of time a request spent waiting in its queue",
    &["priority_level", "flow_schema", "execute"],
    LATENCY_SECONDS,
);

/// The objects as they were last seen, by name.
#[derive(Default)]
struct Objects {
    schemas: BTreeMap<String, Value>,
    levels: BTreeMap<String, Value>,
}

#[derive(Default)]
struct State {
    dispatcher: Dispatcher,
    waiting: HashMap<Ticket, oneshot::Sender<Grant>>,
}

pub struct Fairness {
    seats: u32,
    patience: Duration,
    objects: Mutex<Objects>,
    configuration: ArcSwap<Configuration>,
    state: Mutex<State>,
    /// Rings when an object changed: whoever looks after the mandatory ones listens.
    pub changed: Notify,
}

/// What a request falls under.
pub struct Class {
    configuration: Arc<Configuration>,
    schema: usize,
    flow: u64,
}

impl Class {
    fn schema(&self) -> &Schema {
        &self.configuration.schemas[self.schema]
    }

    /// Tells the client what its request fell under.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let schema = self.schema();
        headers.insert(SCHEMA_UID, schema.uid.clone());
        if let Some(level) = self.configuration.levels.get(&schema.level) {
            headers.insert(LEVEL_UID, level.uid.clone());
        }
    }
}

/// A place among the requests under way, given back when dropped.
pub struct Seat<'f> {
    fairness: &'f Fairness,
    class: &'f Class,
    /// None for those that need none.
    grant: Option<Grant>,
    begun: Instant,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let schema = self.class.schema();
        EXECUTING.add(&[&schema.level, &schema.name], -1.0);
        if let Some(grant) = self.grant.take() {
            self.fairness.state().release(grant, self.begun.elapsed().as_secs_f64());
        }
    }
}

impl State {
    /// Seats are free; those who wait for them get them.
    fn release(&mut self, grant: Grant, seconds: f64) {
        let mut free = vec![(grant, seconds)];
        while let Some((grant, seconds)) = free.pop() {
            for (ticket, grant) in self.dispatcher.finish(grant, seconds) {
                let unclaimed = match self.waiting.remove(&ticket) {
                    Some(waiter) => waiter.send(grant).err(),
                    None => Some(grant),
                };
                free.extend(unclaimed.map(|grant| (grant, 0.0)));
            }
        }
    }
}

/// A request that waits; it leaves its queue when it is given up.
struct Waiting<'f> {
    fairness: &'f Fairness,
    level: &'f str,
    ticket: Ticket,
    receiver: oneshot::Receiver<Grant>,
    done: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.fairness.state();
        state.waiting.remove(&self.ticket);
        // It may have been served at the last moment.
        if !state.dispatcher.give_up(self.level, self.ticket)
            && let Ok(grant) = self.receiver.try_recv()
        {
            state.release(grant, 0.0);
        }
    }
}

impl Fairness {
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight` together are the seats; a request waits in a queue for
    /// a quarter of what it may take in all.
    pub fn new(reading: usize, changing: usize, request_timeout: Duration) -> Self {
        let fairness = Self {
            seats: u32::try_from(reading + changing).unwrap_or(u32::MAX).max(1),
            patience: request_timeout / 4,
            objects: Mutex::default(),
            configuration: ArcSwap::default(),
            state: Mutex::default(),
            changed: Notify::new(),
        };
        fairness.configure(&Objects::default());
        fairness
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A FlowSchema or PriorityLevelConfiguration changed; none when it was deleted.
    pub fn apply(&self, plural: &str, name: &str, object: Option<&Value>) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = if plural == "flowschemas" { &mut objects.schemas } else { &mut objects.levels };
        match object {
            Some(object) => kind.insert(name.to_owned(), object.clone()),
            None => kind.remove(name),
        };
        self.configure(&objects);
        self.changed.notify_one();
    }

    fn configure(&self, objects: &Objects) {
        let configuration = config::configuration(&objects.schemas, &objects.levels, self.seats);
        let limits = || configuration.levels.iter().filter_map(|(name, level)| Some((name.as_str(), level.limits.as_ref()?)));
        for (name, limits) in limits() {
            NOMINAL_SEATS.set(&[name], f64::from(limits.nominal));
        }
        self.state().dispatcher.configure(limits());
        self.configuration.store(Arc::new(configuration));
    }

    /// None for requests that stay open and hold nothing: they are bounded by connections and streams.
    pub fn classify(&self, user: &User, info: &RequestInfo) -> Option<Class> {
        if info.is_long_running() && !info.is_watch() {
            return None;
        }
        let configuration = self.configuration.load_full();
        let found = matching::classify(&configuration, user, info)?;
        let schema = configuration.schemas.iter().position(|schema| std::ptr::eq(schema, found))?;
        let flow = matching::flow(found, user, info);
        Some(Class { configuration, schema, flow })
    }

    /// Waits for `width` seats.
    ///
    /// # Errors
    /// 429 when there is no place to wait, or the wait was too long.
    pub async fn seat<'f>(&'f self, class: &'f Class, width: u32) -> Result<Seat<'f>, Status> {
        let schema = class.schema();
        let labels = [schema.level.as_str(), schema.name.as_str()];
        let exempt = class.configuration.levels.get(&schema.level).is_none_or(|level| level.limits.is_none());
        let grant = if exempt { None } else { Some(self.grant(class, width).await?) };
        DISPATCHED.inc(&labels);
        EXECUTING.add(&labels, 1.0);
        Ok(Seat { fairness: self, class, grant, begun: Instant::now() })
    }

    async fn grant(&self, class: &Class, width: u32) -> Result<Grant, Status> {
        let schema = class.schema();
        let refuse = |reason: &str| {
            REJECTED.inc(&[&schema.level, &schema.name, reason]);
            Status::too_many_requests("too many requests, please try again later", RETRY_AFTER_SECONDS)
        };
        let mut waiting = {
            let mut state = self.state();
            match state.dispatcher.arrive(&schema.level, class.flow, width) {
                Admission::Now(grant) => return Ok(grant),
                Admission::Refused(reason) => return Err(refuse(reason)),
                Admission::Wait(ticket) => {
                    let (sender, receiver) = oneshot::channel();
                    state.waiting.insert(ticket, sender);
                    Waiting { fairness: self, level: &schema.level, ticket, receiver, done: false }
                }
            }
        };
        let (labels, begun) = ([schema.level.as_str(), schema.name.as_str()], Instant::now());
        IN_QUEUE.add(&labels, 1.0);
        let granted = tokio::time::timeout(self.patience, &mut waiting.receiver).await;
        IN_QUEUE.add(&labels, -1.0);
        let served = matches!(granted, Ok(Ok(_)));
        WAITED.observe(&[labels[0], labels[1], if served { "true" } else { "false" }], begun.elapsed().as_secs_f64());
        match granted {
            Ok(Ok(grant)) => {
                waiting.done = true;
                Ok(grant)
            }
            _ => Err(refuse("time-out")),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::authn::user::{AUTHENTICATED, MASTERS};

    /// Two seats for everybody, with one queue of one place.
    fn small() -> Fairness {
        let fairness = Fairness::new(1, 1, Duration::from_secs(60));
        let level = json!({"metadata": {"name": "tiny"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1000,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}}}}});
        let schema = json!({"metadata": {"name": "tiny", "uid": "u1"}, "spec": {"matchingPrecedence": 5,
            "priorityLevelConfiguration": {"name": "tiny"}, "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [{"kind": "Group", "group": {"name": "system:authenticated"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]}]}});
        fairness.apply("prioritylevelconfigurations", "tiny", Some(&level));
        fairness.apply("flowschemas", "tiny", Some(&schema));
        fairness
    }

    #[tokio::test(start_paused = true)]
    async fn seats_queues_and_refusals() {
        let fairness = small();
        let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", "");
        let class = |user: &User| fairness.classify(user, &info).unwrap();
        let (bob, admin) = (User::new("bob", &[AUTHENTICATED]), User::new("admin", &[MASTERS, AUTHENTICATED]));
        let (bob, admin) = (class(&bob), class(&admin));
        let mut headers = HeaderMap::new();
        bob.mark(&mut headers);
        assert_eq!(headers[SCHEMA_UID], "u1");
        let first = fairness.seat(&bob, 1).await.unwrap();
        let _second = fairness.seat(&bob, 1).await.unwrap();
        let mut third = Box::pin(fairness.seat(&bob, 1));
        assert!(futures::poll!(third.as_mut()).is_pending());
        assert_eq!(fairness.seat(&bob, 1).await.err().unwrap().code(), 429);
        assert!(fairness.seat(&admin, 1).await.is_ok(), "administrators do not wait");
        drop(first);
        let _third = third.await.unwrap();
        // Nobody leaves: the wait ends.
        let begun = Instant::now();
        assert_eq!(fairness.seat(&bob, 1).await.err().unwrap().code(), 429);
        assert_eq!(begun.elapsed(), Duration::from_secs(15));
        assert_eq!(fairness.state().dispatcher.waiting("tiny"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_no_trace() {
        let fairness = small();
        let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", "");
        let bob = fairness.classify(&User::new("bob", &[AUTHENTICATED]), &info).unwrap();
        let held = [fairness.seat(&bob, 1).await.unwrap(), fairness.seat(&bob, 1).await.unwrap()];
        let mut waits = Box::pin(fairness.seat(&bob, 1));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        drop(waits);
        assert_eq!(fairness.state().dispatcher.waiting("tiny"), 0);
        assert!(fairness.state().waiting.is_empty());
        // Served, and gone before it noticed.
        let mut waits = Box::pin(fairness.seat(&bob, 1));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        drop(held);
        drop(waits);
        let _both = (fairness.seat(&bob, 1).await.unwrap(), fairness.seat(&bob, 1).await.unwrap());
    }

    #[test]
    fn streams_hold_no_seat_and_watches_do() {
        let fairness = small();
        let bob = User::new("bob", &[AUTHENTICATED]);
        let holds = |path: &str, query: &str| fairness.classify(&bob, &RequestInfo::parse(&Method::GET, path, query)).is_some();
        assert!(!holds("/api/v1/namespaces/a/pods/p/log", ""));
        assert!(holds("/api/v1/pods", "watch=1"));
        assert!(holds("/healthz", ""));
    }
}
