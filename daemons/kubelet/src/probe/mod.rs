//! Probes: a task for each probe of each container, and what they found.
//!
//! Results belong to a container's id: a new container starts without any.

pub mod run;
pub mod task;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::core::{Container, Probe};
use tokio::task::AbortHandle;

use crate::runtime::actions::Probes;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Success,
    Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

type Key = (String, Kind);

#[derive(Default)]
struct Inner {
    results: HashMap<Key, Verdict>,
    /// By the container's id and the probe.
    tasks: HashMap<Key, AbortHandle>,
    /// Which pod a container belongs to.
    pods: HashMap<String, String>,
}

/// What the probes found. Clones share it.
#[derive(Clone, Default)]
pub struct Results {
    inner: Arc<Mutex<Inner>>,
}

impl Probes for Results {
    fn startup(&self, container_id: &str) -> Option<Verdict> {
        self.get(container_id, Kind::Startup)
    }
    fn liveness(&self, container_id: &str) -> Option<Verdict> {
        self.get(container_id, Kind::Liveness)
    }
}

impl Results {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn get(&self, container_id: &str, kind: Kind) -> Option<Verdict> {
        self.lock().results.get(&(container_id.to_owned(), kind)).copied()
    }

    /// Records a verdict; true when it is another than before.
    pub fn set(&self, container_id: &str, kind: Kind, verdict: Verdict) -> bool {
        self.lock().results.insert((container_id.to_owned(), kind), verdict) != Some(verdict)
    }

    /// Whether a running container has started: it has no startup probe, or that one succeeded.
    pub fn started(&self, container: &Container, container_id: &str) -> bool {
        container.startup_probe.is_none() || self.get(container_id, Kind::Startup) == Some(Verdict::Success)
    }

    /// Whether a running container is ready.
    pub fn ready(&self, container: &Container, container_id: &str) -> bool {
        self.started(container, container_id)
            && (container.readiness_probe.is_none() || self.get(container_id, Kind::Readiness) == Some(Verdict::Success))
    }

    /// Starts the probes of a running container that are not under way yet.
    pub fn ensure(&self, pod_uid: &str, container: &Container, container_id: &str, start: impl Fn(Kind, &Probe) -> AbortHandle) {
        let mut inner = self.lock();
        for kind in Kind::ALL {
            let Some(probe) = kind.of(container) else { continue };
            let key = (container_id.to_owned(), kind);
            if inner.tasks.contains_key(&key) {
                continue;
            }
            inner.pods.insert(container_id.to_owned(), pod_uid.to_owned());
            let handle = start(kind, probe);
            inner.tasks.insert(key, handle);
        }
    }

    /// Ends the probes of a pod's containers, except of those that still run.
    pub fn retain(&self, pod_uid: &str, running: &[&str]) {
        let mut inner = self.lock();
        let gone: Vec<String> = inner
            .pods
            .iter()
            .filter(|(id, uid)| *uid == pod_uid && !running.contains(&id.as_str()))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            inner.pods.remove(&id);
            for kind in Kind::ALL {
                let key = (id.clone(), kind);
                inner.results.remove(&key);
                if let Some(task) = inner.tasks.remove(&key) {
                    task.abort();
                }
            }
        }
    }

    /// Ends the liveness and startup probes of a pod that is being deleted; readiness goes on until its end.
    pub fn stop_killing(&self, pod_uid: &str) {
        let inner = self.lock();
        let ids: Vec<String> = inner.pods.iter().filter(|(_, uid)| *uid == pod_uid).map(|(id, _)| id.clone()).collect();
        for id in ids {
            for kind in [Kind::Liveness, Kind::Startup] {
                if let Some(task) = inner.tasks.get(&(id.clone(), kind)) {
                    task.abort();
                }
            }
        }
    }
}

/// How often, how long, and how many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub successes: u32,
    pub failures: u32,
}

impl Schedule {
    pub fn of(probe: &Probe) -> Self {
        let seconds = |v: Option<i32>, default: u64| {
            Duration::from_secs(v.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
        };
        let count = |v: Option<i32>, default: u32| v.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default);
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }
    }
}

/// Turns single results into a verdict: so many in a row are needed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streak {
    last: Option<Verdict>,
    length: u32,
}

impl Streak {
    pub fn add(&mut self, schedule: &Schedule, result: Verdict) -> Option<Verdict> {
        self.length = if self.last == Some(result) { self.length.saturating_add(1) } else { 1 };
        self.last = Some(result);
        let needed = match result {
            Verdict::Success => schedule.successes,
            Verdict::Failure => schedule.failures,
        };
        (self.length >= needed).then_some(result)
    }
}

/// The grace period of a kill that a probe asked for.
pub fn grace_override(container: &Container, kind: Kind) -> Option<i64> {
    kind.of(container).and_then(|p| p.termination_grace_period_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_need_a_streak() {
        let schedule = Schedule { successes: 2, failures: 3, ..Schedule::of(&Probe::default()) };
        let mut streak = Streak::default();
        use Verdict::{Failure as F, Success as S};
        let verdicts: Vec<Option<Verdict>> = [F, F, F, S, S, F].iter().map(|r| streak.add(&schedule, *r)).collect();
        assert_eq!(verdicts, [None, None, Some(F), None, Some(S), None]);
    }

    #[test]
    fn defaults() {
        let s = Schedule::of(&Probe::default());
        assert_eq!((s.period.as_secs(), s.timeout.as_secs(), s.successes, s.failures), (10, 1, 1, 3));
    }
}
