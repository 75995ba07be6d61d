//! Leader election by a Lease, as controllers of kube-rs do it: whoever holds the Lease renews it; another takes it when it
//! was not renewed for as long as it says. The resource version decides between two who try at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

const NAME: &str = "leader";
const DURATION: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

struct Candidate {
    name: &'static str,
    leases: Api<Lease>,
    /// The holder's last renewal and when it was seen: clocks of others are not to be trusted.
    seen: Option<(Option<MicroTime>, Instant)>,
}

impl Candidate {
    fn new(name: &'static str, leases: &Api<Lease>) -> Self {
        Self { name, leases: leases.clone(), seen: None }
    }

    /// Takes or renews the Lease; whether this candidate leads now.
    async fn lead(&mut self) -> Result<bool> {
        let result = match self.leases.get_opt(NAME).await? {
            None => {
                let mut lease: Lease = serde_json::from_value(json!({"metadata": {"name": NAME}}))?;
                lease.spec = Some(self.spec(None));
                self.leases.create(&PostParams::default(), &lease).await
            }
            Some(mut lease) => {
                let spec = lease.spec.take().unwrap_or_default();
                if spec.holder_identity.as_deref() != Some(self.name) && !self.expired(&spec) {
                    return Ok(false);
                }
                lease.spec = Some(self.spec(Some(spec)));
                self.leases.replace(NAME, &PostParams::default(), &lease).await
            }
        };
        match result {
            Ok(_) => Ok(true),
            // Another was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn expired(&mut self, spec: &LeaseSpec) -> bool {
        match &self.seen {
            Some((renewed, at)) if *renewed == spec.renew_time => at.elapsed() > DURATION,
            _ => {
                self.seen = Some((spec.renew_time.clone(), Instant::now()));
                false
            }
        }
    }

    fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let before = before.unwrap_or_default();
        let mine = before.holder_identity.as_deref() == Some(self.name);
        LeaseSpec {
            holder_identity: Some(self.name.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if mine { before.acquire_time } else { Some(now.clone()) },
            lease_transitions: Some(before.lease_transitions.map_or(0, |n| n + i32::from(!mine))),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }
}

/// Two candidates: one leads while it renews, and when it stops the other one does.
pub async fn election(leases: &Api<Lease>) -> Result<()> {
    let (mut one, mut two) = (Candidate::new("one", leases), Candidate::new("two", leases));
    let (first, second) = tokio::try_join!(one.lead(), two.lead())?;
    ensure!(first != second, "one of two candidates leads at first, not {first} and {second}");
    let (leader, other) = if first { (&mut one, &mut two) } else { (&mut two, &mut one) };

    let begin = Instant::now();
    while begin.elapsed() < DURATION * 2 {
        ensure!(leader.lead().await?, "the leader renews its lease");
        ensure!(!other.lead().await?, "nobody else leads as long as it does");
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    let stopped = Instant::now();
    while !other.lead().await? {
        ensure!(stopped.elapsed() < DURATION * 5, "the other one takes over");
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    ensure!(stopped.elapsed() >= DURATION / 2, "not before the lease is over");
    let spec = leases.get(NAME).await?.spec.context("a spec")?;
    ensure!(spec.holder_identity.as_deref() == Some(other.name) && spec.lease_transitions == Some(1), "{spec:?}");
    ensure!(!leader.lead().await?, "who stopped is not the leader any more");
    Ok(())
}
