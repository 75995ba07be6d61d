//! The executable at a place that stays, with a link for each daemon that a unit starts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::boot::context::Context;
use crate::boot::files;
use crate::boot::image::digest_of;
use crate::boot::paths::PROGRAMS;
use crate::boot::plan::Check;

const LINKS: &[&str] = &["kubelet", "kube-proxy"];
const COMMAND: &str = "/usr/local/bin/kctl";

fn program() -> PathBuf {
    Path::new(PROGRAMS).join("kctl")
}

pub(super) async fn check(context: &Context) -> Result<Check> {
    let mut reasons = Vec::new();
    if digest_of(&program()).ok().as_ref() != Some(&context.digest) {
        reasons.push(format!("{} is not this kctl", program().display()));
    }
    for name in LINKS {
        if fs::read_link(Path::new(PROGRAMS).join(name)).ok().as_deref() != Some(Path::new("kctl")) {
            reasons.push(format!("{PROGRAMS}/{name} is missing"));
        }
    }
    if fs::symlink_metadata(COMMAND).is_err() {
        reasons.push(format!("{COMMAND} is missing"));
    }
    Ok(Check::of(reasons))
}

pub(super) async fn apply(context: &Context) -> Result<()> {
    let program = program();
    files::prepare(context, &program)?;
    // A running program can't be written to, but it can be replaced.
    let new = program.with_extension("new");
    files::copy(&context.executable, &new).with_context(|| format!("copying to {}", new.display()))?;
    fs::rename(&new, &program)?;
    for name in LINKS {
        link(context, Path::new("kctl"), &Path::new(PROGRAMS).join(name))?;
    }
    if fs::symlink_metadata(COMMAND).is_err() {
        link(context, &program, Path::new(COMMAND))?;
    }
    Ok(())
}

fn link(context: &Context, target: &Path, path: &Path) -> Result<()> {
    files::prepare(context, path)?;
    let _ = fs::remove_file(path);
    std::os::unix::fs::symlink(target, path).with_context(|| format!("linking {}", path.display()))
}
