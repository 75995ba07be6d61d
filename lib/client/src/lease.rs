//! Leader election by a Lease (coordination.k8s.io), as client-go's `leaderelection` does it.

use std::future::Future;
use std::time::Duration;

use api::coordination::{Lease, LeaseSpec};
use api::metav1::{MicroTime, ObjectMeta};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{Client, Error};

/// Who wants to lead, and how long a leader may be silent.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    pub namespace: String,
    pub name: String,
    /// Unique for each process.
    pub identity: String,
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

impl LeaseConfig {
    /// Upstream's times: 15 s, 10 s, 2 s.
    pub fn new(namespace: &str, name: &str, identity: String) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// What to do about a lease, decided from what was observed.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Create,
    /// It is ours, or nobody's.
    Take {
        transitions: i32,
    },
    Wait,
}

/// Another's lease counts as expired when its record did not change for its duration, by our own clock: clocks of hosts
/// need not agree.
fn decide(lease: Option<&LeaseSpec>, identity: &str, unchanged_for: Duration, duration: Duration) -> Step {
    let Some(spec) = lease else { return Step::Create };
    let transitions = spec.lease_transitions.unwrap_or(0);
    match spec.holder_identity.as_deref() {
        Some(holder) if holder == identity => Step::Take { transitions },
        None | Some("") => Step::Take { transitions: transitions + 1 },
        Some(_) if unchanged_for >= duration => Step::Take { transitions: transitions + 1 },
        Some(_) => Step::Wait,
    }
}

/// Waits to become the leader, then runs `lead`; returns when `lead` ends or leadership is lost.
///
/// # Errors
/// [`LeadershipLost`] when the lease could not be renewed in time: the caller ends the process, as upstream does, because
/// work that is under way can't be told to stop.
pub async fn lead<F: Future>(client: &Client, config: &LeaseConfig, lead: F) -> Result<F::Output, LeadershipLost> {
    let mut elector = Elector { client, config, seen: None };
    while !elector.try_acquire().await {
        tokio::time::sleep(config.retry_period).await;
    }
    tracing::info!(lease = %config.name, identity = %config.identity, "became leader");
    tokio::pin!(lead);
    tokio::select! {
        output = &mut lead => {
            elector.release().await;
            Ok(output)
        }
        () = elector.renew_until_lost() => Err(LeadershipLost),
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("leader election lost")]
pub struct LeadershipLost;

struct Elector<'a> {
    client: &'a Client,
    config: &'a LeaseConfig,
    /// The record last seen, and when it changed.
    seen: Option<(Lease, Instant)>,
}

impl Elector<'_> {
    async fn try_acquire(&mut self) -> bool {
        match self.step().await {
            Ok(leading) => leading,
            Err(error) => {
                tracing::debug!(lease = %self.config.name, %error, "acquiring");
                false
            }
        }
    }

    async fn step(&mut self) -> Result<bool, Error> {
        let lease = match self.client.get::<Lease>(&self.config.namespace, &self.config.name).await {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        if self.seen.as_ref().map(|(l, _)| &l.spec) != lease.as_ref().map(|l| &l.spec) {
            self.seen = lease.clone().map(|l| (l, Instant::now()));
        }
        let unchanged_for = self.seen.as_ref().map_or(Duration::ZERO, |(_, at)| at.elapsed());
        let spec = lease.as_ref().and_then(|l| l.spec.as_ref());
        let held = spec.and_then(|s| s.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
        let duration = held.map_or(self.config.lease_duration, Duration::from_secs);
        match decide(spec, &self.config.identity, unchanged_for, duration) {
            Step::Wait => Ok(false),
            Step::Create => {
                self.client.create(&self.record(None, 0)).await?;
                Ok(true)
            }
            Step::Take { transitions } => {
                let written = self.client.update(&self.record(lease, transitions)).await?;
                self.seen = Some((written, Instant::now()));
                Ok(true)
            }
        }
    }

    fn record(&self, lease: Option<Lease>, transitions: i32) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.config.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.config.lease_duration.as_secs()).ok();
        spec.renew_time = Some(now);
        spec.lease_transitions = Some(transitions);
        lease
    }

    async fn renew_until_lost(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            let left = self.config.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left.max(Duration::from_millis(1)), self.step()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::debug!(lease = %self.config.name, %error, "renewing"),
                Err(_) => {}
            }
            if renewed.elapsed() >= self.config.renew_deadline {
                return;
            }
        }
    }

    /// Lets the next leader start at once.
    async fn release(&mut self) {
        let Some((mut lease, _)) = self.seen.take() else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        if let Err(error) = self.client.update(&lease).await {
            tracing::debug!(lease = %self.config.name, %error, "releasing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_a_lease() {
        let spec = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(16));
        let limit = Duration::from_secs(15);
        for (lease, unchanged, want) in [
            (None, short, Step::Create),
            (Some(spec("me")), short, Step::Take { transitions: 3 }),
            (Some(spec("")), short, Step::Take { transitions: 4 }),
            (Some(spec("other")), short, Step::Wait),
            (Some(spec("other")), long, Step::Take { transitions: 4 }),
        ] {
            assert_eq!(decide(lease.as_ref(), "me", unchanged, limit), want, "{lease:?}");
        }
    }
}
