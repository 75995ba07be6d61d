//! `kctl describe`: objects in words, with what belongs to them and what happened to them.
//!
//! A description is a pure function of an object and of what was fetched with it; fetching is here.

mod node;
mod objects;
mod pod;
mod workload;
mod writer;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use self::{workload::Phases, writer::Writer};
use super::targets::{Selectors, Targets};
use crate::kube::{Error, Info, Query, Request, Result, Session, select};

/// Shows objects in detail, with their events
///
///   kctl describe pod web-1               kctl describe deploy/web
///   kctl describe pods -l app=web         kctl describe pod web    (all that begin so)
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct DescribeArgs {
    #[command(flatten)]
    targets: Targets,
    /// With events; several objects are shown without, unless this is given
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    show_events: Option<bool>,
    #[arg(long, default_value_t = select::CHUNK, hide = true)]
    chunk_size: usize,
}

pub async fn run(args: DescribeArgs, session: &Session) -> Result<()> {
    let Targets { words, files, selectors } = &args.targets;
    if words.is_empty() && files.is_empty() {
        return Err(Error::Plain(
            "error: You must specify the type of resource to describe. Use \"kctl api-resources\" for a complete list of supported resources.".into(),
        ));
    }
    let query = Query { types_mean_all: true, ..selectors.query(words, files) };
    let (mut infos, mut errors) = query.fetch(session).await?;
    let mut show_events = infos.len() == 1;
    let mut by_prefix_only = false;
    if infos.is_empty() && errors.len() == 1 && errors[0].is_not_found() {
        infos = by_prefix(session, &query).await?;
        show_events = false;
        by_prefix_only = true;
        if !infos.is_empty() {
            errors.clear();
        }
    }
    if infos.is_empty() && errors.is_empty() {
        if selectors.all_namespaces {
            eprintln!("No resources found");
        } else {
            eprintln!("No resources found in {} namespace.", session.namespace);
        }
    }
    for (at, info) in infos.iter().enumerate() {
        if at > 0 && !by_prefix_only {
            print!("\n\n");
        }
        print!("{}", describe(session, info, args.show_events.unwrap_or(show_events)).await?);
        if by_prefix_only {
            println!();
        }
    }
    Error::all(errors)
}

/// Objects whose names begin with the one that was not found.
async fn by_prefix(session: &Session, query: &Query) -> Result<Vec<Info>> {
    let (kind, name) = match select::words(&query.words)? {
        select::Words::Types(types, names) if types.len() == 1 && names.len() == 1 => (types[0].clone(), names[0].clone()),
        select::Words::Tuples(tuples) if tuples.len() == 1 => tuples[0].clone(),
        _ => return Ok(Vec::new()),
    };
    let all = Query { types_mean_all: true, ..Selectors::default().query(&[kind], &Default::default()) };
    let (mut infos, _) = all.fetch(session).await?;
    infos.retain(|info| info.name.starts_with(&name));
    Ok(infos)
}

async fn describe(session: &Session, info: &Info, show_events: bool) -> Result<String> {
    let object = &info.object;
    let namespace = &info.namespace;
    let now = Timestamp::now();
    let mut out = Writer::default();
    let in_namespace = |path: &str| Request::get(format!("/api/v1/{path}"));
    let pods = async || {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let (pods, _) = select::list(session, Request::get(path).query("labelSelector", workload::selector(object))).await?;
        Ok::<_, Error>(Phases::count(&pods, machinery::meta::uid(object)))
    };
    let mut with_events = show_events;
    match (info.resource.group.as_str(), info.resource.kind.as_str()) {
        ("", "Pod") => pod::pod(&mut out, object, now),
        ("", "Node") => {
            let name = &info.name;
            let lease = session
                .json(Request::get(format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}")))
                .await;
            let selector = format!("spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed");
            let pods = select::list(session, in_namespace("pods").query("fieldSelector", selector)).await;
            node::node(&mut out, object, lease.as_ref().ok(), pods.as_ref().ok().map(|(pods, _)| pods.as_slice()), now);
        }
        ("", "Service") => {
            let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
            let slices = select::list(
                session,
                Request::get(path).query("labelSelector", format!("kubernetes.io/service-name={}", info.name)),
            )
            .await;
            objects::service(&mut out, object, &slices.map(|(slices, _)| slices).unwrap_or_default());
        }
        ("", "Namespace") => {
            let list = async |plural: &str| {
                let (items, _) =
                    select::list(session, Request::get(format!("/api/v1/namespaces/{}/{plural}", info.name))).await?;
                Ok::<_, Error>(items)
            };
            objects::namespace(&mut out, object, &list("resourcequotas").await?, &list("limitranges").await?);
            with_events = false;
        }
        ("", "ConfigMap") => objects::config_map(&mut out, object),
        ("", "Secret") => {
            objects::secret(&mut out, object);
            with_events = false;
        }
        ("", "ServiceAccount") => objects::service_account(&mut out, object),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            objects::role(&mut out, object);
            with_events = false;
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            objects::role_binding(&mut out, object);
            with_events = false;
        }
        ("apps", "Deployment") => {
            let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets");
            let (sets, _) = select::list(session, Request::get(path).query("labelSelector", workload::selector(object))).await?;
            workload::deployment(&mut out, object, &sets);
        }
        ("apps", "ReplicaSet") => workload::replica_set(&mut out, object, pods().await?),
        ("apps", "DaemonSet") => workload::daemon_set(&mut out, object, pods().await?),
        ("apps", "StatefulSet") => workload::stateful_set(&mut out, object, pods().await?),
        ("batch", "Job") => workload::job(&mut out, object),
        ("batch", "CronJob") => workload::cron_job(&mut out, object),
        _ => anything(&mut out, object),
    }
    if with_events {
        let events = events(session, info).await;
        out.events(events.as_deref(), now);
    }
    Ok(out.finish())
}

fn anything(out: &mut Writer, object: &Value) {
    out.name_and_namespace(object);
    out.labels_and_annotations(object);
    let skip = [".metadata.managedFields", ".metadata.name", ".metadata.namespace", ".metadata.labels", ".metadata.annotations"];
    if let Some(map) = object.as_object() {
        writer::everything(out, 0, map, "", &skip);
    }
}

/// What happened to an object, oldest first. Nothing when it cannot be told.
async fn events(session: &Session, info: &Info) -> Option<Vec<Value>> {
    let mut uid = machinery::meta::uid(&info.object).to_owned();
    // Events of static pods name the pod by its hash, and those of nodes by their name.
    if let Some(hash) = machinery::meta::annotation(&info.object, "kubernetes.io/config.mirror") {
        uid = hash.to_owned();
    }
    let mut selector = format!("involvedObject.name={},involvedObject.kind={}", info.name, info.resource.kind);
    if info.resource.namespaced {
        selector += &format!(",involvedObject.namespace={}", info.namespace);
    }
    if info.resource.kind != "Node" {
        selector += &format!(",involvedObject.uid={uid}");
    }
    let path =
        if info.resource.namespaced { format!("/api/v1/namespaces/{}/events", info.namespace) } else { "/api/v1/events".into() };
    let (mut events, _) = select::list(session, Request::get(path).query("fieldSelector", selector)).await.ok()?;
    let last = |event: &Value| {
        [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]]
            .into_iter()
            .find_map(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    events.sort_by_key(last);
    Some(events)
}

/// A pod template alone, as `rollout history` shows it: kubectl does not align it.
pub fn pod_template(template: &Value) -> String {
    let mut out = Writer::default();
    pod::template(&mut out, template);
    out.unaligned()
}
