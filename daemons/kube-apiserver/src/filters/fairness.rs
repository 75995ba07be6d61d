//! Fairness: how many requests are under way at once, with a lane that is always open to administrators and to the
//! cluster's own health.
//!
//! Reading and changing requests have pools of their own, so that one kind cannot keep out the other; a request waits a
//! moment for a seat and is then told to come back. No user may hold more than half a pool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machinery::status::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::authn::user::{MASTERS, User};
use crate::request_info::RequestInfo;

const WAIT: Duration = Duration::from_secs(5);
const RETRY_AFTER_SECONDS: u32 = 1;

/// The pools.
pub struct Fairness {
    reading: Pool,
    changing: Pool,
}

struct Pool {
    seats: Arc<Semaphore>,
    per_user: usize,
    held: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place among the requests under way, given back when dropped.
pub struct Seat {
    _permit: OwnedSemaphorePermit,
    _held: Held,
}

/// One of a user's places, taken or waited for.
struct Held {
    user: String,
    counts: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

impl Fairness {
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight`.
    pub fn new(reading: usize, changing: usize) -> Self {
        let pool = |size: usize| Pool {
            seats: Arc::new(Semaphore::new(size.max(1))),
            per_user: (size / 2).max(1),
            held: Arc::default(),
        };
        Self { reading: pool(reading), changing: pool(changing) }
    }

    /// None for requests that need no seat.
    pub async fn seat(&self, user: &User, info: &RequestInfo) -> Result<Option<Seat>, Status> {
        if is_exempt(user, info) || info.is_long_running() {
            return Ok(None);
        }
        let pool = if info.is_read_only() { &self.reading } else { &self.changing };
        pool.seat(&user.name).await.map(Some)
    }
}

/// Health must be readable, and an administrator able to repair, when everything else is full. The control plane's own
/// components count as such.
fn is_exempt(user: &User, info: &RequestInfo) -> bool {
    let health = info.resource.is_none() && ["/healthz", "/livez", "/readyz"].iter().any(|path| info.path.starts_with(path));
    health || user.is_in(MASTERS)
}

impl Pool {
    async fn seat(&self, user: &str) -> Result<Seat, Status> {
        let full = || Status::too_many_requests("too many requests, please try again later", RETRY_AFTER_SECONDS);
        let held = self.hold(user).ok_or_else(full)?;
        match tokio::time::timeout(WAIT, self.seats.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Seat { _permit: permit, _held: held }),
            _ => Err(full()),
        }
    }

    /// None when the user has all the places one user may have.
    fn hold(&self, user: &str) -> Option<Held> {
        let mut counts = self.held.lock().unwrap_or_else(|e| e.into_inner());
        let count = counts.entry(user.to_owned()).or_insert(0);
        if *count >= self.per_user {
            return None;
        }
        *count += 1;
        Some(Held { user: user.to_owned(), counts: self.held.clone() })
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_user_cannot_take_every_seat() {
        let fairness = Fairness::new(4, 4);
        let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", "");
        let (greedy, other, admin) = (User::new("greedy", &[]), User::new("other", &[]), User::new("a", &[MASTERS]));
        let _first = fairness.seat(&greedy, &info).await.unwrap();
        let second = fairness.seat(&greedy, &info).await.unwrap();
        assert_eq!(fairness.seat(&greedy, &info).await.err().unwrap().code(), 429);
        let _others = (fairness.seat(&other, &info).await.unwrap(), fairness.seat(&other, &info).await.unwrap());
        assert_eq!(fairness.seat(&User::new("third", &[]), &info).await.err().unwrap().code(), 429);
        assert!(fairness.seat(&admin, &info).await.unwrap().is_none());
        drop(second);
        assert!(fairness.seat(&greedy, &info).await.is_ok());
    }
}
