//! Node ports and health check ports: which are given, kept and given up.

use std::collections::HashSet;

use machinery::field::{FieldError, Path};
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::ServiceNetwork;
use super::fields::{health_port, invalid, node_port, ports, protocol};
use super::taken::Taken;

type PortKey = (u16, String);

impl ServiceNetwork {
    pub(super) fn node_ports(&self, taken: &mut Taken, service: &mut Value, random: u64) -> Result<(), Status> {
        let allocates = service["spec"]["type"] != "LoadBalancer" || service["spec"]["allocateLoadBalancerNodePorts"] != false;
        let copy = service.clone();
        let Some(ports) = service["spec"]["ports"].as_array_mut() else { return Ok(()) };
        let mut own: HashSet<PortKey> = HashSet::new();
        for (index, port) in ports.iter_mut().enumerate() {
            let path = Path::new("spec").child("ports").index(index).child("nodePort");
            let protocol = protocol(port);
            let number = match node_port(port) {
                Some(number) => {
                    if !self.node_ports.contains(&number) {
                        let (first, last) = (self.node_ports.start(), self.node_ports.end());
                        let detail =
                            format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
                        return Err(invalid(&copy, FieldError::invalid(&path, number, detail)));
                    }
                    let free = taken.port_is_free(number, &protocol) && !own.contains(&(number, protocol.clone()));
                    if !free {
                        return Err(invalid(&copy, FieldError::invalid(&path, number, "provided port is already allocated")));
                    }
                    number
                }
                None if !allocates => continue,
                None => self
                    .next_port(taken, &own, &protocol, random.wrapping_add(index as u64))
                    .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?,
            };
            own.insert((number, protocol));
            meta::as_object_mut(port).insert("nodePort".to_owned(), json!(number));
        }
        taken.ports.extend(own);
        self.health_check_port(taken, service, random)
    }

    /// Load balancers with local traffic ask nodes for their health on a port of its own.
    fn health_check_port(&self, taken: &Taken, service: &mut Value, random: u64) -> Result<(), Status> {
        let needed = service["spec"]["type"] == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local";
        if !needed {
            return Ok(());
        }
        let path = Path::new("spec").child("healthCheckNodePort");
        let number = match health_port(service) {
            Some(number) if taken.port_is_free(number, "TCP") => number,
            Some(number) => {
                return Err(invalid(service, FieldError::invalid(&path, number, "provided port is already allocated")));
            }
            None => self
                .next_port(taken, &HashSet::new(), "TCP", random.rotate_left(17))
                .ok_or_else(|| Status::internal("failed to allocate a healthCheckNodePort: range is full"))?,
        };
        meta::set_path(service, &["spec", "healthCheckNodePort"], json!(number));
        Ok(())
    }

    fn next_port(&self, taken: &Taken, own: &HashSet<PortKey>, protocol: &str, random: u64) -> Option<u16> {
        let (first, size) = (u64::from(*self.node_ports.start()), self.node_ports.len() as u64);
        let free = |port: &u16| {
            // Free for every protocol first: a port that means one thing is easier to read.
            ["TCP", "UDP", "SCTP"].iter().all(|p| taken.port_is_free(*port, p) && !own.contains(&(*port, (*p).to_owned())))
        };
        let mut candidates = (0..size).filter_map(|i| u16::try_from(first + (random.wrapping_add(i)) % size).ok());
        candidates.clone().find(free).or_else(|| {
            candidates.find(|port| taken.port_is_free(*port, protocol) && !own.contains(&(*port, protocol.to_owned())))
        })
    }
}

pub(super) fn keep_node_ports(service: &mut Value, old: &Value) {
    if !matches!(service["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        return;
    }
    let before: Vec<(Value, String, u16)> =
        ports(old).iter().filter_map(|port| Some((port["port"].clone(), protocol(port), node_port(port)?))).collect();
    let used: HashSet<u16> = ports(service).iter().filter_map(node_port).collect();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if node_port(port).is_none() {
            let same =
                before.iter().find(|(number, p, node)| *number == port["port"] && *p == protocol(port) && !used.contains(node));
            if let Some((_, _, node)) = same {
                meta::as_object_mut(port).insert("nodePort".to_owned(), json!(node));
            }
        }
    }
}

/// A Service that no longer has node ports gives them up, unless the client says otherwise.
pub(super) fn release_ports(service: &mut Value, old: Option<&Value>) {
    let before: HashSet<u16> = old.map(|old| ports(old).iter().filter_map(node_port).collect()).unwrap_or_default();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if node_port(port).is_some_and(|number| before.contains(&number)) {
            meta::as_object_mut(port).remove("nodePort");
        }
    }
    meta::remove_path(service, &["spec", "healthCheckNodePort"]);
}
