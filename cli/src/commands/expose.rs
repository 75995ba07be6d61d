//! `kctl expose`: a service for something that runs.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Map, Value, json};

use super::{
    create::{self, CreateFlags},
    flags::OverrideFlags,
    targets::{Selectors, Targets},
};
use crate::kube::{Error, Files, Info, Result, Session, complete};

/// Makes a service for a pod, a deployment, a replica set, or another service
///
///   kctl expose deploy/web --port=80 --target-port=8080
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ExposeArgs {
    /// TYPE NAME… or TYPE/NAME…
    #[arg(value_name = "TYPE NAME | TYPE/NAME", add = ArgValueCompleter::new(complete::resources))]
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The service's selector, if it is to have another than its target
    #[arg(long, value_name = "KEY=VALUE,…")]
    selector: Option<String>,
    /// The service's name, if it is to have another
    #[arg(long)]
    name: Option<String>,
    /// The service's port
    #[arg(long)]
    port: Option<u16>,
    /// The port of the pods, by number or name
    #[arg(long)]
    target_port: Option<String>,
    /// TCP, UDP or SCTP
    #[arg(long)]
    protocol: Option<String>,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName
    #[arg(long = "type")]
    kind: Option<String>,
    /// The service's labels
    #[arg(short = 'l', long, value_name = "KEY=VALUE,…")]
    labels: Option<String>,
    /// The address; None is a headless service
    #[arg(long)]
    cluster_ip: Option<String>,
    /// An address outside the cluster that nodes accept
    #[arg(long)]
    external_ip: Option<String>,
    /// None or ClientIP
    #[arg(long)]
    session_affinity: Option<String>,
    /// Address for the load balancer; an ephemeral one when not given
    #[arg(long, value_name = "IP")]
    load_balancer_ip: Option<String>,
    #[command(flatten)]
    overrides: OverrideFlags,
    #[command(flatten)]
    flags: CreateFlags,
}

pub async fn run(args: ExposeArgs, session: &Session) -> Result<()> {
    let targets = Targets { words: args.words.clone(), files: args.files.clone(), selectors: Selectors::default() };
    let (infos, errors) = targets.fetch(session).await?;
    Error::all(errors)?;
    let mut reporter = args.flags.write.reporter()?;
    for info in infos {
        let mut service = args.overrides.apply(service(&args, &info)?)?;
        let info = create::info(session, &mut service, &args.flags).await?;
        let created = create::submit(session, &info, &args.flags).await?;
        reporter.done(&info, &created, "exposed")?;
    }
    Ok(())
}

fn labels(text: &str) -> Result<Map<String, Value>> {
    let pair = |word: &str| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.into())),
        _ => Err(Error::message(format!("unexpected label spec: {word}"))),
    };
    text.split(',').map(pair).collect()
}

fn selector(info: &Info) -> Result<Map<String, Value>> {
    let object = &info.object;
    let labels = match info.resource.kind.as_str() {
        "Pod" => object["metadata"]["labels"].as_object(),
        "Service" | "ReplicationController" => object["spec"]["selector"].as_object(),
        _ => {
            if object["spec"]["selector"]["matchExpressions"].as_array().is_some_and(|list| !list.is_empty()) {
                return Err(Error::message(
                    "couldn't retrieve selectors via --selector flag or introspection: couldn't convert expressions - \"matchExpressions\" to map-based selector format",
                ));
            }
            object["spec"]["selector"]["matchLabels"].as_object()
        }
    };
    labels.filter(|labels| !labels.is_empty()).cloned().ok_or_else(|| {
        Error::message("couldn't retrieve selectors via --selector flag or introspection: the object has no labels to select by")
    })
}

/// The ports that the object names, with their protocols.
fn ports(info: &Info) -> Vec<(u64, String)> {
    let (pointer, field) = match info.resource.kind.as_str() {
        "Pod" => ("/spec/containers", "containerPort"),
        "Service" => ("/spec", "port"),
        _ => ("/spec/template/spec/containers", "containerPort"),
    };
    let holders: Vec<&Value> = match info.object.pointer(pointer) {
        Some(Value::Array(containers)) => containers.iter().collect(),
        Some(spec) => vec![spec],
        None => Vec::new(),
    };
    let ports = holders.into_iter().flat_map(|holder| holder["ports"].as_array().into_iter().flatten());
    let found = ports.filter_map(|port| Some((port[field].as_u64()?, port["protocol"].as_str().unwrap_or("TCP").to_owned())));
    found.collect()
}

fn service(args: &ExposeArgs, info: &Info) -> Result<Value> {
    if !["Pod", "Service", "Deployment", "ReplicaSet", "ReplicationController", "StatefulSet"]
        .contains(&info.resource.kind.as_str())
    {
        return Err(Error::message(format!("cannot expose a {}", info.resource.kind)));
    }
    let selector = match &args.selector {
        Some(text) => labels(text)?,
        None => selector(info)?,
    };
    let found = ports(info);
    let numbers: Vec<u64> = match args.port {
        Some(port) => vec![u64::from(port)],
        None => found.iter().fold(Vec::new(), |mut numbers, (port, _)| {
            if !numbers.contains(port) {
                numbers.push(*port);
            }
            numbers
        }),
    };
    if numbers.is_empty() && args.cluster_ip.as_deref() != Some("None") {
        return Err(Error::message("couldn't find port via --port flag or introspection"));
    }
    let target =
        args.target_port.as_ref().map(|port| port.parse::<u16>().map_or_else(|_| Value::from(port.as_str()), Value::from));
    let mut service_ports = Vec::new();
    for (at, number) in numbers.iter().enumerate() {
        let protocols: Vec<&String> = match &args.protocol {
            Some(protocol) => vec![protocol],
            None => found.iter().filter(|(port, _)| port == number).map(|(_, protocol)| protocol).collect(),
        };
        let default = "TCP".to_owned();
        let protocols = if protocols.is_empty() { vec![&default] } else { protocols };
        for protocol in &protocols {
            let mut port =
                json!({"port": number, "protocol": protocol, "targetPort": target.clone().unwrap_or_else(|| (*number).into())});
            if protocols.len() > 1 {
                port["name"] = format!("port-{}-{}", at + 1, protocol.to_lowercase()).into();
            } else if numbers.len() > 1 {
                port["name"] = format!("port-{}", at + 1).into();
            }
            service_ports.push(port);
        }
    }
    let mut spec = json!({"selector": selector});
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec[field] = value;
        }
    };
    set("ports", (!service_ports.is_empty()).then(|| service_ports.into()));
    set("type", args.kind.clone().map(Value::from));
    set("clusterIP", args.cluster_ip.clone().map(Value::from));
    set("externalIPs", args.external_ip.as_ref().map(|ip| json!([ip])));
    set("loadBalancerIP", args.load_balancer_ip.clone().map(Value::from));
    set("sessionAffinity", args.session_affinity.clone().map(Value::from));
    let name: String = args.name.clone().unwrap_or_else(|| info.name.chars().take(63).collect());
    let mut service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec, "status": {"loadBalancer": {}}});
    let own = match &args.labels {
        Some(text) => Some(labels(text)?),
        None => info.object["metadata"]["labels"].as_object().cloned(),
    };
    if let Some(own) = own.filter(|own| !own.is_empty()) {
        service["metadata"]["labels"] = Value::Object(own);
    }
    Ok(service)
}
