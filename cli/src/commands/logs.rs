//! `kctl logs`.

use std::{io::Write, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use futures::StreamExt;
use serde_json::Value;

use super::pods::{self, containers, default_container};
use crate::kube::{Error, Request, Result, Session, complete, globals::duration};

/// Prints what a container wrote
///
///   kctl logs web-1                     kctl logs -f deploy/web -c nginx
///   kctl logs -l app=web --prefix       kctl logs web-1 --previous --tail=20
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct LogsArgs {
    /// POD or TYPE/NAME, and a container
    #[arg(value_name = "POD | TYPE/NAME", num_args = 0..=2, add = ArgValueCompleter::new(complete::pods))]
    words: Vec<String>,
    /// The container
    #[arg(short, long, add = ArgValueCompleter::new(complete::containers))]
    container: Option<String>,
    /// Every container
    #[arg(long)]
    all_containers: bool,
    /// Every pod of the object
    #[arg(long)]
    all_pods: bool,
    /// Go on as more is written
    #[arg(short, long)]
    follow: bool,
    /// Of the container that ran before
    #[arg(short, long)]
    previous: bool,
    /// Pods with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// The last lines only; -1 is all
    #[arg(long, allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Not older than this (5s, 2m, 3h)
    #[arg(long, value_parser = duration, conflicts_with = "since_time")]
    since: Option<Duration>,
    /// Not older than this time (RFC 3339)
    #[arg(long)]
    since_time: Option<String>,
    /// Each line with its time
    #[arg(long)]
    timestamps: bool,
    /// At most so many bytes
    #[arg(long)]
    limit_bytes: Option<u64>,
    /// Each line with its pod and container
    #[arg(long)]
    prefix: bool,
    /// A stream that fails does not end the others
    #[arg(long)]
    ignore_errors: bool,
    /// Streams that may be followed at once
    #[arg(long, default_value_t = 5)]
    max_log_requests: usize,
    /// Do not verify the kubelet's certificate
    #[arg(long)]
    insecure_skip_tls_verify_backend: bool,
    /// How long a pod of TYPE/NAME may take to be there
    #[arg(long, value_parser = duration, default_value = "20s")]
    pod_running_timeout: Duration,
}

/// One log to read.
struct Source {
    pod: String,
    container: String,
    request: Request,
}

/// What is not there is looked for in the wrong namespace, most of the time.
fn missing(session: &Session, error: Error) -> Error {
    match error {
        Error::Status(status) if status.code() == 404 => {
            let (message, namespace) = (&status.message, &session.namespace);
            Error::Message(format!("error from server (NotFound): {message} in namespace {namespace:?}"))
        }
        error => error,
    }
}

pub async fn run(args: LogsArgs, session: &Session) -> Result<()> {
    let usage = |message: &str| Error::Usage { command: "logs", message: message.into() };
    if args.words.is_empty() && args.selector.is_none() {
        return Err(usage(
            "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command",
        ));
    }
    if !args.words.is_empty() && args.selector.is_some() {
        return Err(usage("only a selector (-l) or a POD name is allowed"));
    }
    if args.container.is_some() && args.words.len() == 2 {
        return Err(Error::message("only one of -c or an inline [CONTAINER] arg is allowed"));
    }
    let container = args.container.as_ref().or(args.words.get(1));
    if let Some(container) = container.filter(|_| args.all_containers) {
        return Err(Error::message(format!("--all-containers=true should not be specified with container name {container}")));
    }
    let pods = match &args.selector {
        Some(selector) => {
            let found = pods::matching(session, &session.namespace, selector).await?;
            if found.is_empty() {
                eprintln!("No resources found in {} namespace.", session.namespace);
            }
            found
        }
        None if args.all_pods => pods::all_of(session, &args.words[0]).await.map_err(|error| missing(session, error))?,
        None => {
            let pod = pods::one_of(session, &args.words[0], args.pod_running_timeout).await;
            vec![pod.map_err(|error| missing(session, error))?]
        }
    };
    let mut sources = Vec::new();
    for pod in &pods {
        sources.extend(sources_of(&args, pod, container)?);
    }
    if args.follow && sources.len() > args.max_log_requests {
        return Err(Error::message(format!(
            "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
            sources.len(),
            args.max_log_requests
        )));
    }
    let prefix = args.prefix || args.all_pods;
    if args.follow && sources.len() > 1 {
        let mut streams: futures::stream::FuturesUnordered<_> =
            sources.iter().map(|source| copy(session, source, prefix)).collect();
        while let Some(outcome) = streams.next().await {
            finish(outcome, args.ignore_errors)?;
        }
        return Ok(());
    }
    for source in &sources {
        finish(copy(session, source, prefix).await, args.ignore_errors)?;
    }
    Ok(())
}

fn finish(outcome: Result<()>, ignore_errors: bool) -> Result<()> {
    match outcome {
        Err(error) if ignore_errors => {
            eprintln!("{}", error.text());
            Ok(())
        }
        outcome => outcome,
    }
}

fn sources_of(args: &LogsArgs, pod: &Value, container: Option<&String>) -> Result<Vec<Source>> {
    let (namespace, name) = (machinery::meta::namespace(pod), machinery::meta::name(pod));
    let names: Vec<String> = match container {
        Some(container) => vec![pods::check_container(pod, container)?],
        None if args.all_containers => containers(pod).map(str::to_owned).collect(),
        None => vec![default_container(pod)?],
    };
    // Of many pods only the ends are interesting, unless someone asks for more.
    let tail = args.tail.or((args.selector.is_some() && !args.follow).then_some(10)).or((args.selector.is_some()).then_some(10));
    let source = |container: String| {
        let mut request = Request::get(format!("/api/v1/namespaces/{namespace}/pods/{name}/log"))
            .query("container", &container)
            .query_some("tailLines", tail.filter(|lines| *lines >= 0))
            .query_some("sinceSeconds", args.since.map(|since| since.as_secs().max(1)))
            .query_some("sinceTime", args.since_time.as_deref())
            .query_some("limitBytes", args.limit_bytes);
        for (flag, name) in [
            (args.follow, "follow"),
            (args.previous, "previous"),
            (args.timestamps, "timestamps"),
            (args.insecure_skip_tls_verify_backend, "insecureSkipTLSVerifyBackend"),
        ] {
            if flag {
                request = request.query(name, true);
            }
        }
        Source { pod: name.to_owned(), container, request: request.endless() }
    };
    Ok(names.into_iter().map(source).collect())
}

/// Copies a log to standard output; whole lines when they have a prefix.
async fn copy(session: &Session, source: &Source, prefix: bool) -> Result<()> {
    let mut response = session.send(source.request.clone()).await?;
    let prefix = if prefix { format!("[pod/{}/{}] ", source.pod, source.container) } else { String::new() };
    let mut line = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| session.transport(&error))? {
        let mut out = std::io::stdout().lock();
        if prefix.is_empty() {
            out.write_all(&chunk)?;
            out.flush()?;
            continue;
        }
        line.extend_from_slice(&chunk);
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            out.write_all(prefix.as_bytes())?;
            out.write_all(&line[..=end])?;
            line.drain(..=end);
        }
        out.flush()?;
    }
    if !line.is_empty() {
        let mut out = std::io::stdout().lock();
        out.write_all(prefix.as_bytes())?;
        out.write_all(&line)?;
        out.flush()?;
    }
    Ok(())
}
