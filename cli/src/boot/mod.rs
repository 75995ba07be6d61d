//! Boot: `kctl init`, `kctl reset`, `kctl status`, `kctl certs`, `kctl image load`.
//!
//! `init` is a plan: a table of steps ([`steps`]), each with a check and an action, in a dependency graph ([`plan`]).
//! Everything a step does to the host goes through the [`ledger`] first, so that `reset` can take it back, also after a
//! run that was killed. Units and manifests are templates under `units/` and `manifests/`, embedded in the executable.

mod certificates;
mod certs;
mod cidr;
mod cluster;
mod context;
mod diagnose;
mod files;
mod image;
mod init;
mod ledger;
mod manifest;
mod node;
mod paths;
mod plan;
mod preflight;
mod progress;
mod reset;
mod runtime;
mod status;
mod steps;
mod template;

pub(crate) use certs::CertsArgs;
pub(crate) use image::ImageArgs;
pub(crate) use init::InitArgs;
pub(crate) use reset::ResetArgs;
pub(crate) use status::StatusArgs;

/// `kctl init`
pub(crate) async fn init(args: InitArgs) -> anyhow::Result<std::process::ExitCode> {
    init::run(args).await
}

/// `kctl reset`
pub(crate) async fn reset(args: ResetArgs) -> anyhow::Result<std::process::ExitCode> {
    reset::run(args).await
}

/// `kctl status`
pub(crate) async fn status(args: StatusArgs) -> anyhow::Result<std::process::ExitCode> {
    status::run(args).await
}

/// `kctl image`
pub(crate) async fn image(args: ImageArgs) -> anyhow::Result<std::process::ExitCode> {
    image::run(args).await
}

/// `kctl certs`
pub(crate) async fn certs(args: CertsArgs) -> anyhow::Result<std::process::ExitCode> {
    certs::run(args).await
}
