//! The controllers of volumes and their claims, as far as no driver is needed: binding, protection, ephemeral claims.

pub(crate) mod binder;
pub(crate) mod ephemeral;
mod facts;
pub(crate) mod protection;

pub(crate) use facts::index_claims;
