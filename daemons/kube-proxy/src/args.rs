//! Flags, with upstream's names. With `--config` the file counts, and of the flags only `--hostname-override`, as upstream has it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use daemon::{CommonArgs, Threads, run_main};

use crate::config::{ConfigError, File};
use crate::upstream_flags::TABLES;

/// The Kubernetes network proxy: makes Services reachable on this node.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kube-proxy", disable_version_flag = true)]
pub struct Args {
    /// Path to a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Path to the kubeconfig. Without it: the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The node's name, when it is not the host's.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// The pods' addresses: traffic to Services from elsewhere is masqueraded.
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// Address and port of the health check; port 0 to not serve it.
    #[arg(long, value_name = "ADDRESS")]
    pub healthz_bind_address: Option<String>,
    /// Address and port of the metrics; port 0 to not serve them.
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_bind_address: Option<String>,
    /// Only "nftables" is supported.
    #[arg(long, value_name = "MODE")]
    pub proxy_mode: Option<String>,
    /// Where NodePorts answer: CIDR blocks, or "primary" for the node's own address.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub nodeport_addresses: Option<Vec<String>>,
    /// Masquerade all traffic to cluster IPs.
    #[arg(long)]
    pub masquerade_all: bool,
    /// Take the rules away and exit.
    #[arg(long)]
    pub cleanup: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Args {
    /// The file, or the flags as if they were one.
    pub(crate) fn file(&self) -> Result<File, ConfigError> {
        let mut file = match &self.config {
            Some(path) => File::load(path)?,
            None => {
                let mut file = File {
                    cluster_cidr: self.cluster_cidr.clone().unwrap_or_default(),
                    healthz_bind_address: self.healthz_bind_address.clone().unwrap_or_default(),
                    metrics_bind_address: self.metrics_bind_address.clone().unwrap_or_default(),
                    mode: self.proxy_mode.clone().unwrap_or_default(),
                    node_port_addresses: self.nodeport_addresses.clone(),
                    ..File::default()
                };
                file.nftables.masquerade_all = self.masquerade_all;
                file
            }
        };
        if let Some(name) = &self.hostname_override {
            file.hostname_override.clone_from(name);
        }
        Ok(file)
    }
}

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    run_main(args, Threads::One, TABLES, |args: &Args| &args.common, crate::run)
}
