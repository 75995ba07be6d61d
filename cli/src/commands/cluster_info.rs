//! `kctl cluster-info`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use machinery::meta;

use crate::{
    kube::{Error, Request, Result, Session, globals::duration, select},
    output::{OutputFlags, Printer},
};

/// Most of a container's log that a dump holds.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Where the control plane and its services answer
#[derive(Args, Clone, Debug)]
pub struct ClusterInfoArgs {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    Dump(DumpArgs),
}

/// Prints what is needed to find out what is wrong: nodes, events, workloads, and the logs of their containers
#[derive(Args, Clone, Debug)]
struct DumpArgs {
    /// A directory for files; `-` or nothing is standard output
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    output_directory: String,
    #[command(flatten)]
    output: OutputFlags,
    /// How long a pod may take to run: nothing waits for one here
    #[arg(long, value_parser = duration, default_value = "20s", hide = true)]
    pod_running_timeout: Duration,
    /// These namespaces, instead of kube-system and the current one
    #[arg(long, value_delimiter = ',')]
    namespaces: Vec<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

pub async fn run(args: ClusterInfoArgs, session: &Session) -> Result<()> {
    if let Some(What::Dump(mut args)) = args.what {
        return dump(&mut args, session).await;
    }
    let request =
        Request::get("/api/v1/namespaces/kube-system/services").query("labelSelector", "kubernetes.io/cluster-service=true");
    let (services, _) = select::list(session, request).await?;
    println!("Kubernetes control plane is running at {}", session.url());
    for service in services {
        let name = meta::name(&service);
        let port = &service["spec"]["ports"][0];
        let port = port["name"].as_str().filter(|name| !name.is_empty()).map_or_else(String::new, |name| format!(":{name}"));
        let shown = meta::label(&service, "kubernetes.io/name").unwrap_or(name);
        println!("{shown} is running at {}/api/v1/namespaces/kube-system/services/{name}{port}/proxy", session.url());
    }
    println!("\nTo further debug and diagnose cluster problems, use 'kctl cluster-info dump'.");
    Ok(())
}

/// The lists of a namespace, by the name of their file.
const LISTS: &[(&str, &str, &str)] = &[
    ("events", "/api/v1", "events"),
    ("replication-controllers", "/api/v1", "replicationcontrollers"),
    ("services", "/api/v1", "services"),
    ("daemonsets", "/apis/apps/v1", "daemonsets"),
    ("deployments", "/apis/apps/v1", "deployments"),
    ("replicasets", "/apis/apps/v1", "replicasets"),
    ("pods", "/api/v1", "pods"),
];

async fn dump(args: &mut DumpArgs, session: &Session) -> Result<()> {
    if args.output.output.as_deref() == Some("") {
        args.output.output = None;
    }
    args.output.output.get_or_insert_with(|| "json".into());
    let namespaces = if args.all_namespaces {
        let (found, _) = select::list(session, Request::get("/api/v1/namespaces")).await?;
        found.iter().map(|namespace| meta::name(namespace).to_owned()).collect()
    } else if args.namespaces.is_empty() {
        vec!["kube-system".to_owned(), session.namespace.clone()]
    } else {
        args.namespaces.clone()
    };
    write(args, "nodes", &list(args, session, "/api/v1/nodes").await?)?;
    for namespace in &namespaces {
        for (file, group, plural) in LISTS {
            let text = list(args, session, &format!("{group}/namespaces/{namespace}/{plural}")).await?;
            write(args, &format!("{namespace}/{file}"), &text)?;
        }
        let (pods, _) = select::list(session, Request::get(format!("/api/v1/namespaces/{namespace}/pods"))).await?;
        for pod in &pods {
            logs(args, session, namespace, pod).await?;
        }
    }
    if !matches!(args.output_directory.as_str(), "" | "-") {
        println!("Cluster info dumped to {}", args.output_directory);
    }
    Ok(())
}

async fn list(args: &DumpArgs, session: &Session, path: &str) -> Result<String> {
    let objects = session.json(Request::get(path)).await?;
    Printer::new(&args.output)?.render(&objects, &|object| meta::name(object).to_owned())
}

fn write(args: &DumpArgs, name: &str, text: &str) -> Result<()> {
    if matches!(args.output_directory.as_str(), "" | "-") {
        print!("{text}");
        return Ok(());
    }
    let end = match args.output.output.as_deref() {
        _ if name.ends_with("logs") => "txt",
        Some(known @ ("json" | "yaml")) => known,
        _ => "out",
    };
    let path = PathBuf::from(&args.output_directory).join(format!("{name}.{end}"));
    let failed = |error| Error::message(format!("{}: {error}", path.display()));
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    std::fs::write(&path, text).map_err(failed)
}

/// The logs of a pod's containers, one after another. What can't be had is said in its place.
async fn logs(args: &DumpArgs, session: &Session, namespace: &str, pod: &serde_json::Value) -> Result<()> {
    let name = meta::name(pod);
    let mut text = String::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()) {
            let about = format!("logs for container {container} of pod {namespace}/{name} ====\n");
            let request = Request::get(format!("/api/v1/namespaces/{namespace}/pods/{name}/log"))
                .query("container", container)
                .query("limitBytes", LOG_BYTES_MAX);
            let log = match session.bytes(request).await {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) => format!("Request log error: {}\n", error.bare()),
            };
            text += &format!("==== START {about}{log}==== END {about}");
        }
    }
    write(args, &format!("{namespace}/{name}/logs"), &text)
}
