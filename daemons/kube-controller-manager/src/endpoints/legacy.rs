//! endpoints-controller: the Endpoints object of every Service with a selector, for clients that know no slices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::Kind;
use api::core::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use api::metav1::ObjectMeta;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, DeleteParams, ObjectKey};

use super::batching::Batching;
use super::selectors::Selectors;
use crate::context::{Context, Events};
use crate::error::{During, Error, GoneIsDone};
use crate::event::Note;
use crate::fence::Fence;
use crate::{pod, worker};

pub(crate) const NAME: &str = "endpoints-controller";
const COMPONENT: &str = "endpoint-controller";
const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const ADDRESSES_MAX: usize = 1000;

pub(crate) async fn run(ctx: Arc<Context>) {
    let queue: Queue<ObjectKey> = Queue::new();
    let informers = &ctx.informers;
    informers.services.synced().await;
    informers.pods.synced().await;
    informers.endpoints.synced().await;
    let batching = Batching::new(&queue, ctx.settings.endpoints_batch_period);
    Selectors::feed(&informers.services, &informers.pods, &queue, batching);
    let q = queue.clone();
    informers.endpoints.subscribe(move |change| {
        if change.object().labels.get(MANAGED_BY_LABEL).is_some_and(|m| m == COMPONENT) {
            q.add(change.object().key());
        }
    });
    let controller = Arc::new(Controller {
        client: ctx.client(COMPONENT),
        events: ctx.events(COMPONENT, COMPONENT),
        written: Fence::new(informers.endpoints.clone()),
        ctx: ctx.clone(),
    });
    let workers = ctx.settings.workers.endpoints;
    client::controller::run(NAME, queue, workers, worker::of(controller, Controller::reconcile)).await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    written: Fence<Endpoints>,
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        let informers = &self.ctx.informers;
        let current = informers.endpoints.get_key(&key);
        let Some(service) = informers.services.get_key(&key) else {
            // Endpoints have no owner reference: they go with their Service here, when they are this controller's.
            if let Some(current) = current.filter(|c| c.labels.get(MANAGED_BY_LABEL).is_some_and(|m| m == COMPONENT)) {
                let params = DeleteParams::uid(&current.uid);
                let deleted = self.client.delete::<Endpoints>(&key.namespace, &key.name, &params).await;
                deleted.gone_is_done().during(|| format!("deleting Endpoints {key}"))?;
            }
            self.written.forget(&key);
            return Ok(Outcome::Done);
        };
        let service = service.parse()?;
        if !super::is_selecting(&service) {
            return Ok(Outcome::Done);
        }
        let current = current.map(|c| c.parse()).transpose()?;
        let pods = super::selected_pods(&self.ctx, &service);
        let Some(wanted) = decide(&service, &pods, current.as_ref()) else { return Ok(Outcome::Done) };
        let (result, note) = match &current {
            None => (
                self.client.create(&wanted).await,
                Note::warning("FailedToCreateEndpoint", format!("Failed to create endpoint for service {key}")),
            ),
            Some(_) => (
                self.client.update(&wanted).await,
                Note::warning("FailedToUpdateEndpoint", format!("Failed to update endpoint {key}")),
            ),
        };
        match result {
            Ok(written) => {
                self.written.wrote(&key, &written);
                Ok(Outcome::Done)
            }
            Err(error) if error.is_namespace_terminating() => Ok(Outcome::Done),
            Err(error) => {
                if !error.is_conflict() {
                    let message = format!("{}: {error}", note.message);
                    self.events.note(&wanted, &Note { message, ..note });
                }
                Err(error).during(|| format!("Endpoints {key}"))
            }
        }
    }
}

/// The object to write, or `None` when it is right as it is.
fn decide(service: &Service, pods: &[Pod], current: Option<&Endpoints>) -> Option<Endpoints> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if super::has_cluster_ip(service) {
        labels.remove(super::HEADLESS_LABEL);
    } else {
        labels.insert(super::HEADLESS_LABEL.into(), String::new());
    }
    labels.insert(MANAGED_BY_LABEL.into(), COMPONENT.into());
    let mut subsets = subsets(service, pods);
    let truncated = truncate(&mut subsets);
    let mut wanted = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    wanted.metadata.labels = Some(labels);
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    wanted.metadata.annotations.take_if(|a| a.is_empty());
    (current != Some(&wanted)).then_some(wanted)
}

/// Name, protocol, port, application protocol: in the order ports are listed in.
type Port = (String, String, i32, Option<String>);

/// Addresses with the same ports share a subset; all in canonical order.
fn subsets(service: &Service, pods: &[Pod]) -> Vec<EndpointSubset> {
    type Addresses = BTreeMap<(IpAddr, String), EndpointAddress>;
    let mut by_ports: BTreeMap<Vec<Port>, (Addresses, Addresses)> = BTreeMap::new();
    let publish = super::publishes_not_ready(service);
    for pod in pods.iter().filter(|p| publish || !pod::is_deleting(p)) {
        let Some((ip, ports)) = address(service, pod).zip(ports(service, pod)) else { continue };
        let address = EndpointAddress {
            ip: ip.to_string(),
            hostname: super::hostname(service, pod),
            node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty()),
            target_ref: Some(super::target_ref(pod)),
        };
        let (ready, not_ready) = by_ports.entry(ports).or_default();
        let side = if publish || pod::is_ready(pod) { ready } else { not_ready };
        side.insert((ip, pod.uid().to_owned()), address);
    }
    let list = |addresses: Addresses| (!addresses.is_empty()).then(|| addresses.into_values().collect());
    by_ports
        .into_iter()
        .map(|(ports, (ready, not_ready))| EndpointSubset {
            addresses: list(ready),
            not_ready_addresses: list(not_ready),
            ports: (!ports.is_empty()).then(|| ports.into_iter().map(endpoint_port).collect()),
        })
        .collect()
}

/// The pod's address of the Service's (first) family.
fn address(service: &Service, pod: &Pod) -> Option<IpAddr> {
    let spec = service.spec.as_ref()?;
    let cluster_ip: Option<IpAddr> = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok());
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let ipv6 = match cluster_ip {
        Some(ip) => Some(ip.is_ipv6()),
        None => families.first().map(|f| f == "IPv6"),
    };
    super::addresses(pod).into_iter().find(|ip| ipv6.is_none_or(|wanted| ip.is_ipv6() == wanted))
}

/// The ports of the pod, `None` when it has none of those asked for.
fn ports(service: &Service, pod: &Pod) -> Option<Vec<Port>> {
    let asked = service.spec.as_ref()?.ports.as_deref().unwrap_or_default();
    if asked.is_empty() {
        return super::is_headless(service).then(Vec::new);
    }
    let found = asked.iter().filter_map(|port| {
        let name = port.name.clone().unwrap_or_default();
        let protocol = super::protocol(port.protocol.as_deref()).to_owned();
        Some((name, protocol, super::target_port(pod, port)?, port.app_protocol.clone()))
    });
    let mut found: Vec<Port> = found.collect();
    found.sort();
    (!found.is_empty()).then_some(found)
}

fn endpoint_port((name, protocol, port, app_protocol): Port) -> EndpointPort {
    EndpointPort { name: Some(name).filter(|n| !n.is_empty()), port, protocol: Some(protocol), app_protocol }
}

/// Cuts down to a thousand addresses, ready ones first. Whether it had to.
fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let total: usize = subsets.iter().map(|s| count(&s.addresses) + count(&s.not_ready_addresses)).sum();
    if total <= ADDRESSES_MAX {
        return false;
    }
    let mut room = ADDRESSES_MAX;
    let mut take = |list: &mut Option<Vec<EndpointAddress>>| {
        if let Some(addresses) = list {
            addresses.truncate(room);
            room -= addresses.len();
        }
        list.take_if(|a| a.is_empty());
    };
    subsets.iter_mut().for_each(|s| take(&mut s.addresses));
    subsets.iter_mut().for_each(|s| take(&mut s.not_ready_addresses));
    subsets.retain(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::{not_ready, running};
    use api::IntOrString;
    use api::core::{PodStatus, ServicePort, ServiceSpec};

    fn service(target: &str) -> Service {
        Service {
            metadata: ObjectMeta { name: Some("web".into()), namespace: Some("default".into()), ..ObjectMeta::default() },
            spec: Some(ServiceSpec {
                cluster_ip: Some("10.96.0.7".into()),
                ports: Some(vec![ServicePort {
                    port: 80,
                    target_port: Some(IntOrString::String(target.into())),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    fn pod(name: &str, ip: &str, port: i32) -> Pod {
        let mut pod = running(name);
        pod.status = Some(PodStatus { pod_ip: Some(ip.into()), ..pod.status.unwrap() });
        pod.spec.as_mut().unwrap().containers = vec![api::core::Container {
            ports: Some(vec![api::core::ContainerPort {
                name: Some("http".into()),
                container_port: port,
                ..api::core::ContainerPort::default()
            }]),
            ..api::core::Container::default()
        }];
        pod
    }

    #[test]
    fn addresses_are_grouped_by_ports_and_readiness() {
        let pods = [
            pod("b", "10.0.0.2", 8080),
            pod("a", "10.0.0.1", 8080),
            not_ready(pod("c", "10.0.0.3", 8080)),
            pod("d", "10.0.0.4", 9090),
        ];
        let wanted = decide(&service("http"), &pods, None).unwrap();
        let text =
            |list: &Option<Vec<EndpointAddress>>| list.iter().flatten().map(|a| a.ip.clone()).collect::<Vec<_>>().join(" ");
        let got: Vec<String> = wanted
            .subsets
            .iter()
            .flatten()
            .map(|s| format!("{}|{}|{}", text(&s.addresses), text(&s.not_ready_addresses), s.ports.as_ref().unwrap()[0].port))
            .collect();
        assert_eq!(got, ["10.0.0.1 10.0.0.2|10.0.0.3|8080", "10.0.0.4||9090"]);
        assert_eq!(decide(&service("http"), &pods, Some(&wanted)), None);
        assert_eq!(decide(&service("nope"), &pods, None).unwrap().subsets, None);
    }

    #[test]
    fn a_thousand_addresses_at_most() {
        let pods: Vec<Pod> = (0..1200)
            .map(|i| {
                let p = pod(&format!("p{i}"), &format!("10.0.{}.{}", i / 250, i % 250), 80);
                if i < 300 { not_ready(p) } else { p }
            })
            .collect();
        let wanted = decide(&service("http"), &pods, None).unwrap();
        let subset = &wanted.subsets.as_ref().unwrap()[0];
        assert_eq!((subset.addresses.as_ref().unwrap().len(), subset.not_ready_addresses.as_ref().unwrap().len()), (900, 100));
        assert_eq!(wanted.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
    }
}
