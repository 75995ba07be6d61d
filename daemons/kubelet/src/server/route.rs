//! What a request asks for, and which access that needs: pure.

use http::Method;
use machinery::status::Status;

use super::{Streams, Target};
use crate::server::logs::LogOptions;

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    pub(crate) action: Action,
    /// `get`, `create`, …: by the method, but a stream is a `create` whichever method opens it.
    pub(crate) verb: &'static str,
    /// Subresources of `nodes` that allow it, the finest first (KEP-2862).
    pub(crate) subresources: &'static [&'static str],
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Healthz,
    Pods,
    Metrics,
    ResourceMetrics,
    Summary,
    Logs { target: Target, previous: bool, options: LogOptions },
    Exec { target: Target, command: Vec<String>, streams: Streams },
    Attach { target: Target, streams: Streams },
    PortForward { target: Target, ports: Vec<u16> },
}

/// More words or ports than this in one request are refused.
const VALUES_MAX: usize = 4096;

impl Route {
    pub(crate) fn parse(method: &Method, path: &str, query: &str) -> Result<Self, Status> {
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect::<Result<_, _>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let query = Query::parse(query)?;
        let read = |action, subresources| match *method {
            Method::GET | Method::HEAD => Ok(Self { action, verb: "get", subresources }),
            _ => Err(Status::method_not_served()),
        };
        let stream = |action| match *method {
            // WebSocket clients open streams with GET: it is still the right to create one.
            Method::GET | Method::POST => Ok(Self { action, verb: "create", subresources: &["proxy"] }),
            _ => Err(Status::method_not_served()),
        };
        match parts.as_slice() {
            ["healthz", ..] => read(Action::Healthz, &["healthz", "proxy"]),
            ["pods"] => read(Action::Pods, &["pods", "proxy"]),
            ["metrics"] => read(Action::Metrics, &["metrics"]),
            ["metrics", "resource"] => read(Action::ResourceMetrics, &["metrics"]),
            ["stats", "summary"] => read(Action::Summary, &["stats"]),
            ["containerLogs", namespace, pod, container] => {
                let previous = query.flag("previous");
                let options = LogOptions::from_query(|key| query.first(key))?;
                read(Action::Logs { target: target(namespace, pod, "", container), previous, options }, &["proxy"])
            }
            ["exec", rest @ ..] => {
                let (target, streams) = (process(rest)?, query.streams()?);
                let command = query.all("command");
                if command.is_empty() {
                    return Err(Status::bad_request("you must specify at least one command"));
                }
                stream(Action::Exec { target, command, streams })
            }
            ["attach", rest @ ..] => stream(Action::Attach { target: process(rest)?, streams: query.streams()? }),
            ["portForward", namespace, pod] => stream(forward(target(namespace, pod, "", ""), &query)?),
            ["portForward", namespace, pod, uid] => stream(forward(target(namespace, pod, uid, ""), &query)?),
            _ => Err(Status::no_such_path()),
        }
    }

    /// Reaches into pods: what `enableDebuggingHandlers` switches off.
    pub(crate) fn is_debugging(&self) -> bool {
        matches!(self.action, Action::Logs { .. } | Action::Exec { .. } | Action::Attach { .. } | Action::PortForward { .. })
    }

    /// Served on the port without authentication.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self.action, Action::Healthz | Action::Pods | Action::Metrics | Action::ResourceMetrics | Action::Summary)
    }
}

fn target(namespace: &str, pod: &str, uid: &str, container: &str) -> Target {
    Target { namespace: namespace.into(), pod: pod.into(), uid: uid.into(), container: container.into() }
}

fn process(parts: &[&str]) -> Result<Target, Status> {
    match parts {
        [namespace, pod, container] => Ok(target(namespace, pod, "", container)),
        [namespace, pod, uid, container] => Ok(target(namespace, pod, uid, container)),
        _ => Err(Status::no_such_path()),
    }
}

fn forward(target: Target, query: &Query) -> Result<Action, Status> {
    let ports = query
        .all("port")
        .iter()
        .chain(&query.all("ports"))
        .flat_map(|v| v.split(','))
        .map(|p| p.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| Status::bad_request(format!("invalid port {p:?}"))))
        .collect::<Result<_, _>>()?;
    Ok(Action::PortForward { target, ports })
}

struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Result<Self, Status> {
        let pairs: Vec<_> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .take(VALUES_MAX + 1)
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(&key.replace('+', " "))?, decode(&value.replace('+', " "))?))
            })
            .collect::<Result<_, Status>>()?;
        if pairs.len() > VALUES_MAX {
            return Err(Status::bad_request(format!("more than {VALUES_MAX} query parameters")));
        }
        Ok(Self(pairs))
    }

    fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }

    /// The kubelet's own names are `input`, `output`, `error`; the values `1` and `true` both count.
    fn flag(&self, key: &str) -> bool {
        self.first(key).is_some_and(|v| matches!(v, "1" | "true" | "TRUE" | "True" | "t" | "T"))
    }

    fn streams(&self) -> Result<Streams, Status> {
        let either = |a, b| self.flag(a) || self.flag(b);
        let streams = Streams {
            stdin: either("input", "stdin"),
            stdout: either("output", "stdout"),
            stderr: either("error", "stderr"),
            tty: self.flag("tty"),
        };
        if streams.tty && streams.stderr {
            return Err(Status::bad_request("tty and stderr cannot both be true"));
        }
        if !streams.stdin && !streams.stdout && !streams.stderr {
            return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(streams)
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, Status> {
    let wrong = || Status::bad_request(format!("{text:?} is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).ok_or_else(wrong)?;
            bytes.push(u8::from_str_radix(hex, 16).map_err(|_| wrong())?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, uri: &str) -> Result<Route, u16> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        Route::parse(&method, path, query).map_err(|s| s.code())
    }

    #[test]
    fn access_needed() {
        for (method, uri, want) in [
            (Method::GET, "/healthz", Ok(("get", "healthz"))),
            (Method::GET, "/pods", Ok(("get", "pods"))),
            (Method::GET, "/metrics/resource", Ok(("get", "metrics"))),
            (Method::GET, "/stats/summary", Ok(("get", "stats"))),
            (Method::GET, "/containerLogs/ns/p/c?follow=true", Ok(("get", "proxy"))),
            (Method::POST, "/exec/ns/p/c?command=ls&output=1", Ok(("create", "proxy"))),
            // Reading is not enough to run something, whatever the method.
            (Method::GET, "/exec/ns/p/c?command=ls&output=1", Ok(("create", "proxy"))),
            (Method::POST, "/portForward/ns/p", Ok(("create", "proxy"))),
            (Method::DELETE, "/pods", Err(405)),
            (Method::GET, "/run/ns/p/c", Err(404)),
            (Method::POST, "/exec/ns/p/c?output=1", Err(400)),
            (Method::POST, "/exec/ns/p/c?command=ls", Err(400)),
            (Method::POST, "/attach/ns/p/c?output=1&error=1&tty=1", Err(400)),
            (Method::POST, "/portForward/ns/p?ports=0", Err(400)),
        ] {
            let got = parse(method.clone(), uri).map(|r| (r.verb, r.subresources[0]));
            assert_eq!(got, want, "{method} {uri}");
        }
    }

    #[test]
    fn parts_of_an_exec() {
        let route =
            parse(Method::POST, "/exec/ns/p/uid-1/c?command=sh&command=-c&command=echo%20a+b&input=1&output=1&tty=1").unwrap();
        let Action::Exec { target, command, streams } = route.action else { panic!("{route:?}") };
        assert_eq!(target, super::target("ns", "p", "uid-1", "c"));
        assert_eq!(command, ["sh", "-c", "echo a b"]);
        assert_eq!(streams, Streams { stdin: true, stdout: true, stderr: false, tty: true });
    }

    #[test]
    fn encoded_slashes_stay_in_their_part() {
        assert_eq!(
            parse(Method::GET, "/containerLogs/ns/a%2Fb/c")
                .map(|r| matches!(r.action, Action::Logs { target, .. } if target.pod == "a/b")),
            Ok(true)
        );
        assert_eq!(parse(Method::GET, "/pods%zz").map(drop), Err(400));
    }
}
