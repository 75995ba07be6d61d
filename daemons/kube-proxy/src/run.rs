//! The shell: informers in, transactions out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use api::Meta;
use api::core::{Node, Service};
use api::discovery::EndpointSlice;
use client::kubeconfig::Kubeconfig;
use client::{Change, Client, Informer, InformerConfig};
use daemon::endpoints::{self, MetricsAccess};
use daemon::health::Checks;
use daemon::metrics::{Counter, Gauge, Histogram, LATENCY_SECONDS};
use daemon::{Shutdown, chain};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::args::Args;
use crate::config::{Configuration, DetectLocalMode, NodePortAddresses};
use crate::conntrack::{self, UdpServices};
use crate::drift::Drift;
use crate::health::{Health, ServiceChecks};
use crate::model::{Cidr, Endpoints, Family, ServiceInfo, ServiceName, SliceInfo};
use crate::nft::delete_table;
use crate::rules::{LocalTraffic, Surroundings, fixed, fragment};
use crate::writer::{Nft, PacketFilter, Table};

/// The pause after a transaction was refused; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Services are served by another proxy with this label; endpoints of headless Services need no rules.
const OURS: &str = "!service.kubernetes.io/service-proxy-name";
const OURS_WITH_ADDRESS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

static SYNC_SECONDS: Histogram = Histogram::new(
    "kubeproxy_sync_proxy_rules_duration_seconds",
    "SyncProxyRules latency in seconds.",
    &["ip_family"],
    LATENCY_SECONDS,
);
static SYNC_FAILURES: Counter = Counter::new(
    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
    "Cumulative proxy nftables sync failures.",
    &["ip_family"],
);
static LAST_SYNC: Gauge = Gauge::new(
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
    "The last time proxy rules were successfully synced.",
    &["ip_family"],
);
static SERVICES: Gauge = Gauge::new("kubeproxy_services", "Services with rules on this node.", &["ip_family"]);

/// Runs the daemon until it is told to end. The rules stay: connections must survive an update of the proxy.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    if args.cleanup {
        for family in families() {
            Nft.load(&delete_table(family)).await.with_context(|| format!("removing the {family:?} table"))?;
        }
        return Ok(());
    }
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host's name")?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let config = args.file()?.check(&hostname, cores)?;
    if !config.feature_gates.unknown().is_empty() {
        tracing::info!(gates = config.feature_gates.unknown().join(","), "these feature gates do nothing here");
    }
    if let Some(score) = config.oom_score_adj {
        daemon::process::set_oom_score_adj(score);
    }
    set_sysctls(&config.conntrack);
    if args.init_only {
        return Ok(());
    }
    let client = client(&args, &config)?;
    let health = Health::new();
    if let Some(address) = config.healthz {
        let (health, shutdown) = (health.clone(), shutdown.clone());
        listen(address, config.hard_fail, move |listener| health.serve(listener, shutdown)).await?;
    }
    if let Some(address) = config.metrics {
        let shutdown = shutdown.clone();
        let serve = move |listener| endpoints::run(listener, None, Checks::new(), MetricsAccess::Anyone, shutdown);
        listen(address, config.hard_fail, serve).await?;
    }
    tokio::select! {
        () = proxy(client, config, health) => {}
        () = shutdown.requested() => {}
    }
    Ok(())
}

/// The client of the kubeconfig, of the flag or of the file, or else of the pod's service account.
fn client(args: &Args, config: &Configuration) -> anyhow::Result<Client> {
    let path = args.kubeconfig().or(config.kubeconfig.as_deref());
    let master = args.master.as_ref().filter(|url| !url.is_empty());
    let Some(path) = path else {
        anyhow::ensure!(master.is_none(), "--master needs a --kubeconfig: it has the credentials");
        return Client::in_cluster().context("no kubeconfig, and not in a pod");
    };
    let mut kubeconfig = Kubeconfig::read(path)?;
    if let Some(url) = master {
        kubeconfig.clusters.iter_mut().for_each(|named| named.cluster.server.clone_from(url));
    }
    let config = client::Config::from_loaded(&kubeconfig, None).with_context(|| format!("reading {}", path.display()))?;
    Ok(Client::new(config))
}

/// How long after a port could not be listened on it is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Serves on an address in the background.
///
/// # Errors
/// It can't be listened on, and that is to end the proxy; else it is tried until it can.
async fn listen<F>(
    address: SocketAddr,
    hard_fail: bool,
    serve: impl FnOnce(TcpListener) -> F + Send + 'static,
) -> anyhow::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut bound = TcpListener::bind(address).await;
    if hard_fail && let Err(error) = bound {
        return Err(error).with_context(|| format!("listening on {address}"));
    }
    tokio::spawn(async move {
        let listener = loop {
            match bound {
                Ok(listener) => break listener,
                Err(error) => tracing::error!(%address, %error, "this port is not served yet"),
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
            bound = TcpListener::bind(address).await;
        };
        serve(listener).await;
    });
    Ok(())
}

/// Conntrack's size and timeouts. A host that does not let us (a container) keeps its own.
fn set_sysctls(settings: &[(&'static str, u64)]) {
    for (name, value) in settings {
        let path = format!("/proc/sys/net/netfilter/{name}");
        let current = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        // The table's size is only ever raised.
        if current.is_some_and(|now| now == *value || (*name == "nf_conntrack_max" && now > *value)) {
            continue;
        }
        if let Err(error) = std::fs::write(&path, value.to_string()) {
            tracing::info!(name, value, %error, "a kernel setting stays as it is");
        }
    }
}

/// Services that changed since the proxy last looked.
#[derive(Clone, Debug, Default)]
struct Dirty {
    services: Arc<Mutex<BTreeSet<ServiceName>>>,
    notify: Arc<Notify>,
}

impl Dirty {
    fn put(&self, name: ServiceName) {
        self.services.lock().unwrap_or_else(|e| e.into_inner()).insert(name);
        self.notify.notify_one();
    }

    fn take(&self) -> BTreeSet<ServiceName> {
        std::mem::take(&mut *self.services.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// The Service an EndpointSlice belongs to.
fn owner(meta: &Meta) -> Option<ServiceName> {
    let name = meta.labels.get("kubernetes.io/service-name")?.clone();
    Some(ServiceName { namespace: meta.namespace.clone(), name })
}

struct Informers {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    node: Informer<Node>,
}

impl Informers {
    fn start(client: &Client, node: &str, dirty: &Dirty) -> Self {
        let labels = |selector: &str| Some(selector.to_owned());
        let services: Informer<Service> =
            Informer::start(client, InformerConfig { label_selector: labels(OURS), ..Default::default() });
        let slices: Informer<EndpointSlice> = Informer::start(
            client,
            InformerConfig {
                label_selector: labels(OURS_WITH_ADDRESS),
                indexes: vec![("service", |meta, _| owner(meta).map(|name| name.to_string()).into_iter().collect())],
                ..Default::default()
            },
        );
        let node = Informer::start(
            client,
            InformerConfig { field_selector: Some(format!("metadata.name={node}")), ..Default::default() },
        );
        let mark = dirty.clone();
        services.subscribe(move |change: &Change<Service>| {
            let key = change.object().key();
            mark.put(ServiceName { namespace: key.namespace, name: key.name });
        });
        let mark = dirty.clone();
        slices.subscribe(move |change: &Change<EndpointSlice>| {
            owner(change.object()).into_iter().for_each(|name| mark.put(name));
            if let Change::Updated { old, .. } = change {
                owner(old).into_iter().for_each(|name| mark.put(name));
            }
        });
        let notify = Arc::clone(&dirty.notify);
        node.subscribe(move |_: &Change<Node>| notify.notify_one());
        Self { services, slices, node }
    }

    fn endpoints(&self, name: &ServiceName, family: Family, node: &str) -> Endpoints {
        let mut all = Endpoints::new();
        for cached in self.slices.by_index("service", &name.to_string()) {
            let slice = client::informer::logged(&cached).and_then(|slice| SliceInfo::of(&slice, node));
            for (port, endpoints) in slice.filter(|s| s.family == family).into_iter().flat_map(|s| s.endpoints) {
                all.entry(port).or_default().extend(endpoints);
            }
        }
        all
    }
}

/// What the Node object says that rules depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct NodeFacts {
    zone: String,
    pod_cidrs: Vec<Cidr>,
    addresses: Vec<IpAddr>,
    eligible: bool,
}

/// The cluster autoscaler marks nodes that are about to go: load balancers should stop sending.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

impl NodeFacts {
    fn of(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let labels = node.metadata.labels.as_ref();
        let addresses = node.status.as_ref().and_then(|s| s.addresses.as_ref());
        Self {
            zone: labels.and_then(|l| l.get("topology.kubernetes.io/zone")).cloned().unwrap_or_default(),
            pod_cidrs: spec.pod_cidrs.iter().flatten().filter_map(|c| c.parse().ok()).collect(),
            addresses: addresses
                .into_iter()
                .flatten()
                .filter(|a| a.type_ == "InternalIP")
                .filter_map(|a| a.address.parse().ok())
                .collect(),
            eligible: node.metadata.deletion_timestamp.is_none() && !spec.taints.iter().flatten().any(|t| t.key == TO_BE_DELETED),
        }
    }
}

fn surroundings(config: &Configuration, node: &NodeFacts) -> Surroundings {
    let host = |ip: &IpAddr| Cidr { address: *ip, bits: if ip.is_ipv4() { 32 } else { 128 } };
    Surroundings {
        node: config.node_name.clone(),
        zone: node.zone.clone(),
        local_traffic: match &config.local_traffic {
            DetectLocalMode::Fixed(local) => local.clone(),
            DetectLocalMode::NodeCidr if node.pod_cidrs.is_empty() => LocalTraffic::Unknown,
            DetectLocalMode::NodeCidr => LocalTraffic::From(node.pod_cidrs.clone()),
        },
        masquerade_all: config.masquerade_all,
        mark: config.mark,
        node_port_addresses: match &config.node_port_addresses {
            NodePortAddresses::All => Vec::new(),
            NodePortAddresses::Primary => primary_addresses(config.bind_address, &node.addresses).iter().map(host).collect(),
            NodePortAddresses::Within(cidrs) => cidrs.clone(),
        },
    }
}

/// The node's addresses, of which the configuration's takes the place of those of its family.
fn primary_addresses(own: Option<IpAddr>, told: &[IpAddr]) -> Vec<IpAddr> {
    let of_other_family = told.iter().copied().filter(|ip| own.is_none_or(|own| own.is_ipv4() != ip.is_ipv4()));
    own.into_iter().chain(of_other_family).collect()
}

/// IPv4, and IPv6 where the kernel has it.
fn families() -> impl Iterator<Item = Family> {
    let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    Family::ALL.into_iter().filter(move |family| *family == Family::V4 || has_v6)
}

/// A family's rules in the making.
struct Side {
    table: Table<Nft>,
    /// UDP Services whose endpoints changed since the last write.
    udp: UdpServices,
    seen_udp: BTreeMap<ServiceName, UdpServices>,
}

/// Keeps the node's rules in step with the API, forever. While the API server is away the last known state stays.
async fn proxy(client: Client, config: Configuration, health: Health) {
    let dirty = Dirty::default();
    let informers = Informers::start(&client, &config.node_name, &dirty);
    // Rules of an earlier run go on working until everything is known.
    informers.services.synced().await;
    informers.slices.synced().await;
    informers.node.synced().await;
    let drift = Drift::watch();
    let mut checks = ServiceChecks::new(health.clone());
    let mut facts = None;
    let mut sides: Vec<Side> = Vec::new();
    let mut around = surroundings(&config, &NodeFacts::default());
    let mut retry = RETRY_FIRST;
    loop {
        let mut changed = dirty.take();
        let node = informers.node.get("", &config.node_name).and_then(|cached| client::informer::logged(&cached));
        let now = node.map(|node| NodeFacts::of(&node)).unwrap_or_default();
        health.set_eligible(now.eligible);
        if facts.as_ref() != Some(&now) {
            let fresh = surroundings(&config, &now);
            if sides.is_empty() || fresh != around {
                around = fresh;
                let side = |family| Side {
                    table: Table::new(fixed(family, &around), Nft),
                    udp: UdpServices::default(),
                    seen_udp: BTreeMap::new(),
                };
                sides = families().map(side).collect();
                changed = informers
                    .services
                    .list()
                    .iter()
                    .map(|c| ServiceName { namespace: c.namespace.clone(), name: c.name.clone() })
                    .collect();
            }
            facts = Some(now);
        }
        if !changed.is_empty() {
            health.changes_wait();
        }
        for name in &changed {
            update(&informers, name, &around, &mut sides, &mut checks);
        }
        let mut failed = false;
        for side in &mut sides {
            failed |= !write(side).await;
        }
        if !failed {
            health.written();
            retry = RETRY_FIRST;
        }

        let clearing = sides.iter().filter_map(|s| s.table.next_clearing()).min();
        let again = failed.then(|| Instant::now() + retry);
        if failed {
            retry = (retry * 2).min(RETRY_MAX);
        }
        let deadline = [clearing, again].into_iter().flatten().min();
        tokio::select! {
            () = dirty.notify.notified() => {}
            () = drift.suspected() => {
                for side in &mut sides {
                    side.table.check().await;
                }
            }
            () = async { match deadline { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {}
        }
        // Changes come in bursts: one transaction for all of it.
        tokio::time::sleep(config.pause).await;
    }
}

/// Reads a Service and its endpoints anew and replaces what they stand for.
fn update(informers: &Informers, name: &ServiceName, around: &Surroundings, sides: &mut [Side], checks: &mut ServiceChecks) {
    let service = informers.services.get(&name.namespace, &name.name).and_then(|cached| client::informer::logged(&cached));
    let mut check_port = None;
    let mut local_ready = BTreeSet::new();
    for side in sides {
        let family = side.table.rules.family;
        let info = service.as_ref().map(|s| ServiceInfo::of(s, family)).unwrap_or_default();
        let endpoints = if info.ports.is_empty() { Endpoints::new() } else { informers.endpoints(name, family, &around.node) };
        side.table.rules.set_service(name, fragment(name, &info, &endpoints, family, around));
        let mut udp = UdpServices::default();
        udp.add(&info, &endpoints);
        if udp.is_empty() {
            side.seen_udp.remove(name);
        } else if side.seen_udp.get(name) != Some(&udp) {
            side.udp.add(&info, &endpoints);
            side.seen_udp.insert(name.clone(), udp);
        }
        check_port = check_port.or(info.health_check_port);
        local_ready.extend(endpoints.values().flat_map(BTreeMap::values).filter(|e| e.local && e.ready).map(|e| e.ip));
    }
    checks.set(name, check_port, local_ready.len());
}

/// Writes what changed; false when it has to be tried again.
async fn write(side: &mut Side) -> bool {
    let family = side.table.rules.family;
    let label = if family == Family::V4 { "IPv4" } else { "IPv6" };
    let begun = Instant::now();
    if let Err(error) = side.table.sync().await {
        SYNC_FAILURES.inc(&[label]);
        tracing::error!("writing the {label} rules: {}", chain(&error));
        return false;
    }
    SYNC_SECONDS.observe(&[label], begun.elapsed().as_secs_f64());
    LAST_SYNC.set(&[label], jiff::Timestamp::now().as_second() as f64);
    SERVICES.set(&[label], side.table.rules.service_count() as f64);
    let udp = std::mem::take(&mut side.udp);
    if !udp.is_empty() {
        match conntrack::clean(family, &udp).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "stale UDP flows were forgotten"),
            Err(error) => tracing::info!(%error, "stale UDP flows were not looked for"),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_address_is_the_nodes_own() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let told = ips(&["10.0.0.1", "fd00::1"]);
        assert_eq!(primary_addresses(None, &told), told);
        assert_eq!(primary_addresses(Some("10.0.0.9".parse().unwrap()), &told), ips(&["10.0.0.9", "fd00::1"]));
        assert_eq!(primary_addresses(Some("fd00::9".parse().unwrap()), &told), ips(&["fd00::9", "10.0.0.1"]));
    }

    #[tokio::test]
    async fn a_port_that_is_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        assert!(listen(address, true, |_| async {}).await.unwrap_err().to_string().contains("listening on"));
        let (tell, told) = tokio::sync::oneshot::channel();
        listen(address, false, |_| async move { tell.send(()).unwrap() }).await.unwrap();
        drop(taken);
        tokio::time::timeout(2 * LISTEN_AGAIN, told).await.unwrap().unwrap();
    }

    #[test]
    fn what_a_node_says() {
        let node = serde_json::json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}},
            "spec": {"podCIDRs": ["10.244.1.0/24"], "taints": [{"key": TO_BE_DELETED, "effect": "NoSchedule"}]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}, {"type": "Hostname", "address": "n"}]}});
        let facts = NodeFacts::of(&serde_json::from_value(node).unwrap());
        assert_eq!((facts.zone.as_str(), facts.addresses.len(), facts.eligible), ("z", 1, false));
        assert_eq!(facts.pod_cidrs[0].to_string(), "10.244.1.0/24");
    }
}
