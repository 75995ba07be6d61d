//! `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1): what is read, its defaults, and what the flags change.

pub mod fields;
mod file;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daemon::feature_gates::FeatureGates;
use daemon::tls::TlsOffer;
use daemon::tls_policy::TlsPolicy;

use crate::args::Args;
use file::File;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    Systemd,
    Cgroupfs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationMode {
    AlwaysAllow,
    Webhook,
}

/// The configuration in force: file, flags and defaults together.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub root_dir: PathBuf,
    pub cert_dir: PathBuf,
    pub log_dir: PathBuf,
    pub static_pod_path: Option<PathBuf>,
    pub file_check_frequency: Duration,
    pub kubeconfig: Option<PathBuf>,
    pub bootstrap_kubeconfig: Option<PathBuf>,
    pub lock_file: Option<PathBuf>,
    pub exit_on_lock_contention: bool,
    pub runtime_endpoint: String,
    pub image_endpoint: String,
    pub node_ips: Vec<IpAddr>,
    pub node_labels: BTreeMap<String, String>,
    pub taints: Vec<api::core::Taint>,
    pub register_node: bool,
    /// A controller outside tells the node's addresses.
    pub external_cloud_provider: bool,
    pub provider_id: Option<String>,
    pub enable_server: bool,
    pub debugging_handlers: bool,
    pub address: IpAddr,
    pub port: u16,
    pub read_only_port: u16,
    pub healthz: Option<(IpAddr, u16)>,
    pub client_ca_file: Option<PathBuf>,
    pub tls_files: Option<(PathBuf, PathBuf)>,
    pub tls_offer: TlsOffer,
    pub server_tls_bootstrap: bool,
    pub rotate_certificates: bool,
    pub anonymous: bool,
    pub webhook_authentication: bool,
    pub authorization: AuthorizationMode,
    pub authentication_ttl: Duration,
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    pub cluster_domain: String,
    pub cluster_dns: Vec<String>,
    pub resolv_conf: PathBuf,
    pub pod_cidr: Option<String>,
    pub status_update_frequency: Duration,
    pub status_report_frequency: Duration,
    /// How many images the node's status tells of.
    pub status_images_max: usize,
    pub sync_frequency: Duration,
    pub lease_duration: Duration,
    pub image_minimum_age: Duration,
    pub image_high_percent: u8,
    pub image_low_percent: u8,
    pub cgroups_per_qos: bool,
    pub cgroup_driver: CgroupDriver,
    pub runtime_timeout: Duration,
    pub max_pods: u32,
    /// For each CPU; 0 when only `max_pods` counts.
    pub pods_per_core: u32,
    /// Of one pod; `None` when only the node bounds them.
    pub pod_pids_max: Option<i64>,
    pub cpu_quota: bool,
    pub eviction_hard: BTreeMap<String, String>,
    pub pressure_transition: Duration,
    pub fail_swap_on: bool,
    pub fail_cgroup_v1: bool,
    pub protect_kernel_defaults: bool,
    pub oom_score_adj: Option<i32>,
    pub open_files_max: Option<u64>,
    pub feature_gates: FeatureGates,
    pub log_max_bytes: u64,
    pub log_max_files: u32,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub seccomp_default: bool,
    pub crash_backoff_max: Duration,
    pub parallel_pulls_max: usize,
}

impl Config {
    /// Reads the file that the flags name, and lets the flags decide.
    pub fn load(args: &Args) -> Result<Self> {
        Self::resolve(args, File::load(args)?)
    }

    /// Defaults for what is not there, and the checks that need more than one field.
    fn resolve(args: &Args, mut file: File) -> Result<Self> {
        let seconds = Duration::from_secs;
        let time = |text: &Option<String>, default: u64, field: &str| duration(text.as_deref(), seconds(default), field);
        let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        // Without a file, upstream's flags have the defaults of the time before there were files.
        let has_file = given(args.config.clone()).is_some();
        let runtime_endpoint =
            text(file.container_runtime_endpoint.take()).unwrap_or_else(|| "unix:///run/containerd/containerd.sock".to_owned());
        let image_endpoint = text(file.image_service_endpoint.take()).unwrap_or_else(|| runtime_endpoint.clone());
        let policy = TlsPolicy::parse(&file.tls_min_version, &file.tls_cipher_suites, &[]).map_err(anyhow::Error::msg)?;
        let (image_high_percent, image_low_percent) = image_percents(&file)?;
        let (webhook, decisions) = (&file.authentication.webhook, &file.authorization.webhook);
        let crash = &file.crash_loop_back_off.max_container_restart_period;
        let resync = time(&file.sync_frequency, 60, "syncFrequency")?;
        Ok(Self {
            node_name: node_name(args.hostname_override.as_deref())?,
            root_dir: args.root_dir.clone(),
            cert_dir: args.cert_dir.clone(),
            log_dir: given(file.pod_logs_dir.take()).unwrap_or_else(|| "/var/log/pods".into()),
            static_pod_path: given(file.static_pod_path.take()),
            file_check_frequency: time(&file.file_check_frequency, 20, "fileCheckFrequency")?,
            kubeconfig: given(args.kubeconfig.clone()),
            bootstrap_kubeconfig: given(args.bootstrap_kubeconfig.clone()),
            lock_file: lock_file(args)?,
            exit_on_lock_contention: args.exit_on_lock_contention,
            runtime_endpoint,
            image_endpoint,
            node_ips: args.node_ip.clone(),
            node_labels: node_labels(&args.node_labels)?,
            external_cloud_provider: args.cloud_provider == "external",
            register_node: file.register_node.unwrap_or(true),
            provider_id: text(file.provider_id.take()),
            enable_server: file.enable_server.unwrap_or(true),
            debugging_handlers: file.enable_debugging_handlers.unwrap_or(true),
            address: file.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port: file.port.unwrap_or(10250),
            read_only_port: file.read_only_port.unwrap_or(0),
            healthz: match file.healthz_port.unwrap_or(10248) {
                0 => None,
                port => Some((file.healthz_bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)),
            },
            client_ca_file: given(file.authentication.x509.client_ca_file.take()),
            tls_files: tls_files(given(file.tls_cert_file.take()), given(file.tls_private_key_file.take()))?,
            tls_offer: TlsOffer { policy, ..TlsOffer::default() },
            server_tls_bootstrap: file.server_tls_bootstrap.unwrap_or(false),
            // Certificates that are not renewed stop a node after a year: on unless switched off.
            rotate_certificates: file.rotate_certificates.unwrap_or(true),
            anonymous: file.authentication.anonymous.enabled.unwrap_or(false),
            webhook_authentication: webhook.enabled.unwrap_or(has_file),
            authorization: authorization(file.authorization.mode.as_deref(), has_file)?,
            authentication_ttl: time(&webhook.cache_ttl, 120, "authentication.webhook.cacheTTL")?,
            authorized_ttl: time(&decisions.cache_authorized_ttl, 300, "authorization.webhook.cacheAuthorizedTTL")?,
            unauthorized_ttl: time(&decisions.cache_unauthorized_ttl, 30, "authorization.webhook.cacheUnauthorizedTTL")?,
            cluster_domain: file.cluster_domain.take().unwrap_or_default().trim_end_matches('.').to_owned(),
            resolv_conf: file.resolv_conf.take().unwrap_or_else(|| "/etc/resolv.conf".into()),
            pod_cidr: text(file.pod_cidr.take()),
            status_update_frequency: time(&file.node_status_update_frequency, 10, "nodeStatusUpdateFrequency")?,
            status_report_frequency: time(&file.node_status_report_frequency, 300, "nodeStatusReportFrequency")?,
            // Below zero: all of them.
            status_images_max: usize::try_from(file.node_status_max_images.unwrap_or(50)).unwrap_or(usize::MAX),
            sync_frequency: resync,
            lease_duration: seconds(file.node_lease_duration_seconds.filter(|s| *s > 0).unwrap_or(40).into()),
            image_minimum_age: time(&file.image_minimum_gc_age, 120, "imageMinimumGCAge")?,
            image_high_percent,
            image_low_percent,
            cgroups_per_qos: file.cgroups_per_qos.unwrap_or(true),
            cgroup_driver: cgroup_driver(file.cgroup_driver.as_deref())?,
            runtime_timeout: time(&file.runtime_request_timeout, 120, "runtimeRequestTimeout")?,
            max_pods: file.max_pods.filter(|n| *n > 0).unwrap_or(110),
            pods_per_core: file.pods_per_core.unwrap_or(0),
            pod_pids_max: file.pod_pids_limit.filter(|n| *n > 0),
            cpu_quota: file.cpu_cfs_quota.unwrap_or(true),
            eviction_hard: eviction_hard(file.eviction_hard.take())?,
            pressure_transition: time(&file.eviction_pressure_transition_period, 300, "evictionPressureTransitionPeriod")?,
            fail_swap_on: file.fail_swap_on.unwrap_or(true),
            fail_cgroup_v1: file.fail_cgroup_v1.unwrap_or(false),
            protect_kernel_defaults: file.protect_kernel_defaults.unwrap_or(false),
            oom_score_adj: file.oom_score_adj,
            open_files_max: file.max_open_files.filter(|n| *n > 0),
            feature_gates: feature_gates(&file.feature_gates)?,
            log_max_bytes: log_max_bytes(file.container_log_max_size.as_deref())?,
            log_max_files: file.container_log_max_files.unwrap_or(5).max(2),
            seccomp_default: file.seccomp_default.unwrap_or(false),
            crash_backoff_max: time(crash, 300, "crashLoopBackOff.maxContainerRestartPeriod")?,
            parallel_pulls_max: parallel_pulls(file.serialize_image_pulls, file.max_parallel_image_pulls)?,
            taints: file.register_with_taints,
            cluster_dns: file.cluster_dns,
            allowed_unsafe_sysctls: file.allowed_unsafe_sysctls,
            system_reserved: reserved(file.system_reserved, file.reserved_system_cpus.as_deref(), true)?,
            kube_reserved: reserved(file.kube_reserved, file.reserved_system_cpus.as_deref(), false)?,
        })
    }

    /// `--node-ip` names an address, and not just a family.
    pub fn has_node_ip(&self) -> bool {
        self.node_ips.first().is_some_and(|ip| !ip.is_unspecified())
    }

    /// How many pods run on a machine with this many CPUs.
    pub fn pods_max(&self, cpus: i64) -> u32 {
        let of_cores = u32::try_from(cpus).unwrap_or(1).saturating_mul(self.pods_per_core);
        if of_cores == 0 { self.max_pods } else { self.max_pods.min(of_cores) }
    }
}

fn authorization(mode: Option<&str>, has_file: bool) -> Result<AuthorizationMode> {
    Ok(match mode.filter(|mode| !mode.is_empty()) {
        Some("AlwaysAllow") => AuthorizationMode::AlwaysAllow,
        Some("Webhook") => AuthorizationMode::Webhook,
        None if has_file => AuthorizationMode::Webhook,
        None => AuthorizationMode::AlwaysAllow,
        Some(other) => bail!("authorization.mode: {other:?} is neither Webhook nor AlwaysAllow"),
    })
}

fn cgroup_driver(name: Option<&str>) -> Result<CgroupDriver> {
    Ok(match name.filter(|name| !name.is_empty()) {
        Some("systemd") => CgroupDriver::Systemd,
        Some("cgroupfs") | None => CgroupDriver::Cgroupfs,
        Some(other) => bail!("cgroupDriver: {other:?} is neither systemd nor cgroupfs"),
    })
}

fn tls_files(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<(PathBuf, PathBuf)>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        _ => bail!("tlsCertFile and tlsPrivateKeyFile go together"),
    }
}

/// From which percentage of their disk images are removed, and down to which.
fn image_percents(file: &File) -> Result<(u8, u8)> {
    let (high, low) = (file.image_gc_high_threshold_percent.unwrap_or(85), file.image_gc_low_threshold_percent.unwrap_or(80));
    if high > 100 || low >= high.max(1) {
        bail!("imageGCLowThresholdPercent {low} must be below imageGCHighThresholdPercent {high}");
    }
    Ok((high, low))
}

fn lock_file(args: &Args) -> Result<Option<PathBuf>> {
    let path = args.lock_file.clone().filter(|path| !path.as_os_str().is_empty());
    if args.exit_on_lock_contention && path.is_none() {
        bail!("cannot exit on lock file contention: no lock file specified");
    }
    Ok(path)
}

fn node_labels(given: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |label: &String| {
        let (key, value) = label.split_once('=').with_context(|| format!("--node-labels: {label:?} is not key=value"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    given.iter().filter(|label| !label.is_empty()).map(pair).collect()
}

fn feature_gates(said: &BTreeMap<String, bool>) -> Result<FeatureGates> {
    let items: Vec<String> = said.iter().map(|(name, on)| format!("{name}={on}")).collect();
    FeatureGates::parse(&items).map_err(|why| anyhow::anyhow!("featureGates: {why}"))
}

fn log_max_bytes(size: Option<&str>) -> Result<u64> {
    let size = size.filter(|size| !size.is_empty()).unwrap_or("10Mi");
    let bytes = quantity(size).with_context(|| format!("containerLogMaxSize: {size:?}"))?;
    u64::try_from(bytes).context("containerLogMaxSize is negative")
}

/// How many images are pulled at a time. Where neither field is given we pull a few: upstream's one at a time lets a large image
/// hold up all others.
fn parallel_pulls(serialize: Option<bool>, max: Option<usize>) -> Result<usize> {
    const UNBOUNDED: usize = 64;
    Ok(match (serialize, max) {
        (_, Some(0)) => bail!("maxParallelImagePulls 0 must be a positive number"),
        (Some(true), Some(n)) if n > 1 => {
            bail!(
                "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) set to false"
            )
        }
        (Some(true), _) => 1,
        (_, Some(n)) => n.min(UNBOUNDED),
        (Some(false), None) => UNBOUNDED,
        (None, None) => 4,
    })
}

/// What is kept from pods. CPUs that are named count in place of the amounts: all of them as the system's.
fn reserved(mut amounts: BTreeMap<String, String>, cpus: Option<&str>, system: bool) -> Result<BTreeMap<String, String>> {
    if let Some(list) = cpus.filter(|list| !list.is_empty()) {
        let count = count_cpus(list).with_context(|| format!("reservedSystemCPUs: {list:?} is no list of CPUs"))?;
        amounts.remove("cpu");
        if system {
            amounts.insert("cpu".to_owned(), count.to_string());
        }
    }
    Ok(amounts)
}

/// The number of CPUs in a list as the kernel writes them: `0-3,8`.
fn count_cpus(list: &str) -> Option<usize> {
    let mut cpus = std::collections::BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus.len())
}

/// The thresholds that were given, none among them, or else upstream's defaults: one of them, not a mixture.
fn eviction_hard(given: Option<BTreeMap<String, String>>) -> Result<BTreeMap<String, String>> {
    let Some(given) = given else {
        let defaults = [
            ("memory.available", "100Mi"),
            ("nodefs.available", "10%"),
            ("nodefs.inodesFree", "5%"),
            ("imagefs.available", "15%"),
        ];
        return Ok(defaults.map(|(signal, threshold)| (signal.to_owned(), threshold.to_owned())).into());
    };
    for (signal, value) in &given {
        let is_percentage = value.strip_suffix('%').is_some_and(|p| p.parse::<f64>().is_ok_and(|p| (0.0..=100.0).contains(&p)));
        if !is_percentage && !quantity(value).is_ok_and(|q| q >= 0) {
            bail!("evictionHard: {signal}: {value:?} is neither a quantity nor a percentage");
        }
    }
    Ok(given)
}

/// The node's name: the override, or the host's name in lower case.
fn node_name(given: Option<&str>) -> Result<String> {
    let name = match given.map(str::trim).filter(|n| !n.is_empty()) {
        Some(name) => name.to_owned(),
        None => rustix::system::uname().nodename().to_string_lossy().trim().to_owned(),
    };
    if name.is_empty() {
        bail!("this host has no name: give --hostname-override");
    }
    Ok(name.to_lowercase())
}

/// The value of a quantity, rounded up.
pub fn quantity(text: &str) -> Result<i64> {
    Ok(text.parse::<machinery::quantity::Quantity>().map_err(|e| anyhow::anyhow!("{e}"))?.value())
}

/// A Go duration: `10s`, `1h30m`, `100ms`. Zero and nothing mean the default.
fn duration(text: Option<&str>, default: Duration, field: &str) -> Result<Duration> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(default) };
    let parsed = daemon::duration::parse(text).map_err(|why| anyhow::anyhow!("{field}: {why}"))?;
    Ok(if parsed.is_zero() { default } else { parsed })
}

#[cfg(test)]
mod tests;
