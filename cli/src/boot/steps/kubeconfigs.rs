//! Kubeconfigs of the administrator and of each daemon.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use pki::{Credentials, Issued, Key, Kubeconfig};

use crate::boot::certificates::{kubelet_client, pair};
use crate::boot::context::Context;
use crate::boot::files::{self, File};
use crate::boot::paths::{ADMIN_CONF, KUBELET_CONF, KUBERNETES};
use crate::boot::plan::Check;

/// File, user, and the name of its certificate. Daemons get paths: they read renewed certificates without being told.
const DAEMONS: &[(&str, &str, &str)] = &[
    ("controller-manager.conf", "system:kube-controller-manager", "controller-manager/client"),
    ("scheduler.conf", "system:kube-scheduler", "scheduler/client"),
    ("kube-proxy.conf", "system:kube-proxy", "kube-proxy/client"),
];

fn wanted(context: &Context) -> Result<Vec<File>> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let ca_pem = read(&pair("ca").0)?;
    let kubeconfig = |path: &Path, user: &str, credentials| {
        let kubeconfig = Kubeconfig {
            cluster: context.cluster.name.clone(),
            server: context.api_server(),
            ca_pem: ca_pem.clone(),
            user: user.to_owned(),
            credentials,
        };
        File::secret(path, kubeconfig.to_yaml())
    };
    let (certificate, key) = pair("admin");
    let admin = Issued { certificate_pem: read(&certificate)?, key: Key::load(&key)? };
    let kubelet = Credentials::Files { certificate: kubelet_client(), key: kubelet_client() };
    let mut files = vec![
        kubeconfig(ADMIN_CONF.as_ref(), "kubernetes-admin", Credentials::Embedded(Box::new(admin))),
        kubeconfig(KUBELET_CONF.as_ref(), &format!("system:node:{}", context.node_name), kubelet),
    ];
    for (file, user, name) in DAEMONS {
        let (certificate, key) = pair(name);
        files.push(kubeconfig(&Path::new(KUBERNETES).join(file), user, Credentials::Files { certificate, key }));
    }
    Ok(files)
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    Ok(Check::of(files::differences(&wanted(context)?)))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    write(context)
}

/// Also after certificates were renewed: the administrator's is embedded.
pub(crate) fn write(context: &Context) -> Result<()> {
    files::write_all(context, &wanted(context)?)
}
