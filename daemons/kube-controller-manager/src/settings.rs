//! The flags that controllers read, with their defaults.

use std::path::PathBuf;
use std::time::Duration;

/// Values as upstream's flags have them; [`Default`] gives upstream's defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    pub allocate_node_cidrs: bool,
    pub cluster_cidrs: Vec<String>,
    pub service_cluster_ip_ranges: Vec<String>,
    pub node_cidr_mask_size_ipv4: u8,
    pub node_cidr_mask_size_ipv6: u8,
    pub root_ca: Option<String>,
    pub signing: Option<SigningFiles>,
    pub signing_duration: Duration,
    /// The key of tokens that lie in Secrets.
    pub service_account_key: Option<PathBuf>,
    /// How long such a token that was made for nobody in particular may be unused.
    pub legacy_token_clean_up_period: Duration,
    pub node_monitor_period: Duration,
    pub node_monitor_grace_period: Duration,
    pub node_startup_grace_period: Duration,
    pub node_eviction_rate: f32,
    pub secondary_node_eviction_rate: f32,
    pub large_cluster_size_threshold: usize,
    pub unhealthy_zone_threshold: f32,
    pub terminated_pod_gc_threshold: usize,
    pub max_endpoints_per_slice: usize,
}

/// Where the signing authority lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allocate_node_cidrs: false,
            cluster_cidrs: Vec::new(),
            service_cluster_ip_ranges: Vec::new(),
            node_cidr_mask_size_ipv4: 24,
            node_cidr_mask_size_ipv6: 64,
            root_ca: None,
            signing: None,
            signing_duration: Duration::from_secs(365 * 24 * 3600),
            service_account_key: None,
            legacy_token_clean_up_period: Duration::from_secs(365 * 24 * 3600),
            node_monitor_period: Duration::from_secs(5),
            node_monitor_grace_period: Duration::from_secs(40),
            node_startup_grace_period: Duration::from_secs(60),
            node_eviction_rate: 0.1,
            secondary_node_eviction_rate: 0.01,
            large_cluster_size_threshold: 50,
            unhealthy_zone_threshold: 0.55,
            terminated_pod_gc_threshold: 12_500,
            max_endpoints_per_slice: 100,
        }
    }
}
