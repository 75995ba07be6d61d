//! kube-scheduler: chooses a node for every pod that has none.
//!
//! The judgement is pure and comes first: [`nodes`] and [`world`] hold what is known, [`plugins`] judge behind the extension
//! points of [`framework`], [`cycle`] puts them together, [`preemption`] makes room, [`queue`] says who is next, and
//! [`scheduler`] is all of it as one state machine. [`run`] is the only part that talks to the API server.

pub mod affinity;
mod args;
mod bits;
pub mod config;
mod counts;
pub mod cycle;
pub mod diagnosis;
pub mod event;
pub mod framework;
mod inbox;
pub mod nodes;
pub mod plugins;
pub mod pod;
pub mod preemption;
pub mod profile;
pub mod queue;
pub mod random;
mod resources;
mod run;
pub mod scheduler;
mod spread;
pub mod testing;
mod upstream_flags;
pub mod world;

pub use args::{Args, main};
pub use run::{run, schedule};
