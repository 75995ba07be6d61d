//! Cluster addresses and node ports of Services.
//!
//! | Question | Answer |
//! |---|---|
//! | What are the ranges? | [`cidr`], `--service-cluster-ip-range` and ServiceCIDR objects |
//! | Which numbers does a new or changed Service get? | [`ServiceNetwork::allocate`]: pure, in `addresses` and `ports` |
//! | How does nobody else get them? | [`claims`]: a key of the store for each number |
//! | What if a server dies in between? | [`repair`] |

mod addresses;
pub mod cidr;
pub mod claims;
mod fields;
mod ports;
pub mod repair;
pub mod taken;

use std::ops::RangeInclusive;

use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

pub use self::cidr::Cidr;
pub use self::claims::Held;
use self::claims::Lost;
use self::taken::{Taken, numbers};
use crate::lookup::Lookup;
use crate::registry::Registry;

/// The name of the ServiceCIDR that the command line makes.
pub const DEFAULT_CIDR: &str = "kubernetes";
/// How often a number that another server was faster to take is replaced by another.
const ATTEMPTS_MAX: usize = 16;

/// `--service-cluster-ip-range` and `--service-node-port-range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// The first is the primary family.
    pub ranges: Vec<Cidr>,
    pub node_ports: RangeInclusive<u16>,
}

impl ServiceNetwork {
    /// Gives a new or changed Service what it needs and does not have, and refuses what others have.
    pub fn allocate(&self, mut taken: Taken, service: &mut Value, old: Option<&Value>, random: u64) -> Result<(), Status> {
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
        if let Some(old) = old.filter(|old| old["spec"]["type"] != "ExternalName" && kind != "ExternalName") {
            addresses::keep_addresses(service, old);
            ports::keep_node_ports(service, old);
        }
        if kind == "ExternalName" {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                meta::remove_path(service, &["spec", field]);
            }
            ports::release_ports(service, old);
            return Ok(());
        }
        self.addresses(&mut taken, service, random)?;
        if kind == "NodePort" || kind == "LoadBalancer" {
            self.node_ports(&mut taken, service, random)?;
        } else if old.is_some_and(|old| matches!(old["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer"))) {
            ports::release_ports(service, old);
        }
        Ok(())
    }

    /// With the ranges of the ServiceCIDRs that are ready.
    fn with_ranges(&self, cidrs: &[Value]) -> Self {
        let ready = |cidr: &&Value| {
            let conditions = cidr["status"]["conditions"].as_array().into_iter().flatten();
            meta::deletion_timestamp(cidr).is_none()
                && conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        let mut network = self.clone();
        let texts = cidrs.iter().filter(ready).flat_map(|cidr| cidr["spec"]["cidrs"].as_array().into_iter().flatten());
        for range in texts.filter_map(|text| text.as_str()?.parse::<Cidr>().ok()) {
            if !network.ranges.contains(&range) {
                network.ranges.push(range);
            }
        }
        network
    }
}

impl Registry {
    /// Gives a Service its numbers and holds them for it; in a dry run it is only told what they would be.
    pub(crate) async fn allocate_numbers(
        &self,
        cx: &crate::registry::Context,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Held, Status> {
        let network = self.hooks.services.with_ranges(&self.objects("networking.k8s.io", "servicecidrs", ""));
        let mut taken = Taken::of(&self.services_in_use().await?, service);
        for address in self.objects("networking.k8s.io", "ipaddresses", "") {
            let own = claims::is_owned_by(&address["spec"]["parentRef"], service);
            if let Some(ip) = meta::name(&address).parse().ok().filter(|_| !own) {
                taken.insert(taken::Number::Address(ip));
            }
        }
        let had = old.map(numbers).unwrap_or_default();
        for _ in 0..ATTEMPTS_MAX {
            let mut candidate = service.clone();
            network.allocate(taken.clone(), &mut candidate, old, self.random())?;
            let wanted = numbers(&candidate);
            let new = wanted.difference(&had).cloned();
            if cx.options.dry_run {
                *service = candidate;
                return Ok(Held::default());
            }
            match self.hold_numbers(new, &candidate, cx.now).await? {
                Ok(new) => {
                    *service = candidate;
                    return Ok(Held { new, given_up: had.difference(&wanted).cloned().collect() });
                }
                Err(Lost(number)) => taken.insert(number),
            }
        }
        Err(Status::internal("failed to allocate: other servers take every number first"))
    }
}

#[cfg(test)]
mod tests;
