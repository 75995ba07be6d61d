//! Flags, with upstream's names. What a flag and the configuration file both say, the flag decides.

use std::net::IpAddr;
use std::path::PathBuf;

/// The node agent: runs the pods that are bound to this node, and those that it finds as files.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kubelet", disable_version_flag = true)]
pub struct Args {
    #[command(flatten)]
    pub common: daemon::CommonArgs,
    /// The kubelet loads its initial configuration (kubelet.config.k8s.io/v1beta1) from this file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Path to a kubeconfig file, specifying how to connect to the API server. Without it the kubelet runs static pods alone.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A kubeconfig that is used to get a client certificate when --kubeconfig does not exist yet.
    #[arg(long, value_name = "FILE")]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// The endpoint of the container runtime service, for example unix:///run/containerd/containerd.sock.
    #[arg(long, value_name = "ENDPOINT")]
    pub container_runtime_endpoint: Option<String>,
    /// The endpoint of the image service, when it is not the runtime's.
    #[arg(long, value_name = "ENDPOINT")]
    pub image_service_endpoint: Option<String>,
    /// Use this as the name of the node instead of the actual hostname.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// IP address (or a comma-separated pair of both families) of the node.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels to add when registering the node, as key=value pairs separated by commas.
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Register the node with these taints (key=value:effect, separated by commas).
    #[arg(long, value_name = "TAINTS", value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Register the node with the API server.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub register_node: Option<bool>,
    /// The directory where the TLS certificates are located.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet/pki")]
    pub cert_dir: PathBuf,
    /// Directory for managing kubelet files (volume mounts and so on).
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Where the logs of pods are written.
    #[arg(long, value_name = "DIR")]
    pub pod_log_dir: Option<PathBuf>,
    /// Path of the directory with static pod manifests.
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    /// The address to serve on.
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// The port to serve on.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// The read-only port, without authentication or authorization; 0 to disable.
    #[arg(long, value_name = "PORT")]
    pub read_only_port: Option<u16>,
    /// The port of the localhost healthz endpoint; 0 to disable.
    #[arg(long, value_name = "PORT")]
    pub healthz_port: Option<u16>,
    /// Any client with a certificate signed by one of the authorities in this file is authenticated by its common name.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// File with the x509 certificate for HTTPS.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the private key that matches --tls-cert-file.
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Minimum TLS version: VersionTLS10, VersionTLS11, VersionTLS12, VersionTLS13. Nothing below 1.2 is agreed to.
    #[arg(long, value_name = "VERSION")]
    pub tls_min_version: Option<String>,
    /// Cipher suites for TLS 1.2, with Go's names, separated by commas.
    #[arg(long, value_name = "SUITES", value_delimiter = ',')]
    pub tls_cipher_suites: Vec<String>,
    /// Domain of this cluster, searched by pods.
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// DNS servers of the cluster, separated by commas.
    #[arg(long, value_name = "IPS", value_delimiter = ',')]
    pub cluster_dns: Vec<String>,
    /// Driver that the kubelet uses to manipulate cgroups on the host: systemd or cgroupfs.
    #[arg(long, value_name = "DRIVER")]
    pub cgroup_driver: Option<String>,
    /// Number of pods that can run on this node.
    #[arg(long, value_name = "N")]
    pub max_pods: Option<u32>,
    /// Eviction thresholds, for example memory.available<100Mi,nodefs.available<10%: below them the node is under pressure.
    #[arg(long, value_name = "SIGNAL<QUANTITY", value_delimiter = ',')]
    pub eviction_hard: Vec<String>,
    /// Images that nothing uses are removed when more than this percentage of their disk is used; 100 for never.
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_high_threshold: Option<u8>,
    /// Images are removed until no more than this percentage of their disk is used.
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_low_threshold: Option<u8>,
    /// Whether to fail when swap is enabled on the node.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub fail_swap_on: Option<bool>,
    /// Request a serving certificate from the cluster instead of making one, and renew it.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub rotate_server_certificates: Option<bool>,
    /// Renew the client certificate before it expires.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub rotate_certificates: Option<bool>,
    /// Unique identifier of the node at a cloud provider.
    #[arg(long, value_name = "ID")]
    pub provider_id: Option<String>,
    /// Accepted and ignored: the runtime knows its sandbox image.
    #[arg(long, value_name = "IMAGE", hide = true)]
    pub pod_infra_container_image: Option<String>,
}
