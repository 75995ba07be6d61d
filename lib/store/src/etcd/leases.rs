//! Leases for keys with a time to live. A lease costs etcd more than a key does, so keys of one lifetime written shortly
//! after each other share one.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::storage::Result;

/// A lease is given to new keys for so long; a key may outlive its time by as much.
const SHARED_FOR: Duration = Duration::from_secs(60);
/// Short lifetimes share for less: at most a twentieth of them.
const SHARED_PART: u32 = 20;
/// etcd revokes a lease with all its keys in one transaction; it should stay small.
const KEYS_MAX: u32 = 1000;
/// Distinct lifetimes remembered. Events use one.
const LEASES_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Leases(Mutex<Vec<Lease>>);

struct Lease {
    id: i64,
    ttl: Duration,
    until: Instant,
    keys: u32,
}

impl Leases {
    /// A lease on which a key lives at least `ttl`; `grant` makes one for a number of seconds.
    pub(super) async fn get(&self, ttl: Duration, grant: impl AsyncFnOnce(i64) -> Result<i64>) -> Result<i64> {
        let now = Instant::now();
        if let Some(id) = self.shared(ttl, now) {
            return Ok(id);
        }
        let share = SHARED_FOR.min(ttl / SHARED_PART);
        let seconds = (ttl + share).as_secs_f64().ceil().max(1.0) as i64;
        let id = grant(seconds).await?;
        let mut leases = self.lock();
        leases.retain(|lease| lease.ttl != ttl && lease.until > now);
        if leases.len() == LEASES_MAX {
            leases.remove(0);
        }
        leases.push(Lease { id, ttl, until: now + share, keys: 1 });
        Ok(id)
    }

    pub(super) fn forget(&self, id: i64) {
        self.lock().retain(|lease| lease.id != id);
    }

    fn shared(&self, ttl: Duration, now: Instant) -> Option<i64> {
        let mut leases = self.lock();
        let lease = leases.iter_mut().find(|lease| lease.ttl == ttl && lease.until > now && lease.keys < KEYS_MAX)?;
        lease.keys += 1;
        Some(lease.id)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_written_together_share_a_lease() {
        let leases = Leases::default();
        let hour = Duration::from_secs(3600);
        let mut granted = Vec::new();
        let mut get = async |ttl| {
            leases
                .get(ttl, async |seconds| {
                    granted.push(seconds);
                    Ok(granted.len() as i64)
                })
                .await
                .unwrap()
        };
        assert_eq!((get(hour).await, get(hour).await), (1, 1));
        assert_eq!(get(Duration::from_secs(20)).await, 2);
        assert_eq!(get(hour).await, 1);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(get(hour).await, 3);
        for _ in 1..KEYS_MAX {
            assert_eq!(get(hour).await, 3);
        }
        assert_eq!(get(hour).await, 4);
        assert_eq!(granted, [3660, 21, 3660, 3660]);
    }
}
