//! The container runtime: its configuration and its unit.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use host::process::CAP_SYS_RESOURCE;

use super::wait;
use crate::boot::context::Context;
use crate::boot::files::{self, File};
use crate::boot::ledger::Effect;
use crate::boot::paths::{CNI_CONFLIST, UNITS};
use crate::boot::plan::Check;
use crate::boot::runtime::Runtime;
use crate::boot::template::render;

const CONTAINERD: &str = include_str!("../../../../units/containerd.toml");
const CRIO: &str = include_str!("../../../../units/crio.conf");
const SCOPE: &str = include_str!("../../../../units/pod-scope.conf");

/// The runtime's own file, and one for the scopes that it makes for containers.
fn configuration(context: &Context) -> Result<[File; 2]> {
    let (template, path, scope) = match context.runtime {
        Runtime::Containerd => (CONTAINERD, "/etc/containerd/config.toml", "cri-containerd-.scope.d"),
        Runtime::Crio => (CRIO, "/etc/crio/crio.conf.d/90-kctl.conf", "crio-.scope.d"),
    };
    let plugins = if Path::new("/usr/lib/cni/bridge").exists() { "/usr/lib/cni" } else { "/opt/cni/bin" };
    // Without the capability no process may lower its oom_score_adj, and runc would fail to start any container.
    let restricted = !host::process::may_have_capability(CAP_SYS_RESOURCE)?;
    let text = render(
        template,
        &[
            ("IMAGE", context.image_reference()),
            ("CNI_PLUGINS", plugins.to_owned()),
            ("RESTRICT_OOM_SCORE_ADJ", restricted.to_string()),
        ],
    )?;
    let scope_text = render(SCOPE, &[("RUNTIME_UNIT", context.runtime.unit().to_owned())])?;
    Ok([File::public(path, text), File::public(Path::new(UNITS).join(scope).join("10-kctl.conf"), scope_text)])
}

fn socket_reason(context: &Context) -> Option<String> {
    let path = context.cluster.cri_socket.trim_start_matches("unix://");
    (!Path::new(path).exists()).then(|| format!("{path} is not there"))
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    let mut reasons = context.unit_differences(context.runtime.unit(), &configuration(context)?).await?;
    reasons.extend(socket_reason(context));
    Ok(Check::of(reasons))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    let unit = context.runtime.unit();
    if context.systemd.state(unit).await?.load == "not-found" {
        bail!("there is no {unit}: install {} or choose another runtime with --cri-socket", context.runtime.package());
    }
    let state = match context.runtime {
        Runtime::Containerd => "/run/containerd",
        Runtime::Crio => "/run/crio",
    };
    // The runtime would make it with a mode of its own, and nobody would remove it.
    if let Some(directory) = Path::new(CNI_CONFLIST).parent() {
        files::make_directory(context, directory)?;
    }
    // A runtime that ran before us keeps its state.
    if !Path::new(state).exists() {
        context.note(Effect::Tree { path: state.into() })?;
    }
    context.run_unit(unit, &configuration(context)?).await?;
    wait::until("starting the runtime", Duration::from_secs(30), async || Ok(socket_reason(context))).await
}
