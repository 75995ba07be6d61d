//! A new image without one failed request, and back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{node_port, rolled_out};
use crate::load::{Load, get};
use crate::world::{World, eventually};

pub(super) fn run(world: &World) -> Result<()> {
    let address = node_port(world)?;
    let load = Load::start(address);
    world.kctl(&["set", "image", "deployment/web", "nginx=localhost/nginx:2"])?;
    rolled_out(world)?;
    answered_by(address, "nginx 2 ")?;
    world.kctl(&["rollout", "undo", "deployment/web"])?;
    rolled_out(world)?;
    answered_by(address, "nginx 1 ")?;
    let report = load.stop()?;
    report.all_answered()?;
    ensure!(report.answers.contains_key("nginx 1") && report.answers.contains_key("nginx 2"), "{report:?}");
    let history = world.kctl(&["rollout", "history", "deployment/web"])?;
    // The undo takes the first revision's place as the newest one: two are left.
    let revisions = history.lines().filter(|l| l.starts_with(|c: char| c.is_ascii_digit())).count();
    ensure!(revisions == 2, "revisions after an update and its undo:\n{history}");
    println!("  {:?}", report.answers);
    Ok(())
}

/// The rules of the Service follow the pods within a moment: only then is every answer of the wanted version.
fn answered_by(address: SocketAddr, version: &str) -> Result<()> {
    eventually("the new version answers", Duration::from_secs(10), || {
        for _ in 0..10 {
            let answer = get(address)?;
            ensure!(answer.starts_with(version), "{answer}");
        }
        Ok(())
    })
}
