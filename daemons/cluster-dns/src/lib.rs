//! cluster-dns: names of Services and pods, and forwarding of all others.
//!
//! [`zone`] says what a cluster name means and [`entry`] what a Service contributes: both pure. [`forward`] asks other servers
//! and keeps answers in [`cache`]; [`respond`] puts a response together, [`server`] carries it, [`run`] connects it to the API.

mod args;
pub mod cache;
pub mod entry;
pub mod forward;
pub mod resolv_conf;
pub mod respond;
mod run;
pub mod server;
pub mod zone;

pub use args::{Args, main};
pub use run::run;
