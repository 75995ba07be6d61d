//! Where everything lies on the host.

pub(crate) const KUBERNETES: &str = "/etc/kubernetes";
pub(crate) const PKI: &str = "/etc/kubernetes/pki";
pub(crate) const MANIFESTS: &str = "/etc/kubernetes/manifests";
pub(crate) const AUDIT_POLICY: &str = "/etc/kubernetes/audit-policy.yaml";
pub(crate) const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
pub(crate) const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
pub(crate) const LOGS: &str = "/var/log/kubernetes";
pub(crate) const POD_LOGS: &str = "/var/log/pods";

pub(crate) const UNITS: &str = "/etc/systemd/system";
pub(crate) const KUBELET_DIR: &str = "/var/lib/kubelet";
pub(crate) const KUBELET_PKI: &str = "/var/lib/kubelet/pki";
pub(crate) const KUBE_PROXY_DIR: &str = "/var/lib/kube-proxy";
/// Not the directory of the distribution's etcd, whose data is not ours.
pub(crate) const ETCD_DATA: &str = "/var/lib/etcd/kctl";
pub(crate) const CNI_CONFLIST: &str = "/etc/cni/net.d/10-kctl.conflist";
pub(crate) const CNI_BRIDGE: &str = "cni0";

/// The executable and its links, which units start.
pub(crate) const PROGRAMS: &str = "/usr/local/lib/kctl";

/// Our own records.
pub(crate) const STATE: &str = "/var/lib/kctl";
pub(crate) const LEDGER: &str = "/var/lib/kctl/ledger.json";
pub(crate) const BACKUPS: &str = "/var/lib/kctl/backup";
/// The configuration that the cluster was made with; a later run without `--config` uses it.
pub(crate) const CLUSTER_FILE: &str = "/var/lib/kctl/cluster.yaml";
