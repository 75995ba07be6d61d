//! Calling out: to the webhooks that admission and conversion ask.
//!
//! | Question | Answer |
//! |---|---|
//! | Where is it, and who must it prove to be? | [`target`] |
//! | Which address does a Service stand for? | [`resolve`] |
//! | How is the connection made? | [`dial`] |
//! | What is sent, and what may come back? | [`client`] |
//! | What does a failure say? | [`error`] |
//!
//! **Invariants:** every call has a deadline; every answer has a bound; a redirect is never followed; no credential of a
//! client is passed on.

mod client;
pub(crate) mod dial;
pub(crate) mod error;
pub(crate) mod resolve;
mod target;

pub use client::{Client, RESPONSE_BYTES_MAX};
pub use error::CallError;
pub use target::{Address, Target};
