//! `kctl replace`: objects as the files say, whole.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{
    apply,
    flags::{ManagerFlag, Removal, WriteFlags},
    raw, wait,
};
use crate::{
    kube::{Error, Files, Info, Request, Result, Session, select, session::JSON},
    output::format::DryRun,
};
use reqwest::Method;

/// How long a deleted object may take to be gone when no --timeout is given.
const GONE_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Replaces objects by what the files say, whole
///
///   kctl replace -f app.yaml             kctl replace --force -f app.yaml
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ReplaceArgs {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    removal: Removal,
    /// Replace a subresource: status, scale
    #[arg(long)]
    subresource: Option<String>,
    /// Send the file to this path as it is
    #[arg(long, value_name = "PATH")]
    raw: Option<String>,
    #[command(flatten)]
    manager: ManagerFlag,
    /// Write down what the object is replaced by, for `apply` to compare with
    #[arg(long)]
    save_config: bool,
    #[command(flatten)]
    write: WriteFlags,
}

fn check(args: &ReplaceArgs) -> Result<()> {
    if args.files.is_empty() {
        return Err(Error::message("must specify one of -f and -k"));
    }
    if args.removal.grace_period >= 0 && !args.removal.force {
        return Err(Error::message("--grace-period must have --force specified"));
    }
    if !args.removal.timeout.is_zero() && !args.removal.force {
        return Err(Error::message("--timeout must have --force specified"));
    }
    if args.removal.force && args.write.dry_run() != DryRun::No {
        return Err(Error::message("--dry-run can not be used when --force is set"));
    }
    let Some(path) = &args.raw else { return Ok(()) };
    if args.files.filenames.len() != 1 {
        return Err(Error::message("--raw can only use a single local file or stdin"));
    }
    raw::check(path, &args.files, args.write.output())
}

pub async fn run(mut args: ReplaceArgs, session: &Session) -> Result<()> {
    check(&args)?;
    args.files.checked = args.write.checks();
    if let Some(path) = &args.raw {
        return raw::send(session, Method::PUT, path, &args.files.filenames[0]).await;
    }
    let dry_run = args.write.dry_run();
    let mut reporter = args.write.reporter()?;
    let infos = select::from_files(session, &args.files).await?;
    if infos.is_empty() {
        return Err(Error::message("no objects passed to replace"));
    }
    if args.removal.force {
        delete(&args, session, &infos).await?;
    }
    let mut errors = Vec::new();
    for info in &infos {
        if dry_run == DryRun::Client {
            reporter.done(info, &info.object, "replaced")?;
            continue;
        }
        let outcome =
            if args.removal.force { send(&args, session, info, Method::POST).await } else { put(&args, session, info).await };
        match outcome {
            Ok(object) => reporter.done(info, &object, "replaced")?,
            Err(error) if args.removal.force => errors.push(error),
            Err(error) => errors.push(info.during(error, "replacing")),
        }
    }
    Error::all(errors)
}

/// Replaces an object. A file without a resourceVersion replaces whatever is there, which takes the current one where the
/// server asks for it.
async fn put(args: &ReplaceArgs, session: &Session, info: &Info) -> Result<Value> {
    if machinery::meta::metadata(&info.object).is_some_and(|metadata| metadata.contains_key("resourceVersion")) {
        return send(args, session, info, Method::PUT).await;
    }
    let path = target(args, info);
    let mut versioned = info.clone();
    // That it can't be read is no reason not to try: the server says what is wrong.
    if let Ok(current) = session.json(Request::get(path)).await
        && let Some(version) = current["metadata"]["resourceVersion"].as_str()
    {
        machinery::meta::metadata_mut(&mut versioned.object).insert("resourceVersion".into(), version.into());
    }
    send(args, session, &versioned, Method::PUT).await
}

fn target(args: &ReplaceArgs, info: &Info) -> String {
    args.subresource.as_ref().map_or_else(|| info.path(), |subresource| format!("{}/{subresource}", info.path()))
}

async fn send(args: &ReplaceArgs, session: &Session, info: &Info, method: Method) -> Result<Value> {
    let path = if method == Method::POST { info.resource.path(&info.namespace, None) } else { target(args, info) };
    // Who applied an object once goes on so: the annotation is renewed.
    let applied = machinery::meta::annotation(&info.object, machinery::apply::LAST_APPLIED).is_some();
    let mut object = if args.save_config || applied { apply::annotated(&info.object) } else { info.object.clone() };
    if method == Method::POST {
        machinery::meta::metadata_mut(&mut object).remove("resourceVersion");
    }
    let request = Request::new(method, path).body(JSON, object.to_string());
    session.json(args.write.send(request, args.manager.or("kctl-replace"))).await
}

/// Deletes the objects that are there and waits until they are gone.
async fn delete(args: &ReplaceArgs, session: &Session, infos: &[Info]) -> Result<()> {
    let mut options = args.removal.options();
    if args.removal.grace_period >= 0 {
        // A grace period of 0 that was asked for is one second, as kubectl protects from losing data.
        options["gracePeriodSeconds"] = args.removal.grace_period.max(1).into();
    }
    let within = if args.removal.timeout.is_zero() { GONE_WITHIN } else { args.removal.timeout };
    let until = tokio::time::Instant::now() + within;
    for info in infos {
        match session.json(Request::delete(info.path(), &options)).await {
            Ok(_) => {
                let from = if info.namespace.is_empty() { String::new() } else { format!(" from {} namespace", info.namespace) };
                if args.write.output().is_none() {
                    println!("{} {:?} deleted{from}", info.resource.label(), info.name);
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    for info in infos {
        wait::gone(session, info, None, until).await?;
    }
    Ok(())
}
