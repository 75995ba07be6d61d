//! `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1): what is read, its defaults, and what the flags change.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daemon::tls::TlsOffer;
use daemon::tls_policy::TlsPolicy;
use serde::Deserialize;

use crate::args::Args;

/// The file. Everything is optional; fields that are not used here are ignored, as the file is shared with upstream's kubelet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    api_version: String,
    kind: String,
    static_pod_path: Option<PathBuf>,
    file_check_frequency: Option<String>,
    address: Option<IpAddr>,
    port: Option<u16>,
    read_only_port: Option<u16>,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
    tls_cipher_suites: Vec<String>,
    tls_min_version: String,
    rotate_certificates: Option<bool>,
    #[serde(rename = "serverTLSBootstrap")]
    server_tls_bootstrap: Option<bool>,
    authentication: Authentication,
    authorization: Authorization,
    healthz_port: Option<u16>,
    healthz_bind_address: Option<IpAddr>,
    cluster_domain: Option<String>,
    #[serde(rename = "clusterDNS")]
    cluster_dns: Vec<String>,
    node_status_update_frequency: Option<String>,
    node_status_report_frequency: Option<String>,
    node_lease_duration_seconds: Option<u32>,
    image_minimum_gc_age: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high_threshold_percent: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low_threshold_percent: Option<u8>,
    #[serde(rename = "cgroupsPerQOS")]
    cgroups_per_qos: Option<bool>,
    cgroup_driver: Option<String>,
    runtime_request_timeout: Option<String>,
    max_pods: Option<u32>,
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    resolv_conf: Option<PathBuf>,
    #[serde(rename = "cpuCFSQuota")]
    cpu_cfs_quota: Option<bool>,
    eviction_hard: BTreeMap<String, String>,
    fail_swap_on: Option<bool>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<u32>,
    system_reserved: BTreeMap<String, String>,
    kube_reserved: BTreeMap<String, String>,
    allowed_unsafe_sysctls: Vec<String>,
    register_with_taints: Vec<api::core::Taint>,
    register_node: Option<bool>,
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    seccomp_default: Option<bool>,
    pod_logs_dir: Option<PathBuf>,
    container_runtime_endpoint: Option<String>,
    image_service_endpoint: Option<String>,
    crash_loop_back_off: CrashLoopBackOff,
    max_parallel_image_pulls: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CrashLoopBackOff {
    max_container_restart_period: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authentication {
    x509: X509,
    webhook: Webhook,
    anonymous: Anonymous,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct X509 {
    #[serde(rename = "clientCAFile")]
    client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Webhook {
    enabled: Option<bool>,
    #[serde(rename = "cacheTTL")]
    cache_ttl: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Anonymous {
    enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authorization {
    mode: Option<String>,
    webhook: AuthorizationWebhook,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthorizationWebhook {
    #[serde(rename = "cacheAuthorizedTTL")]
    cache_authorized_ttl: Option<String>,
    #[serde(rename = "cacheUnauthorizedTTL")]
    cache_unauthorized_ttl: Option<String>,
}

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
    pub runtime_endpoint: String,
    pub image_endpoint: String,
    pub node_ips: Vec<IpAddr>,
    pub node_labels: BTreeMap<String, String>,
    pub taints: Vec<api::core::Taint>,
    pub register_node: bool,
    pub provider_id: Option<String>,
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
    pub lease_duration: Duration,
    pub image_minimum_age: Duration,
    pub image_high_percent: u8,
    pub image_low_percent: u8,
    pub cgroups_per_qos: bool,
    pub cgroup_driver: CgroupDriver,
    pub runtime_timeout: Duration,
    pub max_pods: u32,
    pub cpu_quota: bool,
    pub eviction_hard: BTreeMap<String, String>,
    pub fail_swap_on: bool,
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
        let file = match &args.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        Self::merge(args, file)
    }

    fn merge(args: &Args, file: File) -> Result<Self> {
        let seconds = Duration::from_secs;
        let time = |text: &Option<String>, default: u64, field: &str| duration(text.as_deref(), seconds(default), field);
        let node_name = node_name(args.hostname_override.as_deref())?;
        let runtime_endpoint = args
            .container_runtime_endpoint
            .clone()
            .or(file.container_runtime_endpoint)
            .filter(|e| !e.is_empty())
            .unwrap_or_else(|| "unix:///run/containerd/containerd.sock".to_owned());
        let image_endpoint = args
            .image_service_endpoint
            .clone()
            .or(file.image_service_endpoint)
            .filter(|e| !e.is_empty())
            .unwrap_or_else(|| runtime_endpoint.clone());
        let tls_files = match (
            args.tls_cert_file.clone().or(file.tls_cert_file).filter(|p| !p.as_os_str().is_empty()),
            args.tls_private_key_file.clone().or(file.tls_private_key_file).filter(|p| !p.as_os_str().is_empty()),
        ) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!("tlsCertFile and tlsPrivateKeyFile go together"),
        };
        let min_version = args.tls_min_version.as_deref().unwrap_or(&file.tls_min_version);
        let suites = if args.tls_cipher_suites.is_empty() { &file.tls_cipher_suites } else { &args.tls_cipher_suites };
        let policy = TlsPolicy::parse(min_version, suites, &[]).map_err(anyhow::Error::msg)?;
        let authorization = match file.authorization.mode.as_deref() {
            Some("AlwaysAllow") => AuthorizationMode::AlwaysAllow,
            Some("Webhook") => AuthorizationMode::Webhook,
            None if args.config.is_some() => AuthorizationMode::Webhook,
            None => AuthorizationMode::AlwaysAllow,
            Some(other) => bail!("authorization.mode: {other:?} is neither Webhook nor AlwaysAllow"),
        };
        let cgroup_driver = match args.cgroup_driver.as_deref().or(file.cgroup_driver.as_deref()) {
            Some("systemd") => CgroupDriver::Systemd,
            Some("cgroupfs") | None => CgroupDriver::Cgroupfs,
            Some(other) => bail!("cgroupDriver: {other:?} is neither systemd nor cgroupfs"),
        };
        let mut taints = file.register_with_taints;
        for text in args.register_with_taints.iter().filter(|t| !t.is_empty()) {
            taints.push(parse_taint(text).with_context(|| format!("--register-with-taints: {text:?}"))?);
        }
        let mut node_labels = BTreeMap::new();
        for label in args.node_labels.iter().filter(|l| !l.is_empty()) {
            let (key, value) = label.split_once('=').with_context(|| format!("--node-labels: {label:?} is not key=value"))?;
            node_labels.insert(key.to_owned(), value.to_owned());
        }
        let eviction_hard = eviction_hard(&args.eviction_hard, file.eviction_hard)?;
        let image_high_percent = args.image_gc_high_threshold.or(file.image_gc_high_threshold_percent).unwrap_or(85);
        let image_low_percent = args.image_gc_low_threshold.or(file.image_gc_low_threshold_percent).unwrap_or(80);
        if image_high_percent > 100 || image_low_percent >= image_high_percent.max(1) {
            bail!(
                "imageGCLowThresholdPercent {image_low_percent} must be below imageGCHighThresholdPercent {image_high_percent}"
            );
        }
        let crash_backoff_max =
            time(&file.crash_loop_back_off.max_container_restart_period, 300, "crashLoopBackOff.maxContainerRestartPeriod")?;
        Ok(Self {
            node_name,
            root_dir: args.root_dir.clone(),
            cert_dir: args.cert_dir.clone(),
            log_dir: args.pod_log_dir.clone().or(file.pod_logs_dir).unwrap_or_else(|| "/var/log/pods".into()),
            static_pod_path: args.pod_manifest_path.clone().or(file.static_pod_path).filter(|p| !p.as_os_str().is_empty()),
            file_check_frequency: time(&file.file_check_frequency, 20, "fileCheckFrequency")?,
            kubeconfig: args.kubeconfig.clone(),
            bootstrap_kubeconfig: args.bootstrap_kubeconfig.clone(),
            runtime_endpoint,
            image_endpoint,
            node_ips: args.node_ip.clone(),
            node_labels,
            taints,
            register_node: args.register_node.or(file.register_node).unwrap_or(true),
            provider_id: args.provider_id.clone().or(file.provider_id).filter(|p| !p.is_empty()),
            address: args.address.or(file.address).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port: args.port.or(file.port).unwrap_or(10250),
            read_only_port: args.read_only_port.or(file.read_only_port).unwrap_or(0),
            healthz: match args.healthz_port.or(file.healthz_port).unwrap_or(10248) {
                0 => None,
                port => Some((file.healthz_bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)),
            },
            client_ca_file: args
                .client_ca_file
                .clone()
                .or(file.authentication.x509.client_ca_file)
                .filter(|p| !p.as_os_str().is_empty()),
            tls_files,
            tls_offer: TlsOffer { policy, ..TlsOffer::default() },
            server_tls_bootstrap: args.rotate_server_certificates.or(file.server_tls_bootstrap).unwrap_or(false),
            // Certificates that are not renewed stop a node after a year: on unless switched off.
            rotate_certificates: args.rotate_certificates.or(file.rotate_certificates).unwrap_or(true),
            anonymous: file.authentication.anonymous.enabled.unwrap_or(false),
            webhook_authentication: file.authentication.webhook.enabled.unwrap_or(args.config.is_some()),
            authorization,
            authentication_ttl: time(&file.authentication.webhook.cache_ttl, 120, "authentication.webhook.cacheTTL")?,
            authorized_ttl: time(
                &file.authorization.webhook.cache_authorized_ttl,
                300,
                "authorization.webhook.cacheAuthorizedTTL",
            )?,
            unauthorized_ttl: time(
                &file.authorization.webhook.cache_unauthorized_ttl,
                30,
                "authorization.webhook.cacheUnauthorizedTTL",
            )?,
            cluster_domain: args
                .cluster_domain
                .clone()
                .or(file.cluster_domain)
                .map(|d| d.trim_end_matches('.').to_owned())
                .unwrap_or_default(),
            cluster_dns: if args.cluster_dns.is_empty() { file.cluster_dns } else { args.cluster_dns.clone() },
            resolv_conf: file.resolv_conf.unwrap_or_else(|| "/etc/resolv.conf".into()),
            pod_cidr: file.pod_cidr.filter(|c| !c.is_empty()),
            status_update_frequency: time(&file.node_status_update_frequency, 10, "nodeStatusUpdateFrequency")?,
            status_report_frequency: time(&file.node_status_report_frequency, 300, "nodeStatusReportFrequency")?,
            lease_duration: seconds(file.node_lease_duration_seconds.filter(|s| *s > 0).unwrap_or(40).into()),
            image_minimum_age: time(&file.image_minimum_gc_age, 120, "imageMinimumGCAge")?,
            image_high_percent,
            image_low_percent,
            cgroups_per_qos: file.cgroups_per_qos.unwrap_or(true),
            cgroup_driver,
            runtime_timeout: time(&file.runtime_request_timeout, 120, "runtimeRequestTimeout")?,
            max_pods: args.max_pods.or(file.max_pods).filter(|n| *n > 0).unwrap_or(110),
            cpu_quota: file.cpu_cfs_quota.unwrap_or(true),
            eviction_hard,
            fail_swap_on: args.fail_swap_on.or(file.fail_swap_on).unwrap_or(true),
            log_max_bytes: match &file.container_log_max_size {
                None => 10 * 1024 * 1024,
                Some(text) => u64::try_from(quantity(text).with_context(|| format!("containerLogMaxSize: {text:?}"))?)
                    .context("containerLogMaxSize is negative")?,
            },
            log_max_files: file.container_log_max_files.unwrap_or(5).max(2),
            system_reserved: file.system_reserved,
            kube_reserved: file.kube_reserved,
            allowed_unsafe_sysctls: file.allowed_unsafe_sysctls,
            seccomp_default: file.seccomp_default.unwrap_or(false),
            crash_backoff_max,
            parallel_pulls_max: file.max_parallel_image_pulls.unwrap_or(4).clamp(1, 64),
        })
    }
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let file: File =
        serde_yaml::from_str(&text).map_err(|e| anyhow::anyhow!("{e}")).with_context(|| format!("{}", path.display()))?;
    if file.api_version != "kubelet.config.k8s.io/v1beta1" || file.kind != "KubeletConfiguration" {
        bail!(
            "{}: expected kind KubeletConfiguration of kubelet.config.k8s.io/v1beta1, found {:?} of {:?}",
            path.display(),
            file.kind,
            file.api_version
        );
    }
    Ok(file)
}

/// The thresholds of the flag, or else of the file, or else upstream's defaults: one of them, not a mixture.
fn eviction_hard(flag: &[String], file: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let flag: BTreeMap<String, String> = flag
        .iter()
        .filter(|t| !t.is_empty())
        .map(|threshold| {
            let (signal, value) =
                threshold.split_once('<').with_context(|| format!("--eviction-hard: {threshold:?} is not signal<quantity"))?;
            Ok((signal.to_owned(), value.to_owned()))
        })
        .collect::<Result<_>>()?;
    let given = if flag.is_empty() { file } else { flag };
    for (signal, value) in &given {
        let is_percentage = value.strip_suffix('%').is_some_and(|p| p.parse::<f64>().is_ok_and(|p| (0.0..=100.0).contains(&p)));
        if !is_percentage && !quantity(value).is_ok_and(|q| q >= 0) {
            bail!("evictionHard: {signal}: {value:?} is neither a quantity nor a percentage");
        }
    }
    if !given.is_empty() {
        return Ok(given);
    }
    let defaults =
        [("memory.available", "100Mi"), ("nodefs.available", "10%"), ("nodefs.inodesFree", "5%"), ("imagefs.available", "15%")];
    Ok(defaults.map(|(signal, threshold)| (signal.to_owned(), threshold.to_owned())).into())
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

/// `key=value:effect` or `key:effect`.
fn parse_taint(text: &str) -> Result<api::core::Taint> {
    let (front, effect) = text.rsplit_once(':').context("no effect")?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        bail!("{effect:?} is no effect of a taint");
    }
    let (key, value) = front.split_once('=').map_or((front, None), |(k, v)| (k, Some(v)));
    Ok(api::core::Taint {
        key: key.to_owned(),
        value: value.filter(|v| !v.is_empty()).map(str::to_owned),
        effect: effect.to_owned(),
        time_added: None,
    })
}

/// The value of a quantity, rounded up.
pub fn quantity(text: &str) -> Result<i64> {
    Ok(text.parse::<machinery::quantity::Quantity>().map_err(|e| anyhow::anyhow!("{e}"))?.value())
}

/// A Go duration: `10s`, `1h30m`, `100ms`. Zero and nothing mean the default.
fn duration(text: Option<&str>, default: Duration, field: &str) -> Result<Duration> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(default) };
    let parsed = parse_duration(text).with_context(|| format!("{field}: {text:?} is no duration"))?;
    Ok(if parsed.is_zero() { default } else { parsed })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0_f64;
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn durations() {
        for (text, want) in [
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("100ms", Some(100)),
            ("1.5s", Some(1500)),
            ("0", Some(0)),
            ("5", None),
            ("5x", None),
        ] {
            assert_eq!(parse_duration(text).map(|d| d.as_millis()), want, "{text}");
        }
    }

    #[test]
    fn flags_decide_over_the_file() {
        let file: File = serde_yaml::from_str(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nport: 1\nclusterDNS: [10.96.0.10]\nmaxPods: 7\n\
             authentication: {x509: {clientCAFile: /ca}, anonymous: {enabled: false}}\nserverTLSBootstrap: true\n\
             fileCheckFrequency: 0s\nsomethingNew: 1\ncontainerLogMaxSize: 5Mi\n",
        )
        .unwrap();
        let args = Args::parse_from([
            "kubelet",
            "--port=2",
            "--hostname-override=N1",
            "--register-with-taints=a=b:NoSchedule,c:NoExecute",
        ]);
        let c = Config::merge(&args, file).unwrap();
        assert_eq!((c.port, c.node_name.as_str(), c.max_pods, c.log_max_bytes), (2, "n1", 7, 5 << 20));
        assert_eq!(c.client_ca_file.as_deref(), Some(Path::new("/ca")));
        assert!(c.server_tls_bootstrap);
        assert_eq!((c.taints[0].value.as_deref(), c.taints[1].value.as_deref()), (Some("b"), None));
    }

    #[test]
    fn thresholds_come_from_one_place() {
        let thresholds = |flags: &[&str], yaml: &str| {
            let file: File = serde_yaml::from_str(yaml).unwrap();
            let args = ["kubelet", "--hostname-override=n"].iter().chain(flags);
            Config::merge(&Args::parse_from(args), file).map(|c| c.eviction_hard.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(thresholds(&[], "{}").unwrap().len(), 4);
        let in_file = "evictionHard: {nodefs.available: 1Gi}";
        let pair = |signal: &str, value: &str| (signal.to_owned(), value.to_owned());
        assert_eq!(thresholds(&[], in_file).unwrap(), [pair("nodefs.available", "1Gi")]);
        assert_eq!(
            thresholds(&["--eviction-hard=nodefs.available<0%,memory.available<50Mi"], in_file).unwrap(),
            [pair("memory.available", "50Mi"), pair("nodefs.available", "0%")]
        );
        for wrong in ["--eviction-hard=nodefs.available", "--eviction-hard=a<b", "--eviction-hard=a<-1%"] {
            assert!(thresholds(&[wrong], "{}").is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        let refused = |yaml: &str| {
            let file: File = serde_yaml::from_str(yaml).unwrap();
            Config::merge(&Args::parse_from(["kubelet", "--hostname-override=n"]), file).unwrap_err().to_string()
        };
        assert!(refused("cgroupDriver: x").contains("cgroupDriver"));
        assert!(refused("authorization: {mode: Maybe}").contains("authorization.mode"));
        assert!(refused("fileCheckFrequency: soon").contains("fileCheckFrequency"));
    }
}
