//! Kernel modules and settings, now and after each boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::boot::context::Context;
use crate::boot::files::{self, File};
use crate::boot::ledger::Effect;
use crate::boot::plan::Check;

const MODULES: &[&str] = &["overlay", "br_netfilter"];

/// Name, value, and whether a larger number is as good.
const SETTINGS: &[(&str, &str, bool)] = &[
    ("net.ipv4.ip_forward", "1", false),
    // Packets between pods of one bridge pass the rules of Services only with this.
    ("net.bridge.bridge-nf-call-iptables", "1", false),
    ("fs.inotify.max_user_instances", "8192", true),
    ("fs.inotify.max_user_watches", "524288", true),
];

fn files() -> [File; 2] {
    let settings: String = SETTINGS.iter().map(|(name, value, _)| format!("{name} = {value}\n")).collect();
    [
        File::public("/etc/modules-load.d/kctl.conf", MODULES.join("\n") + "\n"),
        File::public("/etc/sysctl.d/90-kctl.conf", settings),
    ]
}

fn path_of(setting: &str) -> PathBuf {
    Path::new("/proc/sys").join(setting.replace('.', "/"))
}

fn is_set(name: &str, value: &str, more_is_fine: bool) -> bool {
    let Ok(current) = fs::read_to_string(path_of(name)) else { return false };
    let current = current.trim();
    let more = || current.parse::<u64>().ok().zip(value.parse().ok()).is_some_and(|(is, least)| is > least);
    current == value || more_is_fine && more()
}

pub(super) async fn check(_: &Context) -> Result<Check> {
    let mut reasons = files::differences(&files());
    reasons
        .extend(SETTINGS.iter().filter(|(n, v, m)| !is_set(n, v, *m)).map(|(name, value, _)| format!("{name} is not {value}")));
    Ok(Check::of(reasons))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    files::write_all(context, &files())?;
    for module in MODULES {
        // Built into the kernel, or there is no modprobe: the settings below tell whether it matters.
        let _ = Command::new("modprobe").arg(module).stdin(Stdio::null()).stderr(Stdio::null()).status().await;
    }
    for (name, value, more_is_fine) in SETTINGS {
        if is_set(name, value, *more_is_fine) {
            continue;
        }
        let path = path_of(name);
        let before = fs::read_to_string(&path).with_context(|| format!("reading {name}"))?.trim().to_owned();
        context.note(Effect::Sysctl { path: path.clone(), before })?;
        fs::write(&path, value).with_context(|| format!("setting {name}"))?;
    }
    Ok(())
}
