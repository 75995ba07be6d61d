//! Tests of the whole: command lines against an API server on a real etcd ([`commands`]), and end-to-end scenarios.
//!
//! End-to-end tests: a real host with systemd, `kctl init` on it, and what a user does then.
//!
//! The scenarios are ordinary functions over a [`world::World`]; the `e2e` program runs them in order on one host, because
//! each needs the cluster that the one before it left. Nothing in them is simulated.
//!
//! Without a host, [`plane`] starts a control plane as processes: for the benchmark of the API server, for [`conformance`],
//! upstream's own tests of it, for [`libraries`], clients in other languages, and for [`interchange`] of daemons with upstream's.

pub mod apiserver;
pub mod commands;
pub mod conformance;
pub mod images;
pub mod interchange;
pub mod kubectls;
pub mod libraries;
pub mod load;
pub mod nodes;
pub mod plane;
pub mod pods;
pub mod process;
pub mod scenarios;
pub mod world;
