//! What is found out about this host: its name and its address.

use std::net::{IpAddr, UdpSocket};

use super::cluster::Cluster;

/// The host's name as a node's name: lower case, and the name of the configuration before it.
pub(crate) fn name(cluster: &Cluster) -> Result<String, String> {
    if let Some(name) = &cluster.node.name {
        return Ok(name.clone());
    }
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    match machinery::names::dns1123_subdomain(&name).first() {
        None => Ok(name),
        Some(problem) => Err(format!("the host name {name:?} can't be a node's name ({problem}): set node.name in --config")),
    }
}

/// The address from which the host speaks to others.
pub(crate) fn address(cluster: &Cluster) -> Result<IpAddr, String> {
    if let Some(address) = cluster.node.address {
        return Ok(address);
    }
    // No packet is sent: the kernel chooses the route and with it the source address.
    let routed = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
        socket.connect(("192.0.2.1", 9)).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified() && !address.is_loopback()).then_some(address)
    };
    routed().ok_or_else(|| "no default route tells which address the host has: set node.address in --config".to_owned())
}
