//! `kctl debug`: a container to look at a pod or a node with.

mod plan;
mod profile;

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use machinery::{meta, names::safe_suffix};
use serde_json::Value;

use super::{attach, detach::DetachKeys, targets::two_way};
use crate::kube::{Error, Info, Query, Request, Result, Session, complete, globals::duration, manifest};
use profile::Profile;

/// Looks into a pod or a node: with a container more, in a copy of the pod, or in a pod on the node
///
///   kctl debug web-1 -it --image=busybox --target=nginx
///   kctl debug web-1 -it --copy-to=web-debug --container=nginx -- sh
///   kctl debug node/n1 -it --image=busybox
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct DebugArgs {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD | TYPE/NAME", required_unless_present = "filename", add = ArgValueCompleter::new(complete::pods))]
    targets: Vec<String>,
    /// A file with the pod or node
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    filename: Option<String>,
    /// The image of the debugging container
    #[arg(long)]
    image: Option<String>,
    /// The debugging container's name
    #[arg(short, long)]
    container: Option<String>,
    /// See the processes of this container
    #[arg(long, value_name = "CONTAINER")]
    target: Option<String>,
    /// Make a copy of the pod with this name
    #[arg(long, value_name = "NAME")]
    copy_to: Option<String>,
    /// Delete the pod after it was copied
    #[arg(long)]
    replace: bool,
    /// Put the copy on the same node
    #[arg(long)]
    same_node: bool,
    /// Whether containers of the copy see each other's processes
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    share_processes: Option<bool>,
    /// CONTAINER=IMAGE in the copy
    #[arg(long, value_delimiter = ',', value_name = "CONTAINER=IMAGE")]
    set_image: Vec<String>,
    /// The copy has the pod's labels
    #[arg(long)]
    keep_labels: bool,
    /// The copy has the pod's annotations
    #[arg(long)]
    keep_annotations: bool,
    /// The copy has liveness probes
    #[arg(long)]
    keep_liveness: bool,
    /// The copy has readiness probes
    #[arg(long)]
    keep_readiness: bool,
    /// The copy has startup probes
    #[arg(long)]
    keep_startup: bool,
    /// The copy has init containers
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", hide_default_value = true)]
    keep_init_containers: bool,
    /// KEY=VALUE for the container
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// When the image is pulled: Always, IfNotPresent, Never
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// How much the container may see and do
    #[arg(long, value_enum, default_value = "general")]
    profile: Profile,
    /// A file with fields of the container, JSON or YAML: they are merged into it last
    #[arg(long, value_name = "FILE")]
    custom: Option<std::path::PathBuf>,
    #[arg(skip)]
    custom_fields: Option<Value>,
    /// The words after -- are arguments, not the command
    #[arg(long)]
    arguments_only: bool,
    /// Attach to the container once it runs; with -i it is so
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    attach: Option<bool>,
    /// Keep standard input open
    #[arg(short = 'i', long)]
    stdin: bool,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// Say nothing beside the container's output
    #[arg(short, long)]
    quiet: bool,
    /// How long the container may take to start
    #[arg(long, value_parser = duration, default_value = "5m", hide = true)]
    pod_running_timeout: Duration,
    /// The command, after --
    #[arg(last = true)]
    command: Vec<String>,
}

fn check(args: &DebugArgs) -> Result<()> {
    let about = |text: &str| Err(Error::message(text));
    if args.attach == Some(true) && args.image.is_none() && args.container.is_none() {
        return about("you must specify --container or create a new container using --image in order to attach.");
    }
    if args.copy_to.is_none() {
        if args.image.is_none() {
            return about("you must specify --image when not using --copy-to.");
        }
        if !args.set_image.is_empty() {
            return about("--set-image may only be used with --copy-to.");
        }
        if args.replace {
            return about("--replace may only be used with --copy-to.");
        }
        if args.same_node {
            return about("--same-node may only be used with --copy-to.");
        }
    } else {
        if args.image.is_none() && args.set_image.is_empty() && args.command.is_empty() {
            return about("you must specify --image, --set-image or command arguments.");
        }
        if !args.command.is_empty() && args.container.is_none() && args.image.is_none() {
            return about("you must specify an existing container or a new image when specifying args.");
        }
        if args.target.is_some() {
            return about("--target is incompatible with --copy-to. Use --share-processes instead.");
        }
    }
    if args.tty && !args.stdin {
        return about("-i/--stdin is required for containers with -t/--tty=true");
    }
    Ok(())
}

pub async fn run(mut args: DebugArgs, session: &Session) -> Result<()> {
    check(&args)?;
    if let Some(file) = &args.custom {
        args.custom_fields = Some(read_custom(file)?);
    }
    if args.profile == Profile::Legacy {
        eprintln!(
            "--profile=legacy is deprecated and planned to be removed in v1.39. It is recommended to specify other profile, for example \"--profile=general\"."
        );
    }
    if let Some(file) = &args.filename {
        args.targets.push(manifest::named_in(file).await?);
    }
    let words = if args.targets.iter().any(|word| word.contains('/')) {
        args.targets.clone()
    } else {
        std::iter::once("pods".to_owned()).chain(args.targets.iter().cloned()).collect()
    };
    let (infos, errors) = Query { words, ..Query::default() }.fetch(session).await?;
    Error::all(errors)?;
    for info in infos {
        let (pod, container) = match info.resource.kind.as_str() {
            "Node" => on_node(&args, session, &info).await?,
            "Pod" if args.copy_to.is_some() => copy(&args, session, &info).await?,
            "Pod" => join(&args, session, &info).await?,
            kind => {
                return Err(Error::message(format!(
                    "{:?} not supported by debug",
                    format!("{}, Kind={kind}", info.resource.api_version())
                )));
            }
        };
        if let Some(container) = container.filter(|_| args.attach.unwrap_or(args.stdin)) {
            let (namespace, name) = (meta::namespace(&pod), meta::name(&pod));
            let streams = attach::Streams { stdin: args.stdin, tty: args.tty, quiet: args.quiet, detach: DetachKeys::default() };
            attach::to_container(session, namespace, name, &container, streams, args.pod_running_timeout).await?;
        }
    }
    Ok(())
}

/// The fields of a container that `--custom` names.
fn read_custom(file: &std::path::Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let why = crate::kube::error::io_text(&error);
        Error::message(format!("must pass a container spec json file for custom profile: open {}: {why}", file.display()))
    })?;
    let fields = machinery::yaml::to_value(&text)
        .map_err(|error| Error::message(format!("{} does not contain a valid container spec: {error}", file.display())))?;
    profile::check_custom(&fields).map_err(Error::message)?;
    Ok(fields)
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// The name of the flags, or one that no container of the pod has.
fn container_name(args: &DebugArgs, pod: &Value) -> String {
    if let Some(name) = &args.container {
        return name.clone();
    }
    let taken = plan::names(pod);
    let mut name = format!("debugger-{}", safe_suffix(random(), 5));
    while taken.contains(&name.as_str()) {
        name = format!("debugger-{}", safe_suffix(random(), 5));
    }
    if !args.quiet {
        println!("Defaulting debug container name to {name}.");
    }
    name
}

type Made = (Value, Option<String>);

async fn on_node(args: &DebugArgs, session: &Session, node: &Info) -> Result<Made> {
    let container = args.container.clone().unwrap_or_else(|| "debugger".into());
    let name = format!("node-debugger-{}-{}", node.name, safe_suffix(random(), 5));
    if !args.quiet {
        println!("Creating debugging pod {name} with container {container} on node {}.", node.name);
    }
    let pod = plan::on_node(&node.name, args, &name, &container)?;
    let path = format!("/api/v1/namespaces/{}/pods", session.namespace);
    Ok((session.json(Request::post(path, &pod)).await?, Some(container)))
}

async fn join(args: &DebugArgs, session: &Session, pod: &Info) -> Result<Made> {
    let name = container_name(args, &pod.object);
    let changed = plan::ephemeral(&pod.object, args, &name)?;
    let (kind, patch) = two_way(&pod.object, &changed);
    let request = Request::patch(format!("{}/ephemeralcontainers", pod.path()), kind, &patch);
    Ok((session.json(request).await?, Some(name)))
}

async fn copy(args: &DebugArgs, session: &Session, pod: &Info) -> Result<Made> {
    let to = args.copy_to.as_deref().unwrap_or_default();
    let only_images = args.image.is_none() && args.container.is_none() && !args.set_image.is_empty();
    let container = (!only_images).then(|| container_name(args, &pod.object));
    let made = plan::copy(&pod.object, args, to, container.as_deref())?;
    let path = pod.resource.path(&pod.namespace, None);
    let created = session.json(Request::post(path, &made)).await?;
    if args.replace {
        let options = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        session.json(Request::delete(pod.path(), &options)).await?;
    }
    Ok((created, container))
}
