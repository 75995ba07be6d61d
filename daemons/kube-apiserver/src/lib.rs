//! The Kubernetes API server: the only part of the cluster that opens the store, and the door to everything in it.
//!
//! | Question | Answer |
//! |---|---|
//! | What happens to a request, in which order? | [`pipeline`] |
//! | What is it about? | [`request_info`] |
//! | Who asks, and may they? | [`authn`], [`authz`] |
//! | What completes and refuses objects? | [`admission`], [`kinds`] |
//! | What do the verbs do? | [`registry`], one file each |
//! | What is below an object? | [`subresources`], [`proxy`] for streams |
//! | Which other servers does it ask? | [`remote`], [`component_status`] |
//! | Which versions are on? | [`runtime_config`] |
//! | What is sealed in the store? | [`encryption`] |
//! | How is it written down for the client? | [`respond`], [`discovery`], [`openapi`] |
//! | What does every cluster start with? | [`bootstrap`] |
//!
//! **Invariants:** no endpoint is reached by a request that was not authenticated and authorised; no endpoint checks that
//! again; every error is a `metav1.Status`; nothing is encoded again for another reader of the same bytes.

#![allow(clippy::result_large_err, reason = "a Status is the answer to a refused request: made once, and sent")]

pub mod admission;
pub mod aggregation;
pub mod args;
pub mod authn;
pub mod authz;
pub mod body;
pub mod bootstrap;
pub mod component_status;
pub mod config;
pub mod convert;
pub mod custom;
pub mod discovery;
pub mod encryption;
pub mod endpoints;
pub mod filters;
pub mod follow;

pub mod kinds;
pub mod lookup;
pub mod metrics;
pub mod openapi;
pub mod paths;
pub mod pipeline;
pub mod proxy;
pub mod queue;
pub mod registry;
pub mod remote;
pub mod request_info;
pub mod respond;
pub mod reviews;
pub mod runtime_config;
pub mod server;
pub mod service_ip;
pub mod subresources;
mod tls_stream;
mod upstream_flags;
pub mod webhook;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use daemon::tls::ServerTls;

pub use args::Args;
pub use server::{ApiServer, Config};

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    daemon::run_main::<Args, _, _>(args, daemon::Threads::PerCore, upstream_flags::TABLES, |args| &args.common, run)
}

/// Serves until shutdown: first the server says that it is not ready and goes on to serve, so that those who send requests
/// notice; then it takes no more, ends watches, and lets requests under way end.
pub async fn run(args: Args, terminating: daemon::Shutdown) -> anyhow::Result<()> {
    let tls = Arc::new(tls(&args)?);
    let address = SocketAddr::new(args.bind_address, args.secure_port);
    let listener = args.tls.listen(address)?;
    let config = config::load(&args, terminating.clone()).await?;
    let delay = config::shutdown_delay(&args)?;
    let shutdown = daemon::Shutdown::new();
    let ending = shutdown.clone();
    tokio::spawn(async move {
        terminating.requested().await;
        tokio::time::sleep(delay).await;
        ending.trigger();
    });
    let limits = args.tls.limits();
    let server = ApiServer::start(config, shutdown.clone()).await?;
    if let Some(interval) = config::compaction_interval(&args)? {
        tokio::spawn(::store::compactor::run(server.server().registry.feed.clone(), interval));
    }
    tracing::info!(%address, "serving");
    daemon::http::serve(listener, Some(tls), limits, shutdown, move |request| {
        let server = server.clone();
        async move { server.handle(request).await }
    })
    .await;
    Ok(())
}

fn tls(args: &Args) -> anyhow::Result<ServerTls> {
    let client_cas = args.client_ca_file.iter().chain(&args.requestheader_client_ca_file).cloned().collect();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), args.bind_address.to_string()];
    args.tls.server(&names, client_cas).context("the serving certificate")
}
