//! What all steps share.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result};
use client::Client;
use host::systemd::Systemd;
use tokio::sync::OnceCell;

use super::cluster::Cluster;
use super::ledger::{Effect, Ledger};
use super::paths;
use super::runtime::Runtime;

/// systemd answers long before; a host under load may need this.
const UNIT_TIMEOUT: Duration = Duration::from_secs(90);

pub(crate) struct Context {
    pub(crate) cluster: Cluster,
    pub(crate) node_name: String,
    pub(crate) node_address: IpAddr,
    pub(crate) systemd: Systemd,
    pub(crate) runtime: Runtime,
    /// This very program, and the digest of its file.
    pub(crate) executable: PathBuf,
    pub(crate) digest: String,
    ledger: Mutex<Ledger>,
    api: OnceCell<Client>,
}

impl Context {
    pub(crate) async fn new(cluster: Cluster, node_name: String, node_address: IpAddr) -> Result<Self> {
        let executable = std::env::current_exe().context("finding this program's file")?;
        let digest = super::image::digest_of(&executable)?;
        Ok(Self {
            runtime: Runtime::of_socket(&cluster.cri_socket)?,
            node_name,
            node_address,
            systemd: Systemd::connect().await?,
            executable,
            digest,
            ledger: Mutex::new(Ledger::open(paths::LEDGER.as_ref())?),
            api: OnceCell::new(),
            cluster,
        })
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn note(&self, effect: Effect) -> Result<()> {
        self.ledger().note(effect)
    }

    /// The API server, as the administrator.
    pub(crate) async fn api(&self) -> Result<&Client> {
        self.api
            .get_or_try_init(|| async { Client::from_kubeconfig(paths::ADMIN_CONF.as_ref()) })
            .await
            .context("connecting to the API server")
    }

    pub(crate) fn api_server(&self) -> String {
        match self.node_address {
            IpAddr::V4(address) => format!("https://{address}:6443"),
            IpAddr::V6(address) => format!("https://[{address}]:6443"),
        }
    }

    /// The image that holds this program.
    pub(crate) fn image_reference(&self) -> String {
        super::image::reference(&self.digest)
    }

    /// The virtual address of cluster DNS: the tenth of the services' network, as everywhere.
    pub(crate) fn dns_address(&self) -> Result<IpAddr> {
        self.cluster.network.services.nth(10).context("network.services is too small for the DNS service")
    }

    /// Why a unit is not running with the files as they are now. `files` are those that it reads at its start only.
    pub(crate) async fn unit_differences(&self, unit: &str, files: &[super::files::File]) -> Result<Vec<String>> {
        let mut reasons = super::files::differences(files);
        if self.systemd.file_state(unit).await.as_deref() != Some("enabled") {
            reasons.push(format!("{unit} is not enabled"));
        }
        let state = self.systemd.state(unit).await?;
        if !state.is_active() {
            reasons.push(format!("{unit} is {}", state.active));
        } else if files.iter().any(|file| modified_us(&file.path) > state.active_since_us) {
            reasons.push(format!("{unit} runs with an older configuration"));
        }
        Ok(reasons)
    }

    /// Writes a unit's files, enables it and starts it with them.
    pub(crate) async fn run_unit(&self, unit: &str, files: &[super::files::File]) -> Result<()> {
        let before = self.systemd.state(unit).await?;
        let was_enabled = self.systemd.file_state(unit).await.as_deref() == Some("enabled");
        self.note(Effect::Unit { name: unit.to_owned(), was_enabled, was_active: before.is_active() })?;
        super::files::write_all(self, files)?;
        self.systemd.reload().await?;
        self.systemd.enable(unit).await?;
        self.systemd.reset_failed(unit).await;
        self.systemd.restart(unit, UNIT_TIMEOUT).await?;
        Ok(())
    }
}

fn modified_us(path: &std::path::Path) -> u64 {
    let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    modified
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
