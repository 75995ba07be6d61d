//! The shell: informers into the zone, sockets, health.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::{Context, bail};
use api::Meta;
use api::core::{Namespace, Service};
use api::discovery::EndpointSlice;
use bytes::Bytes;
use client::{Change, Client, Informer, InformerConfig};
use daemon::Shutdown;
use daemon::endpoints::{self, MetricsAccess};
use daemon::health::Checks;
use daemon::http::{Limits, in_memory, serve};
use daemon::metrics::Gauge;
use hickory_proto::rr::Name;
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;

use crate::args::Args;
use crate::entry::entry;
use crate::forward::{Forwarder, Upstreams};
use crate::respond::Responder;
use crate::server;
use crate::zone::{ServiceKey, Zone};

static SERVICES: Gauge = Gauge::new("cluster_dns_services", "Services in the zone.", &[]);
static CACHED: Gauge = Gauge::new("coredns_cache_entries", "Answers of other servers that are kept.", &[]);

/// Runs the daemon until it is told to end.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut apex = Name::from_ascii(&args.domain).with_context(|| format!("--domain {}", args.domain))?;
    apex.set_fqdn(true);
    let (namespace, name) = args.service.split_once('/').context("--service is namespace/name")?;
    let zone = Zone::new(apex, (namespace.to_owned(), name.to_owned()));
    let responder = Arc::new(Responder {
        zone: RwLock::new(zone),
        forwarder: Forwarder::new(upstreams(&args.forward)?),
        synced: AtomicBool::new(false),
        turn: AtomicUsize::new(0),
    });
    let client = match &args.kubeconfig {
        Some(path) => Client::from_kubeconfig(path).with_context(|| format!("reading {}", path.display()))?,
        None => Client::in_cluster().context("no --kubeconfig, and not in a pod")?,
    };
    let (failed, mut failures) = tokio::sync::mpsc::channel(1);
    for address in &args.listen {
        let socket = UdpSocket::bind(address).await.with_context(|| format!("listening on {address}/udp"))?;
        let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}/tcp"))?;
        let (udp, tcp) = (Arc::clone(&responder), Arc::clone(&responder));
        let ended = failed.clone();
        tokio::spawn(async move {
            let result = tokio::select! {
                result = server::udp(socket, udp) => result,
                result = server::tcp(listener, tcp) => result,
            };
            // Nobody listens any more only when the daemon ends anyhow.
            let _ = ended.send(result).await;
        });
    }
    let ready = Arc::clone(&responder);
    spawn_probe(args.health_address, "/health", &shutdown, || true).await?;
    spawn_probe(args.ready_address, "/ready", &shutdown, move || ready.synced.load(Ordering::Acquire)).await?;
    let metrics = TcpListener::bind(args.metrics_address)
        .await
        .with_context(|| format!("listening on {} for /metrics", args.metrics_address))?;
    tokio::spawn(endpoints::run(metrics, None, Checks::new(), MetricsAccess::Anyone, shutdown.clone()));
    tracing::info!(domain = args.domain, listen = ?args.listen, "answering");
    tokio::select! {
        () = follow(client, Arc::clone(&responder)) => {}
        Some(result) = failures.recv() => result.context("answering")?,
        () = shutdown.requested() => {}
    }
    Ok(())
}

/// Addresses (with or without port), or one file.
fn upstreams(given: &[String]) -> anyhow::Result<Upstreams> {
    if let [path] = given
        && path.starts_with('/')
    {
        return Ok(Upstreams::File(path.into()));
    }
    let mut servers = Vec::new();
    for text in given.iter().filter(|t| !t.is_empty()) {
        match text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53))) {
            Ok(address) => servers.push(address),
            Err(_) => bail!("--forward: {text:?} is neither an address nor a path"),
        }
    }
    Ok(Upstreams::Fixed(servers))
}

/// One path that says OK or 503, as CoreDNS's plugins do on ports of their own.
async fn spawn_probe(
    address: SocketAddr,
    path: &'static str,
    shutdown: &Shutdown,
    good: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address} for {path}"))?;
    let limits = Limits { connections_max: 64, ..Limits::default() };
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        serve(listener, None, limits, shutdown, move |request: http::Request<hyper::body::Incoming>| {
            let (status, text) = match request.uri().path() {
                asked if asked != path => (StatusCode::NOT_FOUND, "404 page not found\n"),
                _ if good() => (StatusCode::OK, "OK"),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "kubernetes"),
            };
            let mut response = Response::new(Full::from(Bytes::from_static(text.as_bytes())));
            *response.status_mut() = status;
            async move { in_memory(response) }
        })
        .await;
    });
    Ok(())
}

/// What changed since the zone was last brought up to date.
#[derive(Clone, Debug, Default)]
struct Dirty {
    services: Arc<Mutex<BTreeSet<ServiceKey>>>,
    namespaces: Arc<Mutex<BTreeSet<String>>>,
    notify: Arc<Notify>,
}

fn owner(meta: &Meta) -> Option<ServiceKey> {
    Some((meta.namespace.clone(), meta.labels.get("kubernetes.io/service-name")?.clone()))
}

/// Keeps the zone in step with the API, forever. While the API server is away, the last known state is served.
async fn follow(client: Client, responder: Arc<Responder>) {
    let dirty = Dirty::default();
    let services: Informer<Service> = Informer::start(&client, InformerConfig::default());
    let namespaces: Informer<Namespace> = Informer::start(&client, InformerConfig { metadata_only: true, ..Default::default() });
    let slices: Informer<EndpointSlice> = Informer::start(
        &client,
        InformerConfig {
            indexes: vec![("service", |meta, _| owner(meta).map(|(ns, name)| format!("{ns}/{name}")).into_iter().collect())],
            ..Default::default()
        },
    );
    let mark = dirty.clone();
    services.subscribe(move |change: &Change<Service>| {
        let key = change.object().key();
        mark.put((key.namespace, key.name));
    });
    let mark = dirty.clone();
    slices.subscribe(move |change: &Change<EndpointSlice>| {
        owner(change.object()).into_iter().for_each(|key| mark.put(key));
        if let Change::Updated { old, .. } = change {
            owner(old).into_iter().for_each(|key| mark.put(key));
        }
    });
    let mark = dirty.clone();
    namespaces.subscribe(move |change: &Change<Namespace>| {
        mark.namespaces.lock().unwrap_or_else(|e| e.into_inner()).insert(change.object().name.clone());
        mark.notify.notify_one();
    });
    services.synced().await;
    slices.synced().await;
    namespaces.synced().await;
    loop {
        let changed = std::mem::take(&mut *dirty.services.lock().unwrap_or_else(|e| e.into_inner()));
        for key in changed {
            let service = services.get(&key.0, &key.1).and_then(|cached| client::informer::logged(&cached));
            let own = slices.by_index("service", &format!("{}/{}", key.0, key.1));
            let own: Vec<EndpointSlice> = own.iter().filter_map(client::informer::logged).collect();
            let entry = service.and_then(|service| entry(&service, &own));
            responder.zone.write().unwrap_or_else(|e| e.into_inner()).set_service(&key, entry);
        }
        let changed = std::mem::take(&mut *dirty.namespaces.lock().unwrap_or_else(|e| e.into_inner()));
        for name in changed {
            let present = namespaces.get("", &name).is_some();
            responder.zone.write().unwrap_or_else(|e| e.into_inner()).set_namespace(&name, present);
        }
        if !responder.synced.swap(true, Ordering::AcqRel) {
            tracing::info!("the zone is complete");
        }
        let count = responder.zone.read().unwrap_or_else(|e| e.into_inner()).service_count();
        SERVICES.set(&[], count as f64);
        CACHED.set(&[], responder.forwarder.cached() as f64);
        dirty.notify.notified().await;
        // Changes come in bursts.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Dirty {
    fn put(&self, key: ServiceKey) {
        self.services.lock().unwrap_or_else(|e| e.into_inner()).insert(key);
        self.notify.notify_one();
    }
}
