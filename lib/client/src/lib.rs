//! The API client of the daemons: one HTTP/2 connection, informers that keep bytes, work queues, leader election.
//!
//! A [`Client`] comes from a kubeconfig, from a pod's service account, or from an API server in the same process, so that
//! controllers run unchanged in a simulation with paused time.
//!
//! **Invariants:** an informer holds each object once, as bytes beside a small [`api::Meta`]; nothing polls: watches push.

pub mod config;
pub mod controller;
mod error;
pub mod events;
pub mod informer;
pub mod kubeconfig;
pub mod lease;
pub mod queue;
mod request;
mod transport;
mod watch;

pub use config::{Config, ConfigError};
pub use error::Error;
pub use informer::{Cached, Change, Informer, InformerConfig, ObjectKey};
pub use request::{Client, DeleteParams, List, ListParams, Patch, PatchParams, Precondition, Propagation, Scope, object_path};
pub use transport::{Body, InProcess, Transport, TransportError};
pub use watch::{WatchEvent, WatchParams, WatchStream};
