//! The server as its clients see it: whole, in the test's process, on memory storage.

mod access;
mod aggregation;
mod api;
mod conversion;
mod crd;
mod cve;
mod flags;
mod harness;
mod identity;
mod kms;
mod migration;
mod policies;
mod tls;
mod webhooks;
