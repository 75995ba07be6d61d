//! Flags, with upstream's names (kubeadm's static pod manifest passes these).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgAction::Set;
use daemon::duration;
use daemon::feature_gates::parse_bool;
use daemon::serving::ServingArgs;
use daemon::{CommonArgs, Threads, run_main};

use crate::upstream_flags::TABLES;

/// The Kubernetes scheduler: chooses a node for every pod that has none.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kube-scheduler", disable_version_flag = true)]
pub struct Args {
    /// Path to a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Path to the kubeconfig with authorization and the API server's address. Without it: the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the API server, in place of the kubeconfig's.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Features to switch on or off (NAME=BOOL). Those that the scheduler does not know do nothing.
    #[arg(long, value_delimiter = ',', value_name = "GATES")]
    pub feature_gates: Vec<String>,
    /// A pod that no node would do for is tried again after this time, whether anything changed or not.
    #[arg(long, default_value = "5m0s", value_parser = duration::parse, value_name = "DURATION")]
    pub pod_max_in_unschedulable_pods_duration: Duration,
    /// Kubeconfig for delegated authentication. Accepted for upstream's manifests: the secure port knows client certificates only.
    #[arg(long, value_name = "FILE")]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Kubeconfig for delegated authorization. Accepted for upstream's manifests: see --authentication-kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// Start a leader election client and gain leadership before scheduling.
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          action = Set, value_parser = parse_bool)]
    pub leader_elect: bool,
    /// How long a silent leader keeps the lease.
    #[arg(long, default_value = "15s", value_parser = duration::parse, value_name = "DURATION")]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew before it gives up.
    #[arg(long, default_value = "10s", value_parser = duration::parse, value_name = "DURATION")]
    pub leader_elect_renew_deadline: Duration,
    /// The pause between tries to acquire or renew the lease.
    #[arg(long, default_value = "2s", value_parser = duration::parse, value_name = "DURATION")]
    pub leader_elect_retry_period: Duration,
    /// Namespace of the lease.
    #[arg(long, default_value = "kube-system", value_name = "NAMESPACE")]
    pub leader_elect_resource_namespace: String,
    /// Name of the lease.
    #[arg(long, default_value = "kube-scheduler", value_name = "NAME")]
    pub leader_elect_resource_name: String,
    /// Kind of the lock. Only leases.
    #[arg(long, default_value = "leases", value_parser = ["leases"], value_name = "KIND")]
    pub leader_elect_resource_lock: String,
    #[command(flatten)]
    pub serving: ServingArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    run_main(args, Threads::One, TABLES, |args: &Args| &args.common, crate::run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_manifest_of_kubeadm() {
        let args = Args::try_parse_from([
            "kube-scheduler",
            "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--bind-address=127.0.0.1",
            "--kubeconfig=/etc/kubernetes/scheduler.conf",
            "--leader-elect=true",
            "--leader-elect-lease-duration=1m30s",
        ])
        .unwrap();
        assert!(args.leader_elect);
        assert_eq!(args.leader_elect_lease_duration, Duration::from_secs(90));
        assert!(!Args::try_parse_from(["kube-scheduler", "--leader-elect=false"]).unwrap().leader_elect);
        assert_eq!(args.pod_max_in_unschedulable_pods_duration, crate::queue::UNSCHEDULABLE_MAX);
    }
}
