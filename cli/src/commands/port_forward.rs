//! `kctl port-forward`.

use std::{net::IpAddr, sync::Arc, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;
use stream::{
    portforward::{PortForward, WEBSOCKET_PROTOCOL},
    tunnel::Tunnel,
};
use tokio::net::TcpListener;

use super::pods;
use crate::kube::{Error, Request, Result, Session, complete, globals::duration};

/// Forwards local ports to a pod
///
///   kctl port-forward web-1 8080:80
///   kctl port-forward svc/web 8080:http     kctl port-forward deploy/web :80
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct PortForwardArgs {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD | TYPE/NAME", add = ArgValueCompleter::new(complete::resources))]
    target: String,
    /// [LOCAL:]REMOTE…; no local port is any free one
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<String>,
    /// Addresses to listen on; localhost is both of its addresses
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
    /// How long a pod of TYPE/NAME may take to be there
    #[arg(long, value_parser = duration, default_value = "1m")]
    pod_running_timeout: Duration,
}

/// A local port and what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    local: u16,
    remote: u16,
}

pub async fn run(args: PortForwardArgs, session: &Session) -> Result<()> {
    let pod = pods::one_of(session, &args.target, args.pod_running_timeout).await?;
    if pod["status"]["phase"] != "Running" {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        return Err(Error::message(format!("unable to forward port because pod is not running. Current status={phase}")));
    }
    let service = match args.target.split_once('/') {
        Some((kind, name)) if session.resource(kind).await?.kind == "Service" => {
            Some(session.json(Request::get(format!("/api/v1/namespaces/{}/services/{name}", session.namespace))).await?)
        }
        _ => None,
    };
    let pairs = args.ports.iter().map(|spec| pair(spec, &pod, service.as_ref())).collect::<Result<Vec<_>>>()?;
    let mut listeners = Vec::new();
    for pair in pairs {
        listeners.extend(listen(pair, &args.address).await?);
    }
    let (namespace, name) = (machinery::meta::namespace(&pod), machinery::meta::name(&pod));
    let request = Request::get(format!("/api/v1/namespaces/{namespace}/pods/{name}/portforward"));
    let (io, _) = session.upgrade(request, &[WEBSOCKET_PROTOCOL]).await?;
    let forward = Arc::new(PortForward::new(Tunnel::client(io).await)?);
    for (listener, pair) in listeners {
        println!("Forwarding from {} -> {}", listener.local_addr()?, pair.remote);
        tokio::spawn(serve(listener, pair, Arc::clone(&forward)));
    }
    forward.closed().await;
    Err(Error::message("lost connection to pod"))
}

async fn serve(listener: TcpListener, pair: Pair, forward: Arc<PortForward>) {
    while let Ok((connection, _)) = listener.accept().await {
        println!("Handling connection for {}", pair.local);
        let forward = Arc::clone(&forward);
        tokio::spawn(async move {
            if let Err(error) = forward.forward(pair.remote, connection).await {
                eprintln!("error: {}", crate::kube::session::chain(&error));
            }
        });
    }
}

async fn listen(pair: Pair, addresses: &[String]) -> Result<Vec<(TcpListener, Pair)>> {
    let mut listeners: Vec<(TcpListener, Pair)> = Vec::new();
    let mut failures = Vec::new();
    for address in addresses {
        let both = address == "localhost";
        let ips: &[&str] = if both { &["127.0.0.1", "::1"] } else { &[address] };
        for ip in ips {
            let parsed: IpAddr = ip.parse().map_err(|_| Error::message(format!("{address} is not a valid IP")))?;
            // Any free port is the same one on all addresses.
            let local = listeners.first().map_or(pair.local, |(_, pair)| pair.local);
            match TcpListener::bind((parsed, local)).await {
                Ok(listener) => {
                    let local = listener.local_addr()?.port();
                    listeners.push((listener, Pair { local, ..pair }));
                }
                Err(error) => failures.push(format!("unable to create listener: {ip}:{local}: {error}")),
            }
        }
    }
    // A host without IPv6 has one localhost only.
    if listeners.is_empty() {
        return Err(Error::message(format!("unable to listen on port {}: {}", pair.local, failures.join(", "))));
    }
    Ok(listeners)
}

/// `8080:80`, `:80`, `80`, `8080:http`. Ports of a service are translated to those of its pod.
fn pair(spec: &str, pod: &Value, service: Option<&Value>) -> Result<Pair> {
    let (local, remote) = spec.split_once(':').unwrap_or((spec, spec));
    let number = match service {
        Some(service) => of_service(service, pod, remote)?,
        None => of_pod(pod, remote)?,
    };
    let local = match local {
        "" => 0,
        local => match local.parse() {
            Ok(local) => local,
            // A name stands for the number behind it.
            Err(_) if !spec.contains(':') => number,
            Err(_) => return Err(Error::message(format!("error parsing local port {local:?}"))),
        },
    };
    Ok(Pair { local, remote: number })
}

fn of_pod(pod: &Value, port: &str) -> Result<u16> {
    if let Ok(number) = port.parse::<u16>()
        && number > 0
    {
        return Ok(number);
    }
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let found =
        ports.find(|candidate| candidate["name"] == port).and_then(|port| u16::try_from(port["containerPort"].as_u64()?).ok());
    found.ok_or_else(|| Error::message(format!("pod {:?} does not have a named port {port:?}", machinery::meta::name(pod))))
}

fn of_service(service: &Value, pod: &Value, port: &str) -> Result<u16> {
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let number = port.parse::<u16>().ok();
    let found = ports.find(|candidate| candidate["name"] == port || number.is_some_and(|number| candidate["port"] == number));
    let found = found.ok_or_else(|| {
        Error::message(format!("Service {} does not have a service port {port}", machinery::meta::name(service)))
    })?;
    if service["spec"]["clusterIP"] == "None" {
        return of_pod(pod, port);
    }
    match &found["targetPort"] {
        Value::String(name) => of_pod(pod, name),
        Value::Number(number) => {
            u16::try_from(number.as_u64().unwrap_or(0)).map_err(|_| Error::message("the service's target port is no port"))
        }
        _ => of_pod(pod, port),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports() {
        let pod =
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}});
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80, "targetPort": "http"}, {"port": 443, "targetPort": 8443}]}});
        let check = |spec: &str, service: Option<&Value>, local: u16, remote: u16| {
            assert_eq!(pair(spec, &pod, service).unwrap(), Pair { local, remote }, "{spec}")
        };
        check("80", None, 80, 80);
        check("8000:80", None, 8000, 80);
        check(":80", None, 0, 80);
        check("9000:http", None, 9000, 8080);
        check("http", None, 8080, 8080);
        check("9000:80", Some(&service), 9000, 8080);
        check("9000:web", Some(&service), 9000, 8080);
        check("443", Some(&service), 443, 8443);
        for (spec, service) in [("x:80", None), ("0", None), ("none", None), ("81", Some(&service))] {
            assert!(pair(spec, &pod, service).is_err(), "{spec}");
        }
    }
}
