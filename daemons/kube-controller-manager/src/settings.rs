//! The flags that controllers read, with their defaults.

mod autoscaling;
mod workers;

use std::path::PathBuf;
use std::time::Duration;

pub use autoscaling::Autoscaling;
pub use workers::Workers;

/// Values as upstream's flags have them; [`Default`] gives upstream's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub workers: Workers,
    pub autoscaling: Autoscaling,
    pub allocate_node_cidrs: bool,
    pub cluster_cidrs: Vec<String>,
    pub service_cluster_ip_ranges: Vec<String>,
    pub node_cidr_mask_size_ipv4: u8,
    pub node_cidr_mask_size_ipv6: u8,
    pub root_ca: Option<String>,
    pub signing: Signing,
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
    /// How many addresses of one subset of Endpoints are mirrored.
    pub mirrored_addresses_max: usize,
    /// How long after a pod's change its Services' Endpoints are looked at.
    pub endpoints_batch_period: Duration,
    /// How long after a pod's change its Services' EndpointSlices are looked at.
    pub slices_batch_period: Duration,
    /// How long after a change of a mirrored EndpointSlice it is put right.
    pub mirroring_batch_period: Duration,
    pub garbage_collector: bool,
    pub resource_quota_sync_period: Duration,
    /// The pause between starts of controllers.
    pub start_interval: Duration,
}

/// Where the authorities lie that sign, by signer. One without does not sign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signing {
    pub kubelet_client: Option<SigningFiles>,
    pub kubelet_serving: Option<SigningFiles>,
    pub client: Option<SigningFiles>,
}

/// Where a signing authority lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: Workers::default(),
            autoscaling: Autoscaling::default(),
            allocate_node_cidrs: false,
            cluster_cidrs: Vec::new(),
            service_cluster_ip_ranges: Vec::new(),
            node_cidr_mask_size_ipv4: 24,
            node_cidr_mask_size_ipv6: 64,
            root_ca: None,
            signing: Signing::default(),
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
            mirrored_addresses_max: 1000,
            endpoints_batch_period: Duration::ZERO,
            slices_batch_period: Duration::ZERO,
            mirroring_batch_period: Duration::ZERO,
            garbage_collector: true,
            resource_quota_sync_period: Duration::from_secs(300),
            start_interval: Duration::ZERO,
        }
    }
}
