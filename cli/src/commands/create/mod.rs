//! `kctl create`: makes objects from files, or common kinds from flags. One file for each group of kinds.

mod access;
mod config;
mod ingress;
mod policy;
mod service;
mod token;
mod workload;

pub use access::Subjects;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::{
    apply, edit,
    flags::{ManagerFlag, WriteFlags},
    raw,
};
use crate::{
    kube::{Error, Files, Info, Request, Result, Session, select},
    output::format::DryRun,
};

/// Creates objects from files, or common kinds from flags
///
///   kctl create -f app.yaml
///   kctl create deployment web --image=nginx --replicas=3
///   kctl create configmap settings --from-literal=mode=fast
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true, subcommand_help_heading = "Kinds")]
pub struct CreateArgs {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    from: FromFiles,
    #[command(flatten)]
    flags: CreateFlags,
    #[command(subcommand)]
    what: Option<What>,
}

/// What is done with files only.
#[derive(Args, Clone, Debug)]
struct FromFiles {
    /// Only objects of the files with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Edit the objects before they are created
    #[arg(long)]
    edit: bool,
    /// With --edit: end the lines of the file as Windows does
    #[arg(long)]
    windows_line_endings: bool,
    /// Send the file to this path as it is
    #[arg(long, value_name = "PATH")]
    raw: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    #[command(alias = "deploy")]
    Deployment(workload::DeploymentArgs),
    Job(workload::JobArgs),
    #[command(alias = "cj")]
    Cronjob(workload::CronJobArgs),
    #[command(alias = "ns")]
    Namespace(config::NamespaceArgs),
    #[command(alias = "cm")]
    Configmap(config::ConfigMapArgs),
    Secret(config::SecretArgs),
    #[command(alias = "svc")]
    Service(service::ServiceArgs),
    #[command(alias = "sa")]
    Serviceaccount(access::ServiceAccountArgs),
    Role(access::RoleArgs),
    Clusterrole(access::ClusterRoleArgs),
    Rolebinding(access::BindingArgs),
    Clusterrolebinding(access::BindingArgs),
    Token(token::TokenArgs),
    #[command(alias = "resourcequota")]
    Quota(policy::QuotaArgs),
    #[command(alias = "pdb")]
    Poddisruptionbudget(policy::BudgetArgs),
    #[command(alias = "pc")]
    Priorityclass(policy::PriorityClassArgs),
    #[command(alias = "ing")]
    Ingress(ingress::IngressArgs),
}

#[derive(Args, Clone, Debug, Default)]
pub struct CreateFlags {
    #[command(flatten)]
    pub manager: ManagerFlag,
    #[command(flatten)]
    pub write: WriteFlags,
    /// Write down what is created, for `apply` to compare with
    #[arg(long)]
    pub save_config: bool,
}

impl CreateArgs {
    /// `--user` of a binding is its subject, not the user of the kubeconfig.
    pub fn names_users(&self) -> bool {
        matches!(self.what, Some(What::Rolebinding(_) | What::Clusterrolebinding(_)))
    }
}

pub async fn run(args: CreateArgs, session: &Session) -> Result<()> {
    match args.what {
        None => {
            let checked = args.flags.write.checks();
            from_files(&Files { checked, ..args.files }, &args.from, &args.flags, session).await
        }
        Some(What::Deployment(args)) => one(session, args.object()?, &args.flags, "deployment").await,
        Some(What::Job(args)) => workload::job(args, session).await,
        Some(What::Cronjob(args)) => one(session, args.object(), &args.flags, "cronjob").await,
        Some(What::Namespace(args)) => one(session, args.object(), &args.flags, "").await,
        Some(What::Configmap(args)) => one(session, args.object()?, &args.flags, "configmap").await,
        Some(What::Secret(args)) => one(session, args.object()?, args.flags(), "secret").await,
        Some(What::Service(args)) => one(session, args.object()?, args.flags(), &format!("{} service", args.kind())).await,
        Some(What::Serviceaccount(args)) => one(session, args.object(), &args.flags, "serviceaccount").await,
        Some(What::Role(args)) => one(session, access::role(&args, session).await?, &args.flags, "").await,
        Some(What::Clusterrole(args)) => one(session, access::cluster_role(&args, session).await?, &args.role.flags, "").await,
        Some(What::Rolebinding(args)) => one(session, args.object("RoleBinding")?, &args.flags, "rolebinding").await,
        Some(What::Clusterrolebinding(args)) => {
            one(session, args.object("ClusterRoleBinding")?, &args.flags, "clusterrolebinding").await
        }
        Some(What::Quota(args)) => one(session, args.object()?, &args.flags, "quota").await,
        Some(What::Poddisruptionbudget(args)) => one(session, args.object()?, &args.flags, "poddisruptionbudgets").await,
        Some(What::Priorityclass(args)) => one(session, args.object(), &args.flags, "priorityclass").await,
        Some(What::Ingress(args)) => one(session, args.object()?, &args.flags, "ingress").await,
        Some(What::Token(args)) => token::run(args, session).await,
    }
}

async fn from_files(files: &Files, from: &FromFiles, flags: &CreateFlags, session: &Session) -> Result<()> {
    if files.is_empty() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    if let Some(path) = &from.raw {
        check_raw(path, files, from, flags)?;
        return raw::send(session, Method::POST, path, &files.filenames[0]).await;
    }
    let (mut infos, mut errors) = select::readable_files(session, files).await?;
    if from.edit {
        Error::all(errors)?;
        let save =
            async |info: &Info, edited: &Value| submit(session, &Info { object: edited.clone(), ..info.clone() }, flags).await;
        let mut reporter = flags.write.reporter()?;
        return edit::before_create(infos, flags.write.output(), from.windows_line_endings, &mut reporter, save).await;
    }
    if let Some(selector) = &from.selector {
        select::retain(&mut infos, selector)?;
    }
    if infos.is_empty() && errors.is_empty() {
        return Err(Error::message("no objects passed to create"));
    }
    let mut reporter = flags.write.reporter()?;
    for mut info in infos {
        match submit(session, &info, flags).await {
            Ok(object) => {
                info.name = machinery::meta::name(&object).to_owned();
                reporter.done(&info, &object, "created")?;
            }
            Err(error) => errors.push(info.during(error, "creating")),
        }
    }
    Error::all(errors)
}

fn check_raw(path: &str, files: &Files, from: &FromFiles, flags: &CreateFlags) -> Result<()> {
    if from.edit {
        return Err(Error::message("--raw and --edit are mutually exclusive"));
    }
    if files.filenames.len() != 1 {
        return Err(Error::message("--raw can only use a single local file or stdin"));
    }
    raw::check(path, files, flags.write.output())?;
    match from.selector {
        Some(_) => Err(Error::message("--raw and --selector (-l) are mutually exclusive")),
        None => Ok(()),
    }
}

/// Creates an object that was made from flags. `what` is how an error calls it.
pub async fn one(session: &Session, mut object: Value, flags: &CreateFlags, what: &str) -> Result<()> {
    let mut reporter = flags.write.reporter()?;
    let info = info(session, &mut object, flags).await?;
    let created = submit(session, &info, flags).await.map_err(|error| match error {
        // Without a colon, as kubectl has it.
        Error::Status(status) if what == "secret" => Error::message(format!("failed to create secret {}", status.message)),
        Error::Status(status) if !what.is_empty() => Error::message(format!("failed to create {what}: {}", status.message)),
        error => error,
    })?;
    reporter.done(&info, &created, "created")
}

/// Finds an object's resource. Without asking the server when nothing is to be sent to it.
pub async fn info(session: &Session, object: &mut Value, flags: &CreateFlags) -> Result<Info> {
    let gvk = machinery::gvk::Gvk::of(object).unwrap_or_else(|| machinery::gvk::Gvk::new("", "v1", ""));
    let builtin = schema::builtin().by_kind(&gvk.group, &gvk.version, &gvk.kind);
    let resource = match builtin {
        Some(builtin) => crate::kube::Resource {
            group: gvk.group,
            version: gvk.version,
            kind: gvk.kind,
            plural: builtin.plural.clone(),
            singular: builtin.singular.clone(),
            namespaced: builtin.namespaced,
            ..Default::default()
        },
        None => session
            .resource_of(machinery::meta::api_version(object), machinery::meta::kind(object))
            .await?
            .ok_or_else(|| Error::message(format!("no matches for kind {:?}", gvk.kind)))?,
    };
    let namespace = if resource.namespaced { session.namespace.clone() } else { String::new() };
    // What is only printed has a namespace only if one was asked for: it may be applied anywhere.
    if resource.namespaced && (session.namespace_given || flags.write.dry_run() != DryRun::Client) {
        machinery::meta::metadata_mut(object).insert("namespace".into(), namespace.clone().into());
    }
    let name = machinery::meta::name(object).to_owned();
    Ok(Info { resource, namespace, name, object: object.clone(), source: None })
}

pub async fn submit(session: &Session, info: &Info, flags: &CreateFlags) -> Result<Value> {
    let dry_run = flags.write.dry_run();
    // Who applied an object once goes on so: the annotation is renewed.
    let applied = machinery::meta::annotation(&info.object, machinery::apply::LAST_APPLIED).is_some();
    let object = match flags.save_config || applied {
        true if info.source.is_some() => apply::annotated(&info.object),
        true => apply::annotated_as_is(&info.object, session.namespace_given),
        false => info.object.clone(),
    };
    if dry_run == DryRun::Client {
        return Ok(object);
    }
    let request = Request::post(info.resource.path(&info.namespace, None), &object);
    session.json(flags.write.send(request, flags.manager.or("kctl-create"))).await
}
