//! The static pods' manifests: kube-apiserver, kube-controller-manager, kube-scheduler.

use std::path::Path;

use anyhow::Result;

use crate::boot::cluster::DaemonOptions;
use crate::boot::context::Context;
use crate::boot::files::{self, File};
use crate::boot::ledger::Effect;
use crate::boot::manifest::with_options;
use crate::boot::paths::{AUDIT_POLICY, LOGS, MANIFESTS, PKI};
use crate::boot::plan::Check;
use crate::boot::template::render;

const API_SERVER: &str = include_str!("../../../../manifests/kube-apiserver.yaml");
const CONTROLLER_MANAGER: &str = include_str!("../../../../manifests/kube-controller-manager.yaml");
const SCHEDULER: &str = include_str!("../../../../manifests/kube-scheduler.yaml");
const POLICY: &str = include_str!("../../../../manifests/audit-policy.yaml");

fn wanted(context: &Context) -> Result<Vec<File>> {
    let network = &context.cluster.network;
    let values = [
        ("IMAGE", context.image_reference()),
        ("ADDRESS", context.node_address.to_string()),
        ("PKI", PKI.to_owned()),
        ("LOGS", LOGS.to_owned()),
        ("AUDIT_POLICY", AUDIT_POLICY.to_owned()),
        ("SERVICES", network.services.to_string()),
        ("PODS", network.pods.to_string()),
        ("DOMAIN", network.domain.clone()),
        ("CLUSTER", context.cluster.name.clone()),
    ];
    let daemons = &context.cluster.daemons;
    let pod = |name: &str, template: &str, options: &DaemonOptions| -> Result<File> {
        let manifest = with_options(&render(template, &values)?, options)?;
        Ok(File::secret(Path::new(MANIFESTS).join(name), manifest))
    };
    Ok(vec![
        File::secret(AUDIT_POLICY, POLICY),
        pod("kube-apiserver.yaml", API_SERVER, &daemons.kube_apiserver)?,
        pod("kube-controller-manager.yaml", CONTROLLER_MANAGER, &daemons.kube_controller_manager)?,
        pod("kube-scheduler.yaml", SCHEDULER, &daemons.kube_scheduler)?,
    ])
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    Ok(Check::of(files::differences(&wanted(context)?)))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    context.note(Effect::Tree { path: LOGS.into() })?;
    files::write_all(context, &wanted(context)?)
}
