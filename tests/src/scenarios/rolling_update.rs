//! A new image without one failed request, and back.

use anyhow::{Result, ensure};

use super::{node_port, rolled_out};
use crate::load::{Load, get};
use crate::world::World;

pub(super) fn run(world: &World) -> Result<()> {
    let address = node_port(world)?;
    let load = Load::start(address);
    world.kctl(&["set", "image", "deployment/web", "nginx=localhost/nginx:2"])?;
    rolled_out(world)?;
    ensure!(get(address)?.starts_with("nginx 2 "), "after the update an old pod still answers");
    world.kctl(&["rollout", "undo", "deployment/web"])?;
    rolled_out(world)?;
    let report = load.stop()?;
    report.all_answered()?;
    ensure!(report.answers.contains_key("nginx 1") && report.answers.contains_key("nginx 2"), "{report:?}");
    ensure!(get(address)?.starts_with("nginx 1 "), "after the undo a new pod still answers");
    let history = world.kctl(&["rollout", "history", "deployment/web"])?;
    ensure!(history.contains('3') && !history.lines().any(|l| l.starts_with("1 ")), "the undo is revision 3:\n{history}");
    println!("  {:?}", report.answers);
    Ok(())
}
