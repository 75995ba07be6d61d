//! Remembers credentials that were accepted, for a few seconds: verifying a signature costs more than most requests.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::Timestamp;

use super::service_account::Accepted;

const KEPT_SECONDS: i64 = 10;
const ENTRIES_MAX: usize = 4096;

type Digest = [u8; 32];

/// Keyed by the credential's digest, so that memory never holds it.
#[derive(Default)]
pub(super) struct TokenCache {
    entries: Mutex<HashMap<Digest, (Accepted, i64)>>,
}

fn digest(token: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token).as_ref());
    out
}

impl TokenCache {
    pub(super) fn get(&self, token: &[u8], now: Timestamp) -> Option<Accepted> {
        let entries = self.entries.lock().unwrap_or_else(|e| e.into_inner());
        let (accepted, until) = entries.get(&digest(token))?;
        (now.as_second() < *until).then(|| accepted.clone())
    }

    pub(super) fn insert(&self, token: &[u8], accepted: &Accepted, now: Timestamp) {
        let now = now.as_second();
        let mut entries = self.entries.lock().unwrap_or_else(|e| e.into_inner());
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, (_, until)| now < *until);
        }
        if entries.len() < ENTRIES_MAX {
            entries.insert(digest(token), (accepted.clone(), accepted.expires.min(now + KEPT_SECONDS)));
        }
    }
}
