//! `/flagz` and `/statusz`: the flags a daemon runs with, and since when (KEP-4828, KEP-4827).
//!
//! Text for people; an object of `config.k8s.io` for programs that ask for one by `as=Flagz` or `as=Statusz` in their Accept
//! header. Whoever serves them decides who may read them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use clap::{ArgMatches, Command};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The version of Kubernetes that daemons are.
pub const VERSION: &str = "1.36.2";
const EMULATED: &str = "1.36";
const GROUP: &str = "config.k8s.io";
/// The newest first.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
const DEPRECATED: &str = "v1alpha1";
/// What can be answered with, as a refusal lists it.
pub const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", "text/plain"];

/// Paths below which there is nothing to find out about the daemon itself.
const NOT_FOR_DEBUGGING: [&str; 5] = ["/apis", "/api", "/openid", "/openapi", "/.well-known"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Flagz,
    Statusz,
}

impl Page {
    /// The page of a path.
    pub fn of(path: &str) -> Option<Self> {
        match path {
            "/flagz" => Some(Self::Flagz),
            "/statusz" => Some(Self::Statusz),
            _ => None,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Flagz => "Flagz",
            Self::Statusz => "Statusz",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Flagz => "flagz",
            Self::Statusz => "statusz",
        }
    }
}

/// What the pages of this process tell.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The daemon's name.
    pub name: String,
    pub started: Timestamp,
    pub flags: BTreeMap<String, String>,
}

static PROCESS: OnceLock<Process> = OnceLock::new();

/// Notes what the process was started as. The first note counts.
pub(crate) fn note(command: &Command, matches: &ArgMatches) {
    let _ =
        PROCESS.set(Process { name: command.get_name().to_owned(), started: Timestamp::now(), flags: flags(command, matches) });
}

/// This process; where nobody noted it (many servers in one test), one that has just begun and has no flags.
pub fn process() -> &'static Process {
    PROCESS.get_or_init(|| Process { started: Timestamp::now(), ..Process::default() })
}

/// All flags with their values, those that were not given too.
fn flags(command: &Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let value = |id: &str| {
        let values = matches.get_raw(id).into_iter().flatten();
        values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",")
    };
    let named = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg.get_id().as_str())));
    named.filter(|(long, _)| *long != "help").map(|(long, id)| (long.to_owned(), value(id))).collect()
}

/// The form that a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Object { media_type: &'static str, version: &'static str },
}

/// None when nothing of what the client accepts can be served.
fn negotiate(page: Page, accept: &str) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::Text);
    }
    let mut clauses: Vec<(f32, &str, BTreeMap<&str, &str>)> = Vec::new();
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameters: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality = parameters.get("q").and_then(|q| q.parse().ok()).unwrap_or(1.0);
        clauses.push((quality, media_type, parameters));
    }
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses.into_iter().find_map(|(_, media_type, parameters)| {
        let transformed = ["as", "g", "v"].iter().any(|name| parameters.contains_key(name));
        let object = |media_type: &'static str| {
            let right = parameters.get("as") == Some(&page.kind()) && parameters.get("g") == Some(&GROUP);
            let version = VERSIONS.into_iter().find(|version| parameters.get("v") == Some(version));
            version.filter(|_| right).map(|version| Form::Object { media_type, version })
        };
        match media_type {
            "application/json" => object("application/json"),
            "application/yaml" => object("application/yaml"),
            "*/*" | "application/*" if transformed => object("application/json"),
            "text/plain" | "text/*" | "*/*" if !transformed => Some(Form::Text),
            _ => None,
        }
    })
}

/// The page, or none when the client accepts no form of it. `component` is what the daemon calls itself, `paths` what else it serves.
pub fn answer(
    page: Page,
    process: &Process,
    component: &str,
    paths: &[String],
    headers: &HeaderMap,
    now: Timestamp,
) -> Option<Response<String>> {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    let (media_type, body, version) = match negotiate(page, &accept)? {
        Form::Text => ("text/plain; charset=utf-8", text(page, process, component, paths, now), ""),
        Form::Object { media_type, version } => {
            // JSON is YAML.
            (media_type, object(page, version, process, component, paths, now).to_string(), version)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if version == DEPRECATED {
        let name = page.name();
        let warning = format!("299 - \"This version of the {name} endpoint is deprecated. Please use a newer version.\"");
        response.headers_mut().extend(HeaderValue::from_str(&warning).ok().map(|warning| (header::WARNING, warning)));
    }
    Some(response)
}

fn text(page: Page, process: &Process, component: &str, paths: &[String], now: Timestamp) -> String {
    let header = format!(
        "\n{component} {}\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n",
        page.name()
    );
    let body = match page {
        Page::Flagz => process.flags.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>(),
        Page::Statusz => {
            let up = up_seconds(process, now);
            format!(
                "\nStarted: {}\nUp: {} hr {:02} min {:02} sec\nGo version: rust\nBinary version: {VERSION}\nEmulation version: {EMULATED}\nPaths: {}\n",
                process.started.strftime("%a %b %e %H:%M:%S UTC %Y"),
                up / 3600,
                up / 60 % 60,
                up % 60,
                folders(paths).join(" ")
            )
        }
    };
    header + &body
}

fn object(page: Page, version: &str, process: &Process, component: &str, paths: &[String], now: Timestamp) -> Value {
    let mut object = json!({"kind": page.kind(), "apiVersion": format!("{GROUP}/{version}"), "metadata": {"name": component}});
    let fields = match page {
        Page::Flagz => json!({"flags": process.flags}),
        Page::Statusz => json!({
            "startTime": process.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "uptimeSeconds": up_seconds(process, now),
            "goVersion": "rust",
            "binaryVersion": VERSION,
            "emulationVersion": EMULATED,
            "paths": folders(paths),
        }),
    };
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}

fn up_seconds(process: &Process, now: Timestamp) -> i64 {
    now.duration_since(process.started).as_secs().max(0)
}

/// The first parts of paths, once each.
fn folders(paths: &[String]) -> Vec<String> {
    let first = |path: &String| Some(format!("/{}", path.strip_prefix('/')?.split('/').next().filter(|part| !part.is_empty())?));
    let mut folders: Vec<String> = paths.iter().filter_map(first).collect();
    folders.retain(|folder| !NOT_FOR_DEBUGGING.contains(&folder.as_str()));
    folders.sort_unstable();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let beta = |media_type| Some(Form::Object { media_type, version: "v1beta1" });
        for (accept, expected) in [
            ("", Some(Form::Text)),
            ("text/plain", Some(Form::Text)),
            ("*/*", Some(Form::Text)),
            ("application/json", None),
            ("application/json;v=v1beta1;g=config.k8s.io;as=Statusz", beta("application/json")),
            ("application/yaml;v=v1beta1;g=config.k8s.io;as=Statusz", beta("application/yaml")),
            ("application/json;v=v1;g=config.k8s.io;as=Statusz", None),
            ("application/json;v=v1beta1;g=config.k8s.io;as=Flagz", None),
            ("application/json;v=v1;g=config.k8s.io;as=Statusz, text/plain;q=0.5", Some(Form::Text)),
            ("text/plain;q=0.5, application/json;v=v1beta1;g=config.k8s.io;as=Statusz", beta("application/json")),
            ("text/html", None),
        ] {
            assert_eq!(negotiate(Page::Statusz, accept), expected, "{accept}");
        }
    }

    fn page(page: Page, accept: &'static str) -> Response<String> {
        let process = Process {
            name: "d".into(),
            started: Timestamp::from_second(0).unwrap(),
            flags: [("b".to_owned(), "1,2".to_owned()), ("a".to_owned(), String::new())].into(),
        };
        let paths = ["/metrics", "/healthz/ping", "/healthz", "/api/v1", "/", "x"].map(str::to_owned);
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        answer(page, &process, "apiserver", &paths, &headers, Timestamp::from_second(3723).unwrap()).unwrap()
    }

    #[test]
    fn for_people() {
        let flags = page(Page::Flagz, "").into_body();
        assert!(flags.starts_with("\napiserver flagz\nWarning: This endpoint is not meant to be machine parseable,"));
        assert!(flags.ends_with("purposes only.\na=\nb=1,2\n"), "{flags}");
        let status = page(Page::Statusz, "text/plain").into_body();
        let expected = "\n\nStarted: Thu Jan  1 00:00:00 UTC 1970\nUp: 1 hr 02 min 03 sec\nGo version: rust\nBinary version: 1.36.2\nEmulation version: 1.36\nPaths: /healthz /metrics\n";
        assert!(status.ends_with(expected), "{status}");
    }

    #[test]
    fn for_programs() {
        let status = page(Page::Statusz, "application/json;v=v1beta1;g=config.k8s.io;as=Statusz");
        assert!(!status.headers().contains_key(header::WARNING));
        let expected = json!({"kind": "Statusz", "apiVersion": "config.k8s.io/v1beta1", "metadata": {"name": "apiserver"},
            "startTime": "1970-01-01T00:00:00Z", "uptimeSeconds": 3723, "goVersion": "rust", "binaryVersion": "1.36.2",
            "emulationVersion": "1.36", "paths": ["/healthz", "/metrics"]});
        assert_eq!(serde_json::from_str::<Value>(status.body()).unwrap(), expected);
        let flags = page(Page::Flagz, "application/yaml;v=v1alpha1;g=config.k8s.io;as=Flagz");
        assert_eq!(flags.headers()[header::CONTENT_TYPE], "application/yaml");
        assert!(flags.headers()[header::WARNING].to_str().unwrap().contains("flagz endpoint is deprecated"));
        assert_eq!(serde_json::from_str::<Value>(flags.body()).unwrap()["flags"], json!({"a": "", "b": "1,2"}));
    }

    #[test]
    fn flags_with_their_values() {
        use clap::{Arg, ArgAction};
        let command = Command::new("d")
            .arg(Arg::new("etcd_servers").long("etcd-servers").value_delimiter(','))
            .arg(Arg::new("port").long("port").default_value("6443"))
            .arg(Arg::new("on").long("on").action(ArgAction::SetTrue))
            .arg(Arg::new("none").long("none"));
        let matches = command.clone().get_matches_from(["d", "--etcd-servers=a,b"]);
        let expected = [("etcd-servers", "a,b"), ("none", ""), ("on", "false"), ("port", "6443")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(flags(&command, &matches), expected);
    }
}
