//! The flags, with upstream's names.

mod signing;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ArgAction::Set;
use daemon::duration;
use daemon::feature_gates::parse_bool;
use daemon::serving::ServingArgs;

use self::signing::SigningArgs;
use crate::settings::{Autoscaling, Settings, Workers};

/// The controllers: they bring the cluster to the state that its objects ask for.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kube-controller-manager", disable_version_flag = true)]
pub struct Args {
    #[command(flatten)]
    pub common: daemon::CommonArgs,
    #[command(flatten)]
    pub serving: ServingArgs,
    #[command(flatten)]
    pub election: ElectionArgs,
    #[command(flatten)]
    pub signing: SigningArgs,
    #[command(flatten)]
    pub workers: Workers,
    #[command(flatten)]
    pub autoscaling: Autoscaling,

    /// The address of the API server, in place of the kubeconfig's.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Path to a kubeconfig with authorization and the location of the API server.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Path to a kubeconfig for delegated authentication. Accepted: clients are known by --client-ca-file.
    #[arg(long, value_name = "FILE")]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Path to a kubeconfig for delegated authorization. Accepted: see --client-ca-file.
    #[arg(long, value_name = "FILE")]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// Authority of the front proxy. Accepted: this port is not reached through one.
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,

    /// Controllers to run: `*` all that are on by default, `foo` that one, `-foo` not that one.
    #[arg(long, value_delimiter = ',', default_value = "*", value_name = "LIST", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// The pause between starts of controllers.
    #[arg(long, default_value = "0s", value_parser = duration::parse, value_name = "DURATION")]
    pub controller_start_interval: Duration,
    /// Features to switch on or off (NAME=BOOL). Those that no controller knows do nothing.
    #[arg(long, value_delimiter = ',', value_name = "GATES")]
    pub feature_gates: Vec<String>,
    /// Each controller acts with the credentials of its own service account.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          action = Set, value_parser = parse_bool)]
    pub use_service_account_credentials: bool,

    /// Assign a pod CIDR to each node.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          action = Set, value_parser = parse_bool)]
    pub allocate_node_cidrs: bool,
    /// CIDR ranges for pods.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub cluster_cidr: Vec<String>,
    /// CIDR ranges for Services.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub service_cluster_ip_range: Vec<String>,
    /// Size of a node's pod CIDR, for both families. The default is 24 for IPv4 and 64 for IPv6.
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size: Option<u8>,
    /// Size of a node's IPv4 pod CIDR.
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// Size of a node's IPv6 pod CIDR.
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// The name of the cluster.
    #[arg(long, default_value = "kubernetes", value_name = "NAME")]
    pub cluster_name: String,
    /// Cloud provider. Only empty and "external" are known.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub cloud_provider: String,

    /// Authority bundle that is put into every namespace, and into service account token secrets.
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
    /// Key of the service account tokens that are put into Secrets.
    #[arg(long, value_name = "FILE")]
    pub service_account_private_key_file: Option<PathBuf>,
    /// How long an auto-generated token in a Secret may be unused before it is refused, and then before it is deleted.
    #[arg(long, default_value = "8760h0m0s", value_parser = duration::parse, value_name = "DURATION")]
    pub legacy_service_account_token_clean_up_period: Duration,

    /// How often the health of nodes is looked at.
    #[arg(long, default_value = "5s", value_parser = duration::parse, value_name = "DURATION")]
    pub node_monitor_period: Duration,
    /// How long a running node may be silent before it is marked unhealthy.
    #[arg(long, default_value = "40s", value_parser = duration::parse, value_name = "DURATION")]
    pub node_monitor_grace_period: Duration,
    /// How long a starting node may be silent before it is marked unhealthy.
    #[arg(long, default_value = "1m0s", value_parser = duration::parse, value_name = "DURATION")]
    pub node_startup_grace_period: Duration,
    /// Nodes per second that are tainted for eviction when their zone is healthy.
    #[arg(long, default_value_t = 0.1, value_name = "RATE")]
    pub node_eviction_rate: f32,
    /// The same when the zone is not healthy and large.
    #[arg(long, default_value_t = 0.01, value_name = "RATE")]
    pub secondary_node_eviction_rate: f32,
    /// Up to this many nodes a zone is small: nothing is evicted from it while it is not healthy.
    #[arg(long, default_value_t = 50, value_name = "NODES")]
    pub large_cluster_size_threshold: usize,
    /// Share of nodes not ready from which a zone is not healthy.
    #[arg(long, default_value_t = 0.55, value_name = "SHARE")]
    pub unhealthy_zone_threshold: f32,
    /// Finished pods that may exist before the oldest are deleted; 0 and less keeps all.
    #[arg(long, default_value_t = 12_500, allow_negative_numbers = true, value_name = "PODS")]
    pub terminated_pod_gc_threshold: i32,
    /// Endpoints in an EndpointSlice.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "COUNT")]
    pub max_endpoints_per_slice: u16,
    /// Addresses of one subset of Endpoints that are mirrored to EndpointSlices.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "COUNT")]
    pub mirroring_max_endpoints_per_subset: u16,
    /// How long after a pod's change its Services' Endpoints are written, so that changes come together.
    #[arg(long, default_value = "0s", value_parser = duration::parse, value_name = "DURATION")]
    pub endpoint_updates_batch_period: Duration,
    /// The same for EndpointSlices.
    #[arg(long, default_value = "0s", value_parser = duration::parse, value_name = "DURATION")]
    pub endpointslice_updates_batch_period: Duration,
    /// How long after another's change of a mirrored EndpointSlice it is put right.
    #[arg(long, default_value = "0s", value_parser = duration::parse, value_name = "DURATION")]
    pub mirroring_endpointslice_updates_batch_period: Duration,
    /// Delete what has lost its owners.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          action = Set, value_parser = parse_bool)]
    pub enable_garbage_collector: bool,
    /// How often all ResourceQuotas are counted anew.
    #[arg(long, default_value = "5m0s", value_parser = period, value_name = "DURATION")]
    pub resource_quota_sync_period: Duration,
}

/// The flags of leader election.
#[derive(Clone, Debug, clap::Args)]
pub struct ElectionArgs {
    /// Several controller managers may run; one works at a time.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          action = Set, value_parser = parse_bool)]
    pub leader_elect: bool,
    /// How long others wait after the leader's last renewal.
    #[arg(long, default_value = "15s", value_parser = duration::parse, value_name = "DURATION")]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew before it gives up.
    #[arg(long, default_value = "10s", value_parser = duration::parse, value_name = "DURATION")]
    pub leader_elect_renew_deadline: Duration,
    /// Time between tries.
    #[arg(long, default_value = "2s", value_parser = duration::parse, value_name = "DURATION")]
    pub leader_elect_retry_period: Duration,
    /// Name of the Lease.
    #[arg(long, default_value = "kube-controller-manager", value_name = "NAME")]
    pub leader_elect_resource_name: String,
    /// Namespace of the Lease.
    #[arg(long, default_value = "kube-system", value_name = "NAMESPACE")]
    pub leader_elect_resource_namespace: String,
    /// Kind of the lock. Only leases.
    #[arg(long, default_value = "leases", value_parser = ["leases"], value_name = "KIND")]
    pub leader_elect_resource_lock: String,
}

/// A duration after which something comes again and again.
pub(crate) fn period(text: &str) -> Result<Duration, String> {
    duration::parse(text).and_then(|period| if period.is_zero() { Err("must be greater than 0".to_owned()) } else { Ok(period) })
}

impl Args {
    /// What the controllers read of the flags.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let root_ca = match &self.root_ca_file {
            None => None,
            Some(path) => {
                Some(std::fs::read_to_string(path).with_context(|| format!("reading --root-ca-file {}", path.display()))?)
            }
        };
        anyhow::ensure!(
            matches!(self.cloud_provider.as_str(), "" | "external"),
            "--cloud-provider {:?}: only \"external\" is known",
            self.cloud_provider
        );
        let both = self.node_cidr_mask_size;
        Ok(Settings {
            workers: self.workers.clone(),
            autoscaling: self.autoscaling.clone(),
            allocate_node_cidrs: self.allocate_node_cidrs,
            cluster_cidrs: self.cluster_cidr.clone(),
            service_cluster_ip_ranges: self.service_cluster_ip_range.clone(),
            node_cidr_mask_size_ipv4: self.node_cidr_mask_size_ipv4.or(both).unwrap_or(24),
            node_cidr_mask_size_ipv6: self.node_cidr_mask_size_ipv6.or(both).unwrap_or(64),
            root_ca,
            signing: self.signing.signing()?,
            signing_duration: self.signing.cluster_signing_duration,
            service_account_key: self.service_account_private_key_file.clone(),
            legacy_token_clean_up_period: self.legacy_service_account_token_clean_up_period,
            node_monitor_period: self.node_monitor_period,
            node_monitor_grace_period: self.node_monitor_grace_period,
            node_startup_grace_period: self.node_startup_grace_period,
            node_eviction_rate: self.node_eviction_rate,
            secondary_node_eviction_rate: self.secondary_node_eviction_rate,
            large_cluster_size_threshold: self.large_cluster_size_threshold,
            unhealthy_zone_threshold: self.unhealthy_zone_threshold,
            terminated_pod_gc_threshold: usize::try_from(self.terminated_pod_gc_threshold).unwrap_or(0),
            max_endpoints_per_slice: usize::from(self.max_endpoints_per_slice),
            mirrored_addresses_max: usize::from(self.mirroring_max_endpoints_per_subset),
            endpoints_batch_period: self.endpoint_updates_batch_period,
            slices_batch_period: self.endpointslice_updates_batch_period,
            mirroring_batch_period: self.mirroring_endpointslice_updates_batch_period,
            garbage_collector: self.enable_garbage_collector,
            resource_quota_sync_period: self.resource_quota_sync_period,
            start_interval: self.controller_start_interval,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_flags_of_a_usual_manifest_are_taken() {
        let line = "kube-controller-manager --allocate-node-cidrs=true --authentication-kubeconfig=/c --authorization-kubeconfig=/c \
            --bind-address=127.0.0.1 --client-ca-file=/ca --cluster-cidr=10.244.0.0/16 --cluster-name=kubernetes \
            --cluster-signing-cert-file=/ca --cluster-signing-key-file=/k --controllers=*,bootstrapsigner,tokencleaner \
            --kubeconfig=/c --leader-elect=true --requestheader-client-ca-file=/f --service-account-private-key-file=/s \
            --service-cluster-ip-range=10.96.0.0/12 --use-service-account-credentials=true";
        let args = Args::parse_from(line.split_whitespace());
        assert!(args.allocate_node_cidrs && args.use_service_account_credentials && args.election.leader_elect);
        assert_eq!(args.controllers, ["*", "bootstrapsigner", "tokencleaner"]);
        let settings = args.settings().unwrap();
        assert_eq!((settings.node_cidr_mask_size_ipv4, settings.cluster_cidrs), (24, vec!["10.244.0.0/16".to_owned()]));
    }

    #[test]
    fn the_defaults_of_flags_and_of_settings_are_the_same() {
        assert_eq!(Args::parse_from(["kube-controller-manager"]).settings().unwrap(), Settings::default());
    }

    #[test]
    fn values_arrive() {
        let line = "kube-controller-manager --concurrent-gc-syncs=30 --concurrent-rc-syncs 7 --enable-garbage-collector=f \
            --horizontal-pod-autoscaler-tolerance=0.25 --horizontal-pod-autoscaler-sync-period=30s \
            --terminated-pod-gc-threshold=-1 --endpointslice-updates-batch-period=500ms \
            --mirroring-max-endpoints-per-subset=10 --resource-quota-sync-period=1m";
        let settings = Args::parse_from(line.split_whitespace()).settings().unwrap();
        assert_eq!((settings.workers.garbage_collector, settings.workers.replication_controllers), (30, 7));
        assert_eq!((settings.autoscaling.tolerance, settings.autoscaling.sync_period), (0.25, Duration::from_secs(30)));
        assert_eq!((settings.garbage_collector, settings.terminated_pod_gc_threshold), (false, 0));
        assert_eq!((settings.slices_batch_period, settings.endpoints_batch_period), (Duration::from_millis(500), Duration::ZERO));
        assert_eq!((settings.mirrored_addresses_max, settings.resource_quota_sync_period), (10, Duration::from_secs(60)));
    }

    #[test]
    fn values_that_are_refused() {
        for flag in [
            "--concurrent-deployment-syncs=0",
            "--concurrent-deployment-syncs=-1",
            "--concurrent-service-endpoint-syncs=51",
            "--mirroring-max-endpoints-per-subset=1001",
            "--resource-quota-sync-period=0",
            "--horizontal-pod-autoscaler-sync-period=0s",
            "--horizontal-pod-autoscaler-tolerance=-0.1",
            "--leader-elect-resource-lock=endpoints",
        ] {
            assert!(Args::try_parse_from(["kube-controller-manager", flag]).is_err(), "{flag}");
        }
    }
}
