//! The Service `default/kubernetes`, by which pods find the API server, and its endpoints: the servers that say they are
//! there.

use std::net::IpAddr;

use ::store::StoreError;
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Facts, peers};
use crate::server::Server;

const PORT: u16 = 443;

pub(super) async fn reconcile(server: &Server, facts: &Facts) -> Result<(), Status> {
    let Some(range) = facts.services.ranges.first() else { return Ok(()) };
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let target = facts.advertise.map_or(6443, |(_, port)| port);
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": "kubernetes", "labels": labels},
        "spec": {"type": "ClusterIP", "sessionAffinity": "None", "clusterIP": range.nth(0).to_string(), "clusterIPs": [range.nth(0).to_string()],
            "ipFamilies": [range.family()], "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": PORT, "protocol": "TCP", "targetPort": target}]}});
    let ports = |old: &Value| {
        let mut new = old.clone();
        meta::set_path(&mut new, &["spec", "ports"], service["spec"]["ports"].clone());
        new
    };
    super::reconcile(server, "", "services", &service, &ports).await?;
    let Some((address, port)) = endpoint(facts) else { return Ok(()) };
    let storage = server.registry.feed.storage();
    peers::renew(storage.as_ref(), address).await.map_err(unavailable)?;
    let mut servers = peers::alive(storage.as_ref()).await.map_err(unavailable)?;
    if !servers.contains(&address) {
        servers.push(address);
    }
    publish(server, &servers, port).await
}

/// This server as an endpoint. An address that only this host knows is none.
fn endpoint(facts: &Facts) -> Option<(IpAddr, u16)> {
    facts.advertise.filter(|(address, _)| facts.is_endpoint && !address.is_loopback())
}

/// This server goes: if there are others, they are the endpoints from now on. The last one stays, for it comes back.
pub(super) async fn leave(server: &Server, facts: &Facts) -> Result<(), Status> {
    let Some((address, port)) = endpoint(facts) else { return Ok(()) };
    let storage = server.registry.feed.storage();
    peers::leave(storage.as_ref(), address).await.map_err(unavailable)?;
    let others = peers::alive(storage.as_ref()).await.map_err(unavailable)?;
    if others.is_empty() { Ok(()) } else { publish(server, &others, port).await }
}

fn unavailable(error: StoreError) -> Status {
    tracing::debug!(%error, "asking the store for the API servers of the cluster");
    Status::unavailable("the store is unavailable")
}

async fn publish(server: &Server, servers: &[IpAddr], port: u16) -> Result<(), Status> {
    endpoints(server, servers, port).await?;
    endpoint_slice(server, servers, port).await
}

async fn endpoints(server: &Server, servers: &[IpAddr], port: u16) -> Result<(), Status> {
    let addresses: Vec<Value> = servers.iter().map(|address| json!({"ip": address.to_string()})).collect();
    let subsets = json!([{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]);
    let object = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"namespace": "default", "name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets});
    let change = |old: &Value| {
        let mut new = old.clone();
        meta::set_path(&mut new, &["subsets"], subsets.clone());
        new
    };
    super::reconcile(server, "", "endpoints", &object, &change).await
}

async fn endpoint_slice(server: &Server, servers: &[IpAddr], port: u16) -> Result<(), Status> {
    // A slice has addresses of one family: the first server's.
    let v4 = servers.first().is_none_or(IpAddr::is_ipv4);
    let endpoint = |address: &IpAddr| json!({"addresses": [address.to_string()], "conditions": {"ready": true}});
    let endpoints: Vec<Value> = servers.iter().filter(|address| address.is_ipv4() == v4).map(endpoint).collect();
    let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if v4 { "IPv4" } else { "IPv6" },
        "endpoints": endpoints, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
    let change = |old: &Value| {
        let mut new = old.clone();
        meta::set_path(&mut new, &["endpoints"], object["endpoints"].clone());
        meta::set_path(&mut new, &["ports"], object["ports"].clone());
        new
    };
    super::reconcile(server, "discovery.k8s.io", "endpointslices", &object, &change).await
}
