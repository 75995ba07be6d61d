//! The Container Runtime Interface, v1: messages, clients and servers, and how a runtime's socket is reached.
//!
//! [`v1`] is generated (`cargo xtask gen-grpc`) and checked in: building this crate needs neither protoc nor a build script.
//! The servers are for recording doubles of a runtime in tests.

mod endpoint;

#[allow(clippy::all, unreachable_pub, reason = "generated")]
#[rustfmt::skip]
pub mod v1;

pub use endpoint::{ConnectError, connect};
pub use tonic;
pub use v1::image_service_client::ImageServiceClient;
pub use v1::runtime_service_client::RuntimeServiceClient;

/// A connection to a runtime; clones share it.
pub type Channel = tonic::transport::Channel;
