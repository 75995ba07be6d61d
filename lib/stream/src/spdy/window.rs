//! Flow control of what we send.
//!
//! Go's SPDY, which nearly every peer is, never sends WINDOW_UPDATE and never waits for one: a sender that obeyed the
//! standard would stop for good after 64 KiB. So windows are counted always and obeyed only once the peer shows that it
//! has them, by SETTINGS or WINDOW_UPDATE. With other peers TCP alone slows us down.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

pub(super) const INITIAL: u32 = 64 * 1024;

/// What the peer has told of its windows.
#[derive(Debug)]
pub(super) struct Peer {
    obeyed: AtomicBool,
    initial: AtomicU32,
}

impl Default for Peer {
    fn default() -> Self {
        Self { obeyed: AtomicBool::new(false), initial: AtomicU32::new(INITIAL) }
    }
}

impl Peer {
    pub(super) fn has_windows(&self) {
        self.obeyed.store(true, Ordering::Release);
    }

    /// Sets the size new streams begin with; returns the change for those that exist.
    pub(super) fn set_initial(&self, size: u32) -> i64 {
        self.has_windows();
        i64::from(size) - i64::from(self.initial.swap(size, Ordering::AcqRel))
    }

    pub(super) fn initial(&self) -> u32 {
        self.initial.load(Ordering::Acquire)
    }

    fn obeyed(&self) -> bool {
        self.obeyed.load(Ordering::Acquire)
    }
}

/// What may still be sent: of one stream, or of the session.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    credit: i64,
    waiting: Vec<Waker>,
}

impl Window {
    pub(super) fn new(size: u32) -> Self {
        Self { state: Mutex::new(State { credit: i64::from(size), waiting: Vec::new() }) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many bytes may be sent now; waits while there are none.
    pub(super) fn poll_room(&self, peer: &Peer, cx: &mut Context<'_>) -> Poll<usize> {
        if !peer.obeyed() {
            return Poll::Ready(usize::MAX);
        }
        let mut state = self.lock();
        match usize::try_from(state.credit) {
            Ok(n) if n > 0 => Poll::Ready(n),
            _ => {
                state.waiting.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.lock().credit -= bytes as i64;
    }

    pub(super) fn grow(&self, delta: i64) {
        let mut state = self.lock();
        state.credit = state.credit.saturating_add(delta);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}
