//! Live completion: names of kinds, objects, namespaces, containers and contexts.
//!
//! It must never be in the way: what cannot be had within the time is left out, and nothing is printed.

use std::{ffi::OsStr, time::Duration};

use clap::Parser;
use clap_complete::CompletionCandidate;
use serde_json::Value;

use super::{Discovery, Globals, Request, Session, kubeconfig};

/// All that a completion may take.
const TIME: Duration = Duration::from_millis(90);
/// Kinds change rarely: an old answer is better than none.
const DISCOVERY_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is on the command line so far, as far as it matters here.
struct Line {
    globals: Globals,
    words: Vec<String>,
}

#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
struct GlobalsOnly {
    #[command(flatten)]
    globals: Globals,
}

impl Line {
    /// From the words of the shell: `kctl -- kctl get pod`. The last word is the one being completed.
    fn current() -> Self {
        let mut words: Vec<String> = std::env::args().skip_while(|word| word != "--").skip(2).collect();
        words.pop();
        let mut flags = Vec::new();
        let mut rest = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let valued =
                ["-n", "--namespace", "--context", "--kubeconfig", "-s", "--server", "--cluster", "--user", "--token", "--as"];
            if valued.contains(&word.as_str()) {
                flags.push(word);
                flags.extend(words.next());
            } else if valued.iter().any(|flag| word.starts_with(&format!("{flag}=")))
                || word.starts_with("--insecure-skip-tls-verify")
            {
                flags.push(word);
            } else if !word.starts_with('-') {
                rest.push(word);
            }
        }
        let globals = GlobalsOnly::try_parse_from(flags).map(|parsed| parsed.globals).unwrap_or_default();
        Self { globals, words: rest }
    }
}

/// Runs a query for at most [`TIME`].
fn within<T: Default>(query: impl Future<Output = Option<T>>) -> T {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return T::default() };
    let answer = runtime.block_on(async { tokio::time::timeout(TIME, query).await.ok().flatten() });
    runtime.shutdown_background();
    answer.unwrap_or_default()
}

fn candidates(names: impl IntoIterator<Item = String>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

async fn discovery(session: &Session) -> Option<Discovery> {
    match Discovery::remembered(&session.url(), DISCOVERY_AGE_MAX) {
        Some(discovery) => Some(discovery),
        None => Discovery::refresh(session).await.ok(),
    }
}

/// Names of objects of a type; metadata only.
async fn names(session: &Session, kind: &str) -> Option<Vec<String>> {
    let discovery = discovery(session).await?;
    let resource = discovery.find(kind)?;
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    let request =
        Request::get(resource.path(&session.namespace, None)).accept(metadata).query("limit", 500).query("resourceVersion", 0);
    let list = session.json(request).await.ok()?;
    let name = |item: &Value| item["metadata"]["name"].as_str().map(str::to_owned);
    Some(list["items"].as_array()?.iter().filter_map(name).collect())
}

pub fn contexts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let config = kubeconfig::load(&Line::current().globals).unwrap_or_default();
    candidates(config.contexts.into_iter().map(|context| context.name), typed)
}

pub fn namespaces(typed: &OsStr) -> Vec<CompletionCandidate> {
    objects_of("namespaces", typed)
}

pub fn nodes(typed: &OsStr) -> Vec<CompletionCandidate> {
    objects_of("nodes", typed)
}

pub fn pods(typed: &OsStr) -> Vec<CompletionCandidate> {
    objects_of("pods", typed)
}

fn objects_of(kind: &str, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Ok(session) = Session::new(&Line::current().globals) else { return Vec::new() };
    candidates(within(names(&session, kind)), typed)
}

/// The first word of `get`, `describe`, …: a type, or `TYPE/NAME`. Further words: names of that type.
pub fn resources(typed: &OsStr) -> Vec<CompletionCandidate> {
    let line = Line::current();
    let Ok(session) = Session::new(&line.globals) else { return Vec::new() };
    let text = typed.to_string_lossy();
    if let Some((kind, _)) = text.split_once('/') {
        let names: Vec<String> = within(names(&session, kind));
        return candidates(names.into_iter().map(|name| format!("{kind}/{name}")), typed);
    }
    // The command itself is the first word; `rollout`, `set`, … have one more.
    let given = line.words.iter().skip(1).rfind(|word| !SUBCOMMANDS.contains(&word.as_str()));
    if let Some(kind) = given.filter(|word| !word.contains('/')) {
        return candidates(within(names(&session, kind)), typed);
    }
    let kinds = within(async {
        let discovery = discovery(&session).await?;
        let readable = discovery.preferred().filter(|resource| resource.can("get") || resource.can("list"));
        Some(
            readable
                .map(|resource| if resource.group.contains('.') { resource.full_name() } else { resource.plural.clone() })
                .collect::<Vec<_>>(),
        )
    });
    candidates(kinds, typed)
}

const SUBCOMMANDS: &[&str] = &[
    "status",
    "history",
    "undo",
    "restart",
    "pause",
    "resume",
    "image",
    "env",
    "resources",
    "selector",
    "serviceaccount",
    "subject",
];

/// Containers of the pod that is on the line already.
pub fn containers(typed: &OsStr) -> Vec<CompletionCandidate> {
    let line = Line::current();
    let Ok(session) = Session::new(&line.globals) else { return Vec::new() };
    let Some(pod) = line.words.get(1).map(|word| word.trim_start_matches("pod/").trim_start_matches("pods/").to_owned()) else {
        return Vec::new();
    };
    let names = within(async {
        let pod = session.json(Request::get(format!("/api/v1/namespaces/{}/pods/{pod}", session.namespace))).await.ok()?;
        let lists = ["containers", "initContainers", "ephemeralContainers"];
        let containers = lists.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
        Some(containers.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect::<Vec<_>>())
    });
    candidates(names, typed)
}
