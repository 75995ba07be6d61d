//! `kctl exec`.

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use stream::remotecommand::Options;

use super::{pods, stream as streams};
use crate::kube::{Error, Request, Result, Session, complete, globals::duration};

/// Runs a command in a container
///
///   kctl exec web-1 -- date
///   kctl exec -it deploy/web -c nginx -- sh
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct ExecArgs {
    /// POD or TYPE/NAME
    #[arg(value_name = "POD | TYPE/NAME", add = ArgValueCompleter::new(complete::pods))]
    pod: String,
    /// The container
    #[arg(short, long, add = ArgValueCompleter::new(complete::containers))]
    container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// Say nothing beside the command's output
    #[arg(short, long)]
    quiet: bool,
    /// How long a pod of TYPE/NAME may take to be there
    #[arg(long, value_parser = duration, default_value = "1m")]
    pod_running_timeout: Duration,
    /// The command, after --
    #[arg(last = true)]
    command: Vec<String>,
}

pub async fn run(args: ExecArgs, session: &Session) -> Result<()> {
    if args.command.is_empty() {
        return Err(Error::Usage { command: "exec", message: "you must specify at least one command for the container".into() });
    }
    let pod = pods::one_of(session, &args.pod, args.pod_running_timeout).await?;
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if phase == "Succeeded" || phase == "Failed" {
        return Err(Error::message(format!("cannot exec into a container in a completed pod; current phase is {phase}")));
    }
    let container = match &args.container {
        Some(container) => pods::check_container(&pod, container)?,
        None => pods::default_container(&pod)?,
    };
    let options = Options { stdin: args.stdin, stdout: true, stderr: true, tty: streams::terminal(args.tty, args.stdin) };
    let command = streams::start(session, request(&pod, &container, &args.command), options).await?;
    match streams::connect(command, options).await? {
        0 => Ok(()),
        code => {
            if !args.quiet {
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
