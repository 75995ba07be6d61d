//! The node agent.
#![allow(dead_code)]
mod args;
mod config;
mod pod;
mod probe;
mod runtime;
mod server;
mod status;
mod volume;
pub use args::Args;
