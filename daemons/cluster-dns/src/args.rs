//! Flags.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use daemon::{CommonArgs, Threads, run_main};

/// The cluster's DNS server: names of Services and pods, and forwarding of all others.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "cluster-dns", disable_version_flag = true)]
pub struct Args {
    /// The cluster's domain.
    #[arg(long, visible_alias = "cluster-domain", default_value = "cluster.local", value_name = "DOMAIN")]
    pub domain: String,
    /// Addresses on which to answer, UDP and TCP; may be given several times.
    #[arg(long, default_value = "0.0.0.0:53", value_name = "ADDRESS")]
    pub listen: Vec<SocketAddr>,
    /// Path to the kubeconfig. Without it: the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where names of other domains are asked for: addresses of name servers, or a file like /etc/resolv.conf.
    #[arg(long, default_value = "/etc/resolv.conf", value_name = "SERVERS", value_delimiter = ',')]
    pub forward: Vec<String>,
    /// The Service behind which this server stands, as namespace/name.
    #[arg(long, default_value = "kube-system/kube-dns", value_name = "SERVICE")]
    pub service: String,
    /// Address of /health.
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub health_address: SocketAddr,
    /// Address of /ready.
    #[arg(long, default_value = "0.0.0.0:8181", value_name = "ADDRESS")]
    pub ready_address: SocketAddr,
    /// Address of /metrics.
    #[arg(long, default_value = "0.0.0.0:9153", value_name = "ADDRESS")]
    pub metrics_address: SocketAddr,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    run_main(args, Threads::One, &[], |args: &Args| &args.common, crate::run)
}
