//! What an API server costs: time to ready, memory, CPU for each kind of request. Prints; asserts nothing.
//!
//!     cargo run -p kctl-tests --bin bench-apiserver [-- --watchers 10000 PROGRAM…]
//!
//! Each PROGRAM (`kctl` or another kube-apiserver) gets its own etcd, TLS, RBAC and the same load, one after another, so
//! that figures of one run can be set side by side. The load is bounded and goes to loopback only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use client::{Client, ListParams, Scope, WatchParams};
use kctl_tests::apiserver::ApiServer;
use serde_json::{Value, json};

const POSTS: usize = 2000;
const GETS: usize = 5000;
const PODS: usize = 5000;
const LISTS: usize = 10;
const SELECTS: usize = 50;
const LISTERS: usize = 100;
const WATCHED_WRITES: usize = 50;
const PARALLEL: usize = 8;

fn main() -> Result<()> {
    daemon::install_crypto();
    let (mut programs, mut watchers) = (Vec::new(), 1000);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--watchers" => watchers = words.next().context("--watchers N")?.parse()?,
            _ => programs.push(PathBuf::from(word)),
        }
    }
    if programs.is_empty() {
        programs.push(std::env::current_exe()?.with_file_name("kctl"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for program in programs {
        println!("{}", program.display());
        runtime.block_on(bench(&program, watchers))?;
    }
    Ok(())
}

async fn start(program: &Path) -> Result<ApiServer> {
    let setup = ApiServer::start(program, "bench").await?;
    row("ready after", setup.ready_after.as_secs_f64(), "s");
    Ok(setup)
}

fn row(what: &str, value: f64, unit: &str) {
    println!("  {what:<44} {value:>10.2} {unit}");
}

/// CPU of the server for each of `count` calls, in microseconds.
async fn cost<F: Future<Output = Result<()>>>(setup: &ApiServer, count: usize, call: impl Fn(usize) -> F) -> Result<f64> {
    use futures::{StreamExt, TryStreamExt};
    let before = setup.server.cpu()?;
    futures::stream::iter((0..count).map(call)).buffer_unordered(PARALLEL).try_collect::<()>().await?;
    Ok((setup.server.cpu()? - before).as_secs_f64() * 1e6 / count as f64)
}

async fn bench(program: &Path, watchers: usize) -> Result<()> {
    let setup = start(program).await?;
    let client = &setup.client;
    tokio::time::sleep(Duration::from_secs(3)).await;
    row("memory, idle", setup.server.resident_mib()?, "MiB");
    let before = setup.server.cpu()?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    row("CPU, idle", (setup.server.cpu()? - before).as_secs_f64() * 10.0, "%");

    let maps = "/api/v1/namespaces/default/configmaps";
    let post = async |i: usize| {
        let body = json!({"metadata": {"name": format!("map-{i}"), "labels": {"n": (i % 50).to_string()}}, "data": {"key": "x".repeat(1000)}});
        client.post_value(maps, &body).await?;
        anyhow::Ok(())
    };
    row("CPU for a POST of 1 KB", cost(&setup, POSTS, &post).await?, "µs");
    let get = async |i: usize| {
        client.call(http::Method::GET, &format!("{maps}/map-{}", i % POSTS), None).await?;
        anyhow::Ok(())
    };
    row("CPU for a GET of 1 KB", cost(&setup, GETS, &get).await?, "µs");

    let create = async |i: usize| {
        client.post_value("/api/v1/namespaces/default/pods", &pod(i)).await?;
        anyhow::Ok(())
    };
    row("CPU for a POST of a Pod", cost(&setup, PODS, &create).await?, "µs");
    row(&format!("memory, {PODS} pods"), setup.server.resident_mib()?, "MiB");

    let bytes = client.call(http::Method::GET, "/api/v1/pods?resourceVersion=0", None).await?.len();
    let list = async |_| {
        client.call(http::Method::GET, "/api/v1/pods?resourceVersion=0", None).await?;
        anyhow::Ok(())
    };
    let each = cost(&setup, LISTS, &list).await?;
    row("CPU for a LIST, per MB", each / 1000.0 / (bytes as f64 / 1e6), "ms");
    row("  its size", bytes as f64 / 1e6, "MB");
    let select = async |_| {
        client.call(http::Method::GET, "/api/v1/pods?resourceVersion=0&labelSelector=n%3D7", None).await?;
        anyhow::Ok(())
    };
    row("CPU for a LIST by a selector of 2 %", cost(&setup, SELECTS, &select).await? / 1000.0, "ms");
    row("memory after the LISTs", setup.server.resident_mib()?, "MiB");
    listers(&setup).await?;
    self::watchers(&setup, watchers).await
}

/// Clients that begin at once: each takes the whole list, and then watches.
async fn listers(setup: &ApiServer) -> Result<()> {
    setup.server.reset_peak()?;
    let cpu = setup.server.cpu()?;
    let clients: Vec<Client> =
        (0..LISTERS).map(|_| Client::from_kubeconfig(&setup.dir.join("admin.conf"))).collect::<Result<_, _>>()?;
    let pods = core("Pod", "pods");
    let scope = Scope { resource: &pods, namespace: "" };
    let begin = clients.iter().map(async |client| {
        // From the cache and whole, as informers do.
        let from_cache = ListParams { resource_version: Some(0), ..ListParams::default() };
        let list = client.list_bytes(scope.clone(), &from_cache).await?;
        let params = WatchParams { resource_version: Some(list.resource_version), ..WatchParams::default() };
        anyhow::Ok(client.watch(scope.clone(), &params).await?)
    });
    let watches = futures::future::try_join_all(begin).await?;
    let cpu = (setup.server.cpu()? - cpu).as_secs_f64();
    row(&format!("memory at most, {LISTERS} clients list at once"), setup.server.peak_mib()?, "MiB");
    row("  CPU for each of them", cpu * 1e3 / watches.len() as f64, "ms");
    Ok(())
}

async fn watchers(setup: &ApiServer, count: usize) -> Result<()> {
    let secrets = core("Secret", "secrets");
    let scope = Scope { resource: &secrets, namespace: "default" };
    let start = setup.client.list_bytes(scope.clone(), &ListParams::default()).await?.resource_version;
    let before = setup.server.resident_mib()?;
    let mut watches = Vec::new();
    let mut connections = Vec::new();
    for i in 0..count {
        // A connection takes 250 streams of a stock server.
        if i % 200 == 0 {
            connections.push(Client::from_kubeconfig(&setup.dir.join("admin.conf"))?);
        }
        let client = connections.last().context("a connection")?;
        let params = WatchParams { resource_version: Some(start), ..WatchParams::default() };
        watches.push(client.watch(scope.clone(), &params).await?);
    }
    row("memory for each watcher", (setup.server.resident_mib()? - before) * 1024.0 / count as f64, "KiB");
    let cpu = setup.server.cpu()?;
    for i in 0..WATCHED_WRITES {
        let body = json!({"metadata": {"name": format!("s-{i}")}, "stringData": {"a": "b"}});
        setup.client.post_value("/api/v1/namespaces/default/secrets", &body).await?;
    }
    for watch in &mut watches {
        let mut seen = 0;
        while seen < WATCHED_WRITES {
            let event = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.context("an event")?;
            if !matches!(event.context("the watch ended")??, client::WatchEvent::Bookmark { .. }) {
                seen += 1;
            }
        }
    }
    let events = (count * WATCHED_WRITES) as f64;
    row("CPU for an event to a watcher", (setup.server.cpu()? - cpu).as_secs_f64() * 1e6 / events, "µs");
    Ok(())
}

fn core(kind: &str, plural: &str) -> api::ResourceId {
    let (group, version) = (String::new(), "v1".into());
    api::ResourceId { group, version, kind: kind.into(), plural: plural.into(), namespaced: true }
}

fn pod(i: usize) -> Value {
    let volume = json!({"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
    json!({
        "metadata": {"name": format!("pod-{i}"), "labels": {"app": "bench", "n": (i % 50).to_string()},
            "annotations": {"note": "x".repeat(300)}},
        "spec": {
            "serviceAccountName": "default",
            "nodeName": format!("node-{}", i % 100),
            "containers": [{"name": "main", "image": "registry.example/app:1", "env": [{"name": "A", "value": "b"}],
                "ports": [{"containerPort": 80}], "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}}, "volumeMounts": [{"name": "token", "mountPath": "/t"}]}],
            "volumes": [volume],
        },
    })
}
