//! The Service `default/kubernetes`, by which pods find the API server, and its endpoints: every server adds its own
//! address and takes away none but those it is told are gone.

use std::net::IpAddr;

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::Facts;
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
    // An address that only this host knows is no endpoint.
    let Some((address, port)) = facts.advertise.filter(|(address, _)| !address.is_loopback()) else { return Ok(()) };
    endpoints(server, address, port).await?;
    endpoint_slice(server, address, port).await
}

async fn endpoints(server: &Server, address: IpAddr, port: u16) -> Result<(), Status> {
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let object = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"namespace": "default", "name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address.to_string()}], "ports": ports}]});
    let change = |old: &Value| {
        let mut new = old.clone();
        let mut addresses = old["subsets"][0]["addresses"].as_array().cloned().unwrap_or_default();
        add(&mut addresses, json!({"ip": address.to_string()}), |a| a["ip"].as_str().map(str::to_owned));
        meta::set_path(&mut new, &["subsets"], json!([{"addresses": addresses, "ports": ports}]));
        new
    };
    super::reconcile(server, "", "endpoints", &object, &change).await
}

async fn endpoint_slice(server: &Server, address: IpAddr, port: u16) -> Result<(), Status> {
    let endpoint = json!({"addresses": [address.to_string()], "conditions": {"ready": true}});
    let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [endpoint], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
    let change = |old: &Value| {
        let mut new = old.clone();
        let mut endpoints = old["endpoints"].as_array().cloned().unwrap_or_default();
        add(&mut endpoints, endpoint.clone(), |e| e["addresses"][0].as_str().map(str::to_owned));
        meta::set_path(&mut new, &["endpoints"], json!(endpoints));
        meta::set_path(&mut new, &["ports"], object["ports"].clone());
        new
    };
    super::reconcile(server, "discovery.k8s.io", "endpointslices", &object, &change).await
}

fn add(list: &mut Vec<Value>, item: Value, key: impl Fn(&Value) -> Option<String>) {
    if !list.iter().any(|other| key(other) == key(&item)) {
        list.push(item);
        list.sort_by_key(key);
    }
}
