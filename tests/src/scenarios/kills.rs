//! kill -9 of each daemon, of etcd and of containerd: the Service keeps answering, no acknowledged write is lost, the
//! cluster converges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{healthy, node_port, rolled_out};
use crate::load::Load;
use crate::world::World;

/// Programs as the kernel names them: at most 15 characters.
const VICTIMS: &[&str] =
    &["kube-scheduler", "kube-controller", "kube-apiserver", "kube-proxy", "cluster-dns", "kubelet", "etcd", "containerd"];

pub(super) fn run(world: &World) -> Result<()> {
    let load = Load::start(node_port(world)?);
    let kubeconfig = world.kubeconfig()?;
    let writer = Writer::start(&kubeconfig)?;
    for victim in VICTIMS {
        kill(world, victim).with_context(|| format!("kill -9 {victim}"))?;
        println!("  {victim}: converged");
    }
    let acknowledged = writer.stop()?;
    ensure!(acknowledged.len() > 10, "only {} writes were acknowledged", acknowledged.len());
    let stored = world.kctl(&["get", "configmaps", "-l", "written-by=kills", "-o", "name"])?;
    for name in &acknowledged {
        ensure!(stored.lines().any(|l| l == format!("configmap/{name}")), "{name} was acknowledged and is lost");
    }
    println!("  {} acknowledged writes are all there", acknowledged.len());
    world.kctl(&["delete", "configmaps", "-l", "written-by=kills"])?;
    load.stop()?.all_answered()
}

fn kill(world: &World, victim: &str) -> Result<()> {
    let before = world.host(&["pgrep", "-x", victim])?;
    world.host(&["pkill", "-9", "-x", victim])?;
    crate::world::eventually("a new process", Duration::from_secs(90), || {
        let now = world.host(&["pgrep", "-x", victim])?;
        ensure!(now != before && !now.trim().is_empty(), "{victim} is still down");
        Ok(())
    })?;
    healthy(world, Duration::from_secs(120))?;
    // Everything works again: the whole chain from the API to a running container.
    crate::world::eventually("a write", Duration::from_secs(60), || {
        world.kctl(&["scale", "deployment/web", "--replicas=4"]).map(drop)
    })?;
    rolled_out(world)?;
    world.kctl(&["scale", "deployment/web", "--replicas=3"])?;
    rolled_out(world)
}

/// Creates objects one after another and remembers which ones were acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Vec<String>>>,
}

const WRITES_MAX: usize = 3000;

impl Writer {
    fn start(kubeconfig: &std::path::Path) -> Result<Self> {
        daemon::install_crypto();
        let client = client::Client::from_kubeconfig(kubeconfig)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut acknowledged = Vec::new();
                for i in 0..WRITES_MAX {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("write-{i}");
                    let body = serde_json::json!({"metadata": {"name": name, "labels": {"written-by": "kills"}}});
                    let post = client.post_value("/api/v1/namespaces/default/configmaps", &body);
                    if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(10), post).await {
                        acknowledged.push(name);
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                anyhow::Ok(acknowledged)
            })
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    }
}
