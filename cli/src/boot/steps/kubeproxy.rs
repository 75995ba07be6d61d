//! kube-proxy.service and its configuration.

use std::path::Path;

use anyhow::Result;

use crate::boot::context::Context;
use crate::boot::files::File;
use crate::boot::ledger::Effect;
use crate::boot::manifest::unit_arguments;
use crate::boot::paths::{KUBE_PROXY_DIR, KUBERNETES, PROGRAMS, UNITS};
use crate::boot::plan::Check;
use crate::boot::template::render;

const UNIT: &str = "kube-proxy.service";
const UNIT_TEMPLATE: &str = include_str!("../../../../units/kube-proxy.service");
const CONFIGURATION: &str = include_str!("../../../../units/kube-proxy-config.yaml");

fn wanted(context: &Context) -> Result<Vec<File>> {
    let options = &context.cluster.daemons.kube_proxy;
    let binary = options.binary.clone().unwrap_or_else(|| Path::new(PROGRAMS).join("kube-proxy"));
    let config = format!("{KUBE_PROXY_DIR}/config.conf");
    let unit = render(
        UNIT_TEMPLATE,
        &[
            ("KUBE_PROXY", binary.display().to_string()),
            ("CONFIG", config.clone()),
            ("NODE_NAME", context.node_name.clone()),
            ("ARGUMENTS", unit_arguments(options)),
        ],
    )?;
    let configuration = render(
        CONFIGURATION,
        &[("KUBECONFIG", format!("{KUBERNETES}/kube-proxy.conf")), ("PODS", context.cluster.network.pods.to_string())],
    )?;
    Ok(vec![File::public(Path::new(UNITS).join(UNIT), unit), File::public(config, configuration)])
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    Ok(Check::of(context.unit_differences(UNIT, &wanted(context)?).await?))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    for family in ["ip", "ip6"] {
        context.note(Effect::NftTable { family: family.to_owned(), name: "kube-proxy".to_owned() })?;
    }
    context.run_unit(UNIT, &wanted(context)?).await
}
