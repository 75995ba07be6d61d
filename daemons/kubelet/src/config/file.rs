//! The configuration file, the directory of files that change it, and the flags that are laid over both.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::args::Args;

/// The file. Everything is optional; fields that are not used here are ignored, as the file is shared with upstream's kubelet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct File {
    pub(super) enable_server: Option<bool>,
    pub(super) static_pod_path: Option<PathBuf>,
    pub(super) sync_frequency: Option<String>,
    pub(super) file_check_frequency: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) read_only_port: Option<u16>,
    pub(super) tls_cert_file: Option<PathBuf>,
    pub(super) tls_private_key_file: Option<PathBuf>,
    pub(super) tls_cipher_suites: Vec<String>,
    pub(super) tls_min_version: String,
    pub(super) rotate_certificates: Option<bool>,
    #[serde(rename = "serverTLSBootstrap")]
    pub(super) server_tls_bootstrap: Option<bool>,
    pub(super) authentication: Authentication,
    pub(super) authorization: Authorization,
    pub(super) enable_debugging_handlers: Option<bool>,
    pub(super) healthz_port: Option<u16>,
    pub(super) healthz_bind_address: Option<IpAddr>,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) cluster_domain: Option<String>,
    #[serde(rename = "clusterDNS")]
    pub(super) cluster_dns: Vec<String>,
    pub(super) node_status_update_frequency: Option<String>,
    pub(super) node_status_report_frequency: Option<String>,
    pub(super) node_lease_duration_seconds: Option<u32>,
    pub(super) node_status_max_images: Option<i32>,
    #[serde(rename = "imageMinimumGCAge")]
    pub(super) image_minimum_gc_age: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub(super) image_gc_high_threshold_percent: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub(super) image_gc_low_threshold_percent: Option<u8>,
    #[serde(rename = "cgroupsPerQOS")]
    pub(super) cgroups_per_qos: Option<bool>,
    pub(super) cgroup_driver: Option<String>,
    pub(super) runtime_request_timeout: Option<String>,
    pub(super) max_pods: Option<u32>,
    pub(super) pods_per_core: Option<u32>,
    #[serde(rename = "podCIDR")]
    pub(super) pod_cidr: Option<String>,
    pub(super) pod_pids_limit: Option<i64>,
    pub(super) resolv_conf: Option<PathBuf>,
    #[serde(rename = "cpuCFSQuota")]
    pub(super) cpu_cfs_quota: Option<bool>,
    pub(super) max_open_files: Option<u64>,
    pub(super) eviction_hard: Option<BTreeMap<String, String>>,
    pub(super) eviction_pressure_transition_period: Option<String>,
    pub(super) fail_swap_on: Option<bool>,
    pub(super) fail_cgroup_v1: Option<bool>,
    pub(super) protect_kernel_defaults: Option<bool>,
    pub(super) container_log_max_size: Option<String>,
    pub(super) container_log_max_files: Option<u32>,
    pub(super) system_reserved: BTreeMap<String, String>,
    pub(super) kube_reserved: BTreeMap<String, String>,
    #[serde(rename = "reservedSystemCPUs")]
    pub(super) reserved_system_cpus: Option<String>,
    pub(super) allowed_unsafe_sysctls: Vec<String>,
    pub(super) feature_gates: BTreeMap<String, bool>,
    pub(super) register_with_taints: Vec<api::core::Taint>,
    pub(super) register_node: Option<bool>,
    #[serde(rename = "providerID")]
    pub(super) provider_id: Option<String>,
    pub(super) seccomp_default: Option<bool>,
    pub(super) pod_logs_dir: Option<PathBuf>,
    pub(super) container_runtime_endpoint: Option<String>,
    pub(super) image_service_endpoint: Option<String>,
    pub(super) crash_loop_back_off: CrashLoopBackOff,
    pub(super) serialize_image_pulls: Option<bool>,
    pub(super) max_parallel_image_pulls: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CrashLoopBackOff {
    pub(super) max_container_restart_period: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Authentication {
    pub(super) x509: X509,
    pub(super) webhook: Webhook,
    pub(super) anonymous: Anonymous,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct X509 {
    #[serde(rename = "clientCAFile")]
    pub(super) client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Webhook {
    pub(super) enabled: Option<bool>,
    #[serde(rename = "cacheTTL")]
    pub(super) cache_ttl: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Anonymous {
    pub(super) enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Authorization {
    pub(super) mode: Option<String>,
    pub(super) webhook: AuthorizationWebhook,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuthorizationWebhook {
    #[serde(rename = "cacheAuthorizedTTL")]
    pub(super) cache_authorized_ttl: Option<String>,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub(super) cache_unauthorized_ttl: Option<String>,
}

impl File {
    /// The file that the flags name, changed by the directory that they name, and by the flags themselves.
    pub(super) fn load(args: &Args) -> Result<Self> {
        let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        let mut value = match given(&args.config) {
            Some(path) => read(&path)?,
            None => Value::Object(serde_json::Map::new()),
        };
        if let Some(directory) = given(&args.config_dir) {
            for path in drop_ins(&directory).with_context(|| format!("reading {}", directory.display()))? {
                merge(&mut value, read(&path)?);
            }
        }
        Self::under_flags(value, args)
    }

    pub(super) fn under_flags(mut value: Value, args: &Args) -> Result<Self> {
        args.fields.lay_over(&mut value);
        parse(&without_nulls(value)).context("the configuration")
    }
}

/// The YAML reader's errors, other than those of a value's, name the field.
fn parse(value: &Value) -> Result<File> {
    serde_yaml::from_str(&value.to_string()).map_err(|error| anyhow::anyhow!("{error}"))
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let value = machinery::yaml::to_value(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    if value["apiVersion"] != "kubelet.config.k8s.io/v1beta1" || value["kind"] != "KubeletConfiguration" {
        bail!(
            "{}: expected kind KubeletConfiguration of kubelet.config.k8s.io/v1beta1, found {} of {}",
            path.display(),
            value["kind"],
            value["apiVersion"]
        );
    }
    parse(&without_nulls(value.clone())).with_context(|| path.display().to_string())?;
    Ok(value)
}

/// The files of a directory and those beneath it that end in `.conf`, in the order of their names.
fn drop_ins(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = std::fs::read_dir(directory)?.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(drop_ins(&path)?);
        } else if path.extension().is_some_and(|e| e == "conf") {
            files.push(path);
        }
    }
    Ok(files)
}

/// RFC 7386: objects are merged, all else is replaced, and null takes away.
fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, patch) => *into = without_nulls(patch),
    }
}

/// A field of null is one that is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn drop_ins_change_the_file_and_flags_change_both() {
        let directory = std::env::temp_dir().join(format!("kubelet-config-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("conf.d/20")).unwrap();
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let write = |name: &str, body: &str| std::fs::write(directory.join(name), format!("{head}{body}")).unwrap();
        write("config.yaml", "port: 1\nmaxPods: 1\nclusterDNS: [a, b]\nsystemReserved: {cpu: 1m, memory: 1Mi}\nresolvConf: /r\n");
        write("conf.d/10-a.conf", "maxPods: 2\nclusterDNS: [c]\nsystemReserved: {cpu: 2m}\nresolvConf: null\n");
        write("conf.d/20/b.conf", "maxPods: 3\n");
        write("conf.d/30-c.yaml", "maxPods: 4\n");
        let load = |flags: &[&str]| {
            let named = ["--config", "--config-dir"].map(str::to_owned);
            let paths = ["config.yaml", "conf.d"].map(|name| directory.join(name).display().to_string());
            let args = named.into_iter().zip(paths).flat_map(|(flag, path)| [flag, path]);
            let all = std::iter::once("kubelet".to_owned()).chain(args).chain(flags.iter().map(|f| (*f).to_owned()));
            File::load(&Args::parse_from(all))
        };
        let file = load(&["--max-pods=5", "--port=6", "--port=7"]).unwrap();
        assert_eq!((file.port, file.max_pods, file.resolv_conf), (Some(7), Some(5), None));
        assert_eq!(file.cluster_dns, ["c"]);
        assert_eq!(
            file.system_reserved.into_iter().collect::<Vec<_>>(),
            [("cpu".to_owned(), "2m".to_owned()), ("memory".to_owned(), "1Mi".to_owned())]
        );
        assert_eq!(load(&[]).unwrap().max_pods, Some(3));

        write("conf.d/40.conf", "maxPods: many\n");
        let error = format!("{:#}", load(&[]).unwrap_err());
        assert!(error.contains("40.conf") && error.contains("maxPods"), "{error}");
        std::fs::write(directory.join("conf.d/40.conf"), "maxPods: 1\n").unwrap();
        assert!(format!("{:#}", load(&[]).unwrap_err()).contains("40.conf: expected kind KubeletConfiguration"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
