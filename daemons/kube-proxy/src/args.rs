//! Flags, with upstream's names. With `--config` the file counts, and of the flags only `--hostname-override` and those of this
//! process, as upstream has it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::feature_gates::parse_bool;
use daemon::fields::{COUNT, Field, FieldFlags, Form, OOM_SCORE, Table};
use daemon::{CommonArgs, Threads, run_main};
use serde_json::{Map, Value};

use crate::config::{ConfigError, File};
use crate::upstream_flags::TABLES;

/// The Kubernetes network proxy: makes Services reachable on this node.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kube-proxy", disable_version_flag = true, args_override_self = true)]
pub struct Args {
    /// Path to a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Path to the kubeconfig. Without it: the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The API server's address, in place of the kubeconfig's.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// The node's name, when it is not the host's.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// The port of the health check, where --healthz-bind-address has none; 0 to not serve it.
    #[arg(long, value_name = "PORT", hide = true)]
    pub healthz_port: Option<u16>,
    /// The port of the metrics, where --metrics-bind-address has none; 0 to not serve them.
    #[arg(long, value_name = "PORT", hide = true)]
    pub metrics_port: Option<u16>,
    #[command(flatten)]
    pub fields: FieldFlags<ProxyFields>,
    /// Take the rules away and exit.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, value_parser = parse_bool, action = clap::ArgAction::Set)]
    pub cleanup: bool,
    /// Set what of the kernel takes root to set, and exit: after that CAP_NET_ADMIN is enough.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, value_parser = parse_bool, action = clap::ArgAction::Set)]
    pub init_only: bool,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags that stand for fields of the file.
#[derive(Clone, Copy, Debug)]
pub struct ProxyFields;

const fn field(flag: &'static str, path: &'static str, form: Form, help: &'static str) -> Field {
    Field { flag, path, form, help }
}

impl Table for ProxyFields {
    const FIELDS: &'static [Field] = &[
        field("proxy-mode", "mode", Form::Text, "Only \"nftables\" is supported."),
        field(
            "cluster-cidr",
            "clusterCIDR",
            Form::Text,
            "The pods' addresses: traffic to Services from elsewhere is masqueraded.",
        ),
        field(
            "detect-local-mode",
            "detectLocalMode",
            Form::Text,
            "How this node's pods are recognised: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.",
        ),
        field("pod-bridge-interface", "detectLocal.bridgeInterface", Form::Text, "The bridge that pods are connected to."),
        field(
            "pod-interface-name-prefix",
            "detectLocal.interfaceNamePrefix",
            Form::Text,
            "What the names of pods' interfaces begin with.",
        ),
        field("masquerade-all", "nftables.masqueradeAll", Form::Switch, "Masquerade all traffic to cluster IPs."),
        field(
            "nodeport-addresses",
            "nodePortAddresses",
            Form::List,
            "Where NodePorts answer: CIDR blocks, or \"primary\" for the node's own address.",
        ),
        field(
            "bind-address",
            "bindAddress",
            Form::Address,
            "The node's own address, when it is not the one that its object tells. Nothing listens on it.",
        ),
        field(
            "healthz-bind-address",
            "healthzBindAddress",
            Form::Text,
            "Address and port of the health check; port 0 to not serve it.",
        ),
        field(
            "metrics-bind-address",
            "metricsBindAddress",
            Form::Text,
            "Address and port of the metrics; port 0 to not serve them.",
        ),
        field(
            "bind-address-hard-fail",
            "bindAddressHardFail",
            Form::Switch,
            "Exit when one of these two ports can't be listened on; otherwise it is tried again.",
        ),
        // Upstream's flag of the iptables mode holds for nftables too.
        field(
            "iptables-min-sync-period",
            "nftables.minSyncPeriod",
            Form::Duration,
            "The shortest pause between two writes of rules.",
        ),
        field(
            "conntrack-max-per-core",
            "conntrack.maxPerCore",
            COUNT,
            "Connections to track for each CPU; 0 to leave the kernel's limit as it is.",
        ),
        field("conntrack-min", "conntrack.min", COUNT, "Connections to track at least."),
        field(
            "conntrack-tcp-timeout-established",
            "conntrack.tcpEstablishedTimeout",
            Form::Duration,
            "How long an idle TCP connection is tracked; 0 to leave it as it is.",
        ),
        field(
            "conntrack-tcp-timeout-close-wait",
            "conntrack.tcpCloseWaitTimeout",
            Form::Duration,
            "How long a TCP connection in CLOSE_WAIT is tracked.",
        ),
        field(
            "conntrack-tcp-be-liberal",
            "conntrack.tcpBeLiberal",
            Form::Switch,
            "Track TCP packets that are out of their window.",
        ),
        field(
            "conntrack-udp-timeout",
            "conntrack.udpTimeout",
            Form::Duration,
            "How long a UDP flow without answers is tracked; 0 to leave it as it is.",
        ),
        field(
            "conntrack-udp-timeout-stream",
            "conntrack.udpStreamTimeout",
            Form::Duration,
            "How long a UDP flow with answers is tracked; 0 to leave it as it is.",
        ),
        field("oom-score-adj", "oomScoreAdj", OOM_SCORE, "How soon the kernel ends this process when memory runs out."),
        field("feature-gates", "featureGates", Form::FeatureGates, "Features to switch on or off. None changes this proxy."),
    ];
}

fn given(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

impl Args {
    /// The file, or the flags as if they were one.
    pub(crate) fn file(&self) -> Result<File, ConfigError> {
        let mut file = match given(self.config.as_ref()) {
            Some(path) => File::load(path)?,
            None => {
                let mut value = Value::Object(Map::new());
                self.fields.lay_over(&mut value);
                let mut file = File::parse(value).map_err(ConfigError::Flags)?;
                file.healthz_bind_address = with_port(&file.healthz_bind_address, self.healthz_port);
                file.metrics_bind_address = match (file.metrics_bind_address.as_str(), self.metrics_port) {
                    // Metrics are for this host alone unless an address says otherwise.
                    ("", Some(_)) => with_port("127.0.0.1", self.metrics_port),
                    (address, port) => with_port(address, port),
                };
                file
            }
        };
        if let Some(name) = self.hostname_override.as_ref().filter(|name| !name.is_empty()) {
            file.hostname_override.clone_from(name);
        }
        Ok(file)
    }

    pub(crate) fn kubeconfig(&self) -> Option<&Path> {
        given(self.kubeconfig.as_ref())
    }
}

/// `--healthz-port` and `--metrics-port`: 0 switches off, another one counts where the address has none.
fn with_port(address: &str, port: Option<u16>) -> String {
    let Some(port) = port else { return address.to_owned() };
    let address = if address.is_empty() { "0.0.0.0" } else { address };
    match (address.parse::<std::net::IpAddr>(), port) {
        (Ok(ip), _) => std::net::SocketAddr::new(ip, port).to_string(),
        (Err(_), 0) => "0.0.0.0:0".to_owned(),
        (Err(_), _) => address.to_owned(),
    }
}

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    run_main(args, Threads::One, TABLES, |args: &Args| &args.common, crate::run)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};
    use serde_json::json;

    use super::*;
    use crate::config::{Configuration, DetectLocalMode, NodePortAddresses};

    fn configuration(line: &str) -> Result<Configuration, String> {
        let args = Args::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        let file = args.file().map_err(|error| error.to_string())?;
        file.check("host", 2).map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_has_its_effect() {
        type Of = fn(&Configuration) -> Value;
        let cases: &[(&str, Of, Value)] = &[
            ("--cluster-cidr=10.0.0.0/8", |c| json!(format!("{:?}", c.local_traffic).contains("10.0.0.0")), json!(true)),
            ("--detect-local-mode=NodeCIDR", |c| json!(c.local_traffic == DetectLocalMode::NodeCidr), json!(true)),
            (
                "--detect-local-mode=BridgeInterface --pod-bridge-interface=br0",
                |c| json!(format!("{:?}", c.local_traffic).contains("\"br0\"")),
                json!(true),
            ),
            (
                "--detect-local-mode=InterfaceNamePrefix --pod-interface-name-prefix=veth",
                |c| json!(format!("{:?}", c.local_traffic).contains("\"veth*\"")),
                json!(true),
            ),
            ("--masquerade-all", |c| json!(c.masquerade_all), json!(true)),
            ("--nodeport-addresses=primary", |c| json!(c.node_port_addresses == NodePortAddresses::Primary), json!(true)),
            ("--bind-address=192.168.0.1", |c| json!(c.bind_address), json!("192.168.0.1")),
            ("--healthz-bind-address=127.0.0.1:1", |c| json!(c.healthz), json!("127.0.0.1:1")),
            ("--healthz-bind-address=127.0.0.1", |c| json!(c.healthz), json!("127.0.0.1:10256")),
            ("--healthz-bind-address=127.0.0.1 --healthz-port=9", |c| json!(c.healthz), json!("127.0.0.1:9")),
            ("--healthz-bind-address=127.0.0.1:1 --healthz-port=0", |c| json!(c.healthz), Value::Null),
            ("--healthz-port=9", |c| json!(c.healthz), json!("0.0.0.0:9")),
            ("--metrics-bind-address=0.0.0.0:1", |c| json!(c.metrics), json!("0.0.0.0:1")),
            ("--metrics-port=9", |c| json!(c.metrics), json!("127.0.0.1:9")),
            ("--metrics-port=0", |c| json!(c.metrics), Value::Null),
            ("--bind-address-hard-fail", |c| json!(c.hard_fail), json!(true)),
            ("--iptables-min-sync-period=3s", |c| json!(c.pause.as_secs()), json!(3)),
            ("--conntrack-max-per-core=1000000", |c| of(c, "nf_conntrack_max"), json!(2_000_000)),
            ("--conntrack-max-per-core=0", |c| of(c, "nf_conntrack_max"), Value::Null),
            ("--conntrack-min=1000000", |c| of(c, "nf_conntrack_max"), json!(1_000_000)),
            ("--conntrack-tcp-timeout-established=1h", |c| of(c, "nf_conntrack_tcp_timeout_established"), json!(3600)),
            ("--conntrack-tcp-timeout-close-wait=1m", |c| of(c, "nf_conntrack_tcp_timeout_close_wait"), json!(60)),
            ("--conntrack-tcp-be-liberal", |c| of(c, "nf_conntrack_tcp_be_liberal"), json!(1)),
            ("--conntrack-udp-timeout=1m30s", |c| of(c, "nf_conntrack_udp_timeout"), json!(90)),
            ("--conntrack-udp-timeout-stream=2m", |c| of(c, "nf_conntrack_udp_timeout_stream"), json!(120)),
            ("--oom-score-adj=-999", |c| json!(c.oom_score_adj), json!(-999)),
            ("--feature-gates=A=true", |c| json!(c.feature_gates.unknown()), json!(["A"])),
            ("--hostname-override=Other", |c| json!(c.node_name), json!("other")),
        ];
        for (line, of, want) in cases {
            let config = configuration(&format!("kube-proxy {line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(of(&config), *want, "{line}");
        }
        let covered = |flag: &str| cases.iter().any(|(line, ..)| line.split([' ', '=']).any(|word| word == format!("--{flag}")));
        let missing: Vec<&str> =
            ProxyFields::FIELDS.iter().map(|f| f.flag).filter(|f| !covered(f) && *f != "proxy-mode").collect();
        assert!(missing.is_empty(), "no case has {missing:?}");
    }

    fn of(config: &Configuration, sysctl: &str) -> Value {
        json!(config.conntrack.iter().find(|(name, _)| *name == sysctl).map(|(_, value)| value))
    }

    #[test]
    fn wrong_values_are_refused() {
        for (line, why) in [
            ("kube-proxy --proxy-mode=ipvs", "mode: \"ipvs\" is not supported"),
            ("kube-proxy --detect-local-mode=x", "detectLocalMode: \"x\" is not a mode"),
            ("kube-proxy --conntrack-udp-timeout=5", "--conntrack-udp-timeout"),
            ("kube-proxy --oom-score-adj=-1001", "--oom-score-adj"),
            ("kube-proxy --bind-address=x", "--bind-address"),
            ("kube-proxy --nodeport-addresses=x", "nodePortAddresses"),
        ] {
            let error = configuration(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn every_flag_of_upstreams_is_known() {
        daemon::flags::assert_known(&Args::command(), TABLES, include_str!("upstream_flags.txt"));
    }
}
