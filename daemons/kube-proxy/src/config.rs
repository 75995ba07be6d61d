//! `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1), as kubeadm writes it, and what flags add to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::feature_gates::FeatureGates;
use serde::Deserialize;
use serde_json::Value;

use crate::model::Cidr;
use crate::rules::LocalTraffic;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("parsing {path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("the flags: {0}")]
    Flags(String),
    #[error("{path}: expected kind KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1, found {found}")]
    Kind { path: PathBuf, found: String },
    #[error("{field}: {message}")]
    Field { field: &'static str, message: String },
}

/// The file, field by field. What has no meaning here (iptables, IPVS, Windows) is read and left alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct File {
    pub api_version: String,
    pub kind: String,
    pub client_connection: ClientConnection,
    pub hostname_override: String,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub mode: String,
    pub nftables: NfTables,
    pub detect_local_mode: String,
    pub detect_local: DetectLocal,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub node_port_addresses: Option<Vec<String>>,
    pub conntrack: Conntrack,
    pub bind_address: String,
    pub bind_address_hard_fail: bool,
    pub config_sync_period: String,
    pub enable_profiling: bool,
    pub feature_gates: BTreeMap<String, bool>,
    pub iptables: Value,
    pub ipvs: Value,
    pub logging: Value,
    pub oom_score_adj: Option<i32>,
    pub port_range: String,
    pub show_hidden_metrics_for_version: String,
    pub winkernel: Value,
    pub windows_run_as_service: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NfTables {
    pub masquerade_all: bool,
    pub masquerade_bit: Option<u8>,
    pub sync_period: String,
    pub min_sync_period: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Conntrack {
    pub max_per_core: Option<u64>,
    pub min: Option<u64>,
    pub tcp_established_timeout: Option<String>,
    pub tcp_close_wait_timeout: Option<String>,
    pub tcp_be_liberal: bool,
    pub udp_timeout: String,
    pub udp_stream_timeout: String,
}

/// How pods of this node are recognised, before the node is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectLocalMode {
    Fixed(LocalTraffic),
    /// By the node's own `spec.podCIDRs`.
    NodeCidr,
}

/// Where NodePorts answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    All,
    /// The node's addresses as its Node object names them.
    Primary,
    Within(Vec<Cidr>),
}

/// What the daemon acts on.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub kubeconfig: Option<PathBuf>,
    pub node_name: String,
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub masquerade_all: bool,
    pub mark: u32,
    pub local_traffic: DetectLocalMode,
    pub node_port_addresses: NodePortAddresses,
    /// The shortest pause between two writes.
    pub pause: Duration,
    pub conntrack: Vec<(&'static str, u64)>,
    /// The node's own address of this family, whatever its object tells.
    pub bind_address: Option<IpAddr>,
    /// A port that can't be listened on ends the proxy.
    pub hard_fail: bool,
    pub oom_score_adj: Option<i32>,
    pub feature_gates: FeatureGates,
}

const DEFAULT_PAUSE: Duration = Duration::from_millis(100);

impl File {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let parse = |message: String| ConfigError::Parse { path: path.to_owned(), message };
        let value = machinery::yaml::to_value(&text).map_err(|e| parse(e.to_string()))?;
        let file = Self::parse(value).map_err(parse)?;
        if file.kind != "KubeProxyConfiguration" || file.api_version != "kubeproxy.config.k8s.io/v1alpha1" {
            let found = format!("{} of {}", file.kind, file.api_version);
            return Err(ConfigError::Kind { path: path.to_owned(), found });
        }
        Ok(file)
    }

    pub(crate) fn parse(value: Value) -> Result<Self, String> {
        // `null` stands for "not given" anywhere in upstream's files.
        serde_json::from_value(without_nulls(value)).map_err(|error| error.to_string())
    }

    /// Checks every field. `hostname` is this host's, for a file that overrides nothing.
    pub fn check(&self, hostname: &str, cores: u64) -> Result<Configuration, ConfigError> {
        let wrong = |field, message: String| ConfigError::Field { field, message };
        if !matches!(self.mode.as_str(), "" | "nftables") {
            return Err(wrong("mode", format!("{:?} is not supported: this proxy writes nftables rules", self.mode)));
        }
        let cluster: Vec<Cidr> = cidrs("clusterCIDR", self.cluster_cidr.split(',').filter(|c| !c.is_empty()))?;
        let local_traffic = match self.detect_local_mode.as_str() {
            "" | "ClusterCIDR" if cluster.is_empty() => DetectLocalMode::Fixed(LocalTraffic::Unknown),
            "" | "ClusterCIDR" => DetectLocalMode::Fixed(LocalTraffic::From(cluster)),
            "NodeCIDR" => DetectLocalMode::NodeCidr,
            "BridgeInterface" => through("detectLocal.bridgeInterface", &self.detect_local.bridge_interface, "")?,
            "InterfaceNamePrefix" => through("detectLocal.interfaceNamePrefix", &self.detect_local.interface_name_prefix, "*")?,
            other => return Err(wrong("detectLocalMode", format!("{other:?} is not a mode"))),
        };
        let node_port_addresses = match self.node_port_addresses.as_deref().unwrap_or_default() {
            [] => NodePortAddresses::All,
            [one] if one == "primary" => NodePortAddresses::Primary,
            list => NodePortAddresses::Within(cidrs("nodePortAddresses", list.iter().map(String::as_str))?),
        };
        let address = |field, text: &str, default: &str| -> Result<Option<SocketAddr>, ConfigError> {
            let text = if text.is_empty() { default } else { text };
            let parsed = text.parse::<SocketAddr>().or_else(|_| {
                let port = default.rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or(0);
                text.parse().map(|ip| SocketAddr::new(ip, port))
            });
            let address = parsed.map_err(|_| wrong(field, format!("{text:?} is not an address and port")))?;
            Ok((address.port() != 0).then_some(address))
        };
        let bit = self.nftables.masquerade_bit.unwrap_or(14);
        if bit > 31 {
            return Err(wrong("nftables.masqueradeBit", format!("{bit} is not within 0-31")));
        }
        let name = if self.hostname_override.is_empty() { hostname } else { &self.hostname_override };
        Ok(Configuration {
            kubeconfig: Some(&self.client_connection.kubeconfig).filter(|k| !k.is_empty()).map(PathBuf::from),
            node_name: name.trim().to_lowercase(),
            healthz: address("healthzBindAddress", &self.healthz_bind_address, "0.0.0.0:10256")?,
            metrics: address("metricsBindAddress", &self.metrics_bind_address, "127.0.0.1:10249")?,
            masquerade_all: self.nftables.masquerade_all,
            mark: 1 << bit,
            local_traffic,
            node_port_addresses,
            pause: duration("nftables.minSyncPeriod", &self.nftables.min_sync_period)?.unwrap_or(DEFAULT_PAUSE),
            conntrack: self.conntrack.sysctls(cores)?,
            bind_address: self.bind_address()?,
            hard_fail: self.bind_address_hard_fail,
            oom_score_adj: self.oom_score_adj,
            feature_gates: self.feature_gates()?,
        })
    }
}

impl File {
    /// All interfaces stand for none in particular.
    fn bind_address(&self) -> Result<Option<IpAddr>, ConfigError> {
        if self.bind_address.is_empty() {
            return Ok(None);
        }
        let wrong =
            |_| ConfigError::Field { field: "bindAddress", message: format!("{:?} is not an address", self.bind_address) };
        Ok(Some(self.bind_address.parse::<IpAddr>().map_err(wrong)?).filter(|ip| !ip.is_unspecified()))
    }

    fn feature_gates(&self) -> Result<FeatureGates, ConfigError> {
        let items: Vec<String> = self.feature_gates.iter().map(|(name, on)| format!("{name}={on}")).collect();
        FeatureGates::parse(&items).map_err(|message| ConfigError::Field { field: "featureGates", message })
    }
}

impl Conntrack {
    /// Kernel settings, with upstream's defaults. Zero leaves one alone.
    fn sysctls(&self, cores: u64) -> Result<Vec<(&'static str, u64)>, ConfigError> {
        let seconds = |field, text: &Option<String>, default: u64| -> Result<u64, ConfigError> {
            Ok(match text {
                None => default,
                Some(text) => duration(field, text)?.map_or(0, |d| d.as_secs()),
            })
        };
        let per_core = self.max_per_core.unwrap_or(32 * 1024);
        let most = if per_core == 0 { 0 } else { (per_core * cores).max(self.min.unwrap_or(128 * 1024)) };
        let established = seconds("conntrack.tcpEstablishedTimeout", &self.tcp_established_timeout, 24 * 3600)?;
        let close_wait = seconds("conntrack.tcpCloseWaitTimeout", &self.tcp_close_wait_timeout, 3600)?;
        let udp = seconds("conntrack.udpTimeout", &Some(self.udp_timeout.clone()), 0)?;
        let stream = seconds("conntrack.udpStreamTimeout", &Some(self.udp_stream_timeout.clone()), 0)?;
        let settings = [
            ("nf_conntrack_max", most),
            ("nf_conntrack_tcp_timeout_established", established),
            ("nf_conntrack_tcp_timeout_close_wait", close_wait),
            ("nf_conntrack_tcp_be_liberal", u64::from(self.tcp_be_liberal)),
            ("nf_conntrack_udp_timeout", udp),
            ("nf_conntrack_udp_timeout_stream", stream),
        ];
        Ok(settings.into_iter().filter(|(_, value)| *value > 0).collect())
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        other => other,
    }
}

fn cidrs<'a>(field: &'static str, list: impl Iterator<Item = &'a str>) -> Result<Vec<Cidr>, ConfigError> {
    list.map(|text| text.parse().map_err(|message| ConfigError::Field { field, message })).collect()
}

/// An interface name, which becomes part of a rule.
fn through(field: &'static str, name: &str, ending: &str) -> Result<DetectLocalMode, ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 15 || !name.chars().all(plain) {
        return Err(ConfigError::Field { field, message: format!("{name:?} is not an interface name") });
    }
    Ok(DetectLocalMode::Fixed(LocalTraffic::Through(format!("{name}{ending}"))))
}

/// A duration; none where it is nothing or zero.
fn duration(field: &'static str, text: &str) -> Result<Option<Duration>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = daemon::duration::parse(text).map_err(|message| ConfigError::Field { field, message })?;
    Ok(Some(parsed).filter(|duration| !duration.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<Configuration, String> {
        let text = format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{body}");
        let value = machinery::yaml::to_value(&text).unwrap();
        File::parse(value)?.check("Host\n", 2).map_err(|e| e.to_string())
    }

    /// What kubeadm leaves in its ConfigMap.
    const KUBEADM: &str = r#"
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
"#;

    #[test]
    fn kubeadms_file_is_read_as_it_is() {
        let config = check(KUBEADM).unwrap();
        assert_eq!(config.node_name, "host");
        assert_eq!(config.healthz.unwrap().port(), 10256);
        assert_eq!(config.local_traffic, DetectLocalMode::Fixed(LocalTraffic::From(vec!["10.244.0.0/16".parse().unwrap()])));
        assert_eq!(config.conntrack[0], ("nf_conntrack_max", 131_072));
        assert_eq!(config.mark, 0x4000);
    }

    #[test]
    fn mistakes_are_named() {
        for (body, message) in [
            ("clusterCidr: x", "unknown field `clusterCidr`"),
            ("clusterCIDR: 10.0.0.0", "clusterCIDR: \"10.0.0.0\" is not a CIDR block"),
            ("mode: ipvs", "mode: \"ipvs\" is not supported"),
            ("detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: 'a\" drop'}", "is not an interface name"),
            ("nftables: {masqueradeBit: 40}", "40 is not within 0-31"),
        ] {
            let error = check(body).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
