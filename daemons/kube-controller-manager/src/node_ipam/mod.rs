//! node-ipam-controller: gives each node its part of the pods' addresses.

mod cidr;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::core::Node;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, Patch, PatchParams};
use serde_json::json;

pub(crate) use self::cidr::Cidr;
use self::cidr::CidrSet;
use crate::context::{Context, Events};
use crate::error::{During, Error};
use crate::event::Note;
use crate::node;
use crate::settings::Settings;

pub(crate) const NAME: &str = "node-ipam-controller";
const COMPONENT: &str = "cidrAllocator";

pub(crate) async fn run(ctx: Arc<Context>) {
    if !ctx.settings.allocate_node_cidrs {
        tracing::info!(controller = NAME, "not started: --allocate-node-cidrs is not set");
        return;
    }
    let mut allocator = match Allocator::new(&ctx.settings) {
        Ok(allocator) => allocator,
        Err(error) => {
            tracing::error!(controller = NAME, "not started: {error}");
            return;
        }
    };
    let nodes = &ctx.informers.nodes;
    nodes.synced().await;
    // What is in use is known before anything is given out.
    nodes.parsed().iter().for_each(|n| allocator.occupy(n));
    let queue: Queue<String> = Queue::new();
    let q = queue.clone();
    nodes.subscribe(move |change| q.add(change.object().name.clone()));
    let controller = Arc::new(Controller {
        client: ctx.client(node::IDENTITY),
        events: ctx.events(node::IDENTITY, COMPONENT),
        allocator: Mutex::new(allocator),
        ctx,
    });
    // One worker: two would each give out parts for the same node only to take one back.
    client::controller::run(NAME, queue, 1, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    })
    .await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    allocator: Mutex<Allocator>,
}

impl Controller {
    fn allocator(&self) -> MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(|e| e.into_inner())
    }

    async fn reconcile(&self, name: &str) -> Result<Outcome, Error> {
        let Some(cached) = self.ctx.informers.nodes.get("", name) else {
            self.allocator().release(name);
            return Ok(Outcome::Done);
        };
        let node = cached.parse()?;
        if !pod_cidrs(&node).is_empty() {
            self.allocator().occupy(&node);
            return Ok(Outcome::Done);
        }
        if node.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let Some(cidrs) = self.allocator().assign(name) else {
            let note = Note::normal("CIDRNotAvailable", format!("Node {name} status is now: CIDRNotAvailable"));
            self.events.note(&node, &note);
            return Err(Error::Other(format!("no pod CIDR is left for node {name}")));
        };
        let cidrs: Vec<String> = cidrs.iter().map(Cidr::to_string).collect();
        let patch = Patch::Merge(json!({"spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}}));
        let patched = self.client.patch::<Node>("", name, &patch, &PatchParams::default()).await;
        match patched {
            Err(error) if error.is_not_found() => self.allocator().release(name),
            Err(error) => return Err(error).during(|| format!("assigning {} to node {name}", cidrs.join(", "))),
            Ok(_) => tracing::info!(controller = NAME, node = name, ?cidrs, "assigned"),
        }
        Ok(Outcome::Done)
    }
}

fn pod_cidrs(node: &Node) -> Vec<Cidr> {
    let spec = node.spec.as_ref();
    let listed = spec.and_then(|s| s.pod_cidrs.as_ref()).into_iter().flatten();
    let mut cidrs: Vec<Cidr> = listed.filter_map(|c| c.parse().ok()).collect();
    if cidrs.is_empty() {
        cidrs.extend(spec.and_then(|s| s.pod_cidr.as_ref()).and_then(|c| c.parse::<Cidr>().ok()));
    }
    cidrs
}

/// Which parts are whose. A part that was chosen for a node stays chosen until it is written, however often that fails.
struct Allocator {
    sets: Vec<CidrSet>,
    by_node: HashMap<String, Vec<Cidr>>,
}

impl Allocator {
    fn new(settings: &Settings) -> Result<Self, Error> {
        let other = |e: &dyn std::fmt::Display| Error::Other(e.to_string());
        let mut sets = Vec::new();
        for text in &settings.cluster_cidrs {
            let block: Cidr = text.parse().map_err(|e| other(&e))?;
            let prefix = if block.is_ipv6() { settings.node_cidr_mask_size_ipv6 } else { settings.node_cidr_mask_size_ipv4 };
            sets.push(CidrSet::new(block, prefix).map_err(|e| other(&e))?);
        }
        if sets.is_empty() {
            return Err(Error::Other("--cluster-cidr is not given".into()));
        }
        for text in &settings.service_cluster_ip_ranges {
            let services: Cidr = text.parse().map_err(|e| other(&e))?;
            sets.iter_mut().for_each(|s| s.occupy(&services));
        }
        Ok(Self { sets, by_node: HashMap::new() })
    }

    fn occupy(&mut self, node: &Node) {
        let cidrs = pod_cidrs(node);
        let Some(name) = node.metadata.name.clone().filter(|_| !cidrs.is_empty()) else { return };
        if self.by_node.get(&name) == Some(&cidrs) {
            return;
        }
        // Somebody else chose for it: ours is free again.
        self.release(&name);
        for cidr in &cidrs {
            self.sets.iter_mut().for_each(|s| s.occupy(cidr));
        }
        self.by_node.insert(name, cidrs);
    }

    /// One part of each block, the same again for the same node. `None` when a block has none left.
    fn assign(&mut self, node: &str) -> Option<Vec<Cidr>> {
        if let Some(chosen) = self.by_node.get(node) {
            return Some(chosen.clone());
        }
        let parts: Vec<Option<Cidr>> = self.sets.iter_mut().map(CidrSet::allocate).collect();
        if parts.iter().any(Option::is_none) {
            let taken = parts.iter().flatten();
            taken.for_each(|part| self.sets.iter_mut().filter(|s| s.is_ipv6() == part.is_ipv6()).for_each(|s| s.release(part)));
            return None;
        }
        let parts: Vec<Cidr> = parts.into_iter().flatten().collect();
        self.by_node.insert(node.to_owned(), parts.clone());
        Some(parts)
    }

    fn release(&mut self, node: &str) {
        for cidr in self.by_node.remove(node).into_iter().flatten() {
            self.sets.iter_mut().for_each(|s| s.release(&cidr));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::NodeSpec;
    use api::metav1::ObjectMeta;

    fn allocator(cluster: &[&str], services: &str) -> Allocator {
        Allocator::new(&Settings {
            cluster_cidrs: cluster.iter().map(|c| (*c).to_owned()).collect(),
            service_cluster_ip_ranges: vec![services.to_owned()],
            ..Settings::default()
        })
        .unwrap()
    }

    fn text(cidrs: Option<Vec<Cidr>>) -> String {
        cidrs.map_or("none".into(), |c| c.iter().map(Cidr::to_string).collect::<Vec<_>>().join(","))
    }

    fn node(name: &str, cidr: &str) -> Node {
        Node {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            spec: Some(NodeSpec { pod_cidr: Some(cidr.into()), pod_cidrs: Some(vec![cidr.into()]), ..NodeSpec::default() }),
            status: None,
        }
    }

    #[test]
    fn nodes_get_parts_of_their_own() {
        let mut a = allocator(&["10.244.0.0/23"], "10.96.0.0/12");
        assert_eq!(text(a.assign("a")), "10.244.0.0/24");
        assert_eq!(text(a.assign("a")), "10.244.0.0/24", "the same when it is tried again");
        assert_eq!(text(a.assign("b")), "10.244.1.0/24");
        assert_eq!(text(a.assign("c")), "none");
        a.release("a");
        assert_eq!(text(a.assign("c")), "10.244.0.0/24");
    }

    #[test]
    fn what_nodes_have_is_kept() {
        let mut a = allocator(&["10.244.0.0/16"], "10.96.0.0/12");
        a.occupy(&node("old", "10.244.0.0/24"));
        assert_eq!(text(a.assign("new")), "10.244.1.0/24");
        // Somebody gave it another one meanwhile.
        a.occupy(&node("new", "10.244.7.0/24"));
        assert_eq!(text(a.assign("new")), "10.244.7.0/24");
    }

    #[test]
    fn both_families() {
        let mut a = allocator(&["10.244.0.0/16", "fd00:10::/56"], "10.96.0.0/12");
        assert_eq!(text(a.assign("a")), "10.244.0.0/24,fd00:10::/64");
        assert_eq!(text(a.assign("b")), "10.244.1.0/24,fd00:10:0:1::/64");
    }
}
