//! kube-proxy: Services and EndpointSlices as packet filter rules of this node.
//!
//! [`model`] is what is known, [`rules`] makes rules of it, [`ruleset`] keeps them as a value and computes differences, [`nft`]
//! writes those as text: all pure. [`writer`] hands the text to the kernel, [`run`] connects it to the API server.

mod args;
pub mod config;
mod conntrack;
mod drift;
mod health;
pub mod model;
mod netlink;
pub mod nft;
pub mod rules;
pub mod ruleset;
mod run;
#[cfg(test)]
mod trace;
mod upstream_flags;
pub mod writer;

pub use args::{Args, main};
pub use run::run;
