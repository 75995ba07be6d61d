//! The configuration file of `kctl init --config`: kind `Cluster`, version `kctl.dev/v1`.
//!
//! `manifests/examples/cluster.yaml` shows every field. Each may be left out; unknown ones are refused with file, line and field.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::cidr::Cidr;

pub(crate) const API_VERSION: &str = "kctl.dev/v1";
const CONTAINERD: &str = "unix:///run/containerd/containerd.sock";

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Cluster {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    #[serde(default = "default_name")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) node: NodeConfig,
    #[serde(default)]
    pub(crate) network: Network,
    /// Default: `etcd` of the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etcd_binary: Option<PathBuf>,
    #[serde(default = "default_socket")]
    pub(crate) cri_socket: String,
    #[serde(default)]
    pub(crate) daemons: Daemons,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NodeConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<IpAddr>,
    #[serde(default)]
    pub(crate) additional_names: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Network {
    pub(crate) pods: Cidr,
    pub(crate) services: Cidr,
    pub(crate) domain: String,
}

impl Default for Network {
    fn default() -> Self {
        let cidr = |text: &str| text.parse().expect("a constant network");
        Self { pods: cidr("10.244.0.0/16"), services: cidr("10.96.0.0/12"), domain: "cluster.local".to_owned() }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Daemons {
    pub(crate) kube_apiserver: DaemonOptions,
    pub(crate) kube_controller_manager: DaemonOptions,
    pub(crate) kube_scheduler: DaemonOptions,
    pub(crate) kubelet: DaemonOptions,
    pub(crate) kube_proxy: DaemonOptions,
    pub(crate) cluster_dns: DaemonOptions,
    pub(crate) etcd: DaemonOptions,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct DaemonOptions {
    /// Flags without dashes; they replace ours of the same name.
    pub(crate) arguments: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<PathBuf>,
}

fn default_name() -> String {
    "kubernetes".to_owned()
}

fn default_socket() -> String {
    CONTAINERD.to_owned()
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "Cluster".to_owned(),
            name: default_name(),
            node: NodeConfig::default(),
            network: Network::default(),
            etcd_binary: None,
            cri_socket: default_socket(),
            daemons: Daemons::default(),
        }
    }
}

impl Cluster {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(file: &str, text: &str) -> Result<Self> {
        let cluster: Self = machinery::yaml::from_str(text).map_err(|error| anyhow::anyhow!("{file}: {error}"))?;
        if cluster.api_version != API_VERSION || cluster.kind != "Cluster" {
            bail!(
                "{file}: apiVersion {:?} and kind {:?} are not known; this kctl reads apiVersion {API_VERSION:?}, kind \"Cluster\"",
                cluster.api_version,
                cluster.kind
            );
        }
        let problems = cluster.problems();
        if !problems.is_empty() {
            bail!("{file}: {}", problems.join("; "));
        }
        Ok(cluster)
    }

    /// What no single field's form shows.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.network.pods.overlaps(&self.network.services) {
            problems.push("network.pods and network.services overlap".to_owned());
        }
        if let Some(name) = &self.node.name {
            problems.extend(machinery::names::dns1123_subdomain(name).into_iter().map(|m| format!("node.name: {m}")));
        }
        problems.extend(
            machinery::names::dns1123_subdomain(&self.network.domain).into_iter().map(|m| format!("network.domain: {m}")),
        );
        if !self.cri_socket.starts_with("unix:///") {
            problems.push(format!("criSocket: {:?} does not begin with unix:///", self.cri_socket));
        }
        problems
    }

    pub(crate) fn to_yaml(&self) -> Result<String> {
        Ok(machinery::yaml::to_string(&serde_json::to_value(self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<Cluster> {
        Cluster::parse("cluster.yaml", &format!("apiVersion: kctl.dev/v1\nkind: Cluster\n{body}"))
    }

    #[test]
    fn defaults_survive_a_round_trip() {
        let cluster = check("").unwrap();
        assert_eq!(cluster, Cluster::default());
        assert_eq!(Cluster::parse("x", &cluster.to_yaml().unwrap()).unwrap(), cluster);
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let example = Cluster::parse("cluster.yaml", include_str!("../../../manifests/examples/cluster.yaml")).unwrap();
        assert_eq!(example, Cluster::default());
    }

    #[test]
    fn reads_names_and_arguments() {
        let cluster = check("node: {name: n1, address: 192.0.2.10}\ndaemons:\n  kubelet:\n    arguments: {v: \"4\"}\n").unwrap();
        assert_eq!(cluster.node.name.as_deref(), Some("n1"));
        assert_eq!(cluster.daemons.kubelet.arguments["v"], "4");
    }

    #[test]
    fn refuses_with_file_line_and_field() {
        for (body, parts) in [
            ("nod: {}\n", ["cluster.yaml", "3", "nod"]),
            ("network:\n  pods: 10.0.0.0/99\n", ["cluster.yaml", "4", "10.0.0.0/99"]),
            ("node:\n  address: here\n", ["cluster.yaml", "4", "address"]),
            ("network: {pods: 10.96.0.0/16}\n", ["cluster.yaml", "network.pods", "overlap"]),
        ] {
            let error = check(body).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{error:?} should name {part:?}");
            }
        }
        let error = Cluster::parse("f", "apiVersion: v9\nkind: Cluster\n").unwrap_err().to_string();
        assert!(error.contains("v9"), "{error}");
    }
}
