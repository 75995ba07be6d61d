//! What `cargo xtask up` shows: a host, a cluster on it, a workload that answers. The host is left running.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kctl_tests::load::get;
use kctl_tests::scenarios;
use kctl_tests::world::{World, eventually};

fn main() -> Result<()> {
    let programs: PathBuf = std::env::current_exe()?.parent().context("a program lies in a directory")?.to_owned();
    let lab = std::env::args().skip_while(|a| a != "--lab").nth(1).unwrap_or_else(|| "lab".to_owned());
    let world = World::new(&programs, &programs.join("../e2e"), &lab);
    println!("Booting a host with systemd (the first time, its root file system is made) ...");
    world.lab(&["up"])?;
    print!("{}", world.kctl(&["init"])?);
    world.load_images()?;
    print!("{}", world.kctl_stdin(&["apply", "-f", "-"], scenarios::WEB)?);
    world.kctl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    print!("{}", world.kctl(&["get", "pods", "-A", "-o", "wide"])?);
    let address = scenarios::node_port(&world)?;
    let answer = eventually("an answer", Duration::from_secs(30), || {
        let answer = get(address)?;
        ensure!(answer.starts_with("nginx"), "{answer}");
        Ok(answer)
    })?;
    println!("\nhttp://{address}/ answers: {answer}");
    let (name, kctl) = (&world.lab, world.kctl.display());
    println!(
        "The cluster runs. Look around with\n  {kctl} lab --name {name} shell n1\nand remove it with\n  {kctl} lab --name {name} down"
    );
    Ok(())
}
