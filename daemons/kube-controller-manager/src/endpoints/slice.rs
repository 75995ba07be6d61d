//! endpointslice-controller: the EndpointSlices of every Service with a selector.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::Kind;
use api::core::{Pod, Service};
use api::discovery::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone};
use api::metav1::{ObjectMeta, OwnerReference};
use client::ObjectKey;
use client::controller::Outcome;
use client::queue::Queue;

use super::batching::Batching;
use super::selectors::Selectors;
use super::slices::{self, Identity, Plan, Ports, Write, Writer, port_key, reuse};
use super::{HEADLESS_LABEL, SERVICE_NAME_LABEL, SLICE_MANAGED_BY_LABEL};
use crate::context::{BY_SERVICE, Context};
use crate::error::Error;
use crate::fence::Fence;
use crate::{pod, worker};

pub(crate) const NAME: &str = "endpointslice-controller";
const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let informers = &ctx.informers;
    informers.services.synced().await;
    informers.pods.synced().await;
    informers.nodes.synced().await;
    informers.endpoint_slices.synced().await;
    let batching = Batching::new(&queue, ctx.settings.slices_batch_period);
    Selectors::feed(&informers.services, &informers.pods, &queue, batching.clone());
    // Someone else's change of a slice is put right.
    informers.endpoint_slices.subscribe(move |change| {
        let slice = change.object();
        if slice.labels.get(SLICE_MANAGED_BY_LABEL).is_some_and(|m| m == MANAGED_BY)
            && let Some(service) = slice.labels.get(SERVICE_NAME_LABEL)
        {
            batching.add(ObjectKey::new(&slice.namespace, service));
        }
    });
    let controller = Arc::new(Controller {
        writer: Writer {
            client: ctx.client(NAME),
            events: ctx.events(NAME, "endpoint-slice-controller"),
            slices: Fence::new(informers.endpoint_slices.clone()),
        },
        ctx: ctx.clone(),
    });
    let workers = ctx.settings.workers.endpoint_slices;
    client::controller::run(NAME, queue, workers, worker::of(controller, Controller::reconcile)).await;
}

struct Controller {
    ctx: Arc<Context>,
    writer: Writer,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.writer.slices.caught_up(&key).await?;
        let informers = &self.ctx.informers;
        // A deleted Service's slices go with it: the garbage collector sees to it.
        let Some(service) = informers.services.get_key(&key) else { return Ok(Outcome::Done) };
        let service = service.parse()?;
        if !super::is_selecting(&service) {
            return Ok(Outcome::Done);
        }
        let pods = super::selected_pods(&self.ctx, &service);
        let existing: Vec<EndpointSlice> = informers
            .endpoint_slices
            .by_index(BY_SERVICE, &key.to_string())
            .iter()
            .filter(|s| s.labels.get(SLICE_MANAGED_BY_LABEL).is_some_and(|m| m == MANAGED_BY) && !s.deleting)
            .filter_map(client::informer::logged)
            .collect();
        let zone = |node: &str| {
            let node = informers.nodes.get("", node)?;
            Some(Zone(node.labels.get("topology.kubernetes.io/zone").filter(|z| !z.is_empty()).cloned()))
        };
        let plan = decide(&service, &pods, &existing, &zone, self.ctx.settings.max_endpoints_per_slice);
        self.writer.obey(&key, &service, &plan).await?;
        match plan.unknown_node {
            Some(node) => Err(Error::Other(format!("node {node} is not known yet"))),
            None => Ok(Outcome::Done),
        }
    }
}

/// Where a node is, if it says so.
struct Zone(Option<String>);

/// What of a Service's slices is to be written and deleted. `zone` answers `None` for a node that is not known.
fn decide(
    service: &Service,
    pods: &[Pod],
    existing: &[EndpointSlice],
    zone: &dyn Fn(&str) -> Option<Zone>,
    endpoints_max: usize,
) -> Plan {
    let mut plan = Plan::default();
    let families = address_types(service);
    let ours = |s: &EndpointSlice| is_owned(s, service) && families.contains(&s.address_type.as_str());
    let (existing, strangers): (Vec<&EndpointSlice>, Vec<&EndpointSlice>) = existing.iter().partition(|s| ours(s));
    plan.delete.extend(strangers.into_iter().cloned());
    for family in families {
        let of_family: Vec<&EndpointSlice> = existing.iter().copied().filter(|s| s.address_type == family).collect();
        decide_family(service, family, pods, &of_family, zone, endpoints_max, &mut plan);
    }
    plan
}

fn decide_family(
    service: &Service,
    family: &'static str,
    pods: &[Pod],
    existing: &[&EndpointSlice],
    zone: &dyn Fn(&str) -> Option<Zone>,
    endpoints_max: usize,
    plan: &mut Plan,
) {
    let mut wanted: BTreeMap<Ports, (Vec<EndpointPort>, BTreeMap<Identity, Endpoint>)> = BTreeMap::new();
    for pod in pods {
        let addresses: Vec<String> =
            super::addresses(pod).into_iter().filter(|ip| family_of(ip) == family).map(|ip| ip.to_string()).collect();
        if super::addresses(pod).is_empty() {
            continue;
        }
        let node = pod::node_name(pod);
        let zone = match zone(node) {
            Some(zone) => zone.0,
            None if super::publishes_not_ready(service) => None,
            None => {
                plan.unknown_node = Some(node.to_owned());
                continue;
            }
        };
        let ports = endpoint_ports(service, pod);
        let (_, endpoints) = wanted.entry(port_key(&ports)).or_insert_with(|| (ports, BTreeMap::new()));
        if !addresses.is_empty() {
            let endpoint = endpoint(service, pod, addresses, zone);
            endpoints.insert(Identity::of(&endpoint), endpoint);
        }
    }
    let mut by_ports: BTreeMap<Ports, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        by_ports.entry(port_key(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice);
    }
    let mut group_plan = Plan::default();
    for (key, (ports, endpoints)) in wanted {
        let slices = by_ports.remove(&key).unwrap_or_default();
        decide_group(service, family, &ports, endpoints, &slices, endpoints_max, &mut group_plan);
    }
    group_plan.delete.extend(by_ports.into_values().flatten().cloned());
    keep_one(service, family, existing.len(), &mut group_plan);
    reuse(&mut group_plan);
    plan.writes.append(&mut group_plan.writes);
    plan.delete.append(&mut group_plan.delete);
}

/// Packs the endpoints that share their ports into slices, moving as few as possible.
fn decide_group(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    mut wanted: BTreeMap<Identity, Endpoint>,
    slices: &[&EndpointSlice],
    endpoints_max: usize,
    plan: &mut Plan,
) {
    let mut unchanged: Vec<EndpointSlice> = Vec::new();
    let mut changed: Vec<EndpointSlice> = Vec::new();
    for slice in slices {
        let mut after = EndpointSlice::clone(slice);
        let kept = slice.endpoints.iter().flatten().filter_map(|e| wanted.remove(&Identity::of(e)));
        let kept: Vec<Endpoint> = kept.collect();
        after.metadata.labels = Some(labels(service));
        if kept.is_empty() && slice.endpoints.as_ref().is_some_and(|e| !e.is_empty()) {
            plan.delete.push(after);
            continue;
        }
        let same = slice.endpoints.clone().unwrap_or_default() == kept;
        after.endpoints = Some(kept);
        if same && after.metadata.labels == slice.metadata.labels { unchanged.push(after) } else { changed.push(after) }
    }
    let room = |s: &EndpointSlice| endpoints_max.saturating_sub(s.endpoints.as_ref().map_or(0, Vec::len));
    let mut left: Vec<Endpoint> = wanted.into_values().collect();
    // Slices that are written anyway take more, the fullest first.
    changed.sort_by_key(room);
    for slice in &mut changed {
        let fit = room(slice).min(left.len());
        slice.endpoints.get_or_insert_default().extend(left.drain(..fit));
    }
    while !left.is_empty() {
        // One that has room for the rest is better than a new one: the one it fills best.
        let target = (0..unchanged.len())
            .filter(|i| room(&unchanged[*i]) >= left.len() && left.len() < endpoints_max)
            .min_by_key(|i| room(&unchanged[*i]));
        if let Some(i) = target {
            let mut slice = unchanged.swap_remove(i);
            slice.endpoints.get_or_insert_default().append(&mut left);
            changed.push(slice);
            break;
        }
        let fit = left.len().min(endpoints_max.max(1));
        let mut slice = new_slice(service, family, ports);
        slice.endpoints = Some(left.drain(..fit).collect());
        plan.writes.push(Write::Create(Box::new(slice)));
    }
    for slice in changed {
        if slice.endpoints.as_ref().is_none_or(Vec::is_empty) && slices.len() > 1 {
            plan.delete.push(slice);
        } else {
            plan.writes.push(Write::Update(Box::new(slice)));
        }
    }
}

/// A Service always has a slice of each of its families, so that consumers can tell "no endpoints" from "not looked at".
fn keep_one(service: &Service, family: &str, existing: usize, plan: &mut Plan) {
    let creates = plan.writes.iter().any(|w| matches!(w, Write::Create(_)));
    if existing > plan.delete.len() || creates {
        return;
    }
    let placeholder = new_slice(service, family, &[]);
    if let [only] = plan.delete.as_slice()
        && only.endpoints.as_ref().is_none_or(Vec::is_empty)
        && only.ports.as_ref().is_none_or(Vec::is_empty)
    {
        let only = plan.delete.remove(0);
        // `labels` were brought up to date in the plan alone.
        if only.metadata.labels != placeholder.metadata.labels {
            plan.writes.push(Write::Update(Box::new(EndpointSlice {
                metadata: ObjectMeta { labels: placeholder.metadata.labels, ..only.metadata.clone() },
                ..only
            })));
        }
        return;
    }
    plan.writes.push(Write::Create(Box::new(placeholder)));
}

fn endpoint(service: &Service, pod: &Pod, addresses: Vec<String>, zone: Option<String>) -> Endpoint {
    let serving = pod::is_ready(pod);
    let terminating = pod::is_deleting(pod);
    let ready = super::publishes_not_ready(service) || (serving && !terminating);
    let node_name = pod.spec.as_ref().and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }),
        hints: hints(service, ready, zone.as_deref(), node_name.as_deref()),
        hostname: super::hostname(service, pod),
        node_name,
        target_ref: Some(super::target_ref(pod)),
        zone,
        deprecated_topology: None,
    }
}

/// `spec.trafficDistribution`: near endpoints are preferred by saying for whom each is near.
fn hints(service: &Service, ready: bool, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let distribution = service.spec.as_ref()?.traffic_distribution.as_deref().filter(|_| ready)?;
    let for_zones = zone.map(|name| vec![ForZone { name: name.to_owned() }]);
    let for_nodes = node.map(|name| vec![ForNode { name: name.to_owned() }]);
    match distribution {
        "PreferClose" | "PreferSameZone" => for_zones.map(|z| EndpointHints { for_zones: Some(z), for_nodes: None }),
        "PreferSameNode" => for_nodes.map(|n| EndpointHints { for_zones, for_nodes: Some(n) }),
        _ => None,
    }
}

fn endpoint_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref()).into_iter().flatten();
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(super::target_port(pod, port)?),
                protocol: Some(super::protocol(port.protocol.as_deref()).to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn family_of(ip: &IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn address_types(service: &Service) -> BTreeSet<&'static str> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|s| s.ip_families.as_ref()).into_iter().flatten();
    let named: BTreeSet<&'static str> = named
        .filter_map(|f| match f.as_str() {
            "IPv4" => Some("IPv4"),
            "IPv6" => Some("IPv6"),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    // A server that does not fill in `ipFamilies`: by the address, or both for a headless one.
    match spec.and_then(|s| s.cluster_ip.as_deref()).and_then(|ip| ip.parse().ok()) {
        Some(ip) => [family_of(&ip)].into(),
        None => ["IPv4", "IPv6"].into(),
    }
}

fn is_owned(slice: &EndpointSlice, service: &Service) -> bool {
    let is = |o: &OwnerReference| o.kind == "Service" && o.api_version == "v1" && o.uid == service.uid();
    slice.metadata.owner_references.iter().flatten().any(is)
}

/// The Service's labels, and those by which slices are found.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if !super::has_cluster_ip(service) {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    labels.insert(SERVICE_NAME_LABEL.into(), service.name().to_owned());
    labels.insert(SLICE_MANAGED_BY_LABEL.into(), MANAGED_BY.into());
    labels
}

fn new_slice(service: &Service, family: &str, ports: &[EndpointPort]) -> EndpointSlice {
    slices::new_slice(service, family, ports, labels(service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::{not_ready, running};
    use api::core::{PodIP, ServicePort, ServiceSpec};

    fn service() -> Service {
        Service {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("default".into()),
                uid: Some("svc".into()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                cluster_ip: Some("10.96.0.7".into()),
                ip_families: Some(vec!["IPv4".into()]),
                selector: Some([("app".to_owned(), "web".to_owned())].into()),
                ports: Some(vec![ServicePort { port: 80, ..ServicePort::default() }]),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    fn with_ip(mut pod: Pod, ip: &str) -> Pod {
        pod.status.as_mut().unwrap().pod_ips = Some(vec![PodIP { ip: ip.into() }]);
        pod
    }

    fn pods(count: usize) -> Vec<Pod> {
        (0..count).map(|i| with_ip(running(&format!("p{i:03}")), &format!("10.244.{}.{}", 100 + i / 50, 100 + i % 50))).collect()
    }

    fn zone(_: &str) -> Option<Zone> {
        Some(Zone(Some("z1".into())))
    }

    /// Runs until nothing is left to do; the slices as a server would hold them, and how many writes it took.
    fn settle(service: &Service, pods: &[Pod], mut slices: Vec<EndpointSlice>) -> (Vec<EndpointSlice>, usize) {
        let mut writes = 0;
        for _ in 0..3 {
            let plan = decide(service, pods, &slices, &zone, 100);
            if plan == Plan::default() {
                return (slices, writes);
            }
            writes += plan.writes.len() + plan.delete.len();
            slices.retain(|s| !plan.delete.iter().any(|d| d.name() == s.name()));
            for write in plan.writes {
                match write {
                    Write::Create(mut slice) => {
                        slice.metadata.name = Some(format!("web-{}", slices.len() + writes * 100));
                        slices.push(*slice);
                    }
                    Write::Update(slice) => {
                        let i = slices.iter().position(|s| s.name() == slice.name()).unwrap();
                        slices[i] = *slice;
                    }
                }
            }
        }
        panic!("it does not settle: {slices:?}");
    }

    fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
        let mut sizes: Vec<usize> = slices.iter().map(|s| s.endpoints.as_ref().unwrap().len()).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn slices_hold_a_hundred_and_change_little() {
        let (slices, writes) = settle(&service(), &pods(250), Vec::new());
        assert_eq!((sizes(&slices), writes), (vec![50, 100, 100], 3));
        let (slices, writes) = settle(&service(), &pods(251), slices);
        assert_eq!((sizes(&slices), writes), (vec![51, 100, 100], 1));
        let (slices, writes) = settle(&service(), &pods(200), slices);
        assert_eq!((sizes(&slices), writes), (vec![100, 100], 1));
        let (slices, _) = settle(&service(), &[], slices);
        assert_eq!((sizes(&slices), slices[0].ports.clone()), (vec![0], Some(vec![])));
    }

    #[test]
    fn conditions_say_ready_serving_terminating() {
        let check = |pod: Pod, publish: bool, want: (bool, bool, bool)| {
            let mut service = service();
            service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(publish);
            let (slices, _) = settle(&service, &[with_ip(pod, "10.0.0.1")], Vec::new());
            let c = slices[0].endpoints.as_ref().unwrap()[0].conditions.clone().unwrap();
            assert_eq!((c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap()), want);
        };
        let deleting = |mut pod: Pod| {
            pod.metadata.deletion_timestamp = Some(crate::clock::time(crate::pod::tests::at(5)));
            pod
        };
        check(running("a"), false, (true, true, false));
        check(not_ready(running("a")), false, (false, false, false));
        check(not_ready(running("a")), true, (true, false, false));
        check(deleting(running("a")), false, (false, true, true));
        check(deleting(running("a")), true, (true, true, true));
    }

    #[test]
    fn a_change_of_readiness_is_one_update_in_place() {
        let mut pods = pods(3);
        let (slices, _) = settle(&service(), &pods, Vec::new());
        pods[1] = not_ready(pods[1].clone());
        let plan = decide(&service(), &pods, &slices, &zone, 100);
        assert!(matches!(plan.writes.as_slice(), [Write::Update(_)]) && plan.delete.is_empty());
    }

    #[test]
    fn finished_and_addressless_pods_are_left_out() {
        let mut finished = with_ip(running("a"), "10.0.0.1");
        finished.status.as_mut().unwrap().phase = Some("Succeeded".into());
        let (slices, _) = settle(&service(), &[finished, running("b")], Vec::new());
        assert_eq!(sizes(&slices), [0]);
        assert_eq!(slices[0].metadata.labels.as_ref().unwrap()[SERVICE_NAME_LABEL], "web");
    }

    #[test]
    fn both_families_have_slices() {
        let mut dual = service();
        dual.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".into(), "IPv6".into()]);
        let mut pod = running("a");
        pod.status.as_mut().unwrap().pod_ips = Some(vec![PodIP { ip: "10.0.0.1".into() }, PodIP { ip: "fd00::1".into() }]);
        let (slices, _) = settle(&dual, &[pod], Vec::new());
        let got: BTreeSet<(String, String)> =
            slices.iter().map(|s| (s.address_type.clone(), s.endpoints.as_ref().unwrap()[0].addresses[0].clone())).collect();
        assert_eq!(got, [("IPv4".into(), "10.0.0.1".into()), ("IPv6".into(), "fd00::1".into())].into());
    }

    #[test]
    fn headless_services_are_labelled() {
        let mut headless = service();
        headless.spec.as_mut().unwrap().cluster_ip = Some("None".into());
        let (slices, _) = settle(&headless, &pods(1), Vec::new());
        assert!(slices[0].metadata.labels.as_ref().unwrap().contains_key(HEADLESS_LABEL));
        let (slices, _) = settle(&service(), &pods(1), slices);
        assert!(!slices[0].metadata.labels.as_ref().unwrap().contains_key(HEADLESS_LABEL));
    }

    #[test]
    fn slices_of_an_older_namesake_go() {
        let mut old = service();
        old.metadata.uid = Some("older".into());
        let (slices, _) = settle(&old, &pods(2), Vec::new());
        let plan = decide(&service(), &pods(2), &slices, &zone, 100);
        assert_eq!((plan.writes.len(), plan.delete.len()), (1, 1));
    }

    #[test]
    fn a_pod_on_an_unknown_node_waits() {
        let plan = decide(&service(), &pods(1), &[], &|_| None, 100);
        assert_eq!(plan.unknown_node.as_deref(), Some("n1"));
    }
}
