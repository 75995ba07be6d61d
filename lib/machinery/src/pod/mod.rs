//! What a pod holds: the one visitor of its containers, the one visitor of what it refers to, and what it asks for.
//!
//! Both visitors are made from the schema table, so that a list of containers or a way to name a Secret that a new release adds
//! is found without a change here, and no rule forgets ephemeral containers.

pub mod containers;
pub mod references;
pub mod resources;

pub use containers::{Role, Visit};
pub use references::{Reference, References};
