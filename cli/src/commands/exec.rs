//! `kctl exec`.

use clap::Args;
use stream::remotecommand::Options;

use super::{pods::ContainerArgs, stream as streams};
use crate::kube::{Error, Request, Result, Session, manifest};

/// Runs a command in a container
///
///   kctl exec web-1 -- date
///   kctl exec -it deploy/web -c nginx -- sh
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ExecArgs {
    #[command(flatten)]
    target: ContainerArgs,
    /// A file with the object whose pod is meant
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    filename: Option<String>,
    /// The command, after --
    #[arg(last = true)]
    command: Vec<String>,
}

pub async fn run(mut args: ExecArgs, session: &Session) -> Result<()> {
    let unnamed = "pod, type/name or --filename must be specified";
    if args.target.pod.is_none() && args.filename.is_none() {
        return Err(Error::message(unnamed));
    }
    if args.command.is_empty() {
        return Err(Error::message("you must specify at least one command for the container"));
    }
    if let Some(file) = args.filename.take() {
        args.target.pod = Some(manifest::named_in(&file).await?);
    }
    let ContainerArgs { stdin, tty, quiet, .. } = args.target;
    let pod = args.target.pod(session, unnamed).await?;
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if phase == "Succeeded" || phase == "Failed" {
        return Err(Error::message(format!("cannot exec into a container in a completed pod; current phase is {phase}")));
    }
    let container = args.target.container(&pod)?;
    let options = Options { stdin, stdout: true, stderr: true, tty: streams::terminal(tty, stdin) };
    let command = streams::start(session, request(&pod, &container, &args.command), options).await?;
    match streams::connect(command, options, None).await? {
        0 => Ok(()),
        code => {
            if !quiet {
                eprintln!("command terminated with exit code {code}");
            }
            Err(Error::Exit(code))
        }
    }
}

/// The request that runs a command.
pub fn request(pod: &serde_json::Value, container: &str, command: &[String]) -> Request {
    let (namespace, name) = (machinery::meta::namespace(pod), machinery::meta::name(pod));
    let request = Request::get(format!("/api/v1/namespaces/{namespace}/pods/{name}/exec")).query("container", container);
    command.iter().fold(request, |request, word| request.query("command", word))
}
