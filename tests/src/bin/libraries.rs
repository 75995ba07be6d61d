//! Runs client libraries of others against an API server on an etcd of its own, without a host: what the scenario
//! `real_clients` runs against a cluster, but for the steps that need a running pod.
//!
//!     cargo run -p kctl-tests --bin libraries [-- --api-server PROGRAM --cache DIR]

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kctl_tests::apiserver::ApiServer;
use kctl_tests::libraries;

fn main() -> Result<()> {
    daemon::install_crypto();
    let this = std::env::current_exe()?;
    let programs = this.parent().context("a program lies in a directory")?.to_owned();
    let mut server = programs.join("kctl");
    let mut cache = std::env::temp_dir().join("kctl-libraries");
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().map(PathBuf::from).with_context(|| format!("{word} takes a value"));
        match word.as_str() {
            "--api-server" => server = value()?,
            "--cache" => cache = value()?,
            other => bail!("{other:?} is not an argument"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let server = runtime.block_on(ApiServer::start(&server, "libraries"))?;
    libraries::run(&programs, &cache, &server.dir.join("admin.conf"), None)
}
