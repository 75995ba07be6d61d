//! Services.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::CreateFlags;
use crate::kube::{Error, Result};

/// Creates a service
#[derive(Args, Clone, Debug)]
pub struct ServiceArgs {
    #[command(subcommand)]
    what: ServiceKind,
}

#[derive(Subcommand, Clone, Debug)]
enum ServiceKind {
    Clusterip(ClusterIpArgs),
    Nodeport(NodePortArgs),
    Loadbalancer(LoadBalancerArgs),
    Externalname(ExternalNameArgs),
}

/// Reached inside the cluster
#[derive(Args, Clone, Debug)]
struct ClusterIpArgs {
    name: String,
    /// PORT[:TARGET]
    #[arg(long, value_delimiter = ',', value_name = "PORT[:TARGET]")]
    tcp: Vec<String>,
    /// The address; None is a headless service
    #[arg(long)]
    clusterip: Option<String>,
    #[command(flatten)]
    flags: CreateFlags,
}

/// Reached on a port of every node
#[derive(Args, Clone, Debug)]
struct NodePortArgs {
    name: String,
    /// PORT[:TARGET]
    #[arg(long, required = true, value_delimiter = ',', value_name = "PORT[:TARGET]")]
    tcp: Vec<String>,
    /// The port on the nodes
    #[arg(long, value_name = "PORT")]
    node_port: Option<u16>,
    #[command(flatten)]
    flags: CreateFlags,
}

/// Reached through a load balancer
#[derive(Args, Clone, Debug)]
struct LoadBalancerArgs {
    name: String,
    /// PORT[:TARGET]
    #[arg(long, required = true, value_delimiter = ',', value_name = "PORT[:TARGET]")]
    tcp: Vec<String>,
    #[command(flatten)]
    flags: CreateFlags,
}

/// Another name for something outside
#[derive(Args, Clone, Debug)]
struct ExternalNameArgs {
    name: String,
    /// The DNS name it stands for
    #[arg(long)]
    external_name: String,
    /// PORT[:TARGET]
    #[arg(long, value_delimiter = ',', value_name = "PORT[:TARGET]")]
    tcp: Vec<String>,
    #[command(flatten)]
    flags: CreateFlags,
}

impl ServiceArgs {
    pub(super) fn flags(&self) -> &CreateFlags {
        match &self.what {
            ServiceKind::Clusterip(args) => &args.flags,
            ServiceKind::Nodeport(args) => &args.flags,
            ServiceKind::Loadbalancer(args) => &args.flags,
            ServiceKind::Externalname(args) => &args.flags,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.what {
            ServiceKind::Clusterip(_) => "ClusterIP",
            ServiceKind::Nodeport(_) => "NodePort",
            ServiceKind::Loadbalancer(_) => "LoadBalancer",
            ServiceKind::Externalname(_) => "ExternalName",
        }
    }

    pub(super) fn object(&self) -> Result<Value> {
        let (name, tcp) = match &self.what {
            ServiceKind::Clusterip(args) => (&args.name, &args.tcp),
            ServiceKind::Nodeport(args) => (&args.name, &args.tcp),
            ServiceKind::Loadbalancer(args) => (&args.name, &args.tcp),
            ServiceKind::Externalname(args) => (&args.name, &args.tcp),
        };
        let mut ports = tcp.iter().map(|spec| port(spec)).collect::<Result<Vec<_>>>()?;
        let labels = json!({"app": name});
        let mut spec = json!({"selector": labels, "type": self.kind()});
        match &self.what {
            ServiceKind::Clusterip(args) => {
                if let Some(address) = &args.clusterip {
                    spec["clusterIP"] = address.as_str().into();
                }
                if ports.is_empty() && args.clusterip.as_deref() != Some("None") {
                    return Err(Error::message("at least one tcp port specifier must be provided"));
                }
            }
            ServiceKind::Nodeport(NodePortArgs { node_port: Some(node_port), .. }) => {
                ports.iter_mut().for_each(|port| port["nodePort"] = (*node_port).into());
            }
            ServiceKind::Externalname(args) => spec["externalName"] = args.external_name.as_str().into(),
            _ => {}
        }
        if !ports.is_empty() {
            spec["ports"] = ports.into();
        }
        Ok(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"loadBalancer": {}},
        }))
    }
}

/// `80`, `80:8080`, `80:web`.
fn port(spec: &str) -> Result<Value> {
    let (port, target) = spec.split_once(':').unwrap_or((spec, spec));
    let number: u16 = port.parse().map_err(|error| Error::message(crate::usage::number_error("ParseUint", port, &error)))?;
    let target = match target.parse::<u16>() {
        Ok(number) => number.into(),
        Err(_) => {
            let errors = machinery::names::port_name(target);
            if !errors.is_empty() {
                return Err(Error::message(errors.join(",")));
            }
            Value::from(target)
        }
    };
    Ok(json!({"name": spec.replacen(':', "-", 1), "port": number, "protocol": "TCP", "targetPort": target}))
}
