//! endpointslice-mirroring-controller: Endpoints that somebody writes by hand, for a Service without a selector, are shown
//! as EndpointSlices, which is where consumers look.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::Kind;
use api::core::{EndpointAddress, EndpointSubset, Endpoints, Service};
use api::discovery::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Cached, Change, ObjectKey};

use super::batching::Batching;
use super::slices::{self, Identity, Plan, Ports, Write, Writer, port_key, reuse};
use super::{SERVICE_NAME_LABEL, SLICE_MANAGED_BY_LABEL};
use crate::context::{BY_SERVICE, Context};
use crate::error::Error;
use crate::event::Note;
use crate::fence::Fence;
use crate::worker;

pub(crate) const NAME: &str = "endpointslice-mirroring-controller";
const IDENTITY: &str = "endpointslicemirroring-controller";
const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// A lock of long gone releases of client-go, which is no endpoint.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations of the Endpoints alone.
const OWN_ANNOTATIONS: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let informers = &ctx.informers;
    informers.services.synced().await;
    informers.endpoints.synced().await;
    informers.endpoint_slices.synced().await;
    let q = queue.clone();
    informers.endpoints.subscribe(move |change| q.add(change.object().key()));
    let q = queue.clone();
    informers.services.subscribe(move |change| q.add(change.object().key()));
    let batching = Batching::new(&queue, ctx.settings.mirroring_batch_period);
    informers.endpoint_slices.subscribe(move |change| {
        let enqueue = |slice: &Cached<EndpointSlice>| {
            if let Some(name) = slice.labels.get(SERVICE_NAME_LABEL).filter(|_| is_mirror(slice)) {
                batching.add(ObjectKey::new(&slice.namespace, name));
            }
        };
        enqueue(change.object());
        if let Change::Updated { old, .. } = change {
            enqueue(old);
        }
    });
    let controller = Arc::new(Controller {
        writer: Writer {
            client: ctx.client(IDENTITY),
            events: ctx.events(IDENTITY, "endpoint-slice-mirroring-controller"),
            slices: Fence::new(informers.endpoint_slices.clone()),
        },
        ctx: ctx.clone(),
    });
    let workers = ctx.settings.workers.mirrored_slices;
    client::controller::run(NAME, queue, workers, worker::of(controller, Controller::reconcile)).await;
}

fn is_mirror(slice: &Cached<EndpointSlice>) -> bool {
    slice.labels.get(SLICE_MANAGED_BY_LABEL).is_some_and(|m| m == MANAGED_BY)
}

struct Controller {
    ctx: Arc<Context>,
    writer: Writer,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.writer.slices.caught_up(&key).await?;
        let informers = &self.ctx.informers;
        let existing = informers.endpoint_slices.by_index(BY_SERVICE, &key.to_string());
        let existing = existing.iter().filter(|s| is_mirror(s) && !s.deleting);
        let existing: Vec<EndpointSlice> = existing.filter_map(client::informer::logged).collect();
        let endpoints = informers.endpoints.get_key(&key).map(|c| c.parse()).transpose()?;
        let service = informers.services.get_key(&key).map(|c| c.parse()).transpose()?;
        let Some(endpoints) = endpoints.filter(|e| is_mirrored(e, service.as_ref())) else {
            self.writer.delete(&key, &existing).await?;
            self.writer.slices.forget(&key);
            return Ok(Outcome::Done);
        };
        let (plan, notes) = decide(&endpoints, &existing, self.ctx.settings.mirrored_addresses_max);
        for note in &notes {
            self.writer.events.note(&endpoints, note);
        }
        self.writer.obey(&key, &endpoints, &plan).await?;
        Ok(Outcome::Done)
    }
}

fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta.labels.as_ref().and_then(|l| l.get(SKIP_LABEL)).is_some_and(|v| v == "true");
    let lock = meta.annotations.as_ref().is_some_and(|a| a.contains_key(LEADER_ANNOTATION));
    let by_hand = service.and_then(|s| s.spec.as_ref()).is_some_and(|s| s.selector.is_none());
    by_hand && !skipped && !lock && meta.deletion_timestamp.is_none()
}

/// The address family and the ports that the endpoints of one slice share.
type Group = (&'static str, Ports);

#[derive(Default)]
struct Wanted {
    ports: Vec<EndpointPort>,
    endpoints: BTreeMap<Identity, Endpoint>,
}

/// What of the slices is to be written and deleted: one for each family and set of ports. Of a subset no more addresses than
/// `addresses_max` are mirrored.
fn decide(endpoints: &Endpoints, existing: &[EndpointSlice], addresses_max: usize) -> (Plan, Vec<Note>) {
    let (wanted, notes) = wanted(endpoints.subsets.as_deref().unwrap_or_default(), addresses_max);
    let mut plan = Plan::default();
    let mut by_group: BTreeMap<(String, Ports), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        let key = (slice.address_type.clone(), port_key(slice.ports.as_deref().unwrap_or_default()));
        by_group.entry(key).or_default().push(slice);
    }
    for ((family, key), group) in wanted {
        let slices = by_group.remove(&(family.to_owned(), key)).unwrap_or_default();
        let mut slice = slices::new_slice(endpoints, family, &group.ports, labels(endpoints));
        slice.metadata.annotations = annotations(endpoints);
        slice.endpoints = Some(group.endpoints.into_values().collect());
        match slices.split_first() {
            None => plan.writes.push(Write::Create(Box::new(slice))),
            Some((first, others)) => {
                if !is_same(first, &slice) {
                    slice.metadata.generate_name = None;
                    slice.metadata.name = first.metadata.name.clone();
                    slice.metadata.resource_version = first.metadata.resource_version.clone();
                    plan.writes.push(Write::Update(Box::new(slice)));
                }
                plan.delete.extend(others.iter().copied().cloned());
            }
        }
    }
    plan.delete.extend(by_group.into_values().flatten().cloned());
    reuse(&mut plan);
    (plan, notes)
}

fn wanted(subsets: &[EndpointSubset], addresses_max: usize) -> (BTreeMap<Group, Wanted>, Vec<Note>) {
    let mut wanted: BTreeMap<Group, Wanted> = BTreeMap::new();
    let (mut invalid, mut skipped) = (0, 0);
    for subset in subsets {
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(endpoint_port).collect();
        let key = port_key(&ports);
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        let mut added = 0;
        for (address, ready) in ready.chain(not_ready) {
            if added >= addresses_max {
                skipped += 1;
                continue;
            }
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                invalid += 1;
                continue;
            };
            added += 1;
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let endpoint = endpoint(address, ip, ready);
            let group = wanted.entry((family, key.clone())).or_default();
            group.ports.clone_from(&ports);
            // Of one that is said to be both, the first is believed: ready.
            group.endpoints.entry(Identity::of(&endpoint)).or_insert(endpoint);
        }
    }
    let mut notes = Vec::new();
    if invalid > 0 {
        let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        notes.push(Note::warning("InvalidIPAddress", message));
    }
    if skipped > 0 {
        let message = format!(
            "A max of {addresses_max} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses \
             were skipped",
            skipped + invalid
        );
        notes.push(Note::warning("TooManyAddressesToMirror", message));
    }
    (wanted, notes)
}

fn endpoint_port(port: &api::core::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(super::protocol(port.protocol.as_deref()).to_owned()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn labels(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME_LABEL.into(), endpoints.name().to_owned());
    labels.insert(SLICE_MANAGED_BY_LABEL.into(), MANAGED_BY.into());
    labels
}

fn annotations(endpoints: &Endpoints) -> Option<BTreeMap<String, String>> {
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !OWN_ANNOTATIONS.contains(&key.as_str()));
    (!annotations.is_empty()).then_some(annotations)
}

/// Whether the slice says what is wanted, in whatever order.
fn is_same(slice: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let content = |s: &EndpointSlice| {
        let by_identity: BTreeMap<Identity, Endpoint> =
            s.endpoints.iter().flatten().map(|e| (Identity::of(e), e.clone())).collect();
        let annotations = s.metadata.annotations.clone().unwrap_or_default();
        (by_identity, s.metadata.labels.clone(), annotations, s.metadata.owner_references.clone())
    };
    content(slice) == content(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn endpoints(subsets: Value) -> Endpoints {
        Endpoints::decode_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "e", "labels": {"a": "b"},
                "annotations": {"mine": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "subsets": subsets,
        }))
        .unwrap()
    }

    /// The slices after the plan.
    fn obey(plan: Plan, mut slices: Vec<EndpointSlice>) -> Vec<EndpointSlice> {
        slices.retain(|s| !plan.delete.iter().any(|d| d.name() == s.name()));
        for write in plan.writes {
            match write {
                Write::Create(mut slice) => {
                    slice.metadata.name = Some(format!("web-{}", slices.len()));
                    slices.push(*slice);
                }
                Write::Update(slice) => {
                    let old = slices.iter_mut().find(|s| s.name() == slice.name());
                    *old.expect("it is there") = *slice;
                }
            }
        }
        slices
    }

    fn shown(slices: &[EndpointSlice]) -> Vec<String> {
        let endpoint = |e: &Endpoint| {
            let ready = e.conditions.as_ref().and_then(|c| c.ready);
            format!("{}{}", e.addresses[0], if ready == Some(true) { "" } else { "!" })
        };
        let line = |s: &EndpointSlice| {
            let endpoints: Vec<String> = s.endpoints.iter().flatten().map(endpoint).collect();
            format!("{} {:?} {}", s.address_type, s.ports.as_ref().unwrap()[0].port.unwrap(), endpoints.join(" "))
        };
        slices.iter().map(line).collect()
    }

    #[test]
    fn subsets_become_slices_and_stay_in_step() {
        let mut slices = Vec::new();
        let port = |n: i32| json!([{"port": n, "protocol": "TCP"}]);
        for (subsets, want) in [
            (json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": port(80)}]), &["IPv4 80 10.0.0.1"][..]),
            (
                json!([{"addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": port(80)}]),
                &["IPv4 80 10.0.0.1 10.0.0.2!"],
            ),
            (json!([{"addresses": [{"ip": "10.0.0.3"}], "ports": port(81)}]), &["IPv4 81 10.0.0.3"]),
            (
                json!([{"addresses": [{"ip": "10.0.0.3"}, {"ip": "fd00::1"}, {"ip": "x"}], "ports": port(81)}]),
                &["IPv4 81 10.0.0.3", "IPv6 81 fd00::1"],
            ),
            (json!(null), &[]),
        ] {
            let e = endpoints(subsets);
            let (plan, _) = decide(&e, &slices, 1000);
            slices = obey(plan, slices);
            assert_eq!(shown(&slices), want);
            assert_eq!(decide(&e, &slices, 1000).0, Plan::default(), "nothing is left to be done");
        }
    }

    #[test]
    fn a_slice_carries_what_its_endpoints_carry() {
        let (plan, notes) = decide(&endpoints(json!([{"addresses": [{"ip": "x"}, {"ip": "10.0.0.1"}]}])), &[], 1000);
        assert_eq!(notes[0].reason, "InvalidIPAddress");
        let [Write::Create(slice)] = plan.writes.as_slice() else { panic!("{plan:?}") };
        let labels = slice.metadata.labels.as_ref().unwrap();
        assert_eq!((labels["a"].as_str(), labels[SERVICE_NAME_LABEL].as_str()), ("b", "web"));
        assert_eq!(slice.metadata.annotations.as_ref().unwrap().keys().collect::<Vec<_>>(), ["mine"]);
        assert_eq!(slice.metadata.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
    }

    #[test]
    fn whose_endpoints_are_mirrored() {
        let service = |spec: Value| Service::decode_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
        let plain = endpoints(json!([]));
        assert!(is_mirrored(&plain, Some(&service(json!({})))));
        assert!(!is_mirrored(&plain, Some(&service(json!({"selector": {"a": "b"}})))) && !is_mirrored(&plain, None));
        let mut skipped = plain;
        skipped.metadata.labels.as_mut().unwrap().insert(SKIP_LABEL.into(), "true".into());
        assert!(!is_mirrored(&skipped, Some(&service(json!({})))));
    }
}
