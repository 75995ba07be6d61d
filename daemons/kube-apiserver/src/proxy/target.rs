//! Which machine, port and path a request goes to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use machinery::meta;
use machinery::pod::containers::{self, Role};
use machinery::selector::LabelSelector;
use machinery::status::Status;
use serde_json::Value;

use super::backend::{Backend, Security};
use crate::registry::options::ListOptions;
use crate::registry::store::EntryExt;
use crate::server::Server;

const KUBELET_PORT: u16 = 10250;

/// `[scheme:]name[:port]`, as the names of proxied objects are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProxyName {
    pub(super) https: bool,
    pub(super) name: String,
    /// A number or a name; empty when not given.
    pub(super) port: String,
}

impl ProxyName {
    pub(super) fn parse(id: &str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return None;
        }
        Some(Self { https: scheme == "https", name: name.to_owned(), port: port.to_owned() })
    }

    fn security(&self) -> Security {
        if self.https { Security::AnyServer } else { Security::Plain }
    }
}

pub(super) async fn object(server: &Arc<Server>, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let served = server.registry.served("", "v1", plural).ok_or_else(Status::no_such_path)?;
    let entry = server.registry.get(&served, namespace, name, &ListOptions::default()).await?;
    entry.value().ok_or_else(|| Status::internal(format!("{plural} {name} cannot be read")))
}

/// The kubelet of a pod's node; none when the pod is not assigned.
pub(super) async fn kubelet_of(server: &Arc<Server>, pod: &Value) -> Result<Option<Backend>, Status> {
    match meta::text(pod, &["spec", "nodeName"]) {
        "" => Ok(None),
        node => {
            let node = object(server, "nodes", "", node).await?;
            kubelet(&node, &server.kubelet.preferred_address_types).map(Some)
        }
    }
}

/// Where a node's kubelet listens.
pub(super) fn kubelet(node: &Value, preferred: &[String]) -> Result<Backend, Status> {
    let addresses = meta::get_path(node, &["status", "addresses"]).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let of_type =
        |kind: &str| addresses.iter().find(|a| a["type"] == kind).and_then(|a| a["address"].as_str()).filter(|a| !a.is_empty());
    let default = ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"].map(str::to_owned);
    let preferred = if preferred.is_empty() { &default[..] } else { preferred };
    let host = preferred.iter().find_map(|kind| of_type(kind)).ok_or_else(|| {
        let known: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        Status::internal(format!("no preferred addresses found; known addresses: [{}]", known.join(" ")))
    })?;
    let port = meta::get_path(node, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(Value::as_u64);
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(KUBELET_PORT);
    Ok(Backend { host: host.to_owned(), port, security: Security::Kubelet })
}

fn container_names(pod: &Value, role: Role) -> Vec<&str> {
    containers::each(&pod["spec"]).filter(|(r, _)| *r == role).filter_map(|(_, c)| c["name"].as_str()).collect()
}

/// The container that is meant: the named one, or the only one.
pub(super) fn container(pod: &Value, wanted: &str) -> Result<String, Status> {
    let name = meta::name(pod);
    let [init, containers, ephemeral] = [Role::Init, Role::Main, Role::Ephemeral].map(|role| container_names(pod, role));
    if !wanted.is_empty() {
        return if containers.iter().chain(&init).chain(&ephemeral).any(|c| *c == wanted) {
            Ok(wanted.to_owned())
        } else {
            Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
        };
    }
    match containers.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        many => {
            let mut message = format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            if !ephemeral.is_empty() {
                message.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}

/// The server's own network must not be reachable through a pod's status: no loopback, no link-local addresses.
fn proxyable(ip: &str) -> Result<IpAddr, Status> {
    let refused = || Status::bad_request("address not allowed");
    let ip: IpAddr = ip.parse().map_err(|_| refused())?;
    let bad = match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if bad || ip.to_canonical().is_loopback() || ip.is_multicast() || ip.is_unspecified() { Err(refused()) } else { Ok(ip) }
}

/// `pods/NAME/proxy`: the pod's first address, the port named, its first declared one, or the scheme's.
pub(super) async fn pod(server: &Arc<Server>, namespace: &str, id: &str) -> Result<Backend, Status> {
    let invalid = || Status::bad_request(format!("invalid pod request {}", machinery::gotext::quote(id)));
    let wanted = ProxyName::parse(id).ok_or_else(invalid)?;
    let pod = object(server, "pods", namespace, &wanted.name).await?;
    let port = if wanted.port.is_empty() {
        declared_port(&pod).unwrap_or(if wanted.https { 443 } else { 80 })
    } else {
        wanted.port.parse().map_err(|_| invalid())?
    };
    let ip = meta::get_path(&pod, &["status", "podIPs"]).and_then(|ips| ips[0]["ip"].as_str());
    let ip = proxyable(ip.unwrap_or_else(|| meta::text(&pod, &["status", "podIP"])))?;
    Ok(Backend { host: ip.to_string(), port, security: wanted.security() })
}

fn declared_port(pod: &Value) -> Option<u16> {
    let containers = meta::get_path(pod, &["spec", "containers"])?.as_array()?;
    containers.iter().find_map(|c| u16::try_from(c["ports"][0]["containerPort"].as_u64()?).ok())
}

/// `nodes/NAME/proxy`: the kubelet, or another port of the node.
pub(super) async fn node(server: &Arc<Server>, id: &str) -> Result<Backend, Status> {
    let invalid = || Status::bad_request(format!("invalid node request {}", machinery::gotext::quote(id)));
    let wanted = ProxyName::parse(id).ok_or_else(invalid)?;
    let node = object(server, "nodes", "", &wanted.name).await?;
    let kubelet = kubelet(&node, &server.kubelet.preferred_address_types)?;
    let addresses = tokio::net::lookup_host((kubelet.host.as_str(), kubelet.port)).await;
    for address in addresses.map_err(|e| Status::bad_request(e.to_string()))? {
        proxyable(&address.ip().to_string())?;
    }
    if wanted.port.is_empty() || wanted.port == kubelet.port.to_string() {
        return Ok(kubelet);
    }
    let port = wanted.port.parse().map_err(|_| invalid())?;
    Ok(Backend { host: kubelet.host, port, security: wanted.security() })
}

/// `services/NAME/proxy`: one of the ready pods behind the service.
pub(super) async fn service(server: &Arc<Server>, namespace: &str, id: &str, random: usize) -> Result<Backend, Status> {
    let invalid = || Status::bad_request(format!("invalid service request {}", machinery::gotext::quote(id)));
    let wanted = ProxyName::parse(id).ok_or_else(invalid)?;
    let service = object(server, "services", namespace, &wanted.name).await?;
    let port_name = service_port(&service, &wanted)?;
    let slices = slices(server, namespace, &wanted.name).await?;
    let endpoints = endpoints(&slices, &port_name);
    let none = || Status::unavailable(format!("no endpoints available for service {}", machinery::gotext::quote(id)));
    if endpoints.is_empty() {
        return Err(none());
    }
    let list: Vec<&(String, u16, String)> = endpoints.iter().collect();
    for i in 0..list.len() {
        let (ip, port, pod_name) = list[(random + i) % list.len()];
        // Only to addresses that are a pod's: an endpoint can be written by hand.
        let Ok(pod) = object(server, "pods", namespace, pod_name).await else { continue };
        let ips = meta::get_path(&pod, &["status", "podIPs"]).and_then(Value::as_array);
        if ips.into_iter().flatten().any(|p| p["ip"] == ip.as_str()) {
            let ip = proxyable(ip)?;
            return Ok(Backend { host: ip.to_string(), port: *port, security: wanted.security() });
        }
    }
    Err(none())
}

/// The name of the port that is meant; a number must be one of the service's.
fn service_port(service: &Value, wanted: &ProxyName) -> Result<String, Status> {
    let Ok(number) = wanted.port.parse::<u64>() else { return Ok(wanted.port.clone()) };
    let ports = meta::get_path(service, &["spec", "ports"]).and_then(Value::as_array);
    let port = ports.into_iter().flatten().find(|p| p["port"].as_u64() == Some(number));
    let port = port.ok_or_else(|| {
        let name = machinery::gotext::quote(&wanted.name);
        Status::unavailable(format!("no service port {number} found for service {name}"))
    })?;
    Ok(port["name"].as_str().unwrap_or_default().to_owned())
}

async fn slices(server: &Arc<Server>, namespace: &str, service: &str) -> Result<Vec<Value>, Status> {
    let served = server.registry.served("discovery.k8s.io", "v1", "endpointslices").ok_or_else(Status::no_such_path)?;
    let labels = LabelSelector::from_labels([("kubernetes.io/service-name", service)]);
    let options = ListOptions { labels, ..ListOptions::default() };
    let page = server.registry.list(&served, namespace, &options).await?;
    Ok(page.entries.iter().filter_map(EntryExt::value).collect())
}

/// Address, port and pod of all ready endpoints that have the port.
fn endpoints(slices: &[Value], port_name: &str) -> BTreeSet<(String, u16, String)> {
    let mut out = BTreeSet::new();
    for slice in slices {
        let ports = slice["ports"].as_array();
        let port = ports.into_iter().flatten().find(|p| p["name"].as_str().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|p| u16::try_from(p["port"].as_u64()?).ok()) else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] == false || endpoint["targetRef"]["kind"] != "Pod" {
                continue;
            }
            let pod = endpoint["targetRef"]["name"].as_str().unwrap_or_default();
            for address in endpoint["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                out.insert((address.to_owned(), port, pod.to_owned()));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn proxy_names() {
        for (id, want) in [
            ("a", Some((false, "a", ""))),
            ("a:80", Some((false, "a", "80"))),
            ("https:a:web", Some((true, "a", "web"))),
            ("http:a:", Some((false, "a", ""))),
            (":a:80", Some((false, "a", "80"))),
            ("ftp:a:80", None),
            ("a:b:c:d", None),
            ("", None),
        ] {
            let got = ProxyName::parse(id);
            assert_eq!(got.as_ref().map(|p| (p.https, p.name.as_str(), p.port.as_str())), want, "{id}");
        }
    }

    #[test]
    fn which_container() {
        let pod = |names: &[&str]| {
            let list: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
            json!({"metadata": {"name": "p"}, "spec": {"containers": list, "initContainers": [{"name": "i"}]}})
        };
        assert_eq!(container(&pod(&["a"]), "").unwrap(), "a");
        assert_eq!(container(&pod(&["a", "b"]), "i").unwrap(), "i");
        for (pod, wanted, message) in [
            (
                pod(&["a", "b"]),
                "",
                "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
            ),
            (pod(&["a"]), "x", "container x is not valid for pod p"),
        ] {
            assert_eq!(container(&pod, wanted).unwrap_err().message, message);
        }
    }

    #[test]
    fn kubelet_addresses() {
        let node = json!({"status": {
            "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10350}}}});
        let by = |types: &[&str]| kubelet(&node, &types.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        assert_eq!(by(&["InternalIP", "Hostname"]).unwrap().authority(), "10.0.0.1:10350");
        assert_eq!(by(&[]).unwrap().host, "n1");
        assert!(by(&["ExternalIP"]).is_err());
        assert_eq!(kubelet(&json!({"status": {"addresses": [{"type": "Hostname", "address": "x"}]}}), &[]).unwrap().port, 10250);
    }

    #[test]
    fn addresses_that_are_refused() {
        for ip in ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0", "224.0.0.1", "::ffff:127.0.0.1", "x", ""] {
            assert!(proxyable(ip).is_err(), "{ip}");
        }
        for ip in ["10.244.0.5", "fd00::5"] {
            assert!(proxyable(ip).is_ok(), "{ip}");
        }
    }

    #[test]
    fn ready_endpoints_of_a_port() {
        let slices = [json!({
        "ports": [{"name": "web", "port": 8080}, {"name": "", "port": 9}],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "a"}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "b"}},
            {"addresses": ["10.0.0.3"], "conditions": {}, "targetRef": {"kind": "Pod", "name": "c"}},
            {"addresses": ["10.0.0.4"]}
        ]})];
        let got: Vec<_> = endpoints(&slices, "web").into_iter().map(|(ip, port, _)| format!("{ip}:{port}")).collect();
        assert_eq!(got, ["10.0.0.1:8080", "10.0.0.3:8080"]);
        assert!(endpoints(&slices, "other").is_empty());
    }
}
