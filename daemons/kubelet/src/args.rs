//! Flags, with upstream's names. Those that stand for fields of the configuration file are in [`crate::config::fields`].

use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::fields::KubeletFields;

/// The node agent: runs the pods that are bound to this node, and those that it finds as files.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kubelet", disable_version_flag = true, args_override_self = true)]
pub struct Args {
    #[command(flatten)]
    pub common: daemon::CommonArgs,
    /// The kubelet loads its initial configuration (kubelet.config.k8s.io/v1beta1) from this file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Files in this directory whose names end in .conf change the configuration, in the order of their names.
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// Path to a kubeconfig file, specifying how to connect to the API server. Without it the kubelet runs static pods alone.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A kubeconfig that is used to get a client certificate when --kubeconfig does not exist yet.
    #[arg(long, value_name = "FILE")]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Use this as the name of the node instead of the actual hostname.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// IP address (or a comma-separated pair of both families) of the node.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// "external" when a controller outside tells the node's addresses and takes its taint away; empty without one.
    #[arg(long, value_name = "NAME", value_parser = ["", "external"], default_value = "", hide_possible_values = true)]
    pub cloud_provider: String,
    /// Labels to add when registering the node, as key=value pairs separated by commas.
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// The directory where the TLS certificates are located.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet/pki")]
    pub cert_dir: PathBuf,
    /// Directory for managing kubelet files (volume mounts and so on).
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// A file to hold a lock on: a second kubelet waits until the first has ended.
    #[arg(long, value_name = "FILE")]
    pub lock_file: Option<PathBuf>,
    /// End when another process opens the lock file.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, value_parser = daemon::feature_gates::parse_bool, action = clap::ArgAction::Set)]
    pub exit_on_lock_contention: bool,
    #[command(flatten)]
    pub fields: daemon::fields::FieldFlags<KubeletFields>,
    /// Accepted and ignored: the runtime knows its sandbox image.
    #[arg(long, value_name = "IMAGE", hide = true)]
    pub pod_infra_container_image: Option<String>,
}
