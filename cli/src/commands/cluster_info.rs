//! `kctl cluster-info`.

use clap::Args;

use crate::kube::{Request, Result, Session, select};

/// Where the control plane and its services answer
#[derive(Args, Clone, Debug)]
pub struct ClusterInfoArgs {}

pub async fn run(_: ClusterInfoArgs, session: &Session) -> Result<()> {
    let request =
        Request::get("/api/v1/namespaces/kube-system/services").query("labelSelector", "kubernetes.io/cluster-service=true");
    let (services, _) = select::list(session, request).await?;
    println!("Kubernetes control plane is running at {}", session.url());
    for service in services {
        let name = machinery::meta::name(&service);
        let port = &service["spec"]["ports"][0];
        let port = port["name"].as_str().filter(|name| !name.is_empty()).map_or_else(String::new, |name| format!(":{name}"));
        let shown = machinery::meta::label(&service, "kubernetes.io/name").unwrap_or(name);
        println!("{shown} is running at {}/api/v1/namespaces/kube-system/services/{name}{port}/proxy", session.url());
    }
    println!("\nTo further debug and diagnose cluster problems, use 'kctl status' on the host.");
    Ok(())
}
