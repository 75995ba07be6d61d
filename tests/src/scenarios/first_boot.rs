//! A host from nothing: init, nodes and system pods Ready, a workload that answers by every way in.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{WEB, healthy, node_port, rolled_out};
use crate::load::get;
use crate::world::{World, eventually};

pub(super) fn run(world: &World) -> Result<()> {
    world.up()?;
    super::reboot_and_reset::record(world)?;
    let log = world.kctl(&["init"]).context("kctl init")?;
    println!("{log}");
    // init returns when all is ready, and not before: no waiting here.
    let ready = world.kctl(&["get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}"])?;
    ensure!(ready.trim() == "True", "the node is Ready={ready}");
    let pods = world.kctl(&["get", "pods", "-n", "kube-system", "--no-headers"])?;
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "cluster-dns"] {
        ensure!(pods.lines().any(|l| l.contains(name) && l.contains("1/1") && l.contains("Running")), "{name}:\n{pods}");
    }
    healthy(world, Duration::from_secs(5))?;
    let dns = world.kctl(&["get", "service", "kube-dns", "-n", "kube-system", "-o", "jsonpath={.spec.clusterIP}"])?;
    ensure!(dns.trim() == "10.96.0.10", "kube-dns has {dns}");

    world.load_images()?;
    world.kctl_stdin(&["apply", "-f", "-"], WEB)?;
    rolled_out(world)?;
    world.kctl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"])?;

    let limit = Duration::from_secs(15);
    let cluster_ip = world.kctl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    let url = format!("http://{}/", cluster_ip.trim());
    answers("the ClusterIP", || world.host(&["curl", "-sS", "--max-time", "5", &url]), limit)?;
    let address = node_port(world)?;
    answers("the NodePort", || get(address), limit)?;
    for name in ["web", "web.default.svc.cluster.local"] {
        let url = format!("http://{name}/");
        answers(name, || world.kctl(&["exec", "client", "--", "curl", "-sS", "--max-time", "5", &url]), limit)?;
    }
    Ok(())
}

fn answers(by: &str, mut ask: impl FnMut() -> Result<String>, limit: Duration) -> Result<()> {
    eventually(by, limit, || {
        let answer = ask()?;
        ensure!(answer.starts_with("nginx 1 from web-"), "{answer:?}");
        Ok(())
    })
}
