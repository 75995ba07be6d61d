//! kubelet.service with its drop-in and configuration.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::wait;
use crate::boot::certificates::pair;
use crate::boot::context::Context;
use crate::boot::files::File;
use crate::boot::ledger::Effect;
use crate::boot::manifest::unit_arguments;
use crate::boot::paths::{KUBELET_CONF, KUBELET_DIR, KUBERNETES, MANIFESTS, POD_LOGS, PROGRAMS, UNITS};
use crate::boot::plan::Check;
use crate::boot::runtime::run;
use crate::boot::template::render;

pub(super) const UNIT: &str = "kubelet.service";
const UNIT_TEMPLATE: &str = include_str!("../../../../units/kubelet.service");
const DROP_IN: &str = include_str!("../../../../units/kubelet.service.d/10-kctl.conf");
const CONFIGURATION: &str = include_str!("../../../../units/kubelet-config.yaml");

/// Tables that CNI plugins and kubelets make through iptables. What was there before us is not ours.
const TABLES: &[&str] = &["filter", "mangle", "nat", "raw"];

async fn note_tables(context: &Context) -> Result<()> {
    let before = run("nft", &["list", "tables"]).await.unwrap_or_default();
    for family in ["ip", "ip6"] {
        for name in TABLES {
            if !before.lines().any(|line| line == format!("table {family} {name}")) {
                context.note(Effect::NftTable { family: family.to_owned(), name: (*name).to_owned() })?;
            }
        }
    }
    Ok(())
}

fn wanted(context: &Context) -> Result<Vec<File>> {
    let options = &context.cluster.daemons.kubelet;
    let binary = options.binary.clone().unwrap_or_else(|| Path::new(PROGRAMS).join("kubelet"));
    let unit = render(UNIT_TEMPLATE, &[("RUNTIME_UNIT", context.runtime.unit().to_owned())])?;
    let drop_in = render(
        DROP_IN,
        &[
            ("KUBELET", binary.display().to_string()),
            ("KUBECONFIG", KUBELET_CONF.to_owned()),
            ("BOOTSTRAP_KUBECONFIG", format!("{KUBERNETES}/bootstrap-kubelet.conf")),
            ("CONFIG", format!("{KUBELET_DIR}/config.yaml")),
            ("NODE_NAME", context.node_name.clone()),
            ("NODE_ADDRESS", context.node_address.to_string()),
            ("ARGUMENTS", unit_arguments(options)),
        ],
    )?;
    let (certificate, key) = pair("/var/lib/kubelet/pki/kubelet");
    let configuration = render(
        CONFIGURATION,
        &[
            ("CLIENT_CA", pair("ca").0.display().to_string()),
            ("CERTIFICATE", certificate.display().to_string()),
            ("KEY", key.display().to_string()),
            ("DNS", context.dns_address()?.to_string()),
            ("DOMAIN", context.cluster.network.domain.clone()),
            ("CRI_SOCKET", context.cluster.cri_socket.clone()),
            ("MANIFESTS", MANIFESTS.to_owned()),
            ("FAIL_CGROUP_V1", (host::cgroup::version()? == host::cgroup::Version::V2).to_string()),
        ],
    )?;
    Ok(vec![
        File::public(Path::new(UNITS).join(UNIT), unit),
        File::public(Path::new(UNITS).join("kubelet.service.d/10-kctl.conf"), drop_in),
        File::public(Path::new(KUBELET_DIR).join("config.yaml"), configuration),
    ])
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    Ok(Check::of(context.unit_differences(UNIT, &wanted(context)?).await?))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    for path in [KUBELET_DIR, POD_LOGS, "/var/log/containers"] {
        context.note(Effect::Tree { path: path.into() })?;
    }
    note_tables(context).await?;
    // Made by the runtime, and by iptables.
    if !Path::new("/run/netns").exists() {
        context.note(Effect::Tree { path: "/run/netns".into() })?;
    }
    if !Path::new("/run/xtables.lock").exists() {
        context.note(Effect::File { path: "/run/xtables.lock".into(), backup: None })?;
    }
    context.note(Effect::Slice { name: "kubepods.slice".to_owned() })?;
    context.run_unit(UNIT, &wanted(context)?).await?;
    // Type=simple: systemd knows only that it began.
    wait::until("starting the kubelet", Duration::from_secs(60), async || {
        let state = context.systemd.state(UNIT).await?;
        if !state.is_active() {
            return Ok(Some(format!("{UNIT}, which is {} ({})", state.active, state.result)));
        }
        let healthy = tokio::net::TcpStream::connect(("127.0.0.1", 10248)).await.is_ok();
        Ok((!healthy).then(|| "its health port 10248".to_owned()))
    })
    .await
}
